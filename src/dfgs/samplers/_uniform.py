"""Uniform draws of P different identities until fewer than P have images left."""

import numpy as np

from dfgs.samplers._labels import Ids


def draw_uniform(chunks: Ids, number: int, rng: np.random.Generator) -> Ids:
    """Draw batches of P = `number` rows, all different in a batch; row r comes `chunks[r]` times at most.

    Each batch is a uniform draw without replacement from the rows that have chunks left; the pass ends when fewer than
    P have. Returns int64 (batches, P). Cost: O(P) per batch, whatever the number of rows.
    """
    left = chunks.tolist()
    alive = list(range(len(left)))
    uniform = iter(rng.random(int(chunks.sum())).tolist())
    drawn: list[int] = []
    while len(alive) >= number:
        # Partial Fisher-Yates shuffle: the batch gathers at the end of the list, where exhausted rows drop off.
        size = len(alive)
        for last in range(size - 1, size - 1 - number, -1):
            other = int(next(uniform) * (last + 1))
            alive[last], alive[other] = alive[other], alive[last]
        batch = alive[-number:]
        drawn += batch
        for row in batch:
            left[row] -= 1
        alive[-number:] = [row for row in batch if left[row]]
    return np.array(drawn, dtype=np.int64).reshape(-1, number)
