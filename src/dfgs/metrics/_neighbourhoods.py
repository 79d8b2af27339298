"""The nearest images of every image and how far its farthest one lies, each pair of blocks multiplied once."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dfgs.metrics._pool import Floats, Pool, Positions

BLOCK = 2048
"""Rows of a block: large enough for full BLAS speed, and 16 MB of distances."""


@dataclass(frozen=True, slots=True, eq=False)
class Neighbourhoods:
    """Of every image of a pool, its nearest ones and its scale.

    `nearest` (n, count) int32: nearest first, the image itself before all, ties by position.
    `distances` (n, count) float32: their squared distances. `farthest` (n,) float32: the largest squared distance to
    any image; 1 where all are equal.
    """

    nearest: NDArray[np.int32]
    distances: Floats
    farthest: Floats


def neighbourhoods(pool: Pool, count: int) -> Neighbourhoods:
    """Find the `count` nearest images of each, itself included; `count` is at most `pool.size`.

    Cost: n² d / 2 multiply-adds; memory beside the result: two blocks of rows, one of distances and its comparisons.
    """
    lists = _Lists(pool.size, count)
    bounds = np.linspace(0, pool.size, -(-pool.size // BLOCK) + 1).astype(int).tolist()
    parts = [np.arange(*ends) for ends in pairwise(bounds)]
    for part in parts:
        lists.start(part, pool.left(part) @ pool.right(part).T)
    buffer = np.empty((max(map(len, parts)),) * 2, np.float32)
    for number, rows in enumerate(parts):
        left = pool.left(rows)
        for columns in parts[number + 1 :]:
            out = buffer[: len(rows), : len(columns)]
            lists.add(rows, columns, np.matmul(left, pool.right(columns).T, out=out))
    distances = np.maximum(lists.distances, 0)
    farthest = np.where(lists.farthest > 0, lists.farthest, np.float32(1))
    return Neighbourhoods(lists.nearest, distances, farthest)


class _Lists:
    """The nearest images found so far, nearest first."""

    def __init__(self, size: int, count: int) -> None:
        self.distances = np.full((size, count), np.inf, np.float32)
        self.nearest = np.full((size, count), size, np.int32)
        self.farthest = np.zeros(size, np.float32)

    def start(self, part: Positions, distances: Floats) -> None:
        """Take the distances of a block to itself."""
        self.farthest[part] = distances.max(axis=1)
        np.fill_diagonal(distances, -np.inf)
        kth = min(self.nearest.shape[1], len(distances)) - 1
        limit = np.partition(distances, kth, axis=1)[:, kth, None]
        self._merge(part, part, distances, distances <= limit)

    def add(self, rows: Positions, columns: Positions, distances: Floats) -> None:
        """Take the distances between two blocks, as neighbours of the one and of the other."""
        np.maximum.at(self.farthest, rows, distances.max(axis=1))
        np.maximum.at(self.farthest, columns, distances.max(axis=0))
        self._merge(rows, columns, distances, distances <= self.distances[rows, -1:])
        self._merge(columns, rows, distances.T, (distances <= self.distances[columns, -1]).T)

    def _merge(self, owners: Positions, others: Positions, distances: Floats, chosen: NDArray[np.bool_]) -> None:
        """Sort the chosen entries into the lists of `owners`; equal distances by position."""
        owner, other = _where(chosen)
        if not owner.size:
            return
        count, touched = self.nearest.shape[1], np.unique(owner)
        near = np.concatenate([distances[owner, other], self.distances[owners[touched]].ravel()])
        place = np.concatenate([others[other], self.nearest[owners[touched]].ravel()])
        owner = np.concatenate([owner, np.repeat(touched, count)])
        order = np.lexsort((place, near, owner))
        best = order[np.searchsorted(owner[order], touched)[:, None] + np.arange(count)]
        self.distances[owners[touched]], self.nearest[owners[touched]] = near[best], place[best]


def _where(chosen: NDArray[np.bool_]) -> tuple[Positions, Positions]:
    """Row and column of the true entries; much faster than `nonzero` where few are true."""
    if chosen.flags.c_contiguous:
        row, column = np.divmod(np.flatnonzero(chosen), chosen.shape[1])
        return row, column
    column, row = np.divmod(np.flatnonzero(chosen.T), chosen.shape[0])
    return row, column
