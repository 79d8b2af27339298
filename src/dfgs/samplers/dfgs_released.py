"""DFGS as the paper's repository has it, faults included."""

from collections import deque

import numpy as np

from dfgs.errors import DfgsError
from dfgs.samplers._graph import GraphSampler
from dfgs.samplers._released import Draws, GeneratorDraws, deal_groups, first_seen
from dfgs.samplers.base import Labels, Pass, check_choice

RANKS = {"image": range(10), "text": range(1, 6)}
"""Ranks of the neighbours that the released classes use, 0 for the nearest."""


class DfgsReleased(GraphSampler):
    """The sampler of the repository Qi5Lei/DFGS in the version that its `run.py` imports, batch for batch.

    Arguments: `graph`, `image` (ranks 0 to 9 of one random image per identity) or `text` (ranks 1 to 5). Differences
    from DFGS:

    - the pass ends when the stack is empty, or when as many pops in a row as identities are available met identities
      already in the batch; on a graph in several pieces it serves the piece of its random start and no more;
    - `text` draws a new order of the identities for each pass and names the rows of the distance matrix by it, but
      computes the matrix in the old order: its edges join random identities;
    - the cameras' turns as in the released code (`deal_groups`); an identity with fewer than K images draws K with
      replacement.

    An identity with one image, where the released class stops with an IndexError, is refused by name.
    Source: https://github.com/Qi5Lei/DFGS, `datasets/samplers/sampler.py`, classes DepthFirstGraphSampler and
    DepthFirstGraphSamplerText. Cost: the exact nearest neighbours, O(N^2 d), and a walk of O(k) per visit (released:
    O(N k) per visit).
    """

    least_images = 2

    def __init__(self, labels: Labels, *, batch_size: int, instances: int, seed: int, graph: str = "image") -> None:
        check_choice("graph", graph, tuple(RANKS))
        self.graph, self.ranks = frozenset({graph}), RANKS[graph]
        # As released: exact, however many identities there are.
        exact = len(labels.identities) + 1
        super().__init__(labels, batch_size=batch_size, instances=instances, seed=seed, exact_below=exact)
        others = len(labels.identities) - 1
        if self.ranks.stop > others:
            raise DfgsError(
                f"{type(self).__name__}: graph={graph} needs {self.ranks.stop} other identities, the training set has "
                f"{others}; give more identities, or use dfgs with fewer neighbours"
            )

    @property
    def edge_ranks(self) -> range | None:
        """The released ranks of the image graph; None for the text graph, whose names are scrambled."""
        return None if "text" in self.graph else self.ranks

    def draw_pass(self, rng: np.random.Generator) -> Pass:
        """Walk from a random start until stuck."""
        return self.replay(GeneratorDraws(rng))

    def replay(self, draws: Draws) -> Pass:
        """Draw one pass out of the released code's draws, made in its order."""
        known = first_seen(self.labels)
        shuffled = known.copy()
        draws.shuffle(shuffled)
        groups = deal_groups(self.labels, shuffled, self.instances, draws)
        edges = self._scrambled(known, shuffled, draws) if "text" in self.graph else self._right(known, draws)
        batches = self._walk(shuffled[draws.below(len(shuffled))], edges, groups)
        table = np.array([edges[row] for row in range(len(edges))], dtype=np.int32)
        return Pass(np.array(batches, dtype=np.int64).reshape(-1, self.batch_size), edges=table)

    def _right(self, known: list[int], draws: Draws) -> dict[int, list[int]]:
        table = self.neighbours(self.ranks.stop).tolist()
        for row in known:
            draws.shuffle(table[row])
        return dict(enumerate(table))

    def _scrambled(self, known: list[int], shuffled: list[int], draws: Draws) -> dict[int, list[int]]:
        table, ranks = self.neighbours(self.ranks.stop).tolist(), list(self.ranks)
        renamed = dict(zip(known, shuffled, strict=True))
        edges = {}
        for row in known:
            # One list of ranks, shuffled on and on, as released.
            draws.shuffle(ranks)
            edges[renamed[row]] = [renamed[table[row][rank]] for rank in ranks]
        return edges

    def _walk(self, start: int, edges: dict[int, list[int]], groups: dict[int, list[list[int]]]) -> list[int]:
        """Return the image indices of the full batches, one after the other."""
        places = dict.fromkeys(groups, 0)
        available = patience = len(groups)
        stack, met, served = deque([start]), set[int](), list[int]()
        while stack and patience:
            row = stack.pop()
            if places[row] == len(groups[row]):
                continue
            if row in met:
                stack.appendleft(row)
                patience -= 1
                continue
            patience = available
            served += groups[row][places[row]]
            places[row] += 1
            available -= places[row] == len(groups[row])
            met.add(row)
            if len(met) == self.identities_per_batch:
                met.clear()
            stack.extend(v for v in reversed(edges[row]) if places[v] < len(groups[v]))
        return served[: len(served) - len(served) % self.batch_size]
