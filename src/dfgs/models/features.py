"""What the image tower gives for a batch."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Features:
    """Image features of n images, float tensors (n, d) of different widths.

    `intermediate`: class token after the last but one block (ResNet: pooled third stage); `pooled`: class token after
    `ln_post` (ResNet: pooled last stage); `projected`: the same in the joint image-text space.
    """

    intermediate: Tensor
    pooled: Tensor
    projected: Tensor

    def named(self, name: str) -> Tensor:
        """Return one of the three by its name."""
        tensor: Tensor = getattr(self, name)
        return tensor
