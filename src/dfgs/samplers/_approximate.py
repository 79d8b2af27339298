"""Nearest neighbours of very many rows: searched in lists of similar rows, ranked by their exact distances."""

import logging
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from dfgs.samplers._neighbours import Kind, cut, distances, numbers
from dfgs.samplers._table import Floats, NeighbourTable, Rows

logger = logging.getLogger(__name__)

COMPONENTS = 128
SAMPLE = 512
CHUNK = 8192


def nearest_approximately(features: Sequence[Floats], count: int, *, wanted: float = 0.97) -> tuple[Rows, float]:
    """Return nearly the `count` nearest other rows of every row, int32 (N, count), and the share that is right.

    Rows and distances as in `nearest`. The rows are put into 4 sqrt(N) lists (k-means by faiss, on their first 128
    principal components). Two rows are compared where the list of one is among the `probes` lists nearest to the other;
    twice as many candidates as needed are kept, then ranked by their exact distances. `probes` is the number that finds
    the share `wanted` of the true neighbours of 256 sampled rows. The share returned, the recall, is that of 256 other
    rows, after all steps; equal distances count as errors where another row was taken.

    Cost: 2 N^2 c s multiply-adds for c components and the share s of the lists that is probed, which depends on the
    features; memory beside the features: twice the components, the candidates, some blocks of 8,192 rows.
    """
    number = len(features[0])
    kinds, draws = [Kind(rows) for rows in features], np.random.default_rng(number)
    sample = draws.permutation(number)[: min(SAMPLE, number)]
    known, asked = np.array_split(sample, 2)
    lists = _Lists(_components(kinds, draws), draws)
    probes = lists.probes(known, exact_rows(kinds, known, count), wanted)
    table = _rank(kinds, lists.search(min(2 * count, number - 1), probes), count)
    right = exact_rows(kinds, asked, count)
    recall = float((table[asked][:, :, None] == right[:, None]).any(axis=2).mean())
    logger.info(
        "approximate graph of %d identities: %d of %d lists searched, recall@%d %.3f on %d sampled identities",
        *(number, probes, len(lists.centroids), count, recall, len(asked)),
    )
    return table, recall


def exact_rows(kinds: Sequence[Kind], rows: NDArray[np.int64], count: int) -> Rows:
    """Return the `count` nearest other rows of some rows, in no order: int32 (len(rows), count)."""
    left = [kind.left(rows) for kind in kinds]
    near = np.empty((len(rows), 0), np.float32)
    others = np.empty((len(rows), 0), np.int32)
    for part in cut(len(kinds[0].rows), CHUNK):
        block, columns = distances(kinds, left, part), numbers(part)
        block[rows[:, None] == columns] = np.inf
        near = np.hstack([near, block])
        others = np.hstack([others, np.broadcast_to(columns, block.shape)])
        best = np.argpartition(near, min(count, near.shape[1]) - 1, axis=1)[:, :count]
        near, others = np.take_along_axis(near, best, axis=1), np.take_along_axis(others, best, axis=1)
    return others


def _components(kinds: Sequence[Kind], draws: np.random.Generator) -> Floats:
    """Principal components of all kinds, in units of their scales, then ones and squared norms: (N, c + 2)."""
    number = len(kinds[0].rows)
    sample = np.sort(draws.permutation(number)[:20_000])
    rows = np.hstack([kind.scaled(sample) for kind in kinds])
    axes = np.linalg.eigh(rows.T @ rows)[1][:, ::-1][:, :COMPONENTS]
    codes = np.ones((number, axes.shape[1] + 2), np.float32)
    for part in cut(number, CHUNK):
        codes[part, :-2] = np.hstack([kind.scaled(part) for kind in kinds]) @ axes
    codes[:, -1] = np.einsum("nd,nd->n", codes[:, :-2], codes[:, :-2])
    return codes


class _Lists:
    """Rows sorted into lists: a *place* is a position in that order, `rows` (N,) the row at each place."""

    def __init__(self, codes: Floats, draws: np.random.Generator) -> None:
        number = min(int(4 * np.sqrt(len(codes))), len(codes))
        self.centroids = _centroids(codes[np.sort(draws.permutation(len(codes))[: 32 * number]), :-2], number)
        own = np.concatenate([self._nearness(codes[part]).argmin(axis=1) for part in cut(len(codes), CHUNK)])
        self.rows = np.argsort(own, kind="stable")
        self.codes, self.own = codes[self.rows], own[self.rows]
        self.bounds = np.searchsorted(self.own, np.arange(number + 1))
        self.places = np.argsort(self.rows)

    def probes(self, rows: NDArray[np.int64], others: Rows, wanted: float) -> int:
        """Return how many nearest lists of either row must be searched to find the share `wanted` of the pairs."""
        needed = [self._rank_of_list(self.places[rows][:, None], self.places[others])]
        needed.append(self._rank_of_list(self.places[others], self.places[rows][:, None]))
        return 1 + int(np.quantile(np.minimum(*needed), wanted, method="higher"))

    def _rank_of_list(self, place: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
        """Number of lists that are nearer to `place` than that of `other`."""
        place, other = np.broadcast_arrays(place, other)
        near = self._nearness(self.codes[place.ravel()])
        own = np.take_along_axis(near, self.own[other.ravel()][:, None], axis=1)
        ranks: NDArray[np.int64] = (near < own).sum(axis=1).reshape(place.shape)
        return ranks

    def search(self, count: int, probes: int) -> Rows:
        """Return candidates for each row, int32 (N, count), N where there are too few."""
        table = NeighbourTable(len(self.codes), count)
        for part in cut(len(self.codes), CHUNK):
            left = self.codes[part].copy()
            left[:, :-2] *= -2
            left[:, -2:] = left[:, :-3:-1]
            for chosen, members in self._searched(self.codes[part], probes):
                block = left[chosen] @ self.codes[members].T
                table.offer(block, numbers(part)[chosen], numbers(members), both=True)
        found = np.empty_like(table.rows)
        found[self.rows] = np.append(self.rows, len(self.rows))[table.rows]
        return found

    def _searched(self, codes: Floats, probes: int) -> Iterator[tuple[NDArray[np.intp], slice]]:
        """Yield the rows of a chunk that search a list, and the list."""
        near = self._nearness(codes)
        limits = np.partition(near, probes - 1, axis=1)[:, probes - 1 : probes]
        number, row = np.nonzero((near <= limits).T)
        starts = np.searchsorted(number, np.arange(len(self.bounds)))
        for place in np.unique(number).tolist():
            members = slice(self.bounds[place], self.bounds[place + 1])
            if members.start < members.stop:
                yield row[starts[place] : starts[place + 1]], members

    def _nearness(self, codes: Floats) -> Floats:
        """Squared distances of rows to all centroids, less the rows' own norms."""
        near: Floats = codes @ self.centroids.T
        return near


def _centroids(rows: Floats, number: int) -> Floats:
    """Cluster rows; return centroids times -2, their squared norms, zeros: (number, c + 2)."""
    import faiss

    means = faiss.Kmeans(rows.shape[1], number, niter=6, seed=0, min_points_per_centroid=1)
    means.train(np.ascontiguousarray(rows))
    centres: Floats = np.asarray(means.centroids)
    norms = np.einsum("nd,nd->n", centres, centres)
    centroids: Floats = np.column_stack([-2 * centres, norms, np.zeros_like(norms)])
    return centroids


def _rank(kinds: Sequence[Kind], candidates: Rows, count: int) -> Rows:
    """Keep the `count` candidates of each row that are nearest, nearest first, ties by row."""
    number = len(candidates)
    table = np.empty((number, count), np.int32)
    candidates = np.sort(candidates, axis=1)
    for part in cut(number, 256):
        others = candidates[part]
        total = np.sum([kind.distances_to(part, np.minimum(others, number - 1)) for kind in kinds], axis=0)
        total[others == number] = np.inf
        order = np.argsort(total, axis=1, kind="stable")[:, :count]
        table[part] = np.take_along_axis(others, order, axis=1)
    short = np.flatnonzero((table == number).any(axis=1))
    if len(short):
        table[short] = exact_rows(kinds, short, count)
    return table
