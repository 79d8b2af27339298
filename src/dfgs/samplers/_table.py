"""The nearest neighbours found so far, filled block by block."""

import numpy as np
from numpy.typing import NDArray

from dfgs.samplers._extra import compiled

Floats = NDArray[np.float32]
Rows = NDArray[np.int32]
Positions = NDArray[np.intp]


class NeighbourTable:
    """The `count` nearest of those offered to each of `number` rows, nearest first, equal distances by row.

    `distances` float32 (N, count), infinite where nothing is known; `rows` int32 (N, count), there `number`. The table
    does not depend on the order of the offers, nor on whether the compiled extra is there.
    """

    def __init__(self, number: int, count: int) -> None:
        self.distances = np.full((number, count), np.inf, dtype=np.float32)
        self.rows = np.full((number, count), number, dtype=np.int32)

    def offer(self, block: Floats, rows: Rows, columns: Rows, *, both: bool) -> None:
        """Take `block`, distances (rows, columns): columns as neighbours of rows and, for `both`, the other way too.

        `rows`, `columns` int32 hold different rows each. A row is no neighbour of itself; a neighbour that a row has
        already is passed over.
        """
        extra = compiled(len(self.rows))
        if extra is not None:
            extra.offer(block, rows, columns, both, self.distances, self.rows)
            return
        self._take(rows, columns, block, self._limits(rows, block)[:, None])
        if both:
            self._take(columns, rows, block.T, self._limits(columns, block.T)[:, None])

    def _limits(self, rows: Rows, block: Floats) -> Floats:
        """Largest distance that may still be among the nearest of each row."""
        limits: Floats = self.distances[rows, -1]
        open_ = np.flatnonzero(np.isinf(limits))
        if len(open_):
            # One place more than the table has, because the row itself may be among the columns.
            kth = min(self.rows.shape[1], block.shape[1] - 1)
            limits[open_] = np.partition(block[open_], kth, axis=1)[:, kth]
        return limits

    def _take(self, rows: Rows, columns: Rows, block: Floats, limits: Floats) -> None:
        """Sort the entries of `block` that are not above `limits` (rows, 1) in."""
        row, column = np.nonzero(block <= limits)
        owner, other, near = rows[row], columns[column], block[row, column]
        fresh = (owner != other) & (self.rows[owner] != other[:, None]).all(axis=1)
        owner, other, near = owner[fresh], other[fresh], near[fresh]
        count, touched = self.rows.shape[1], np.unique(owner)
        owner = np.concatenate([owner, np.repeat(touched, count)])
        other = np.concatenate([other, self.rows[touched].ravel()])
        near = np.concatenate([near, self.distances[touched].ravel()])
        order = np.lexsort((other, near, owner))
        starts = np.searchsorted(owner[order], touched)
        best = order[starts[:, None] + np.arange(count)]
        self.distances[touched], self.rows[touched] = near[best], other[best]
