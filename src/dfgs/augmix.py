"""AugMix (Hendrycks et al., ICLR 2020) at the strengths of its authors, which CLIP-DFGS trains with.

torchvision's class counts strength in ten bins from zero: its severity 1 leaves shear, shift and rotation at nothing.
"""

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

SCALE = 10


class AugMix:
    """Mix an image with `width` chains of `depth` operations each.

    Result: (1 - m)·image + m·Σ w_i·chain_i(image) with w ~ Dirichlet(alpha, …) and m ~ Beta(alpha, alpha). Each
    operation's strength is uniform between 0.1 and `severity` tenths of its largest. Randomness is torch's.
    """

    def __init__(self, *, width: int = 3, depth: int = 1, severity: int = 1, alpha: float = 0.1) -> None:
        self.width, self.depth, self.severity = width, depth, severity
        self.weights = torch.distributions.Dirichlet(torch.full((width,), alpha))
        self.share = torch.distributions.Beta(alpha, alpha)

    def __call__(self, image: Tensor) -> Tensor:
        """Augment one image, uint8 (3, h, w)."""
        picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
        weights, share = self.weights.sample(), float(self.share.sample())
        mix = torch.zeros(image.shape)
        for weight in weights:
            mix += weight * _to_tensor(self._chain(picture))
        return ((1 - share) * image + share * mix).to(torch.uint8)

    def _chain(self, picture: Image.Image) -> Image.Image:
        for _ in range(self.depth):
            operation = OPERATIONS[int(torch.randint(len(OPERATIONS), ()))]
            level = (0.1 + (self.severity - 0.1) * float(torch.rand(()))) / SCALE
            sign = -1 if float(torch.rand(())) > 0.5 else 1
            picture = operation(picture, level, sign)
        return picture


def _to_tensor(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(picture).astype(np.float32)).permute(2, 0, 1)


def _move(picture: Image.Image, *rows: float) -> Image.Image:
    """Sample the picture at (a·x + b·y + c, d·x + e·y + f), black outside."""
    return picture.transform(picture.size, Image.Transform.AFFINE, rows, resample=Image.Resampling.BILINEAR)


Operation = Callable[[Image.Image, float, int], Image.Image]
OPERATIONS: tuple[Operation, ...] = (
    lambda picture, level, sign: ImageOps.autocontrast(picture),
    lambda picture, level, sign: ImageOps.equalize(picture),
    lambda picture, level, sign: ImageOps.posterize(picture, 4 - int(4 * level)),
    lambda picture, level, sign: picture.rotate(sign * int(30 * level), resample=Image.Resampling.BILINEAR),
    lambda picture, level, sign: ImageOps.solarize(picture, 256 - int(256 * level)),
    lambda picture, level, sign: _move(picture, 1, sign * 0.3 * level, 0, 0, 1, 0),
    lambda picture, level, sign: _move(picture, 1, 0, 0, sign * 0.3 * level, 1, 0),
    lambda picture, level, sign: _move(picture, 1, 0, sign * int(picture.width / 3 * level), 0, 1, 0),
    lambda picture, level, sign: _move(picture, 1, 0, 0, 0, 1, sign * int(picture.height / 3 * level)),
)
"""Autocontrast, equalize, posterize, rotate, solarize, shear x and y, translate x and y; `level` is a share of 1."""
