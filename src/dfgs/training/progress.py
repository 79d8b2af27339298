"""How far a training has come, in what a resumed one needs: epochs, figures, batches to come, seconds."""

import time
from typing import Any

from dfgs.data import Loader
from dfgs.samplers._continued import ContinuedPasses


class Stopwatch:
    """Seconds since it was made; restored ones are added."""

    def __init__(self) -> None:
        self.before, self.started = 0.0, time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds so far, over all attempts."""
        return self.before + time.perf_counter() - self.started

    def state(self) -> float:
        """Return the seconds so far."""
        return self.seconds

    def restore(self, seconds: float) -> None:
        """Add the seconds of earlier attempts."""
        self.before += seconds


class Progress:
    """Rows of the finished epochs in `curve`, figures and seconds of the running one, and its batches.

    `figures` is an object whose attributes are plain values or tensors.
    `pending` is the number of batches of the sampler's latest run that are not trained on yet; a loader numbers and a
    sampler counts them when the run begins.
    """

    def __init__(self, passes: ContinuedPasses, loader: Loader, figures: Any) -> None:
        self.passes, self.loader, self.figures = passes, loader, figures
        self.curve: list[dict[str, float]] = []
        self.clock = Stopwatch()
        self.pending = 0

    def begin_epoch(self, figures: Any) -> None:
        """Start the epoch's figures and clock."""
        self.figures, self.clock = figures, Stopwatch()

    def state(self) -> dict[str, Any]:
        """Return all of it."""
        batches = {"passes": self.passes.state(self.pending), "loaded": self.loader.count - self.pending}
        return {"curve": self.curve, "figures": vars(self.figures), "seconds": self.clock.state(), **batches}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.curve = state["curve"]
        vars(self.figures).update(state["figures"])
        self.clock.restore(state["seconds"])
        self.passes.restore(state["passes"])
        self.loader.count = state["loaded"]
