"""Colour jitter on a batch: brightness, contrast, saturation and hue with a factor and an order for each image."""

import torch
from torch import Tensor

GREY = (0.2989, 0.587, 0.114)


def jittered(images: Tensor, drawn: dict[str, Tensor]) -> Tensor:
    """Jitter images uint8 (n, 3, h, w): `order` (n, 4) tells which of the four comes when, `factors` (n, 4) by what."""
    result = images.clone()
    for turn in range(4):
        for kind, change in enumerate((_brightened, _contrasted, _saturated, _turned)):
            rows = (drawn["order"][:, turn] == kind).nonzero()[:, 0]
            if len(rows):
                factors = drawn["factors"][rows, kind].to(images.device, torch.float32)[:, None, None, None]
                places = rows.to(images.device)
                result[places] = change(result[places], factors)
    return result


def _brightened(images: Tensor, factors: Tensor) -> Tensor:
    return (images * factors).clamp(0, 255).to(torch.uint8)


def _contrasted(images: Tensor, factors: Tensor) -> Tensor:
    return _blended(images, _grey(images).mean((1, 2, 3), keepdim=True), factors)


def _saturated(images: Tensor, factors: Tensor) -> Tensor:
    return _blended(images, _grey(images), factors)


def _turned(images: Tensor, factors: Tensor) -> Tensor:
    """Turn the hue by a share of the circle; a channel is V - C·max(0, min(k, 4 - k, 1)), k = (5, 3, 1) + 6·hue."""
    pixels = images / 255
    high = pixels.amax(1, keepdim=True)
    chroma = high - pixels.amin(1, keepdim=True)
    hue = (_hue(pixels, high, chroma) + 6 * factors).remainder(6)
    k = (hue + hue.new_tensor([5, 3, 1])[:, None, None]).remainder(6)
    turned = high - chroma * torch.minimum(k, 4 - k).clamp(0, 1)
    return (turned * (256 - 1e-3)).to(torch.uint8)  # as torchvision comes back from 0 … 1


def _hue(pixels: Tensor, high: Tensor, chroma: Tensor) -> Tensor:
    """Hue 0 … 6 of pixels (n, 3, h, w); 0 where there is no colour."""
    red, green, blue = pixels.split(1, dim=1)
    divisor = torch.where(chroma == 0, 1, chroma)
    sixth = torch.where(high == red, (green - blue) / divisor, 2 + (blue - red) / divisor)
    return torch.where((high != red) & (high != green), 4 + (red - green) / divisor, sixth)


def _grey(images: Tensor) -> Tensor:
    red, green, blue = images.split(1, dim=1)
    grey: Tensor = red * GREY[0] + green * GREY[1] + blue * GREY[2]
    return grey.floor()


def _blended(images: Tensor, others: Tensor, factors: Tensor) -> Tensor:
    return (images * factors + others * (1 - factors)).clamp(0, 255).to(torch.uint8)
