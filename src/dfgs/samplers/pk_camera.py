"""P random identities whose K images come from different cameras."""

import numpy as np

from dfgs.samplers._uniform import draw_uniform
from dfgs.samplers.base import BatchSampler, Pass


class PkCamera(BatchSampler):
    """As PK, but an identity's K images are dealt camera by camera, as in DFGS.

    The cameras of an identity take turns, so its images in a batch come from K cameras as long as K have images left.
    A control: it differs from PK in the images alone and from DFGS in the identities alone. Source: the camera-aware
    groups of CLIP-DFGS (line 10 of its algorithm 1) for the identities that CLIP-ReID's PK draws. Cost: that of PK.
    """

    def draw_pass(self, rng: np.random.Generator) -> Pass:
        """Draw identities uniformly and serve their images camera by camera."""
        rows = draw_uniform(self.labels.chunks(self.instances), self.identities_per_batch, rng)
        return self.serve(rows, self.labels.by_camera(rng))
