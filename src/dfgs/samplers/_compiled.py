"""Loops of `_table` and `_walk`, compiled: the only module here that needs numba, imported only where it is there.

`_extra.compiled` takes it in; without it the same results come from NumPy and plain Python.
"""

import numba  # type: ignore[import-not-found, import-untyped, unused-ignore]
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
Longs = NDArray[np.int64]
STRIDE = 64
"""Entries that are rejected by one vector comparison."""


@numba.njit("void(float32[::1], int32[::1], float32, int32)", cache=True)  # type: ignore[untyped-decorator, unused-ignore]
def _insert(distances: Floats, others: Ints, distance: float, other: int) -> None:
    """Sort one neighbour in, unless it is there or not among the nearest; equal distances by row."""
    last = len(others) - 1
    if distance > distances[last] or (distance == distances[last] and other > others[last]):
        return
    for place in range(last + 1):
        if others[place] == other:
            return
    place = last
    while place and (
        distance < distances[place - 1] or (distance == distances[place - 1] and other < others[place - 1])
    ):
        distances[place], others[place] = distances[place - 1], others[place - 1]
        place -= 1
    distances[place], others[place] = distance, other


@numba.njit(cache=True)  # type: ignore[untyped-decorator, unused-ignore]
def _reaches(line: Floats, limit: float, limits: Floats) -> int:
    """Tell whether an entry is not above `limit` or its own one; free of branches, so that it becomes vector code."""
    found = np.int32(0)
    for j in range(len(line)):
        found |= np.int32(line[j] <= limit) | np.int32(line[j] <= limits[j])
    return int(found)


@numba.njit(  # type: ignore[untyped-decorator, unused-ignore]
    "void(float32[:, ::1], int32[::1], int32[::1], boolean, float32[:, ::1], int32[:, ::1])", cache=True
)
def offer(block: Floats, rows: Ints, columns: Ints, both: bool, distances: Floats, others: Ints) -> None:
    """Do what `_table.NeighbourTable.offer` does, reading the block once for both directions."""
    last, limits = others.shape[1] - 1, np.full(len(columns), -np.inf, np.float32)
    if both:
        for j in range(len(columns)):
            limits[j] = distances[columns[j], last]
    for i in range(len(rows)):
        row, line = rows[i], block[i]
        for start in range(0, len(columns), STRIDE):
            stop, limit = min(start + STRIDE, len(columns)), distances[row, last]
            if not _reaches(line[start:stop], limit, limits[start:stop]):
                continue
            for j in range(start, stop):
                if line[j] <= limit and columns[j] != row:
                    _insert(distances[row], others[row], line[j], columns[j])
                if line[j] <= limits[j] and columns[j] != row:
                    _insert(distances[columns[j]], others[columns[j]], line[j], row)
                    limits[j] = distances[columns[j], last]


@numba.njit(cache=True)  # type: ignore[untyped-decorator, unused-ignore]
def _grown(ring: Ints, bottom: int, top: int) -> Ints:
    """Return a ring of twice the length with the stack in it."""
    larger = np.empty(2 * len(ring), np.int32)
    for place in range(bottom, top):
        larger[place & (len(larger) - 1)] = ring[place & (len(ring) - 1)]
    return larger


@numba.njit(cache=True)  # type: ignore[untyped-decorator, unused-ignore]
def _next_start(starts: Longs, ends: Longs, left: Longs, batch_of: Longs, batch: int) -> int:
    """Go round `starts[ends[0]:ends[1]]` to the next row with chunks left outside the batch."""
    while True:
        if ends[0] == ends[1]:
            kept = 0
            for row in starts[: ends[1]]:
                if left[row]:
                    starts[kept] = row
                    kept += 1
            ends[0], ends[1] = 0, kept
        row = starts[ends[0]]
        ends[0] += 1
        if left[row] and batch_of[row] != batch:
            return int(row)


@numba.njit(  # type: ignore[untyped-decorator, unused-ignore]
    "UniTuple(int64, 2)(int32[:, ::1], int64[::1], int64[::1], int64, boolean, int64[::1])", cache=True
)
def walk(edges: Ints, left: Longs, starts: Longs, number: int, restart: bool, visits: Longs) -> tuple[int, int]:
    """Do what `_walk.walk` does; use `left` and `starts` up, fill `visits`, return how many and the restarts."""
    # The stack is ring[bottom:top], its places taken modulo the ring's length, a power of two.
    ring, bottom, top = np.empty(1 << 16, np.int32), 0, 0
    batch_of, waits_in = np.full(len(left), -1, np.int64), np.full(len(left), -1, np.int64)
    waiting, ends = np.empty(number, np.int32), np.array([0, len(starts)])
    available, batch, restarts, visited = len(left), 0, 0, 0
    while available >= number:
        waits = 0
        for _ in range(number):
            row = -1
            while row < 0 and top > bottom:
                top -= 1
                met = ring[top & (len(ring) - 1)]
                if left[met] and batch_of[met] != batch:
                    row = met
                elif left[met] and waits_in[met] != batch:
                    waits_in[met] = batch
                    waiting[waits] = met
                    waits += 1
            if row < 0:
                if visited and not restart:
                    return visited, 0
                restarts += visited > 0
                row = _next_start(starts, ends, left, batch_of, batch)
            visits[visited] = row
            visited += 1
            batch_of[row] = batch
            left[row] -= 1
            available -= left[row] == 0
            while top - bottom + edges.shape[1] + number > len(ring):
                ring = _grown(ring, bottom, top)
            for place in range(edges.shape[1] - 1, -1, -1):
                ring[top & (len(ring) - 1)] = edges[row, place]
                top += 1
        for met in waiting[:waits]:
            bottom -= 1
            ring[bottom & (len(ring) - 1)] = met
        batch += 1
    return visited, restarts
