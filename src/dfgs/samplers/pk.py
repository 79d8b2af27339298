"""P random identities with K random images each, the usual batch of person re-identification."""

import numpy as np

from dfgs.samplers._uniform import draw_uniform
from dfgs.samplers.base import BatchSampler, Pass


class Pk(BatchSampler):
    """P identities drawn uniformly without replacement, each with its next K images, until fewer than P have any left.

    An identity's images are shuffled and cut into groups of K once per pass; what remains beyond the last full group
    waits for another pass. Cameras are not regarded. Source: `RandomIdentitySampler` of CLIP-ReID (AAAI 2023); here an
    identity with fewer than K images serves each of them before any repeat, there K are drawn with replacement.
    Cost: O(n log n) in the number of images for the shuffle, O(1) per identity drawn.
    """

    def draw_pass(self, rng: np.random.Generator) -> Pass:
        """Draw identities uniformly and serve their shuffled images."""
        rows = draw_uniform(self.labels.chunks(self.instances), self.identities_per_batch, rng)
        return self.serve(rows, self.labels.shuffled(rng))
