"""Verification: how many true pairs are accepted when only few false ones may be."""

import numpy as np
from numpy.typing import NDArray

from dfgs.metrics._blocks import Blocks, Distance, Products
from dfgs.metrics._counting import hide_own
from dfgs.metrics._matching import pair
from dfgs.metrics.embeddings import Embeddings
from dfgs.metrics.protocols import Protocol

FALSE_POSITIVE_RATES = (1e-2, 1e-3, 1e-4)


def true_positive_rates(
    query: Embeddings,
    gallery: Embeddings,
    protocol: Protocol,
    distance: Distance = "euclidean",
    products: Products | None = None,
) -> dict[str, float]:
    """Return the share of matching pairs (percent) nearer than a threshold that few other pairs reach.

    The keys are `tpr_at_fpr_0.01`, `tpr_at_fpr_0.001`, `tpr_at_fpr_0.0001`. The threshold of a rate `f` is the lowest
    with at most `f` of the non-matching pairs beyond it; of N such pairs, with N·f < 1, none may be. Pairs are those
    that `protocol` leaves to queries that have a match, all images of an identity taken (no draw). Exact; besides a few
    blocks of scores it keeps the best hundredth of the non-matching scores, at most twice. NaN without such pairs.
    Arguments and errors as in `rank`.
    """
    pairs = pair(query, gallery, protocol)
    blocks = Blocks(query, gallery, pairs, distance, products)
    rows, columns = blocks.shape()
    matches = [pairs.positives(row * blocks.height, (row + 1) * blocks.height) for row in range(rows)]
    has_match = np.zeros(len(pairs.queries), bool)
    for owner, _ in matches:
        has_match[owner] = True
    negatives = int((len(pairs.gallery) - (pairs.own_stop - pairs.own_start))[has_match].sum())
    if not negatives:
        return {_key(rate): float("nan") for rate in FALSE_POSITIVE_RATES}
    largest = _Largest(int(max(FALSE_POSITIVE_RATES) * negatives) + 1)
    genuine = []
    for column in range(columns):
        for row, (owner, position) in enumerate(matches):
            scores = blocks.scores(row, column)
            first, left = row * blocks.height, column * blocks.width
            _make_comparable(scores, distance, query.squared_norms[pairs.queries[first : first + blocks.height]])
            here = position // blocks.width == column
            genuine.append(scores[owner[here] - first, position[here] - left])
            hide_own(pairs, scores, first, left)
            scores[~has_match[first : first + blocks.height]] = -np.inf
            largest.add(scores)
    accepted, impostors = np.concatenate(genuine), largest.descending()
    return {
        _key(rate): float((100.0 * (accepted > impostors[int(rate * negatives)])).mean())
        for rate in FALSE_POSITIVE_RATES
    }


def _key(rate: float) -> str:
    return f"tpr_at_fpr_{rate:g}"


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
