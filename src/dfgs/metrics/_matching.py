"""Which pairs of query and gallery image match, which are removed, and in which order they are worked on."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dfgs.errors import DfgsError
from dfgs.metrics.embeddings import Embeddings
from dfgs.metrics.protocols import Protocol

IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Queries and gallery in the order of their pids, so that a query's own identity is one range of the gallery.

    `queries` (q,), `gallery` (g,): rows of the two sets, sorted by pid; junk is left out.
    `own_start`, `own_stop` (q,): positions in `gallery` that show the query's pid; none of them is ever a negative.
    `query_camids` (q,), `gallery_camids` (g,). `removes_same_camera` as in the protocol.
    `priority` (g,): where given, only the match of highest priority counts (single-gallery-shot).
    `is_negative` (g,): where given, only these images are negatives for the other identities.
    """

    queries: IntArray
    gallery: IntArray
    own_start: IntArray
    own_stop: IntArray
    query_camids: IntArray
    gallery_camids: IntArray
    removes_same_camera: bool
    priority: NDArray[np.float64] | None = None
    is_negative: NDArray[np.bool_] | None = None

    def positives(self, start: int, stop: int) -> tuple[IntArray, IntArray]:
        """Return `owner` (p,) and `position` (p,) of the matches of the queries `start` to `stop`, query by query."""
        lengths = (self.own_stop - self.own_start)[start:stop]
        owner = np.repeat(np.arange(start, start + len(lengths)), lengths)
        shift = self.own_start[start:stop] - (np.cumsum(lengths) - lengths)
        position = np.arange(lengths.sum()) + np.repeat(shift, lengths)
        if self.removes_same_camera:
            other_camera = self.gallery_camids[position] != self.query_camids[owner]
            owner, position = owner[other_camera], position[other_camera]
        if self.priority is not None:
            order = np.lexsort((-self.priority[position], owner))
            owner, position = owner[order], position[order]
            is_first = np.diff(owner, prepend=-1) != 0
            owner, position = owner[is_first], position[is_first]
        return owner, position


def pair(query: Embeddings, gallery: Embeddings, protocol: Protocol) -> Pairs:
    """Apply `protocol` to two sets, all gallery images of an identity kept.

    Raises `DfgsError` if the sets' dimensions differ or no gallery image is left.
    """
    depths = query.features.shape[1], gallery.features.shape[1]
    if depths[0] != depths[1]:
        raise DfgsError(
            f"{query.name} has {depths[0]} dimensions, {gallery.name} has {depths[1]}; expected one model's features"
        )
    kept = np.flatnonzero(~np.isin(gallery.pids, protocol.junk_pids))
    if not kept.size:
        raise DfgsError(f"{gallery.name}: all {len(gallery)} images are junk under {protocol.name!r}; nothing to rank")
    order = kept[np.argsort(gallery.pids[kept], kind="stable")]
    queries = np.argsort(query.pids, kind="stable")
    pids, own = query.pids[queries], gallery.pids[order]
    never_matches = np.isin(pids, protocol.junk_pids + protocol.distractor_pids)
    start = np.searchsorted(own, pids)
    stop = np.where(never_matches, start, np.searchsorted(own, pids, side="right"))
    return Pairs(
        queries, order, start, stop, query.camids[queries], gallery.camids[order], protocol.removes_same_camera
    )


def draws(query: Embeddings, gallery: Embeddings, protocol: Protocol) -> Iterator[Pairs]:
    """Yield the pairs of each repeat of `protocol`: one, or with `protocol.repeats` as many single-shot galleries.

    The draw depends on the images, not on their order: an identity's images are taken by camera and by content.
    """
    pairs = pair(query, gallery, protocol)
    if not protocol.repeats:
        yield pairs
        return
    pids = gallery.pids[pairs.gallery]
    content = np.array([hashlib.sha256(gallery.features[row].tobytes()).hexdigest() for row in pairs.gallery])
    order = np.lexsort((content, pairs.gallery_camids, pids))
    for repeat in range(protocol.repeats):
        priority = np.random.default_rng([protocol.seed, repeat]).random(len(order))
        best_first = np.lexsort((-priority, pids))
        is_negative = np.zeros(len(order), dtype=bool)
        is_negative[best_first[np.diff(pids[best_first], prepend=pids[0] - 1) != 0]] = True
        yield Pairs(
            pairs.queries,
            pairs.gallery[order],
            pairs.own_start,
            pairs.own_stop,
            pairs.query_camids,
            pairs.gallery_camids[order],
            pairs.removes_same_camera,
            priority,
            is_negative,
        )
