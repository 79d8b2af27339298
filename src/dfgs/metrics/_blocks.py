"""Scores of query-gallery blocks in float32: larger is nearer, and equal vectors have equal scores."""

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from dfgs.errors import DfgsError, did_you_mean
from dfgs.metrics._matching import IntArray, Pairs
from dfgs.metrics.embeddings import Embeddings

Distance = Literal["euclidean", "cosine", "dot"]
Products = Callable[[IntArray, IntArray], NDArray[np.float32]]

ROW_STEP, DEPTH_STEP = 64, 32


class Blocks:
    """The scores of queries x gallery, one block of at most 512 x 4096 at a time.

    A score orders the gallery for one query as the distance does, nearest first; what is the same for the whole row is
    left out: "euclidean" gives `q·g - |g|²/2`, "cosine" `q·g / |g|`, "dot" `q·g`.

    A pair's score has the same bits wherever it stands, for any number of threads and queries: rows are padded to
    multiples of 64 (a lone query would be another routine), the depth to a multiple of 32 (OpenBLAS cuts a long sum at
    another place for several threads). This holds for OpenBLAS on AVX-512, AVX and SSE. Its AVX2 kernel rounds a few
    places of a block differently: there equal vectors may differ in the last bit and are then no tie.
    """

    height, width = 512, 4096

    def __init__(
        self, query: Embeddings, gallery: Embeddings, pairs: Pairs, distance: Distance, products: Products | None
    ) -> None:
        if distance not in get_args(Distance):
            raise DfgsError(f"distance: {distance!r} is unknown{did_you_mean(distance, get_args(Distance))}")
        self.pairs, self.distance, self.products = pairs, distance, products
        self._norms = gallery.squared_norms[pairs.gallery]
        if distance == "cosine":
            refuse_zero(query)
            refuse_zero(gallery)
            self._norms = np.reciprocal(np.sqrt(self._norms))
        else:
            self._norms *= np.float32(0.5)
        self._query = _Rows(query.features, pairs.queries, self.height)
        self._gallery = _Rows(gallery.features, pairs.gallery, self.width)
        self._slots: dict[int, NDArray[np.float32]] = {}

    def shape(self) -> tuple[int, int]:
        """Return the number of blocks along the queries and along the gallery."""
        return -(-len(self.pairs.queries) // self.height), -(-len(self.pairs.gallery) // self.width)

    def scores(self, row: int, column: int, slot: int = 0) -> NDArray[np.float32]:
        """Return block (`row`, `column`), float32, the caller's to change until the next call with the same `slot`."""
        rows, columns = self._query.block(row), self._gallery.block(column)
        if slot not in self._slots:
            self._slots[slot] = np.empty((self.height, self.width), np.float32)
        out = self._slots[slot][: len(rows), : len(columns)]
        if self.products is None:
            product = np.matmul(self._query.take(row), self._gallery.take(column).T, out=out)
        else:
            product = _checked(self.products(rows, columns), out.shape)
        norms = self._norms[column * self.width :][: self.width]
        height = min(self.height, len(self.pairs.queries) - row * self.height)
        product, out = product[:height, : len(norms)], out[:height, : len(norms)]
        if self.distance == "euclidean":
            return np.subtract(product, norms, out=out)
        if self.distance == "cosine":
            return np.multiply(product, norms, out=out)
        if product is not out:
            out[...] = product
        return out


class _Rows:
    """The feature rows of one set, block by block in a given order; rows that already stand so are not copied."""

    def __init__(self, features: NDArray[np.float32], order: IntArray, size: int) -> None:
        self.features, self.order, self.size = features, order, size
        self._number = -1
        self._rows = features[:0]
        depth = features.shape[1]
        self._buffer = np.zeros((0, -(-depth // DEPTH_STEP) * DEPTH_STEP), np.float32)

    def block(self, number: int) -> IntArray:
        """Row numbers of one block, padded with copies of its first."""
        rows = self.order[number * self.size : (number + 1) * self.size]
        missing = min(-len(rows) % ROW_STEP, self.size - len(rows))
        return np.concatenate([rows, np.full(missing, rows[0])])

    def take(self, number: int) -> NDArray[np.float32]:
        """Feature rows of one block; valid until another block is taken."""
        if number != self._number:
            self._rows, self._number = self._gather(self.block(number)), number
        return self._rows

    def _gather(self, rows: IntArray) -> NDArray[np.float32]:
        depth = self.features.shape[1]
        if depth == self._buffer.shape[1] and (np.diff(rows) == 1).all():
            return self.features[rows[0] : rows[0] + len(rows)]
        if not len(self._buffer):
            self._buffer = np.zeros((self.size, self._buffer.shape[1]), np.float32)
        out = self._buffer[: len(rows)]
        if depth == self._buffer.shape[1]:
            return np.take(self.features, rows, axis=0, out=out, mode="clip")
        out[:, :depth] = self.features[rows]
        return out


def refuse_zero(embeddings: Embeddings) -> None:
    zero = np.flatnonzero(embeddings.squared_norms == 0)
    if zero.size:
        raise DfgsError(
            f"{embeddings.name}: feature row {zero[0]} is all zero ({zero.size} such); cosine needs a direction"
        )


def _checked(product: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    if product.shape != shape or product.dtype != np.float32:
        raise DfgsError(
            f"products returned {product.dtype} of shape {product.shape}; expected float32 of shape {shape}"
        )
    if not (np.isfinite(product.min()) and np.isfinite(product.max())):
        raise DfgsError("products returned NaN or infinity; expected finite products")
    return product
