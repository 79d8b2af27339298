"""What a batch sampler is: guarantees, the one hook a sampler writes, and the record of a pass."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dfgs.errors import DfgsError, did_you_mean
from dfgs.samplers._labels import Ids, Labels

__all__ = [
    "BatchSampler",
    "FeatureRequest",
    "Labels",
    "Pass",
    "PassStatistics",
    "check_choice",
    "check_count",
    "check_share",
]

Features = NDArray[np.float32]


class Pass(NamedTuple):
    """One pass: image indices, int64 (batches, batch size), and how a graph led to them.

    `edges` int32 (N, k) are the rows that each identity's edges lead to, as the sampler used them; None without a
    graph. `restarts` counts how often a walk had to restart.
    """

    images: Ids
    restarts: int = 0
    edges: NDArray[np.int32] | None = None


@dataclass(frozen=True, slots=True)
class PassStatistics:
    """What one pass serves: `identities_served` of `identities`, `images_served` of `images` (each image once).

    `images_repeated` counts draws of an image beyond its first in the pass, `unserved` the identities in no batch.
    `graph_recall` is below 1 if the graph was approximate: the share of true neighbours in it, on sampled identities.
    """

    batches: int
    identities: int
    identities_served: int
    images: int
    images_served: int
    images_repeated: int
    restarts: int
    graph_recall: float = 1.0

    @property
    def unserved(self) -> int:
        """Number of identities that the pass leaves out."""
        return self.identities - self.identities_served

    @classmethod
    def of(cls, labels: Labels, images: Ids, restarts: int = 0, graph_recall: float = 1.0) -> "PassStatistics":
        """Count the batches in `images`, int64 (batches, batch size)."""
        seen = np.zeros(len(labels), dtype=bool)
        seen[images.ravel()] = True
        served = np.zeros(len(labels.identities), dtype=bool)
        served[labels.rows[seen]] = True
        distinct = int(seen.sum())
        return cls(
            batches=len(images),
            identities=len(served),
            identities_served=int(served.sum()),
            images=len(labels),
            images_served=distinct,
            images_repeated=images.size - distinct,
            restarts=restarts,
            graph_recall=graph_recall,
        )


@dataclass(frozen=True, slots=True)
class FeatureRequest:
    """The features that a graph sampler needs before a pass.

    `kinds` is `("image",)`, `("text",)` or both. `images` int64 (m,) are the dataset indices to embed with the current
    model and `owners` int64 (m,), sorted, the row in `labels.identities` that each belongs to; both are None if only
    text features are needed (one row per identity, in the order of `labels.identities`).

    Example: `sampler.set_features(identities=labels.identities, image=request.pool(embed(request.images)))`.
    """

    kinds: tuple[str, ...]
    images: Ids | None = None
    owners: Ids | None = None

    def pool(self, features: NDArray[Any]) -> Features:
        """Average the features of `images`, (m, d), over each identity: float32 (N, d)."""
        if self.owners is None or len(features) != len(self.owners):
            wanted = 0 if self.owners is None else len(self.owners)
            raise DfgsError(
                f"features: {len(features)} rows for the {wanted} images of the request; give one per image"
            )
        starts = np.flatnonzero(np.append(True, np.diff(self.owners) != 0))
        sizes = np.diff(np.append(starts, len(features)))
        sums = np.add.reduceat(np.asarray(features, dtype=np.float64), starts, axis=0)
        pooled: Features = (sums / sizes[:, None]).astype(np.float32)
        return pooled


class BatchSampler:
    """A batch sampler that `torch.utils.data.DataLoader(batch_sampler=...)` takes as it is; needs no torch itself.

    Example: `sampler = Pk(labels, batch_size=64, instances=4, seed=1)`, then `sampler.set_epoch(3)` and iterate.

    An *epoch* of a sampler is one *pass* over the identities. Guarantees of every sampler:

    - it yields lists of exactly `batch_size` image indices; an identity sampler (`is_identity_sampler`) puts into
      each batch P = batch_size / instances different identities with K = `instances` images each;
    - the same (seed, epoch, features) give the same batches, another epoch gives others; global random state is
      neither read nor changed;
    - `len()` is the number of batches that the pass yields;
    - no image comes twice in a batch unless its identity has fewer than K images; those are filled up with repeats,
      an identity with a single image too (a sampler with `least_images` 2 refuses such an identity by name).

    A sampler is a subclass in a file of its own that writes `draw_pass`. Its own settings are named arguments of its
    `__init__`. Raises `DfgsError` with both numbers for settings that no batch can meet.
    """

    is_identity_sampler: ClassVar[bool] = True
    least_images: ClassVar[int] = 1
    """Images that every identity must have."""
    is_graph_by_chance: ClassVar[bool] = False
    """Edges join random identities on purpose: a control, which the audit then does not refuse."""
    graph: frozenset[str] = frozenset()
    """Kinds of features that the sampler needs before a pass: `image`, `text`, both or none."""
    reach: int = 0
    """How many nearest identities of each identity the latest graph was cut from; 0 without a graph."""
    draw_seconds: float = 0.0
    graph_seconds: float = 0.0
    """Seconds that the latest pass took to draw, and the part of its graph (0 if it used an earlier pass's)."""
    graph_recall: float = 1.0
    """Share of true neighbours in the latest graph; 1 for an exact graph and without one."""

    def __init__(self, labels: Labels, *, batch_size: int, instances: int, seed: int) -> None:
        check_count("batch_size", batch_size, 1)
        check_count("instances", instances, 1)
        check_count("seed", seed, 0)
        self.labels, self.batch_size, self.instances, self.seed = labels, batch_size, instances, seed
        self.epoch = 0
        self._features_version = 0
        self._drawn: tuple[tuple[int, int], Pass] | None = None
        if self.is_identity_sampler:
            self._check_identities()
        elif batch_size > len(labels):
            raise DfgsError(
                f"batch_size={batch_size} exceeds the {len(labels)} training images; choose at most that many"
            )

    def _check_identities(self) -> None:
        if self.batch_size % self.instances:
            low = self.batch_size - self.batch_size % self.instances
            near = f"{low} or {low + self.instances}" if low else f"{self.instances}"
            raise DfgsError(
                f"batch_size={self.batch_size} is not a multiple of instances={self.instances}; choose {near}"
            )
        known = len(self.labels.identities)
        if self.identities_per_batch > known:
            raise DfgsError(
                f"batch_size={self.batch_size} with instances={self.instances} needs {self.identities_per_batch} "
                f"identities, the training set has {known}; choose batch_size at most {known * self.instances}"
            )

        few = np.flatnonzero(self.labels.counts < self.least_images)
        if len(few):
            raise DfgsError(
                f"{type(self).__name__}: pid {self.labels.identities[few[0]]} has {self.labels.counts[few[0]]} image, "
                f"{len(few)} such identities in all; this sampler needs at least {self.least_images} of each"
            )

    @property
    def identities_per_batch(self) -> int:
        """P, the number of different identities in a batch."""
        return self.batch_size // self.instances

    def draw_pass(self, rng: np.random.Generator) -> Pass:
        """Draw one pass; the hook that a sampler writes. All randomness comes from `rng`."""
        raise NotImplementedError

    def set_epoch(self, epoch: int) -> None:
        """Choose the pass that iteration yields."""
        check_count("epoch", epoch, 0)
        self.epoch = epoch

    def feature_request(self, epoch: int) -> FeatureRequest | None:
        """Tell which features the pass of `epoch` needs, None if the sampler needs none."""
        return None

    def set_features(
        self, *, identities: Ids, image: NDArray[Any] | None = None, text: NDArray[Any] | None = None
    ) -> None:
        """Give a graph sampler the features of every identity."""
        raise DfgsError(f"{type(self).__name__} uses no features; give features to graph samplers only")

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.current_pass().images:
            yield batch.tolist()

    def __len__(self) -> int:
        return len(self.current_pass().images)

    @property
    def statistics(self) -> PassStatistics:
        """Counts of the current epoch's pass."""
        drawn = self.current_pass()
        return PassStatistics.of(self.labels, drawn.images, drawn.restarts, self.graph_recall)

    def serve(self, rows: Ids, images: Ids, restarts: int = 0, edges: NDArray[np.int32] | None = None) -> Pass:
        """Give every identity in `rows`, int64 (batches, P), its next K images.

        `images` int64 (n,) is an order of all images identity by identity (`labels.shuffled`, `labels.by_camera`). The
        visits of an identity read its part of that order K by K and begin again at its end.
        """
        first = self.instances * _visits(rows.ravel())
        count, start = self.labels.counts[rows.ravel()], self.labels.offsets[:-1][rows.ravel()]
        places = start[:, None] + (first[:, None] + np.arange(self.instances)) % count[:, None]
        return Pass(images[places].reshape(len(rows), self.batch_size), restarts, edges)

    def current_pass(self) -> Pass:
        """Return the pass of the current epoch, drawn once for each (epoch, features)."""
        key = (self.epoch, self._features_version)
        if self._drawn is None or self._drawn[0] != key:
            self.graph_seconds, started = 0.0, time.perf_counter()
            self._drawn = key, self.draw_pass(np.random.default_rng([self.seed, self.epoch]))
            self.draw_seconds = time.perf_counter() - started
        return self._drawn[1]


def check_count(name: str, value: int, least: int) -> None:
    """Raise `DfgsError` unless `value` is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise DfgsError(f"{name}={value!r} must be a whole number of at least {least}")


def check_share(name: str, value: float) -> None:
    """Raise `DfgsError` unless `value` is a number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise DfgsError(f"{name}={value!r} must be a number from 0 to 1")


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise `DfgsError` unless `value` is one of `choices`."""
    if value not in choices:
        raise DfgsError(f"{name}={value!r} is not one of {', '.join(choices)}{did_you_mean(str(value), choices)}")


def _visits(rows: Ids) -> Ids:
    """Number the visits of each identity, 0 for its first; int64 as long as `rows`."""
    by_row = np.argsort(rows, kind="stable")
    sorted_rows = rows[by_row]
    starts = np.flatnonzero(np.append(True, np.diff(sorted_rows) != 0))
    visits = np.empty_like(rows)
    visits[by_row] = np.arange(len(rows)) - np.repeat(starts, np.diff(np.append(starts, len(rows))))
    return visits
