"""A random walk with returns over a graph of look-alikes among random candidates (BatchSampler)."""

import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from dfgs.errors import DfgsError
from dfgs.samplers._graph import GraphSampler
from dfgs.samplers._labels import Ids
from dfgs.samplers.base import Features, Labels, Pass, check_count, check_share

Rows = NDArray[np.int32]

PATIENCE = 1000
"""Steps in a row without a new identity after which a walk is stuck, and starts again elsewhere."""
GATHERED = 2**24
"""Numbers of gathered candidates in a block, 64 MB."""


class ProximityWalk(GraphSampler):
    """A batch is what a random walk meets that returns to its start now and then, on a graph made of random candidates.

    Each identity draws M other identities at random and has edges to the K' nearest of them, so that its very nearest,
    which may be the same person under another name, are edges only by chance. A batch begins at a random identity that
    no batch of the pass has held, and takes the first P different identities that a walk from there meets: a step
    leads back to the start with the return probability, else along a random edge. A pass ends when fewer than P
    identities have been in no batch; an identity may be in many. Its K images are read from a shuffled list that
    begins again at its end, as in GS.

    Arguments, with the paper's values as defaults:

    - `candidates` M; with that many other identities or fewer, all are candidates and the graph is that of the nearest;
    - `neighbours` K', at most the candidates; None for a tenth of them (the paper's 100 of 1,000), at least 1;
    - `return_probability` of the first pass, falling by `return_decay` with every pass down to `least_return`.

    Differences from the source: identities in place of images, K images of each; Euclidean distance of one random
    image per identity (there cosine); candidates are different and never the identity itself (there drawn with
    replacement from all); the graph is made anew for each pass (there every 100 batches); training does not begin
    with batches of a plain shuffle, nor does a pass end with them; a walk that meets nobody new in 1,000 steps starts
    again at another identity, counted as a restart (there it never ends).

    Source: Yang et al., "BatchSampler: Sampling Mini-Batches for Contrastive Learning in Vision, Language, and Graphs",
    KDD 2023, and https://github.com/THUDM/BatchSampler, `main.py` and `train.sh`. Cost: O(N M d) and 64 MB for the
    graph, bound by memory more than by arithmetic, and O(1) per step. Raises `DfgsError` for more neighbours than
    candidates, so for one identity alone, and for shares that are not from 0 to 1.
    """

    def __init__(
        self,
        labels: Labels,
        *,
        batch_size: int,
        instances: int,
        seed: int,
        candidates: int = 1000,
        neighbours: int | None = None,
        return_probability: float = 0.2,
        return_decay: float = 0.02,
        least_return: float = 0.05,
    ) -> None:
        super().__init__(labels, batch_size=batch_size, instances=instances, seed=seed)
        check_count("candidates", candidates, 1)
        others = len(labels.identities) - 1
        self.candidates = min(candidates, others)
        self.k = max(1, self.candidates // 10) if neighbours is None else neighbours
        check_count("neighbours", self.k, 1)
        if self.k > self.candidates:
            remedy = f"choose at most {self.candidates}" if others else "give more identities"
            raise DfgsError(
                f"neighbours={self.k} exceeds the {self.candidates} candidates that an identity has with "
                f"candidates={candidates} and {others} other identities; {remedy}"
            )
        check_share("return_probability", return_probability)
        check_share("return_decay", return_decay)
        check_share("least_return", least_return)
        self.first_return, self.return_decay, self.least_return = return_probability, return_decay, least_return

    @property
    def edge_ranks(self) -> range | None:
        """The nearest of all where all are candidates, else none."""
        return range(self.k) if self.candidates == len(self.labels.identities) - 1 else None

    def draw_pass(self, rng: np.random.Generator) -> Pass:
        """Make the graph, walk from identity to identity and serve each its next images."""
        edges = self.neighbours(self.k) if self.edge_ranks else self._graph(rng)
        back = max(self.least_return, self.first_return - self.return_decay * self.epoch)
        rows, restarts = walk_with_returns(edges, self.identities_per_batch, back, rng)
        return self.serve(rows, self.labels.shuffled(rng), restarts, edges)

    def _graph(self, rng: np.random.Generator) -> Rows:
        self.check_features()
        started = time.perf_counter()
        (features,) = self._features.values()
        centred = features - features.mean(axis=0, dtype=np.float64).astype(np.float32)
        number, block = len(features), max(1, GATHERED // (self.candidates * features.shape[1]))
        edges = np.empty((number, self.k), dtype=np.int32)
        for first in range(0, number, block):
            owners = np.arange(first, min(first + block, number))
            candidates = draw_candidates(owners, number, self.candidates, rng)
            edges[owners] = nearest_candidates(centred, owners, candidates, self.k)
        # The k nearest of a random share of all are, on average, among that many nearest of all.
        self.reach = round(self.k * (number - 1) / self.candidates)
        self.graph_seconds += time.perf_counter() - started
        return edges


def draw_candidates(owners: Ids, number: int, count: int, rng: np.random.Generator) -> Rows:
    """Draw `count` different rows below `number` for each of `owners`, never itself: sorted, int32 (owners, count)."""
    drawn = np.array([rng.choice(number - 1, count, replace=False, shuffle=False) for _ in owners], dtype=np.int32)
    drawn.sort(axis=1)
    drawn += drawn >= owners[:, None]
    return drawn


def nearest_candidates(features: Features, owners: Ids, candidates: Rows, count: int) -> Rows:
    """Return the `count` nearest of each owner's candidates, nearest first, ties by row; int32 (owners, count).

    `features` float32 (N, d), better centred; `owners` (b,); `candidates` (b, M), each row sorted.
    """
    gathered = features[candidates]
    # The squared distance but for the owner's own norm, which is the same for all its candidates.
    far = np.einsum("bmd,bmd->bm", gathered, gathered) - 2 * (gathered @ features[owners][:, :, None])[:, :, 0]
    order = np.argsort(far, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(candidates, order, axis=1)


def walk_with_returns(edges: Rows, number: int, back: float, rng: np.random.Generator) -> tuple[Ids, int]:
    """Walk along `edges`, int32 (N, k), and return what is met as int64 (batches, P = `number`) and the restarts.

    A batch begins at a random row that none has held; a step leads to that start with probability `back`, else along
    a random edge. A walk that is stuck for `PATIENCE` steps goes on from another row that no batch has held.
    """
    steps = _steps(back, edges.shape[1], rng)
    starts = iter(rng.permutation(len(edges)).tolist())
    unserved, restarts = set(range(len(edges))), 0
    batches: list[list[int]] = []
    while len(unserved) >= number:
        met: dict[int, None] = {}
        here = start = -1
        idle = PATIENCE
        while len(met) < number:
            if idle == PATIENCE:
                restarts += bool(met)
                # At least P rows were in no batch when this one began, so one is left for every start.
                here = start = next(row for row in starts if row in unserved)
            else:
                is_return, edge = next(steps)
                here = start if is_return else edges.item(here, edge)
            idle = idle + 1 if here in met else 0
            met[here] = None
            unserved.discard(here)
        batches.append(list(met))
    return np.array(batches, dtype=np.int64).reshape(-1, number), restarts


def _steps(back: float, degree: int, rng: np.random.Generator) -> Iterator[tuple[bool, int]]:
    """Whether a step is a return, and the edge that it takes if not, for ever."""
    while True:
        yield from zip((rng.random(4096) < back).tolist(), rng.integers(degree, size=4096).tolist(), strict=True)
