"""The verdict on planned comparisons, from trainings alone: better, worse, equal or undecided."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import pandas as pd

from dfgs.errors import DfgsError, did_you_mean
from dfgs.results import REFERENCE
from dfgs.stats.paired import (
    difference_interval,
    holm,
    pairs_needed,
    pairs_to_reject,
    sign_flip,
    smallest_difference,
)
from dfgs.stats.seeds import Interval, Transfer

MARGIN = 0.5
LEVEL = 0.05
SCATTERS = (0.5, 1.0, 2.0)
"""Standard deviations of paired differences, in points, for which it is told beforehand what a grid can find."""


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """One planned contrast of one model: the mean paired difference sampler - baseline, in the metric's points.

    `pairs` are the differences by (source, seed), which `interval.n` counts. `p_value` is that of the sign-flip test,
    `adjusted` the same after Holm over all planned contrasts of all models.
    """

    model: str
    sampler: str
    baseline: str
    pairs: pd.Series
    interval: Interval
    p_value: float
    adjusted: float
    verdict: str

    @property
    def is_repeated(self) -> bool:
        """Whether any source has two seeds or more; else nothing tells how far a training scatters."""
        return _is_repeated(self.pairs)

    @property
    def deviation(self) -> float:
        """Standard deviation of the differences; nan where no training is repeated."""
        return float(self.pairs.std()) if self.is_repeated else math.nan

    @property
    def sources(self) -> int:
        """Number of sources among the pairs."""
        return int(self.pairs.index.get_level_values("source").nunique())


def judged_transfers(values: pd.DataFrame, within: Collection[Transfer]) -> set[Transfer]:
    """Choose the transfers that a verdict is on: the cross-domain ones, the sources' own where there is no other."""
    found = set(zip(values["source"], values["target"], strict=True))
    return {cell for cell in found if cell not in within} or found


def source_seed_values(values: pd.DataFrame, within: Collection[Transfer]) -> pd.DataFrame:
    """Reduce `seed_values` to one value per model, sampler, source and seed: the mean over its `judged_transfers`.

    Returns columns `model, sampler, source, seed, value`. A training that lacks a target is left out, since means over
    different targets do not compare. The untuned backbone is no training.
    """
    trained = values[values["sampler"] != REFERENCE]
    judged = judged_transfers(trained, within)
    kept = trained[[cell in judged for cell in zip(trained["source"], trained["target"], strict=True)]]
    targets = kept.groupby("source")["target"].nunique()
    means = kept.groupby(["model", "sampler", "source", "seed"], as_index=False).agg(
        value=("value", "mean"), targets=("target", "nunique")
    )
    is_whole = means["targets"] == means["source"].map(targets)
    return means.loc[is_whole, ["model", "sampler", "source", "seed", "value"]].reset_index(drop=True)


def differences(values: pd.DataFrame, sampler: str, baseline: str) -> pd.Series:
    """Pair `source_seed_values` of two samplers of one model by source and seed: sampler - baseline.

    The result is indexed by (source, seed). Only pairs that both have count. Raises `DfgsError` for a sampler without
    values and for no common pair.
    """
    found = {}
    for name in (sampler, baseline):
        rows = values[values["sampler"] == name]
        if rows.empty:
            raise DfgsError(f"no values of sampler {name!r}{did_you_mean(name, values['sampler'].unique())}")
        found[name] = rows.set_index(["source", "seed"])["value"]
    paired = (found[sampler] - found[baseline]).dropna().sort_index()
    if paired.empty:
        raise DfgsError(f"samplers {sampler!r} and {baseline!r} share no source and seed; nothing to pair")
    return paired


def judge(
    values: pd.DataFrame, contrasts: Sequence[tuple[str, str]], margin: float = MARGIN, level: float = LEVEL
) -> list[Comparison]:
    """Judge the planned contrasts (sampler, baseline) of every model on `source_seed_values`.

    - *equal*: the 1 - `level` interval of the mean difference lies within ± `margin`;
    - *better*, *worse*: else, the sign-flip test rejects at `level` after Holm over all contrasts;
    - *undecided*: neither; `seeds_needed` says what would decide.

    Where no source has two seeds there is no interval and no test (p = 1): pairs of several sources differ by more than
    chance.
    """
    planned = [
        ((str(model), *contrast), differences(rows, *contrast))
        for model, rows in values.groupby("model")
        for contrast in contrasts
    ]
    p_values = [sign_flip(pairs) if _is_repeated(pairs) else 1.0 for _, pairs in planned]
    found = []
    for (names, pairs), p_value, adjusted in zip(planned, p_values, holm(p_values), strict=True):
        interval = difference_interval(pairs, 1 - level)
        if not _is_repeated(pairs):
            interval = Interval(interval.mean, math.nan, math.nan, interval.n)
        found.append(Comparison(*names, pairs, interval, p_value, adjusted, _word(interval, adjusted, margin, level)))
    return found


def seeds_needed(comparison: Comparison, comparisons: int, margin: float = MARGIN, level: float = LEVEL) -> int | None:
    """Return how many more seeds per source would decide a contrast whose differences go on as they are.

    0 for one that is decided; None where it is beyond reach (see `paired.pairs_needed`) or no training is repeated.
    """
    if comparison.verdict != "undecided":
        return 0
    if math.isnan(comparison.deviation):
        return None
    total = pairs_needed(comparison.interval.mean, comparison.deviation, margin, comparisons, level)
    return None if total is None else max(1, math.ceil((total - comparison.interval.n) / comparison.sources))


def resolvable(sources: int, seeds: int, comparisons: int, level: float = LEVEL) -> tuple[str, str]:
    """Say in two lines, before a grid runs, what its pairs (sources × seeds) can decide after Holm."""
    pairs, least = sources * seeds, pairs_to_reject(comparisons, level)
    lowest = min(1.0, comparisons * 2.0 ** (1 - pairs)) if seeds > 1 else 1.0
    said = (
        f"{count(pairs, 'pair')} of trainings ({count(sources, 'source')} × {count(seeds, 'seed')}), "
        f"{count(comparisons, 'planned contrast')}: "
        f"smallest p after Holm {lowest:.2g}"
    )
    if lowest > level:
        more = max(2, math.ceil(least / sources))
        return said, f"cannot call anything better or worse: p ≤ {level:g} needs {more} seeds per source"
    least_found = ", ".join(f"{smallest_difference(s, pairs, level / comparisons):.1f}" for s in SCATTERS)
    scatters = ", ".join(f"{s:g}" for s in SCATTERS)
    return said, (
        f"finds with 80 % power a true difference of {least_found} points where paired differences have a standard "
        f"deviation of {scatters}"
    )


def count(number: int, noun: str) -> str:
    """Write a number of things; one thing has no s.

    >>> count(1, "seed"), count(3, "seed")
    ('1 seed', '3 seeds')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _is_repeated(pairs: pd.Series) -> bool:
    return bool(pairs.groupby(level="source").size().max() > 1)


def _word(interval: Interval, adjusted: float, margin: float, level: float) -> str:
    if interval.low >= -margin and interval.high <= margin:
        return "equal"
    if adjusted <= level:
        return "better" if interval.mean > 0 else "worse"
    return "undecided"
