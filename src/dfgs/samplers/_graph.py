"""Samplers that walk a graph of look-alikes: which features they ask for, and the check of what they get."""

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfgs.errors import DfgsError
from dfgs.samplers._approximate import nearest_approximately
from dfgs.samplers._labels import Ids
from dfgs.samplers._neighbours import nearest
from dfgs.samplers.base import BatchSampler, FeatureRequest, Features, Labels, check_choice, check_count

GRAPHS = {"image": ("image",), "text": ("text",), "both": ("image", "text")}
REPRESENTATIONS = ("one", "mean")
EXACT_BELOW = 150_000
"""Identities up to which an exact graph is a matter of minutes on one core (`benchmarks/README.md`)."""


class GraphSampler(BatchSampler):
    """A sampler that needs one feature row per identity before a pass and never sees the model.

    Before a pass: `request = sampler.feature_request(epoch)`, embed `request.images`, `sampler.set_features(...)`.
    Features stay until others are set, so text features may be given once. Euclidean distances between the rows as
    they are given: normalise them before if the graph shall compare directions.

    The neighbours are exact for fewer than `exact_below` identities. For more they are approximate; then the log and
    `statistics.graph_recall` tell the share of them that is right.
    """

    representation: str = "one"
    graph: frozenset[str] = frozenset({"image"})

    def __init__(
        self, labels: Labels, *, batch_size: int, instances: int, seed: int, exact_below: int = EXACT_BELOW
    ) -> None:
        super().__init__(labels, batch_size=batch_size, instances=instances, seed=seed)
        check_count("exact_below", exact_below, 0)
        self.exact_below = exact_below
        check_choice("representation", self.representation, REPRESENTATIONS)
        self._features: dict[str, Features] = {}
        self._neighbours: tuple[tuple[int, int], NDArray[np.int32]] | None = None

    @property
    def edge_ranks(self) -> range | None:
        """Ranks, 0 for the nearest, of the other identities that a pass's edges lead to; None: not to certain ranks.

        A sampler's declaration, which tests hold its passes to.
        """
        raise NotImplementedError

    def feature_request(self, epoch: int) -> FeatureRequest:
        """Ask for one random image per identity (drawn anew for each epoch), or for all images of all identities."""
        kinds = tuple(sorted(self.graph))
        if "image" not in kinds:
            return FeatureRequest(kinds)
        counts, order = self.labels.counts, self.labels.order
        if self.representation == "mean":
            return FeatureRequest(kinds, order, self.labels.rows[order])
        # A stream of its own: the request does not depend on whether the pass was drawn before.
        chosen = np.random.default_rng([self.seed, epoch, 1]).integers(0, counts)
        return FeatureRequest(kinds, order[self.labels.offsets[:-1] + chosen], np.arange(len(counts)))

    def set_features(
        self, *, identities: Ids, image: NDArray[Any] | None = None, text: NDArray[Any] | None = None
    ) -> None:
        """Take the features of every identity: `image` (N, d), `text` (N, e), rows as in `labels.identities`.

        `identities` int64 (N,) names the pid of each row. Raises `DfgsError` for rows of other identities or in another
        order, for kinds that the sampler does not use or lacks, and for NaN, infinite or zero rows (row and pid named).
        """
        given = {kind: rows for kind, rows in (("image", image), ("text", text)) if rows is not None}
        if set(given) != self.graph:
            wanted = " and ".join(sorted(self.graph))
            raise DfgsError(
                f"features: got {' and '.join(sorted(given)) or 'none'}; the sampler's graph needs {wanted}"
            )
        self._check_order(np.asarray(identities))
        self._features = {kind: self._checked(kind, rows) for kind, rows in given.items()}
        self._features_version += 1

    def neighbours(self, count: int) -> NDArray[np.int32]:
        """Rows of the `count` nearest other identities of each identity, nearest first; int32 (N, count)."""
        self.check_features()
        key = (self._features_version, count)
        if self._neighbours is None or self._neighbours[0] != key:
            started = time.perf_counter()
            self._neighbours, self.reach = (key, self._find_neighbours(count)), count
            self.graph_seconds += time.perf_counter() - started
        return self._neighbours[1]

    def check_features(self) -> None:
        """Raise `DfgsError` if no features were given yet."""
        if not self._features:
            wanted = " and ".join(sorted(self.graph))
            raise DfgsError(f"{type(self).__name__} has no {wanted} features; call set_features before its first pass")

    def _find_neighbours(self, count: int) -> NDArray[np.int32]:
        features, self.graph_recall = list(self._features.values()), 1.0
        if len(self.labels.identities) < self.exact_below:
            return nearest(features, count)
        table, self.graph_recall = nearest_approximately(features, count)
        return table

    def _check_order(self, identities: Ids) -> None:
        expected = self.labels.identities
        if identities.shape != expected.shape:
            raise DfgsError(f"features: rows for {identities.size} identities; the training set has {len(expected)}")
        wrong = np.flatnonzero(identities != expected)
        if len(wrong):
            row = wrong[0]
            raise DfgsError(
                f"features: row {row} is pid {identities[row]}, expected pid {expected[row]}; "
                "give the rows in the order of labels.identities"
            )

    def _checked(self, kind: str, rows: NDArray[Any]) -> Features:
        features = np.ascontiguousarray(rows, dtype=np.float32)
        number = len(self.labels.identities)
        if features.ndim != 2 or len(features) != number or not features.shape[1]:
            raise DfgsError(
                f"features: {kind} has shape {features.shape}; give one row for each of {number} identities"
            )
        norms = np.einsum("nd,nd->n", features, features, dtype=np.float64)
        # Squared distances are float32: beyond 1e36 they would overflow.
        for fault, bad in (("NaN, infinite or too large", ~(norms < 1e36)), ("all zero", norms == 0)):
            if bad.any():
                row = int(np.argmax(bad))
                raise DfgsError(
                    f"features: {kind} row {row} (pid {self.labels.identities[row]}) is {fault}, "
                    f"{int(bad.sum())} such rows in all; check the model that made them"
                )
        return features
