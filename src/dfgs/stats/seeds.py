"""Statistics on long tables: one number per trained model and target, averages over targets, intervals over seeds."""

import logging
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from dfgs.errors import DfgsError, did_you_mean
from dfgs.results import REFERENCE, check_one_protocol

LOGGER = logging.getLogger(__name__)

Transfer = tuple[str, str]
"""A source and a target: one column of a table, one panel of a figure."""

AVERAGE: Transfer = ("", "average")
"""The column of means over the cross-domain targets."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean of `n` values with the ends of its confidence interval (nan for one value), in the values' unit."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def half_width(self) -> float:
        """Half the distance between the ends."""
        return (self.high - self.low) / 2


def mean_interval(values: Iterable[float], confidence: float = 0.95) -> Interval:
    """Return the mean of `values` with its two-sided Student t interval.

    The values are taken as independent draws (here: seeds) of a normal variable. One value has no spread, so its ends
    are nan. Raises `ValueError` for no values, a value that is not finite, or a confidence outside (0, 1).

    >>> mean_interval([1.0, 2.0, 3.0])
    Interval(mean=2.0, low=-0.484137711..., high=4.484137711..., n=3)
    """
    sample = np.asarray(list(values), dtype=np.float64)
    if sample.size == 0 or not np.isfinite(sample).all():
        raise ValueError(f"expected one finite value or more, got {sample.tolist()}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}, expected a number between 0 and 1")
    n = int(sample.size)
    if n == 1:
        return Interval(float(sample[0]), math.nan, math.nan, 1)
    mean, quantile = float(sample.mean()), float(stdtrit(n - 1, (1 + confidence) / 2))
    half_width = quantile * float(sample.std(ddof=1)) / math.sqrt(n)
    return Interval(mean, mean - half_width, mean + half_width, n)


def seed_values(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Reduce the long rows of one experiment to one value per trained model and target: the mean over its splits.

    Returns columns `model, sampler, source, target, seed, value`, sorted. The untuned backbone knows no source: its
    value on a target is repeated for every source that is evaluated there. A seed that lacks one of a target's splits
    is left out and named in the log. Raises `DfgsError` for several experiments, for a metric without rows (with the
    nearest name) and for numbers of two protocols.
    """
    experiments = sorted(frame["experiment"].unique())
    if len(experiments) > 1:
        raise DfgsError(f"one table or figure shows one experiment, got {len(experiments)}: {', '.join(experiments)}")
    rows = frame[frame["metric"] == metric]
    if rows.empty:
        raise DfgsError(f"no rows of metric {metric!r}{did_you_mean(metric, frame['metric'].unique())}")
    check_one_protocol(rows)
    cell = ["model", "sampler", "source", "target", "seed"]
    values = rows.groupby(cell, as_index=False).agg(value=("value", "mean"), splits=("split", "nunique"))
    expected = values.groupby(["model", "source", "target"])["splits"].transform("max")
    for row in values[values["splits"] < expected].itertuples():
        LOGGER.warning(
            "left out of %s: model %s, sampler %s, %s→%s, seed %s lacks a split",
            *(metric, row.model, row.sampler, row.source, row.target, row.seed),
        )
    return _spread_reference(values[values["splits"] == expected][[*cell, "value"]])


@dataclass(frozen=True, slots=True)
class SplitSpread:
    """Number of a target's splits and the standard deviation over them (nan for one split), in the values' unit."""

    splits: int
    deviation: float


def split_spreads(frame: pd.DataFrame, metric: str) -> dict[tuple[str, str, Transfer], SplitSpread]:
    """Return how far a target's splits are apart for every model, sampler and transfer.

    The deviation is that of the splits' means over seeds: what the choice of people does, the training's chance apart.
    """
    rows = frame[frame["metric"] == metric]
    means = rows.groupby(["model", "sampler", "source", "target", "split"], as_index=False)["value"].mean()
    groups = means.groupby(["model", "sampler", "source", "target"])["value"]
    return {
        (str(m), str(sampler), (str(s), str(t))): SplitSpread(len(values), float(values.std(ddof=1)))
        for (m, sampler, s, t), values in groups
    }


def with_average(values: pd.DataFrame, within: Collection[Transfer] = ()) -> pd.DataFrame:
    """Append to `seed_values` the rows of `AVERAGE`: each seed's mean over all cross-domain columns of its model.

    A seed that lacks a column gets no average, since means over different targets do not compare; nor does anything
    when every column is in `within` (a source's own test identities).
    """
    is_cross = [cell not in within for cell in zip(values["source"], values["target"], strict=True)]
    cross = values[is_cross].assign(column=lambda rows: rows["source"] + "\0" + rows["target"])
    columns = cross.groupby("model")["column"].nunique()
    means = cross.groupby(["model", "sampler", "seed"], as_index=False).agg(
        value=("value", "mean"), count=("column", "nunique")
    )
    means = means[means["count"] == means["model"].map(columns)].assign(source=AVERAGE[0], target=AVERAGE[1])
    return pd.concat([values, means[list(values.columns)]], ignore_index=True)


def intervals(values: pd.DataFrame) -> dict[tuple[str, str, Transfer], Interval]:
    """Return the 95 % t interval over seeds of every model, sampler and transfer in `values`."""
    groups = values.groupby(["model", "sampler", "source", "target"])["value"]
    return {(str(m), str(sampler), (str(s), str(t))): mean_interval(group) for (m, sampler, s, t), group in groups}


def describe_seeds(shown: Iterable[Interval]) -> str:
    """Say what follows the ± of these intervals, and over how many seeds."""
    counts = {interval.n for interval in shown}
    if max(counts, default=1) == 1:
        return "one seed, so no interval is given"
    if len(counts) == 1:
        return f"mean ± 95 % t-interval over n = {max(counts)} seeds"
    alone = " (one seed: no interval)" if 1 in counts else ""
    return f"mean ± 95 % t-interval over n = {min(counts)} to {max(counts)} seeds{alone}"


def transfers(values: pd.DataFrame, within: Collection[Transfer] = ()) -> list[Transfer]:
    """List the transfers in `values` by source: cross-domain targets, then the within-domain one; the average last."""
    found = set(zip(values["source"], values["target"], strict=True))
    return sorted(found, key=lambda cell: (cell == AVERAGE, cell[0], cell in within, cell[1]))


def transfer_label(transfer: Transfer, within: Collection[Transfer] = ()) -> str:
    """Write a transfer as `a→b`, `a→a (within)` for a within-domain one, or `average`."""
    if transfer == AVERAGE:
        return AVERAGE[1]
    return "→".join(transfer) + (" (within)" if transfer in within else "")


def in_order(found: Iterable[str], wanted: Sequence[str]) -> list[str]:
    """List the samplers: the wanted ones in their order, then other found ones sorted, without the reference."""
    rest = sorted(set(found) - set(wanted))
    return [name for name in [*wanted, *rest] if name != REFERENCE]


def _spread_reference(values: pd.DataFrame) -> pd.DataFrame:
    """Give the untuned backbone a row for every transfer that its model's samplers have."""
    is_reference = values["sampler"] == REFERENCE
    trained, reference = values[~is_reference], values[is_reference]
    if trained.empty:
        return values.reset_index(drop=True)
    columns = trained[["model", "source", "target"]].drop_duplicates()
    # Its own row for a source goes first: that source may be scored on other splits of the target.
    exact = columns.merge(reference, on=["model", "source", "target"])
    by_target = reference.groupby(["model", "target", "sampler", "seed"], as_index=False)["value"].mean()
    spread = columns.merge(by_target, on=["model", "target"])
    key = ["model", "sampler", "source", "target", "seed"]
    rows = pd.concat([trained, exact, spread], ignore_index=True)[[*key, "value"]]
    return rows.drop_duplicates(key).sort_values(key, ignore_index=True)
