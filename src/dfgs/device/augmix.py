"""AugMix on a batch: PIL's operations restated on tensors, pixel for pixel, so that they run where the batch lies."""

import math

import torch
from torch import Tensor

from dfgs.augmix import Mix

AUTOCONTRAST, EQUALIZE, POSTERIZE, ROTATE, SOLARIZE, SHEAR_X, SHEAR_Y, TRANSLATE_X, TRANSLATE_Y = range(9)
"""Positions in `dfgs.augmix.OPERATIONS`."""
MOVES = (ROTATE, SHEAR_X, SHEAR_Y, TRANSLATE_X, TRANSLATE_Y)
STILL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def describe(mix: Mix, size: tuple[int, int]) -> dict[str, Tensor]:
    """Write what was drawn for an image (height, width) as tensors: weights, share, operations, values, matrices."""
    kinds = torch.tensor([[step[0] for step in chain] for chain in mix.chains])
    values = torch.tensor([[_value(kind, level) for kind, level, _ in chain] for chain in mix.chains])
    rows = [[_matrix(*step, size) for step in chain] for chain in mix.chains]
    matrices = torch.tensor(rows, dtype=torch.float64)
    share = torch.tensor(mix.share, dtype=torch.float64)
    return {"weights": mix.weights, "share": share, "kinds": kinds, "values": values, "matrices": matrices}


def _value(kind: int, level: float) -> int:
    """Return the bits that posterizing keeps, or the threshold of solarizing."""
    return {POSTERIZE: 4 - int(4 * level), SOLARIZE: 256 - int(256 * level)}.get(kind, 0)


def _matrix(kind: int, level: float, sign: int, size: tuple[int, int]) -> tuple[float, ...]:
    """Where an operation takes its pixels from, as PIL's AFFINE has it: x from (a, b, c), y from (d, e, f)."""
    height, width = size
    if kind == ROTATE:
        return _rotation(sign * int(30 * level), width / 2, height / 2)
    moves = {
        SHEAR_X: (1.0, sign * 0.3 * level, 0.0, 0.0, 1.0, 0.0),
        SHEAR_Y: (1.0, 0.0, 0.0, sign * 0.3 * level, 1.0, 0.0),
        TRANSLATE_X: (1.0, 0.0, float(sign * int(width / 3 * level)), 0.0, 1.0, 0.0),
        TRANSLATE_Y: (1.0, 0.0, 0.0, 0.0, 1.0, float(sign * int(height / 3 * level))),
    }
    return moves.get(kind, STILL)


def _rotation(degrees: int, x: float, y: float) -> tuple[float, ...]:
    """Turn about (x, y), rounded as `PIL.Image.rotate` rounds."""
    angle = -math.radians(degrees)
    cos, sin = round(math.cos(angle), 15), round(math.sin(angle), 15)
    down = round(-math.sin(angle), 15)
    return cos, sin, cos * -x + sin * -y + 0.0 + x, down, cos, down * -x + cos * -y + 0.0 + y


def mixed(images: Tensor, drawn: dict[str, Tensor]) -> Tensor:
    """Mix images uint8 (n, 3, h, w) with their chains as `AugMix` does; `drawn` as by `describe`, stacked."""
    width, depth = drawn["kinds"].shape[1:]
    mix = torch.zeros(images.shape, device=images.device)
    for chain in range(width):
        pictures = images
        for step in range(depth):
            pictures = _operated(pictures, *(drawn[name][:, chain, step] for name in ("kinds", "values", "matrices")))
        mix += _each(drawn["weights"][:, chain], images) * pictures
    share = drawn["share"]
    mixture = _each((1 - share).float(), images) * images + _each(share.float(), images) * mix
    return mixture.to(torch.uint8)


def _each(values: Tensor, images: Tensor) -> Tensor:
    """One value (n,) for each image, on its device."""
    return values.to(images.device)[:, None, None, None]


def _operated(images: Tensor, kinds: Tensor, values: Tensor, matrices: Tensor) -> Tensor:
    """Apply one operation to each image: moves by one sampling of all, the others by a table of 256 per channel."""
    result = images.clone()
    moving = torch.isin(kinds, torch.tensor(MOVES))
    if bool(moving.any()):
        rows = moving.nonzero()[:, 0].to(images.device)
        result[rows] = _sampled(images[rows], matrices[moving].to(images.device))
    if not bool(moving.all()):
        rows = (~moving).nonzero()[:, 0].to(images.device)
        chosen = images[rows]
        tables = _tables(chosen, kinds[~moving].to(images.device), values[~moving].to(images.device))
        result[rows] = tables.gather(2, chosen.flatten(2).long()).reshape(chosen.shape).to(torch.uint8)
    return result


def _tables(images: Tensor, kinds: Tensor, values: Tensor) -> Tensor:
    """Build the table int64 (n, 3, 256) of each image's operation."""
    grey = torch.arange(256, device=images.device)
    counts = _histograms(images)
    kept = -(2 ** (8 - values.clamp(max=8)))
    kinds, values, kept = kinds[:, None, None], values[:, None, None], kept[:, None, None]
    tables = torch.where(kinds == AUTOCONTRAST, _contrasted(counts), _equalized(counts))
    tables = torch.where(kinds == POSTERIZE, grey & kept, tables)
    return torch.where(kinds == SOLARIZE, torch.where(grey < values, grey, 255 - grey), tables)


def _histograms(images: Tensor) -> Tensor:
    """Count the values of each channel: int64 (n, 3, 256)."""
    channels = len(images) * 3
    first = torch.arange(channels, device=images.device)[:, None] * 256
    counts = torch.bincount((images.reshape(channels, -1).long() + first).flatten(), minlength=channels * 256)
    return counts.reshape(len(images), 3, 256)


def _contrasted(counts: Tensor) -> Tensor:
    """Stretch from the darkest to the lightest value, in double precision and cut as PIL's autocontrast is."""
    grey, seen = torch.arange(256, device=counts.device), counts > 0
    low = torch.where(seen, grey, 255).amin(2, keepdim=True)
    high = torch.where(seen, grey, 0).amax(2, keepdim=True)
    scale = counts.new_tensor(255.0, dtype=torch.float64) / (high - low).clamp(min=1)  # 255.0 / x is 255.0 · (1 / x)
    stretched = (grey * scale + -low * scale).trunc().clamp(0, 255).long()
    return torch.where(high <= low, grey, stretched)


def _equalized(counts: Tensor) -> Tensor:
    """Spread values evenly, in whole numbers as PIL's equalize does."""
    grey = torch.arange(256, device=counts.device)
    last = torch.where(counts > 0, grey, 0).amax(2, keepdim=True)
    step = (counts.sum(2, keepdim=True) - counts.gather(2, last)) // 255
    before = counts.cumsum(2) - counts
    spread = (step // 2 + before) // step.clamp(min=1)
    return torch.where(step == 0, grey, spread.clamp(max=255))


def _sampled(images: Tensor, matrices: Tensor) -> Tensor:
    """Sample each image at its matrix's places: bilinear, black outside, cut to whole numbers as PIL's AFFINE is."""
    n, _, height, width = images.shape
    x = torch.arange(width, device=images.device, dtype=torch.float64)[None, None, :] + 0.5
    y = torch.arange(height, device=images.device, dtype=torch.float64)[None, :, None] + 0.5
    a, b, c, d, e, f = matrices[:, :, None, None].unbind(1)
    across, down = a * x + b * y + c, d * x + e * y + f
    inside = (across >= 0) & (across < width) & (down >= 0) & (down < height)
    across, down = across - 0.5, down - 0.5
    left, top = across.floor(), down.floor()
    dx, dy = (across - left)[:, None], (down - top)[:, None]
    columns = [(left + i).long().clamp(0, width - 1) for i in (0, 1)]
    lines = [(top + i).long().clamp(0, height - 1) for i in (0, 1)]
    flat = images.reshape(n, 3, -1)

    def pixels(line: Tensor, column: Tensor) -> Tensor:
        places = (line * width + column).reshape(n, 1, -1).expand(-1, 3, -1)
        return flat.gather(2, places).reshape(images.shape).double()

    upper, lower = ((first := pixels(line, columns[0])) + (pixels(line, columns[1]) - first) * dx for line in lines)
    return ((upper + (lower - upper) * dy) * inside[:, None]).to(torch.uint8)
