"""The verdict on planned comparisons, from trainings alone: better, worse, equal or undecided."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from dfgs.errors import DfgsError, did_you_mean
from dfgs.results import REFERENCE
from dfgs.stats.paired import difference_interval, holm, pairs_needed, pairs_to_reject, sign_flip
from dfgs.stats.seeds import Interval, Transfer

MARGIN = 0.5
LEVEL = 0.05


@dataclass(frozen=True, slots=True)
class Comparison:
    """One planned contrast: the mean paired difference sampler - baseline, in the metric's points.

    `interval.n` counts the pairs (source × seed) over so many `sources`, `deviation` is the standard deviation of their
    differences (nan for one). `p_value` is that of the sign-flip test, `adjusted` the same after Holm over all planned
    contrasts.
    """

    sampler: str
    baseline: str
    sources: int
    interval: Interval
    deviation: float
    p_value: float
    adjusted: float
    verdict: str


def source_seed_values(values: pd.DataFrame, within: set[Transfer]) -> pd.DataFrame:
    """Reduce `seed_values` to one value per sampler, source and seed: the mean over the cross-domain targets.

    Returns columns `sampler, source, seed, value`. A training that lacks a target is left out, since means over
    different targets do not compare. The untuned backbone is no training. Raises `DfgsError` for several models.
    """
    models = sorted(values["model"].unique())
    if len(models) > 1:
        raise DfgsError(f"a verdict is on one model, got {len(models)}: {', '.join(models)}; ask for each apart")
    is_cross = [cell not in within for cell in zip(values["source"], values["target"], strict=True)]
    cross = values[is_cross]
    cross = cross[cross["sampler"] != REFERENCE]
    targets = cross.groupby("source")["target"].nunique()
    means = cross.groupby(["sampler", "source", "seed"], as_index=False).agg(
        value=("value", "mean"), targets=("target", "nunique")
    )
    is_whole = means["targets"] == means["source"].map(targets)
    return means.loc[is_whole, ["sampler", "source", "seed", "value"]].reset_index(drop=True)


def differences(values: pd.DataFrame, sampler: str, baseline: str) -> pd.Series:
    """Pair `source_seed_values` of two samplers by source and seed: sampler - baseline, indexed by (source, seed).

    Only pairs that both have count. Raises `DfgsError` for a sampler without values and for no common pair.
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
    """Judge the planned contrasts (sampler, baseline) on `source_seed_values`.

    - *equal*: the 1 - `level` interval of the mean difference lies within ± `margin`;
    - *better*, *worse*: else, the sign-flip test rejects at `level` after Holm over all contrasts;
    - *undecided*: neither; `seeds_needed` says what would decide.
    """
    pairs = [differences(values, *contrast) for contrast in contrasts]
    p_values = [sign_flip(paired) for paired in pairs]
    found = []
    for contrast, paired, p_value, adjusted in zip(contrasts, pairs, p_values, holm(p_values), strict=True):
        interval, sources = difference_interval(paired, 1 - level), paired.index.get_level_values("source").nunique()
        verdict = _word(interval, adjusted, margin, level)
        found.append(Comparison(*contrast, sources, interval, float(paired.std()), p_value, adjusted, verdict))
    return found


def seeds_needed(comparison: Comparison, comparisons: int, margin: float = MARGIN, level: float = LEVEL) -> int | None:
    """Return how many more seeds per source would decide a contrast whose differences go on as they are.

    0 for one that is decided; None where it is beyond reach (see `paired.pairs_needed`) or one pair has no spread.
    """
    if comparison.verdict != "undecided":
        return 0
    if math.isnan(comparison.deviation):
        return None
    total = pairs_needed(comparison.interval.mean, comparison.deviation, margin, comparisons, level)
    return None if total is None else max(1, math.ceil((total - comparison.interval.n) / comparison.sources))


def resolvable(pairs: int, comparisons: int, level: float = LEVEL) -> str:
    """Say before a grid runs whether its pairs (sources × seeds) can decide anything after Holm."""
    least = pairs_to_reject(comparisons, level)
    lowest = min(1.0, comparisons * 2.0 ** (1 - pairs))
    said = f"{pairs} pairs (source × seed), {comparisons} planned comparisons: smallest p after Holm {lowest:.2g}"
    return said + (f"; {least} pairs or more could reject at {level:g}" if lowest > level else "")


def _word(interval: Interval, adjusted: float, margin: float, level: float) -> str:
    if interval.low >= -margin and interval.high <= margin:
        return "equal"
    if adjusted <= level:
        return "better" if interval.mean > 0 else "worse"
    return "undecided"
