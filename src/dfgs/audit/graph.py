"""Does a graph join look-alikes: its edges against the nearest identities, and against chance."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def graph_figures(edges: Sequence[NDArray[np.int32]], near: NDArray[np.int32]) -> dict[str, Any]:
    """Judge graphs, int32 (N, k) each, by the nearest identities `near`, int32 (N, reach); columns of `Audit`.

    An edge is true if it leads to one of the `reach` nearest of its identity. An edge to a random other identity is
    with probability p = reach / (N - 1), so chance gives E p true edges of E with a standard deviation of
    sqrt(E p (1 - p)). Edges that reach everybody (p = 1) cannot be told from random ones: the deviation is nan.
    """
    number, reach = near.shape
    count, chance = sum(table.size for table in edges), reach / (number - 1)
    if not count:
        nothing = dict.fromkeys(("graph_fidelity", "graph_chance", "graph_deviations"), math.nan)
        return {"graph_edges": 0, "graph_reach": 0, **nothing}
    keys = np.arange(number)[:, None] * number
    true = sum(int(np.isin(keys + table, keys + near).sum()) for table in edges)
    spread = math.sqrt(count * chance * (1 - chance))
    return {
        "graph_edges": count,
        "graph_reach": reach,
        "graph_fidelity": true / count,
        "graph_chance": chance,
        "graph_deviations": (true - count * chance) / spread if spread else math.nan,
    }
