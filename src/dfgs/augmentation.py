"""The augmentation steps that draw more than a chance; image-wise and batch-wise transforms share them."""

from typing import Any

from dfgs import vision

ERASED, ASPECT = (0.02, 1 / 3), (0.3, 1 / 0.3)
"""Share of the image and height / width of what random erasing covers (timm's defaults, which CLIP-ReID uses)."""


def crop(size: tuple[int, int], pad: int) -> Any:
    """Pad with black and cut out `size` (height, width)."""
    return vision.v2.RandomCrop(size, padding=pad)


def jitter() -> Any:
    """Change brightness, contrast, saturation and hue at CLIP-DFGS's strengths, in random order."""
    return vision.v2.ColorJitter(0.15, 0.1, 0.05, 0.05)


def erasing(chance: float) -> Any:
    """Put standard normal noise into a rectangle."""
    return vision.v2.RandomErasing(chance, ERASED, ASPECT, value="random")
