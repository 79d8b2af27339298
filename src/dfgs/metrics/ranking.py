"""Rank a gallery for every query: average precision, first match, INP, and what is reported of them."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from dfgs.metrics._blocks import Blocks, Distance, Products
from dfgs.metrics._counting import Matches, count, query_blocks_at_once
from dfgs.metrics._matching import draws
from dfgs.metrics.embeddings import Embeddings
from dfgs.metrics.protocols import Protocol

logger = logging.getLogger(__name__)

FloatArray = NDArray[np.float64]
WIDE_INTERVAL = 0.01
UNDECIDED = 1.0
"""Points of mAP that ties may leave open before they count as lost."""


@dataclass(frozen=True, slots=True, eq=False)
class Bound:
    """What one way of breaking ties gives, float64 arrays of shape (repeats, queries); NaN where a query has no match.

    `average_precision`: mean over the matches of the precision at each (0-1).
    `average_precision_trapezoid`: the same with each precision averaged with the one just before its match, as in
    Market-1501's own code; lower by about a point.
    `first_rank`: rank of the first match, from 1. `inp`: matches divided by the rank of the last one (0-1).
    """

    average_precision: FloatArray
    average_precision_trapezoid: FloatArray
    first_rank: FloatArray
    inp: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """The metrics of every query, in the order of the queries.

    `matches` (queries,): how many matches the query has under the protocol; 0 makes its metrics NaN.
    `optimistic`, `pessimistic`: every match before, and behind, the negatives of the very same score.
    The properties are (queries,) float64: means of both bounds (and over repeats).
    """

    matches: NDArray[np.int64]
    optimistic: Bound
    pessimistic: Bound

    @property
    def average_precision(self) -> FloatArray:
        """Average precision, 0-1."""
        return (self.average_precision_low + self.average_precision_high) / 2

    @property
    def average_precision_low(self) -> FloatArray:
        """Average precision with every tie lost."""
        return _over_repeats(self.pessimistic.average_precision)

    @property
    def average_precision_high(self) -> FloatArray:
        """Average precision with every tie won."""
        return _over_repeats(self.optimistic.average_precision)

    @property
    def average_precision_trapezoid(self) -> FloatArray:
        """Average precision of Market-1501's own code, 0-1."""
        return _middle(self.optimistic.average_precision_trapezoid, self.pessimistic.average_precision_trapezoid)

    @property
    def first_rank(self) -> FloatArray:
        """Rank of the first match, from 1."""
        return _middle(self.optimistic.first_rank, self.pessimistic.first_rank)

    @property
    def inp(self) -> FloatArray:
        """Inverse negative penalty: matches / rank of the last match, 0-1 (Ye et al., TPAMI 2021)."""
        return _middle(self.optimistic.inp, self.pessimistic.inp)


def rank(
    query: Embeddings,
    gallery: Embeddings,
    protocol: Protocol,
    distance: Distance = "euclidean",
    products: Products | None = None,
) -> Ranking:
    """Rank `gallery` for every query under `protocol`, exactly, without holding more than a few blocks of scores.

    `products(queries, gallery)` may deliver the float32 dot products of the given row numbers (two integer arrays, 512
    and 4,096 long at most), shape (len(queries), len(gallery)), say from a GPU. Scores are compared in float32 as they
    come; equal scores are ties, and the result lies between their two bounds. With distance "dot" the products are the
    scores, larger is nearer. The order of the gallery changes no bit.

    Raises `DfgsError` for sets that do not fit each other, for an all-zero row under "cosine", and for NaN products.

    >>> from dfgs.metrics import PROTOCOLS
    >>> features = np.array([[0, 0], [0, 1], [3, 3]], np.float32)
    >>> images = Embeddings(features, np.array([5, 5, 8]), np.array([1, 2, 1]))
    >>> rank(images, images, PROTOCOLS["market1501"]).average_precision.tolist()
    [1.0, 1.0, nan]
    """
    size = len(query)
    matches = np.zeros(size, np.int64)
    bounds = np.full((2, len(fields(Bound)), max(1, protocol.repeats), size), np.nan)
    for repeat, pairs in enumerate(draws(query, gallery, protocol)):
        blocks = Blocks(query, gallery, pairs, distance, products)
        for rows in query_blocks_at_once(blocks):
            found = count(blocks, rows)
            if found.owner.size:
                _fill(bounds[:, :, repeat], matches, found, pairs.queries)
    return Ranking(matches, Bound(*bounds[0]), Bound(*bounds[1]))


def summarise(ranking: Ranking, ranks: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
    """Average over the queries that have a match, in percent.

    Returns `mAP`, `mAP_low`, `mAP_high` (every tie lost, won), `mAP_trapezoid`, `rank1`, ... for each of `ranks` (share
    of queries with a match that high), `mINP`, and the counts `queries` and `queries_without_match`. The means are NaN
    if no query has a match. A warning names what ties leave open by more than 0.01 points.
    """
    has_match = ranking.matches > 0
    low, high = (_percent(bound, has_match, ranks) for bound in (ranking.pessimistic, ranking.optimistic))
    for name in low:
        if high[name] - low[name] > WIDE_INTERVAL:
            logger.warning("%s lies between %.4f and %.4f: equal scores leave it open", name, low[name], high[name])
    means = {name: (low[name] + high[name]) / 2 for name in low}
    return {
        "mAP": means.pop("mAP"),
        "mAP_low": low["mAP"],
        "mAP_high": high["mAP"],
        **means,
        "queries": len(has_match),
        "queries_without_match": int((~has_match).sum()),
    }


def settle_ties(ranking: Ranking) -> tuple[Ranking, bool]:
    """Count every tie as lost where ties leave more than `UNDECIDED` points of mAP open, and tell whether they do.

    A collapsed model, whose features are all alike, must not earn the 50 % that lie midway between its bounds.
    """
    has_match = ranking.matches > 0
    low, high = (bound.average_precision[:, has_match] for bound in (ranking.pessimistic, ranking.optimistic))
    is_open = has_match.any() and 100 * float((high - low).mean()) > UNDECIDED
    return (replace(ranking, optimistic=ranking.pessimistic), True) if is_open else (ranking, False)


def _percent(bound: Bound, has_match: NDArray[np.bool_], ranks: Sequence[int]) -> dict[str, float]:
    values = {
        "mAP": bound.average_precision,
        "mAP_trapezoid": bound.average_precision_trapezoid,
        **{f"rank{k}": np.asarray(bound.first_rank <= k, float) for k in ranks},
        "mINP": bound.inp,
    }
    if not has_match.any():
        return dict.fromkeys(values, float("nan"))
    return {name: float((100 * array[:, has_match]).mean()) for name, array in values.items()}


def _fill(bounds: FloatArray, matches: NDArray[np.int64], found: Matches, queries: NDArray[np.int64]) -> None:
    """Write the metrics of the queries of `found` into `bounds` (2, 4, queries) and their counts into `matches`."""
    start = np.flatnonzero(np.diff(found.owner, prepend=-1))
    size = np.diff(start, append=len(found.owner))
    which = queries[found.owner[start]]
    matches[which] = size
    place = np.repeat(start + size, size) - np.arange(len(found.owner))
    for bound, negatives in zip(bounds, (found.above, found.above + found.level), strict=True):
        ranks = place + negatives
        precision = place / ranks
        before = np.where(ranks > 1, (place - 1) / np.maximum(ranks - 1, 1), 1.0)
        bound[0, which] = np.add.reduceat(precision, start) / size
        bound[1, which] = np.add.reduceat((precision + before) / 2, start) / size
        bound[2, which] = ranks[start + size - 1]
        bound[3, which] = size / ranks[start]


def _over_repeats(values: FloatArray) -> FloatArray:
    return np.asarray(values.mean(axis=0))


def _middle(one: FloatArray, other: FloatArray) -> FloatArray:
    return (_over_repeats(one) + _over_repeats(other)) / 2
