"""Samplers by source→target: means with intervals over seeds, what they beat and what they cost."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_lowercase
from typing import Any

import pandas as pd

from dfgs.rendering import MISSING, Entry, Table
from dfgs.results import REFERENCE
from dfgs.stats import (
    AVERAGE,
    Interval,
    SplitSpread,
    Transfer,
    describe_seeds,
    in_order,
    intervals,
    seed_values,
    split_spreads,
    transfer_label,
    transfers,
    with_average,
)
from dfgs.tables.beside import Beside
from dfgs.tables.words import label_columns, one_decimal

_Key = tuple[str, str, Transfer]
"""Model, sampler and transfer."""

COUNTS = ("queries", "queries_without_match")
COLLAPSED = " †: at least one seed collapsed, its features are all alike; its ties count as lost."
NUMBERS = (
    *("metric", "model", "sampler", "source", "target", "within", "mean", "low", "high", "n"),
    *("splits", "deviation_over_splits", "beats", "hours", "sampler_share", "caption"),
)
"""Columns of a comparison's CSV file.

The average has no source and no splits, one seed no low and high, one split no deviation, a missing cell n = 0.
`beats` names whom a sampler beats at the planned contrasts, in the column that these are on; `hours` are of one run.
"""


def comparison(
    frame: pd.DataFrame,
    metric: str,
    within: Collection[Transfer] = (),
    samplers: Sequence[str] = (),
    beside: Beside | None = None,
) -> Table:
    """Compare samplers (rows) over the transfers source→target (columns): mean ± 95 % t-interval over seeds.

    `frame` holds the long rows of one experiment, `within` the transfers to a source's own test identities, `samplers`
    the order of the rows (a listed sampler without numbers is shown empty, a sampler with numbers that is not listed
    follows). Every model has rows of its own and is ranked apart; numbers that print alike share a place. The zero-shot
    reference comes last and is not ranked; the average is over the cross-domain columns. `beside` adds what trainings
    cost and, raised in the column that the verdict is on (the average, or the only one), whom a sampler beats at the
    planned contrasts. Raises `DfgsError` as `stats.seed_values` does.
    """
    beside = beside or Beside()
    values = with_average(seed_values(frame, metric), within)
    cells, columns, spreads = intervals(values), transfers(values, within), split_spreads(frame, metric)
    models, names = sorted({key[0] for key in cells}), in_order({key[1] for key in cells}, samplers)
    ranked = [(model, name) for model in models for name in names]
    reference = [(model, REFERENCE) for model in models if any(key[:2] == (model, REFERENCE) for key in cells)]
    labels, fallen, beaten = label_columns(models, "sampler"), _collapsed(frame), beside.beaten(metric)
    losers = [name for name in names if any(name in found for found in beaten.values())]
    letters = dict(zip(losers, ascii_lowercase, strict=False))
    caption = _caption(frame, metric, cells, _notes(columns, within, bool(reference)) + _split_notes(spreads))
    caption += COLLAPSED if fallen else ""
    look = _Look(cells, _places(cells), fallen, {row: [letters[n] for n in found] for row, found in beaten.items()})

    def line(row: tuple[str, str]) -> tuple[Entry, ...]:
        entries = [look.entry((*row, column), is_judged=column == columns[-1]) for column in columns]
        return (*(Entry(label) for label in row[-len(labels) :]), *entries, *beside.entries(row))

    def numbers(row: tuple[str, str], column: Transfer) -> tuple[Any, ...]:
        cost = beside.costs.get(row)
        beats = " ".join(beaten.get(row, ())) if column == columns[-1] else ""
        price = (math.nan, math.nan) if cost is None else (cost.hours, cost.share)
        cell = (metric, *row, *column, column in within, *_raw(cells.get((*row, column))))
        return (*cell, *_raw_spread(spreads.get((*row, column))), beats, *price, caption)

    return Table(
        caption=caption,
        header=(*labels, *(transfer_label(column, within) for column in columns), *beside.header),
        labels=len(labels),
        rows=tuple(line(row) for row in ranked),
        reference_rows=tuple(line(row) for row in reference),
        numbers=pd.DataFrame([numbers(r, c) for r in [*ranked, *reference] for c in columns], columns=list(NUMBERS)),
        notes=beside.notes(metric, letters),
    )


@dataclass(frozen=True, slots=True)
class _Look:
    """How the cells of a comparison are shown."""

    cells: Mapping[_Key, Interval]
    places: Mapping[_Key, int]
    fallen: Collection[_Key]
    raised: Mapping[tuple[str, str], Sequence[str]]

    def entry(self, key: _Key, is_judged: bool) -> Entry:
        """Show a cell; whom its row beats is raised where the verdict is on its column."""
        if key not in self.cells:
            return Entry(MISSING)
        raised = ",".join(self.raised.get(key[:2], ())) if is_judged else ""
        text = _mean(self.cells[key]) + ("†" if key in self.fallen else "")
        return Entry(text, self.places.get(key, 0), raised, self.cells[key].mean)


def _caption(frame: pd.DataFrame, metric: str, cells: Mapping[_Key, Interval], notes: str) -> str:
    unit = "" if metric in COUNTS else " (%)"
    seeds = describe_seeds(interval for key, interval in cells.items() if key[1] != REFERENCE)
    experiment = frame["experiment"].iloc[0]
    return f"Experiment {experiment}: {metric}{unit}, {seeds}. Best bold, second best underlined.{notes}"


def _places(cells: dict[_Key, Interval]) -> dict[_Key, int]:
    """Rank the samplers of each model and column by the mean as printed; one sampler alone is not ranked."""
    columns: dict[tuple[str, Transfer], dict[str, float]] = {}
    for (model, name, column), interval in cells.items():
        if name != REFERENCE:
            columns.setdefault((model, column), {})[name] = float(one_decimal(interval.mean))
    return {
        (model, name, column): 1 + sum(other > mean for other in means.values())
        for (model, column), means in columns.items()
        if len(means) > 1
        for name, mean in means.items()
    }


def _collapsed(frame: pd.DataFrame) -> set[_Key]:
    """Find the cells in which a model collapsed on any split for any seed, and the averages that they enter."""
    rows = frame[(frame["metric"] == "collapsed") & (frame["value"] > 0)]
    names = zip(*(rows[name].astype(str) for name in ("model", "sampler", "source", "target")), strict=True)
    return {key for m, s, source, target in names for key in ((m, s, (source, target)), (m, s, AVERAGE))}


def _notes(columns: Collection[Transfer], within: Collection[Transfer], has_reference: bool) -> str:
    notes = []
    if has_reference:
        notes.append(f"{REFERENCE} is the untuned backbone, a reference that is not ranked.")
    if any(column in within for column in columns):
        notes.append("(within): the source's own held-out test identities.")
    if AVERAGE in columns:
        notes.append("average: the mean over the cross-domain columns.")
    return "".join(" " + note for note in notes)


def _split_notes(spreads: Mapping[_Key, SplitSpread]) -> str:
    """Say of every target of several splits how far they are apart, the untuned backbone left out."""
    targets: dict[str, list[SplitSpread]] = {}
    for (_, sampler, (_, target)), spread in sorted(spreads.items()):
        if spread.splits > 1 and sampler != REFERENCE:
            targets.setdefault(target, []).append(spread)
    notes = []
    for target, found in targets.items():
        low, high = (one_decimal(end([spread.deviation for spread in found])) for end in (min, max))
        between = low if low == high else f"{low} to {high}"
        splits = max(spread.splits for spread in found)
        notes.append(f" {target}: the mean over {splits} splits, whose standard deviation is {between}.")
    return "".join(notes)


def _mean(interval: Interval) -> str:
    return one_decimal(interval.mean) + (f" ± {interval.half_width:.1f}" if interval.n > 1 else "")


def _raw(interval: Interval | None) -> tuple[float, float, float, int]:
    """Return mean, low, high and n; nan (empty in the file) where there is none."""
    if interval is None:
        return math.nan, math.nan, math.nan, 0
    return interval.mean, interval.low, interval.high, interval.n


def _raw_spread(spread: SplitSpread | None) -> tuple[int, float]:
    """Return number and deviation of splits; 0 and nan where there are none."""
    return (0, math.nan) if spread is None else (spread.splits, spread.deviation)
