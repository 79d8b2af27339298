"""Queries and gallery as one set of images in an order of their own, and their squared distances block by block."""

import hashlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from dfgs.metrics._blocks import DEPTH_STEP, Distance
from dfgs.metrics.embeddings import Embeddings

Floats = NDArray[np.float32]
Positions = NDArray[np.int64]
ROWS_AT_ONCE = 1024


class Pool:
    """All `n` images by position: first the queries, then the gallery, each sorted by content, then pid, then camera.

    That order makes what follows independent of the order of the two sets, ties included: two images that share a
    content, a pid and a camera can stand for each other. `query_places` (q,) and `gallery_places` (g,) hold the
    position of each row of the sets.

    Rows are scaled to length 1 for "cosine" (the squared distance is then twice 1 - cosine) and shifted by their mean,
    so that a common offset costs no precision; the mean is rounded so far that coarse features (int8) keep exact ties.
    """

    def __init__(self, query: Embeddings, gallery: Embeddings, distance: Distance) -> None:
        self.features = query.features, gallery.features
        orders = [_canonical_order(embeddings) for embeddings in (query, gallery)]
        self.queries, self.size = len(query), len(query) + len(gallery)
        self.rows = np.concatenate(orders)
        self.query_places = _inverse(orders[0])
        self.gallery_places = _inverse(orders[1]) + self.queries
        self.scale = None
        if distance == "cosine":
            squared = [e.squared_norms[order] for e, order in zip((query, gallery), orders, strict=True)]
            self.scale = np.reciprocal(np.sqrt(np.concatenate(squared)))[:, None]
        self.depth = query.features.shape[1]
        self.centre = np.zeros(self.depth, np.float32)
        self.centre = self._centre()
        self.norms = np.concatenate([_squared(rows) for rows in self._chunks()])

    def take(self, places: Positions, out: Floats | None = None) -> Floats:
        """Return the rows at `places`, (len(places), depth) float32, written into `out` where given."""
        if out is None:
            out = np.empty((len(places), self.depth), np.float32)
        rows, is_query = self.rows[places], places < self.queries
        for features, here in ((self.features[0], is_query), (self.features[1], ~is_query)):
            if here.all():
                out[...] = features[rows]
            elif here.any():
                out[here] = features[rows[here]]
        if self.scale is not None:
            out *= self.scale[places]
        out -= self.centre
        return out

    def left(self, places: Positions) -> Floats:
        """Block whose product with a transposed `right` is the squared distance: rows times -2, squared norms, ones."""
        block, rows = self._padded(places)
        rows *= -2
        block[:, self.depth], block[:, self.depth + 1] = self.norms[places], 1
        return block

    def right(self, places: Positions) -> Floats:
        """Counterpart of `left`: rows, ones, squared norms."""
        block, _ = self._padded(places)
        block[:, self.depth], block[:, self.depth + 1] = 1, self.norms[places]
        return block

    def squared_distances(self, one: Positions, other: Positions) -> Floats:
        """Return the squared distance of each pair `(one[i], other[i])`, float32."""
        found = np.empty(len(one), np.float32)
        for start in range(0, len(one), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            found[part] = _squared(self.take(one[part]) - self.take(other[part]))
        return found

    def _padded(self, places: Positions) -> tuple[Floats, Floats]:
        block = np.zeros((len(places), -(-(self.depth + 2) // DEPTH_STEP) * DEPTH_STEP), np.float32)
        return block, self.take(places, block[:, : self.depth])

    def _centre(self) -> Floats:
        total, largest = np.zeros(self.depth), 0.0
        for rows in self._chunks():
            total += rows.sum(axis=0, dtype=np.float64)
            largest = max(largest, float(rows.max()), -float(rows.min()))
        step = np.ldexp(1.0, int(np.frexp(largest)[1]) - 7)
        return np.asarray(np.round(total / self.size / step) * step, np.float32)

    def _chunks(self) -> Iterator[Floats]:
        for start in range(0, self.size, ROWS_AT_ONCE):
            yield self.take(np.arange(start, min(start + ROWS_AT_ONCE, self.size)))


def _canonical_order(embeddings: Embeddings) -> Positions:
    content = np.array([hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in embeddings.features])
    return np.lexsort((embeddings.camids, embeddings.pids, content))


def _inverse(order: Positions) -> Positions:
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order))
    return places


def _squared(rows: Floats) -> Floats:
    squared: Floats = np.einsum("ij,ij->i", rows, rows)
    return squared
