"""Exact nearest neighbours under Euclidean distance, by blocks: never an N x N matrix."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dfgs.samplers._table import Floats, NeighbourTable

Part = slice | NDArray[np.int64]
BLOCK = 2048
"""Rows of a block: large enough for full BLAS speed, and 16 MB of distances."""


def nearest(features: Sequence[Floats], count: int, *, block: int = BLOCK) -> NDArray[np.int32]:
    """Return the `count` nearest other rows of every row, nearest first, ties by row: int32 (N, count).

    `features` holds one float32 array (N, d) per kind. With one kind the distance is Euclidean; with several, each
    kind's distances are divided by their root mean square over all pairs and summed. `count` is at most N - 1.

    Every pair of blocks is multiplied once and used in both directions. Rows are centred, so that a common offset costs
    no precision. Distances are float32: two that differ by rounding alone may change places with another `block`;
    with and without the compiled extra they are the same. Cost: N^2 d / 2 multiply-adds; memory beside the features:
    two blocks of (2048, d), one of (2048, 2048), three without the compiled extra, and the result.
    """
    number = len(features[0])
    table = NeighbourTable(number, count)
    if not count:
        return table.rows
    kinds = [Kind(rows) for rows in features]
    parts = cut(number, block)
    for position, part in enumerate(parts):
        left = [kind.left(part) for kind in kinds]
        for others in parts[position:]:
            table.offer(distances(kinds, left, others), numbers(part), numbers(others), both=others is not part)
    return table.rows


def cut(number: int, block: int) -> list[slice]:
    """Cut `number` rows into equal parts of at most `block`."""
    bounds = np.linspace(0, number, -(-number // block) + 1).astype(int).tolist()
    return [slice(*ends) for ends in pairwise(bounds)]


def numbers(part: slice) -> NDArray[np.int32]:
    """Row numbers of a part."""
    return np.arange(part.start, part.stop, dtype=np.int32)


class Kind:
    """One kind of features, its centre, and the root mean square of its distances over all pairs."""

    def __init__(self, rows: Floats) -> None:
        self.rows = rows
        centre = rows.mean(axis=0, dtype=np.float64)
        self.centre = centre.astype(np.float32)
        spread = np.einsum("nd,nd->", rows, rows, dtype=np.float64) / len(rows) - centre @ centre
        self.scale = np.float32(np.sqrt(max(2 * spread, 0))) or np.float32(1)

    def left(self, part: Part) -> Floats:
        """Block of a product whose result is the squared distance: rows times -2, their squared norms, ones."""
        block = self._centred(part)
        block[:, -2], block[:, -1] = _norms(block), 1
        block[:, :-2] *= -2
        return block

    def right(self, part: slice) -> Floats:
        """Counterpart of `left`: rows, ones, squared norms."""
        block = self._centred(part)
        block[:, -2], block[:, -1] = 1, _norms(block)
        return block

    def scaled(self, part: Part) -> Floats:
        """Rows less their centre, in units of the scale."""
        scaled: Floats = (self.rows[part] - self.centre) / self.scale
        return scaled

    def distances_to(self, part: slice, others: NDArray[np.int32]) -> Floats:
        """Scaled distances of each row of a part to its own `others`, (rows, m)."""
        apart = self.rows[others] - self.rows[part][:, None]
        found: Floats = np.sqrt(np.einsum("nmd,nmd->nm", apart, apart)) / self.scale
        return found

    def _centred(self, part: Part) -> Floats:
        rows = self.rows[part]
        block = np.empty((len(rows), rows.shape[1] + 2), dtype=np.float32)
        np.subtract(rows, self.centre, out=block[:, :-2])
        return block


def _norms(block: Floats) -> Floats:
    norms: Floats = np.einsum("nd,nd->n", block[:, :-2], block[:, :-2])
    return norms


def distances(kinds: Sequence[Kind], left: Sequence[Floats], part: slice) -> Floats:
    """Distances of two blocks; their squares where one kind is enough to tell the order."""
    squared = [block @ kind.right(part).T for block, kind in zip(left, kinds, strict=True)]
    if len(kinds) == 1:
        return squared[0]
    total: Floats = np.zeros_like(squared[0])
    for kind, block in zip(kinds, squared, strict=True):
        total += np.sqrt(np.maximum(block, 0, out=block), out=block) / kind.scale
    return total
