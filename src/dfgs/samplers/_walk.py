"""Depth-first walk that cuts its path into batches of different identities."""

from collections import deque
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from dfgs.samplers._extra import compiled
from dfgs.samplers._labels import Ids


def walk(edges: NDArray[np.int32], chunks: Ids, starts: Ids, number: int, *, restart: bool = True) -> tuple[Ids, int]:
    """Walk along `edges`, int32 (N, k), and return the visits as int64 (batches, P = `number`) and the restarts.

    Row r is visited `chunks[r]` times at most and once in a batch. After a visit its neighbours go on the stack, the
    first of them on top. A row that is met again in the same batch goes to the bottom of the stack when the batch is
    full. An empty stack is refilled with the next row of `starts` (int64 (N,), a random order of the rows) that has
    chunks left and is not in the batch; without `restart` it ends the walk. A last partial batch is left out.

    Cost: O(k) per visit. Rows without chunks are dropped when they are popped, not when they are pushed: what is out
    stays out, so the walk is the same and the push is one call. With the compiled extra, from `_extra.FEW` identities
    on, the same walk is some ten times faster.
    """
    extra = compiled(len(edges))
    if extra is not None:
        visited = np.empty(int(chunks.sum()), dtype=np.int64)
        table = np.ascontiguousarray(edges, dtype=np.int32)
        length, restarts = extra.walk(table, chunks.astype(np.int64), starts.astype(np.int64), number, restart, visited)
        return _cut(visited[:length], number), restarts
    left, pushes = chunks.tolist(), np.ascontiguousarray(edges[:, ::-1])
    last_batch = [-1] * len(left)
    stack: deque[int] = deque()
    waiting: dict[int, None] = {}
    fresh = _cycle(starts.tolist(), left)
    visits: list[int] = []
    available, batch, restarts = len(left), 0, 0
    while available >= number:
        for _ in range(number):
            while stack:
                row = stack.pop()
                if left[row]:
                    if last_batch[row] != batch:
                        break
                    waiting[row] = None
            else:
                if visits and not restart:
                    return _cut(visits, number), 0
                restarts += bool(visits)
                row = next(row for row in fresh if left[row] and last_batch[row] != batch)
            visits.append(row)
            last_batch[row] = batch
            left[row] -= 1
            available -= not left[row]
            stack.extend(pushes[row].tolist())
        stack.extendleft(waiting)
        waiting.clear()
        batch += 1
    return _cut(visits, number), restarts


def _cycle(rows: list[int], left: list[int]) -> Iterator[int]:
    """Go round `rows` for ever, leaving out those with nothing left at the start of a round.

    The walk asks only while a row outside its batch has chunks left, so a round never comes back empty.
    """
    while True:
        rows = [row for row in rows if left[row]]
        yield from rows


def _cut(visits: list[int] | Ids, number: int) -> Ids:
    batches = len(visits) // number
    return np.array(visits[: batches * number], dtype=np.int64).reshape(batches, number)
