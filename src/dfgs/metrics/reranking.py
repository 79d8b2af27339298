"""k-reciprocal re-ranking (Zhong et al., CVPR 2017) with sparse codes: never a matrix of all images."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dfgs.errors import DfgsError, did_you_mean
from dfgs.metrics._blocks import Distance, refuse_zero
from dfgs.metrics._codes import by_column, encode, gather
from dfgs.metrics._neighbourhoods import neighbourhoods
from dfgs.metrics._pool import Floats, Pool, Positions
from dfgs.metrics.embeddings import Embeddings
from dfgs.metrics.protocols import Protocol
from dfgs.metrics.ranking import Ranking, rank

RERANKED_DISTANCES: tuple[Distance, ...] = ("cosine", "euclidean")

HEIGHT, WIDTH = 512, 4096
MEMORY = 256 * 2**20
ENTRY_BYTES = 8


@dataclass(frozen=True, slots=True)
class KReciprocal:
    """Settings of the re-ranking, with the paper's values.

    `k1`: neighbours among which two images must find each other. `k2`: nearest images whose codes are averaged, at most
    `k1`. `lambda_`: share of the original distance in the final one, 0-1; the rest is the codes' Jaccard distance.
    Raises `DfgsError` for other values.
    """

    k1: int = 20
    k2: int = 6
    lambda_: float = 0.3

    def __post_init__(self) -> None:
        for name, value in (("k1", self.k1), ("k2", self.k2)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise DfgsError(f"re-ranking: {name} is {value!r}; expected a whole number from 1")
        if self.k2 > self.k1:
            raise DfgsError(f"re-ranking: k2 is {self.k2}, k1 is {self.k1}; expected k2 at most k1")
        if not (math.isfinite(self.lambda_) and 0 <= self.lambda_ <= 1):
            raise DfgsError(f"re-ranking: lambda is {self.lambda_!r}; expected a share from 0 to 1")


class Reranking:
    """The re-ranked distances of every query to every gallery image, computed block by block on demand.

    Neighbours are sought among all queries and gallery images together, so a distance depends on which queries there
    are; on the order of queries and gallery it does not depend. Leave junk out of the gallery beforehand, or use
    `rank_reranked`. The original distance is the squared Euclidean one of the features, for "cosine" of the features
    scaled to length 1, divided by the query's largest to any image.

    Beside the features it holds the codes (about a kilobyte per image), a few blocks, and up to `memory` bytes of code
    similarities; those that would exceed it are computed again for each block.

    Raises `DfgsError` for sets that do not fit each other, fewer than `k1` + 1 images, another distance, and an
    all-zero row under "cosine".

    >>> points = np.array([[0.0], [1.0], [0.1], [9.0]], np.float32)
    >>> query, gallery = (Embeddings(rows, np.zeros(2, int), np.zeros(2, int)) for rows in (points[:2], points[2:]))
    >>> Reranking(query, gallery, KReciprocal(k1=1, k2=1)).distances(np.arange(2), np.arange(2)).shape
    (2, 2)
    """

    def __init__(
        self,
        query: Embeddings,
        gallery: Embeddings,
        settings: KReciprocal = KReciprocal(),
        distance: Distance = "euclidean",
        memory: int = MEMORY,
    ) -> None:
        _check(query, gallery, settings, distance)
        self._jaccard = np.float32(1 - settings.lambda_)
        self._pool = Pool(query, gallery, distance)
        found = neighbourhoods(self._pool, settings.k1 + 1)
        self._codes = encode(self._pool, found, settings.k1, settings.k2)
        self._owners = by_column(self._codes, len(query))
        self._original = np.float32(settings.lambda_) / found.farthest[: len(query)]
        self._memory_left = memory
        self._kept: dict[int, tuple[NDArray[np.int32], Floats]] = {}
        self._gallery = np.zeros(0, np.int64)
        self._right = np.zeros((0, 0), np.float32)

    def distances(self, queries: Positions, gallery: Positions) -> Floats:
        """Return the re-ranked distances of the given rows of both sets, (len(queries), len(gallery)) float32."""
        out = np.empty((len(queries), len(gallery)), np.float32)
        ones, others = self._pool.query_places[queries], self._pool.gallery_places[gallery]
        for row in range(0, len(queries), HEIGHT):
            for column in range(0, len(gallery), WIDTH):
                block = out[row : row + HEIGHT, column : column + WIDTH]
                self._fill(block, ones[row : row + HEIGHT], others[column : column + WIDTH])
        return out

    def scores(self, queries: Positions, gallery: Positions) -> Floats:
        """Return the distances with their sign changed: the `products` of `rank(..., distance="dot")`."""
        distances = self.distances(queries, gallery)
        return np.negative(distances, out=distances)

    def _fill(self, out: Floats, queries: Positions, gallery: Positions) -> None:
        """Write the distances of the images at the places `queries` and `gallery` into `out`."""
        if not np.array_equal(gallery, self._gallery):
            self._right, self._gallery = self._pool.right(gallery), gallery
        np.matmul(self._pool.left(queries), self._right.T, out=out)
        np.maximum(out, 0, out=out)
        out *= self._original[queries, None]
        out += self._jaccard
        first = np.full(self._pool.size, -1, np.int32)
        first[gallery[::-1]] = np.arange(len(gallery))[::-1]
        for row, query in zip(out, queries.tolist(), strict=True):
            images, similarity = self._similar(query)
            column = first[images]
            is_here = column >= 0
            row[column[is_here]] -= self._jaccard * similarity[is_here]
        repeated = np.flatnonzero(first[gallery] != np.arange(len(gallery)))
        out[:, repeated] = out[:, first[gallery[repeated]]]

    def _similar(self, query: int) -> tuple[NDArray[np.int32], Floats]:
        """Return the gallery images (places) whose codes overlap the query's, and the Jaccard similarities."""
        if query in self._kept:
            return self._kept[query]
        own = slice(self._codes.start[query], self._codes.start[query + 1])
        entries, lengths = gather(self._owners, self._codes.columns[own])
        shared = np.minimum(self._owners.values[entries], np.repeat(self._codes.values[own], lengths))
        overlap = np.bincount(self._owners.columns[entries], shared)
        images = np.flatnonzero(overlap)
        overlap = overlap[images]
        similar = images.astype(np.int32), (overlap / (2 - overlap)).astype(np.float32)
        if len(images) * ENTRY_BYTES <= self._memory_left:
            self._memory_left -= len(images) * ENTRY_BYTES
            self._kept[query] = similar
        return similar


def rank_reranked(
    query: Embeddings,
    gallery: Embeddings,
    protocol: Protocol,
    settings: KReciprocal = KReciprocal(),
    distance: Distance = "euclidean",
) -> Ranking:
    """Do what `rank` does by re-ranked distances, streamed; junk takes no part in the re-ranking either.

    Name the settings in the fingerprint of these numbers: they must not share a column with plain ones.
    """
    is_kept = ~np.isin(gallery.pids, protocol.junk_pids)
    if is_kept.any() and not is_kept.all():
        rows = gallery.features[is_kept]
        gallery = Embeddings(rows, gallery.pids[is_kept], gallery.camids[is_kept], gallery.name)
    return rank(query, gallery, protocol, "dot", Reranking(query, gallery, settings, distance).scores)


def _check(query: Embeddings, gallery: Embeddings, settings: KReciprocal, distance: str) -> None:
    if distance not in RERANKED_DISTANCES:
        raise DfgsError(f"distance: {distance!r} cannot be re-ranked{did_you_mean(distance, RERANKED_DISTANCES)}")
    depths = query.features.shape[1], gallery.features.shape[1]
    if depths[0] != depths[1]:
        raise DfgsError(
            f"{query.name} has {depths[0]} dimensions, {gallery.name} has {depths[1]}; expected one model's features"
        )
    if len(query) + len(gallery) <= settings.k1:
        raise DfgsError(
            f"re-ranking: k1 is {settings.k1}, but {query.name} and {gallery.name} hold {len(query)} + {len(gallery)} "
            f"images; expected at least {settings.k1 + 1}"
        )
    if distance == "cosine":
        refuse_zero(query)
        refuse_zero(gallery)
