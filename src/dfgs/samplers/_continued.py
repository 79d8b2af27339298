"""Epochs of a fixed number of batches over passes of any length."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfgs.errors import DfgsError
from dfgs.samplers._labels import Ids
from dfgs.samplers.base import BatchSampler, PassStatistics, check_count

EPOCH_FIGURES = ("passes", "restarts", "seconds", "draw_seconds", "graph_seconds")
SAMPLER_FIGURES = ("reach", "graph_recall")
"""Of the latest graph, which a restored sampler has not made."""


class ContinuedPasses:
    """Exactly `iterations` batches per epoch; a pass goes on across epochs and the next begins when it is used up.

    Example: `DataLoader(images, batch_sampler=ContinuedPasses(sampler, 100, before_pass))`.

    So every sampler trains on the same number of batches, and none is cut off after the start of its passes, where a
    walk over look-alikes is hardest. `before_pass(sampler, pass_index)` is called when a pass begins and gives a graph
    sampler its features. Raises `DfgsError` if a pass has no batch.
    """

    def __init__(
        self, sampler: BatchSampler, iterations: int, before_pass: Callable[[BatchSampler, int], None] | None = None
    ) -> None:
        check_count("iterations", iterations, 1)
        self.sampler, self.iterations, self.before_pass = sampler, iterations, before_pass
        self._pass_index, self._position = -1, 0
        self._batches: Ids = np.empty((0, sampler.batch_size), dtype=np.int64)
        self._served: list[Ids] = []
        self._edges: NDArray[np.int32] | None = None
        self.passes = self.restarts = 0
        """Passes that began in the latest epoch, and their restarts."""
        self.edges: list[NDArray[np.int32]] = []
        """Edges of each pass that the latest epoch served from (`Pass.edges`)."""
        self.seconds = self.draw_seconds = self.graph_seconds = 0.0
        """What beginning the epoch's new passes took: features, graph and walk; graph and walk; the graph alone."""
        self.is_inside = False
        """A state was restored that was taken inside an epoch, and `segments` will go on there."""

    def __len__(self) -> int:
        return self.iterations

    def __iter__(self) -> Iterator[list[int]]:
        for segment in self.segments():
            yield from segment

    def segments(self) -> Iterator[list[list[int]]]:
        """Yield the epoch's batches in runs that belong to one pass; of a restored epoch those that it lacks.

        The next pass begins only when the next run is asked for, so that a loader that reads ahead within a run never
        makes a graph from an older model than a loader that does not.
        """
        if not self.is_inside:
            self._served, self.edges = [], []
            self.passes = self.restarts = 0
            self.seconds = self.draw_seconds = self.graph_seconds = 0.0
        self.is_inside = False
        while missing := self.missing():
            if self._position == len(self._batches):
                self._begin_pass()
            run = self._batches[self._position : self._position + missing]
            self._position += len(run)
            self._served += list(run)
            self.edges += [] if self._edges is None else [self._edges]
            yield run.tolist()

    def missing(self, pending: int = 0) -> int:
        """Batches that the latest epoch still lacks, with the last `pending` that were yielded and not trained on."""
        return self.iterations - len(self._served) + pending

    @property
    def images(self) -> Ids:
        """Image indices of the latest epoch's batches, int64 (batches, batch size)."""
        return np.array(self._served, dtype=np.int64).reshape(-1, self.sampler.batch_size)

    @property
    def statistics(self) -> PassStatistics:
        """Counts of the batches of the latest epoch; `restarts` are those of the passes that began in it,
        `graph_recall` that of the latest graph.
        """
        return PassStatistics.of(self.sampler.labels, self.images, self.restarts, self.sampler.graph_recall)

    def state(self, pending: int = 0) -> dict[str, Any]:
        """Return what a resumed run needs, plain values and arrays: the pass, its batches to come, the epoch so far.

        The batches themselves, because the model whose features drew them has moved on. `pending`: batches of the
        latest run that nobody has trained on yet, which a resumed run yields again.
        """
        position, served = self._position - pending, self.images[: len(self._served) - pending]
        drawn = {"pass_index": self._pass_index, "position": position, "remaining": self._batches[position:]}
        drawn |= {"pass_edges": self._edges, "served": served}
        # A run that is yielded again brings its edges again.
        drawn["edges"] = self.edges[:-1] if pending and self._edges is not None else self.edges
        figures = {name: getattr(self, name) for name in EPOCH_FIGURES}
        return drawn | figures | {name: getattr(self.sampler, name) for name in SAMPLER_FIGURES}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken; `DfgsError` if its batches are not of this sampler's size and images."""
        size, images = self.sampler.batch_size, len(self.sampler.labels)
        remaining, served = (np.asarray(state[name], dtype=np.int64) for name in ("remaining", "served"))
        if remaining.size and (remaining.shape[1] != size or remaining.max() >= images):
            raise DfgsError(
                f"sampler state: batches of {remaining.shape[1]} out of at least {remaining.max() + 1} images, "
                f"expected batches of {size} out of {images}; it belongs to another run"
            )
        self._pass_index, self._position = state["pass_index"], state["position"]
        # Batches served before the state was taken are never read again; their places keep the position true.
        past = np.zeros((self._position, size), dtype=np.int64)
        self._batches, self._served = np.concatenate([past, remaining.reshape(-1, size)]), list(served)
        self._edges = None if state["pass_edges"] is None else np.asarray(state["pass_edges"])
        self.edges = [np.asarray(edges) for edges in state["edges"]]
        for owner, names in ((self, EPOCH_FIGURES), (self.sampler, SAMPLER_FIGURES)):
            for name in names:
                setattr(owner, name, state[name])
        self.is_inside = 0 < len(served) < self.iterations

    def _begin_pass(self) -> None:
        started = time.perf_counter()
        self._pass_index += 1
        self.sampler.set_epoch(self._pass_index)
        if self.before_pass is not None:
            self.before_pass(self.sampler, self._pass_index)
        drawn = self.sampler.current_pass()
        if not len(drawn.images):
            raise DfgsError(
                f"{type(self.sampler).__name__}: pass {self._pass_index} has no batch; the walk ends before "
                f"{self.sampler.identities_per_batch} identities are met, so allow it to restart"
            )
        self._batches, self._position = drawn.images, 0
        self._edges = drawn.edges
        self.restarts += drawn.restarts
        self.draw_seconds += self.sampler.draw_seconds
        self.graph_seconds += self.sampler.graph_seconds
        self.passes += 1
        self.seconds += time.perf_counter() - started
