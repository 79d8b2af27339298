"""What the figures of planned contrasts share: each judged, and in words."""

import math
from dataclasses import dataclass

import pandas as pd

from dfgs.figures.base import FigureData, Look, looks
from dfgs.stats import in_order, seed_values
from dfgs.stats.verdict import Comparison, count, judge, seeds_needed, source_seed_values


@dataclass(frozen=True, slots=True, eq=False)
class Planned:
    """One planned contrast of one model as it was judged, in mAP points.

    `collapsed` has for each of `judged.pairs` whether one of its two models collapsed on a target; `needed` is how many
    more seeds per source would decide, None where that is beyond reach.
    """

    judged: Comparison
    collapsed: pd.Series
    needed: int | None

    @property
    def model(self) -> str:
        """The model that all its trainings share."""
        return self.judged.model

    @property
    def name(self) -> str:
        """The contrast in words."""
        return f"{self.judged.sampler} vs {self.judged.baseline}"

    @property
    def has_interval(self) -> bool:
        """Whether the mean has an interval: some source has two seeds or more."""
        return not math.isnan(self.judged.interval.low)

    @property
    def verdict(self) -> str:
        """The verdict's word, for an undecided one with what would decide it."""
        if self.judged.verdict != "undecided":
            return self.judged.verdict
        if math.isnan(self.judged.deviation):
            return "undecided (one seed)"
        return f"undecided ({'out of reach' if self.needed is None else count(self.needed, 'more seed')})"

    @property
    def numbers(self) -> str:
        """The mean difference with its interval."""
        interval = self.judged.interval
        ends = f" [{interval.low:+.1f}, {interval.high:+.1f}]" if self.has_interval else ""
        return f"{interval.mean:+.1f}{ends}".replace("-", "\N{MINUS SIGN}")

    @property
    def bar(self) -> list[list[float]] | None:
        """How far the interval reaches below and above the mean, as matplotlib's error bars take it."""
        interval = self.judged.interval
        return [[interval.mean - interval.low], [interval.high - interval.mean]] if self.has_interval else None


def training_values(data: FigureData) -> pd.DataFrame:
    """Return what a training is judged by, its mean mAP over targets (`source_seed_values`); maybe without rows."""
    if data.trained("mAP").empty:
        return pd.DataFrame(columns=["model", "sampler", "source", "seed", "value"])
    return source_seed_values(seed_values(data.metrics, "mAP"), data.within)


def planned(data: FigureData) -> list[Planned]:
    """Judge the experiment's contrasts, model by model, in the order in which they were planned.

    Raises `DfgsError` for a contrast of a sampler without numbers.
    """
    values = training_values(data)
    if not data.contrasts or values.empty:
        return []
    fallen, found = _collapsed(data), judge(values, list(data.contrasts), data.margin)
    return [Planned(c, _has_collapsed(c, fallen), seeds_needed(c, len(found), data.margin)) for c in found]


def sampler_looks(data: FigureData) -> dict[str, Look]:
    """Give the trained samplers the looks that they have in the figures of all samplers."""
    return looks(in_order(data.trained("mAP")["sampler"].unique(), data.samplers))


def _collapsed(data: FigureData) -> set[tuple[str, str, str, int]]:
    """Find the trainings (model, sampler, source, seed) whose features are all alike on any target."""
    rows = data.trained("collapsed")
    rows = rows[rows["value"] > 0]
    return set(zip(rows["model"], rows["sampler"], rows["source"], rows["seed"], strict=True))


def _has_collapsed(judged: Comparison, fallen: set[tuple[str, str, str, int]]) -> pd.Series:
    """Tell for each pair of a contrast whether one of its models collapsed."""
    pairs = judged.pairs.index
    samplers = judged.sampler, judged.baseline
    return pd.Series([any((judged.model, name, *pair) in fallen for name in samplers) for pair in pairs], index=pairs)
