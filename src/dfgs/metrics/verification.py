"""Verification: how many true pairs are accepted when only few false ones may be."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from dfgs.metrics._blocks import Blocks, Distance, Products
from dfgs.metrics._counting import hide_own
from dfgs.metrics._matching import Pairs, pair
from dfgs.metrics.embeddings import Embeddings
from dfgs.metrics.protocols import Protocol

PairScores = Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]

RATES = {f"tpr_at_fpr_{rate:g}": rate for rate in (1e-2, 1e-3, 1e-4)}
"""False positive rates by the name of the true positive rate there."""


def true_positive_rates(
    query: Embeddings,
    gallery: Embeddings,
    protocol: Protocol,
    distance: Distance = "euclidean",
    products: Products | None = None,
) -> dict[str, float]:
    """Return the share of matching pairs (percent) nearer than a threshold that few other pairs reach.

    The keys are those of `RATES`, `tpr_at_fpr_0.01` to `tpr_at_fpr_0.0001`. The threshold of a rate `f` is the lowest
    with at most `f` of the non-matching pairs beyond it; of N such pairs, with N·f < 1, none may be. Pairs are those
    that `protocol` leaves to queries that have a match, all images of an identity taken (no draw). Exact; besides a few
    blocks of scores it keeps the best hundredth of the non-matching scores, at most twice. NaN without such pairs.
    Arguments and errors as in `rank`.
    """
    blocks = Blocks(query, gallery, pair(query, gallery, protocol), distance, products)
    negatives = _count_negatives(blocks.pairs)
    if not negatives:
        return dict.fromkeys(RATES, float("nan"))
    largest = _Largest(int(max(RATES.values()) * negatives) + 1)
    genuine = []
    for matching, block in _stream(blocks, query):
        genuine.append(matching)
        largest.add(block)
    accepted, impostors = np.concatenate(genuine), largest.descending()
    return {name: float((100.0 * (accepted > impostors[int(rate * negatives)])).mean()) for name, rate in RATES.items()}


def pair_scores(query: Embeddings, gallery: Embeddings, protocol: Protocol, distance: Distance) -> PairScores:
    """Yield the scores of the pairs of `true_positive_rates`, a block at a time; one scale for all queries.

    First those of matching pairs, (p,); then a block (a, b) with those of the non-matching ones and -inf at all other
    places, valid until the next is asked for. Larger is nearer: cosines, dot products, or minus half the squared
    Euclidean distances. Errors as in `rank`.
    """
    return _stream(Blocks(query, gallery, pair(query, gallery, protocol), distance, None), query)


def _stream(blocks: Blocks, query: Embeddings) -> PairScores:
    pairs, (rows, columns) = blocks.pairs, blocks.shape()
    matches = [pairs.positives(row * blocks.height, (row + 1) * blocks.height) for row in range(rows)]
    has_match = _have_match(pairs)
    for column in range(columns):
        for row, (owner, position) in enumerate(matches):
            scores = blocks.scores(row, column)
            first, left = row * blocks.height, column * blocks.width
            _make_comparable(scores, blocks.distance, query.squared_norms[pairs.queries[first : first + blocks.height]])
            here = position // blocks.width == column
            genuine = scores[owner[here] - first, position[here] - left]
            hide_own(pairs, scores, first, left)
            scores[~has_match[first : first + blocks.height]] = -np.inf
            yield genuine, scores


def _have_match(pairs: Pairs) -> NDArray[np.bool_]:
    has_match = np.zeros(len(pairs.queries), bool)
    has_match[pairs.positives(0, len(has_match))[0]] = True
    return has_match


def _count_negatives(pairs: Pairs) -> int:
    negatives = len(pairs.gallery) - (pairs.own_stop - pairs.own_start)
    return int(negatives[_have_match(pairs)].sum())


def _make_comparable(scores: NDArray[np.float32], distance: Distance, squared_norms: NDArray[np.float32]) -> None:
    """Add what the scores of one query have in common, so that one threshold serves all queries."""
    if distance == "euclidean":
        scores -= squared_norms[:, None] / 2
    elif distance == "cosine":
        scores /= np.sqrt(squared_norms)[:, None]


class _Largest:
    """The `count` largest of all values added, in a buffer half as long again."""

    def __init__(self, count: int) -> None:
        self.count, self.used = count, 0
        self.buffer = np.empty(count + count // 2 + 1, np.float32)
        self.floor = np.float32(-np.inf)

    def add(self, values: NDArray[np.float32]) -> None:
        """Take in `values` (any shape); what can no longer be among the largest is left out."""
        left = values[values > self.floor]
        while left.size:
            part = left[: len(self.buffer) - self.used]
            self.buffer[self.used : self.used + part.size] = part
            self.used += part.size
            left = left[part.size :]
            if self.used == len(self.buffer):
                self._shrink()
                left = left[left > self.floor]

    def descending(self) -> NDArray[np.float32]:
        """Return the largest values, largest first."""
        return np.sort(self.buffer[: self.used])[::-1][: self.count]

    def _shrink(self) -> None:
        self.buffer.partition(len(self.buffer) - self.count)
        self.buffer[: self.count] = self.buffer[-self.count :].copy()
        self.used, self.floor = self.count, self.buffer[: self.count].min()
