"""AugMix (Hendrycks et al., ICLR 2020) at the strengths of its authors, which CLIP-DFGS trains with.

torchvision's class counts strength in ten bins from zero: its severity 1 leaves shear, shift and rotation at nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

SCALE = 10


@dataclass(frozen=True, slots=True)
class Mix:
    """What is drawn for one image: a chain's `weights`, the mix's `share`, and (operation, level, sign) by chain."""

    weights: Tensor
    share: float
    chains: tuple[tuple[tuple[int, float, int], ...], ...]


class AugMix:
    """Mix an image with `width` chains of `depth` operations each.

    Result: (1 - m)·image + m·Σ w_i·chain_i(image) with w ~ Dirichlet(alpha, …) and m ~ Beta(alpha, alpha). Each
    operation's strength is uniform between 0.1 and `severity` tenths of its largest. Randomness is torch's.
    """

    def __init__(self, *, width: int = 3, depth: int = 1, severity: int = 1, alpha: float = 0.1) -> None:
        self.width, self.depth, self.severity = width, depth, severity
        self.weights = torch.distributions.Dirichlet(torch.full((width,), alpha))
        self.share = torch.distributions.Beta(alpha, alpha)

    @property
    def nothing(self) -> Mix:
        """A mix that leaves an image as it is."""
        return Mix(torch.zeros(self.width), 0.0, (((0, 0.0, 1),) * self.depth,) * self.width)

    def draw(self) -> Mix:
        """Draw what is done to one image."""
        weights, share = self.weights.sample(), float(self.share.sample())
        return Mix(weights, share, tuple(tuple(self._step() for _ in range(self.depth)) for _ in range(self.width)))

    def __call__(self, image: Tensor) -> Tensor:
        """Augment one image, uint8 (3, h, w)."""
        picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
        drawn = self.draw()
        mix = torch.zeros(image.shape)
        for weight, chain in zip(drawn.weights, drawn.chains, strict=True):
            mix += weight * _to_tensor(_chained(picture, chain))
        return ((1 - drawn.share) * image + drawn.share * mix).to(torch.uint8)

    def _step(self) -> tuple[int, float, int]:
        operation = int(torch.randint(len(OPERATIONS), ()))
        level = (0.1 + (self.severity - 0.1) * float(torch.rand(()))) / SCALE
        return operation, level, -1 if float(torch.rand(())) > 0.5 else 1


def _chained(picture: Image.Image, chain: tuple[tuple[int, float, int], ...]) -> Image.Image:
    for operation, level, sign in chain:
        picture = OPERATIONS[operation](picture, level, sign)
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
