"""Plain shuffling, without regard to identities."""

import numpy as np

from dfgs.samplers.base import BatchSampler, Pass


class Random(BatchSampler):
    """Every image once per pass in random order; the last partial batch is left out.

    Not an identity sampler: `instances` is not used and an identity may come alone in a batch, so a triplet loss finds
    few positives. Source: the plain shuffle of CLIP-ReID's `softmax` option. Cost: one permutation, O(n).
    """

    is_identity_sampler = False

    def draw_pass(self, rng: np.random.Generator) -> Pass:
        """Cut a random permutation into batches."""
        batches = len(self.labels) // self.batch_size
        return Pass(rng.permutation(len(self.labels))[: batches * self.batch_size].reshape(batches, self.batch_size))
