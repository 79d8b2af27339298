"""Exact nearest neighbours under Euclidean distance, by blocks: never an N x N matrix."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Positions = NDArray[np.intp]

BLOCK = 2048
"""Rows of a block: large enough for full BLAS speed, and 16 MB of distances."""


def nearest(features: Sequence[Floats], count: int, *, block: int = BLOCK) -> NDArray[np.int32]:
    """Return the `count` nearest other rows of every row, nearest first, ties by row: int32 (N, count).

    `features` holds one float32 array (N, d) per kind. With one kind the distance is Euclidean; with several, each
    kind's distances are divided by their root mean square over all pairs and summed. `count` is at most N - 1.

    Every pair of blocks is multiplied once and used in both directions, and only entries not farther than a row's
    present `count`-th neighbour are sorted. Rows are centred, so that a common offset costs no precision. Cost:
    N^2 d / 2 multiply-adds; memory beside the features: two blocks of (2048, d), three of (2048, 2048), the result.
    """
    number = len(features[0])
    found = _Nearest(number, count)
    if not count:
        return found.rows
    kinds = [_Kind(rows) for rows in features]
    bounds = np.linspace(0, number, -(-number // block) + 1).astype(int).tolist()
    parts = [slice(*ends) for ends in pairwise(bounds)]
    for part in parts:
        found.start(part, _distances(kinds, [kind.left(part) for kind in kinds], part))
    for position, rows in enumerate(parts):
        left = [kind.left(rows) for kind in kinds]
        for columns in parts[position + 1 :]:
            found.add(rows, columns, _distances(kinds, left, columns))
    return found.rows


class _Kind:
    """One kind of features, its centre, and the root mean square of its distances over all pairs."""

    def __init__(self, rows: Floats) -> None:
        self.rows = rows
        centre = rows.mean(axis=0, dtype=np.float64)
        self.centre = centre.astype(np.float32)
        spread = np.einsum("nd,nd->", rows, rows, dtype=np.float64) / len(rows) - centre @ centre
        self.scale = np.float32(np.sqrt(max(2 * spread, 0))) or np.float32(1)

    def left(self, part: slice) -> Floats:
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

    def _centred(self, part: slice) -> Floats:
        rows = self.rows[part]
        block = np.empty((len(rows), rows.shape[1] + 2), dtype=np.float32)
        np.subtract(rows, self.centre, out=block[:, :-2])
        return block


def _norms(block: Floats) -> Floats:
    norms: Floats = np.einsum("nd,nd->n", block[:, :-2], block[:, :-2])
    return norms


def _distances(kinds: Sequence[_Kind], left: Sequence[Floats], part: slice) -> Floats:
    """Distances of two blocks; their squares where one kind is enough to tell the order."""
    squared = [block @ kind.right(part).T for block, kind in zip(left, kinds, strict=True)]
    if len(kinds) == 1:
        return squared[0]
    total: Floats = np.zeros_like(squared[0])
    for kind, block in zip(kinds, squared, strict=True):
        total += np.sqrt(np.maximum(block, 0, out=block), out=block) / kind.scale
    return total


class _Nearest:
    """The nearest rows found so far, nearest first."""

    def __init__(self, number: int, count: int) -> None:
        self.distances = np.full((number, count), np.inf, dtype=np.float32)
        self.rows = np.full((number, count), number, dtype=np.int32)
        self.limit = np.full(number, np.inf, dtype=np.float32)

    def start(self, part: slice, distances: Floats) -> None:
        """Take the distances of a block to itself, all but the diagonal."""
        np.fill_diagonal(distances, np.inf)
        kth = min(self.rows.shape[1], len(distances)) - 1
        self.limit[part] = np.partition(distances, kth, axis=1)[:, kth]
        row, column, near = _select(distances, self.limit[part, None])
        self._merge(row + part.start, column + part.start, near)

    def add(self, rows: slice, columns: slice, distances: Floats) -> None:
        """Take the distances between two blocks, as neighbours of the one and of the other."""
        row, column, near = _select(distances, self.limit[rows, None])
        self._merge(row + rows.start, column + columns.start, near)
        row, column, near = _select(distances, self.limit[None, columns])
        self._merge(column + columns.start, row + rows.start, near)

    def _merge(self, owner: Positions, other: Positions, distance: Floats) -> None:
        """Sort new neighbours `other` of `owner` in; equal distances by row."""
        count, touched = self.rows.shape[1], np.unique(owner)
        owner = np.concatenate([owner, np.repeat(touched, count)])
        other = np.concatenate([other, self.rows[touched].ravel()])
        distance = np.concatenate([distance, self.distances[touched].ravel()])
        order = np.lexsort((other, distance, owner))
        starts = np.searchsorted(owner[order], touched)
        best = order[starts[:, None] + np.arange(count)]
        self.distances[touched], self.rows[touched] = distance[best], other[best]
        self.limit[touched] = self.distances[touched, -1]


def _select(distances: Floats, limit: Floats) -> tuple[Positions, Positions, Floats]:
    """Row, column and value of the entries that are not above `limit`."""
    chosen = np.flatnonzero(distances <= limit)
    row, column = np.divmod(chosen, distances.shape[1])
    return row, column, distances.ravel()[chosen]
