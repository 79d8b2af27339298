"""Does the verdict keep its promises? False positives, coverage and power on simulated grids."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from dfgs.stats.paired import pairs_to_reject
from dfgs.stats.verdict import LEVEL, MARGIN, Comparison, judge

FALSE_POSITIVES, COVERAGE, LEAST_POWER = 0.06, (0.93, 0.97), 0.5


@dataclass(frozen=True, slots=True)
class Shape:
    """A grid to simulate: trainings of `contrasts` + 1 samplers per source and seed, and how far trainings scatter.

    `deviation` is the standard deviation of one training's mAP about its sampler's true mAP, in points. What all
    samplers of a (source, seed) share (prompts, backbone) cancels in the pairs and is simulated too.
    """

    sources: int
    seeds: int
    contrasts: int
    deviation: float = 1.0

    @property
    def pairs(self) -> int:
        """Pairs of each contrast."""
        return self.sources * self.seeds


@dataclass(frozen=True, slots=True)
class Calibration:
    """Shares over the simulated grids.

    Without a difference: `false_positives` of grids in which any contrast was called better or worse, `coverage` of
    intervals that hold the true difference 0. With `effect` points planted in the first contrast: `power`, the grids
    that call it better. `can_reject` tells whether so few pairs can reject at all after Holm.
    """

    shape: Shape
    false_positives: float
    coverage: float
    effect: float
    power: float
    can_reject: bool

    @property
    def faults(self) -> list[str]:
        """Promises that are not kept, in words."""
        found = []
        if self.false_positives > FALSE_POSITIVES:
            found.append(f"false positives {self.false_positives:.1%}, at most {FALSE_POSITIVES:.0%} are promised")
        if not COVERAGE[0] <= self.coverage <= COVERAGE[1]:
            found.append(f"coverage {self.coverage:.1%}, {COVERAGE[0]:.0%} to {COVERAGE[1]:.0%} are promised")
        if self.can_reject and self.power < LEAST_POWER:
            found.append(f"power {self.power:.1%} at {self.effect:+g} points, at least {LEAST_POWER:.0%} is expected")
        return found


def calibrate(shape: Shape, grids: int = 2000, effect: float = 2.0, seed: int = 0) -> Calibration:
    """Simulate `grids` grids without a difference and as many with `effect` points in the first contrast; judge all."""
    null = _judged(shape, grids, 0.0, [seed, 0])
    planted = _judged(shape, grids, effect, [seed, 1])
    rejected = [any(c.verdict in ("better", "worse") for c in found) for found in null]
    covered = [c.interval.low <= 0 <= c.interval.high for found in null for c in found]
    won = [found[0].verdict == "better" for found in planted]
    can_reject = shape.pairs >= pairs_to_reject(shape.contrasts, LEVEL)
    return Calibration(
        shape, float(np.mean(rejected)), float(np.mean(covered)), effect, float(np.mean(won)), can_reject
    )


def _judged(shape: Shape, grids: int, effect: float, seed: list[int]) -> list[list[Comparison]]:
    rng = np.random.default_rng(seed)
    names = [f"sampler-{i}" for i in range(shape.contrasts)]
    contrasts = [(name, "baseline") for name in names]
    index = pd.MultiIndex.from_product(
        [["baseline", *names], range(shape.sources), range(shape.seeds)], names=["sampler", "source", "seed"]
    )
    frame = index.to_frame(index=False).assign(model="simulated")
    return [judge(frame.assign(value=_grid(shape, effect, rng).ravel()), contrasts, MARGIN) for _ in range(grids)]


def _grid(shape: Shape, effect: float, rng: np.random.Generator) -> np.ndarray:
    """Draw the values of one grid, (contrasts + 1, sources, seeds)."""
    shared = 5 * rng.standard_normal((1, shape.sources, shape.seeds))
    values = shared + shape.deviation * rng.standard_normal((shape.contrasts + 1, shape.sources, shape.seeds))
    values[1] += effect
    return np.asarray(values)
