"""What the image tower gives for a batch."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
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

    def detach(self) -> "Features":
        """Return the same features without their gradients."""
        return Features(self.intermediate.detach(), self.pooled.detach(), self.projected.detach())

    def named(self, name: str) -> Tensor:
        """Return one of the three by its name."""
        tensor: Tensor = getattr(self, name)
        return tensor

    def joined(self, names: Iterable[str]) -> Tensor:
        """Return the features called `names` side by side."""
        return torch.cat([self.named(name) for name in names], dim=1)
