"""Tables of an experiment: long rows in, tables with intervals over seeds out."""

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import pandas as pd

from dfgs.errors import DfgsError
from dfgs.rendering import MISSING, Entry, Table, write
from dfgs.results import COLUMNS, REFERENCE, check_one_protocol
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

COUNTS = ("queries", "queries_without_match")
COLLAPSED = " †: at least one seed collapsed, its features are all alike; its ties count as lost."
NUMBERS = (
    *("metric", "model", "sampler", "source", "target", "within", "mean", "low", "high", "n"),
    *("splits", "deviation_over_splits", "caption"),
)
"""Columns of a comparison's CSV file.

The average has no source and no splits, one seed no low and high, one split no deviation, a missing cell n = 0.
"""


def comparison(
    frame: pd.DataFrame, metric: str, within: Collection[Transfer] = (), samplers: Sequence[str] = ()
) -> Table:
    """Compare samplers (rows) over the transfers source→target (columns): mean ± 95 % t-interval over seeds.

    `frame` holds the long rows of one experiment, `within` the transfers to a source's own test identities, `samplers`
    the order of the rows (a listed sampler without numbers is shown empty, a sampler with numbers that is not listed
    follows). Every model has rows of its own and is ranked apart; numbers that print alike share a place. The zero-shot
    reference comes last and is not ranked; the average is over the cross-domain columns. Raises `DfgsError` as
    `stats.seed_values` does.
    """
    values = with_average(seed_values(frame, metric), within)
    cells, columns, spreads = intervals(values), transfers(values, within), split_spreads(frame, metric)
    models, names = sorted({key[0] for key in cells}), in_order({key[1] for key in cells}, samplers)
    ranked = [(model, name) for model in models for name in names]
    reference = [(model, REFERENCE) for model in models if any(key[:2] == (model, REFERENCE) for key in cells)]
    places = _places(cells)
    labels = _labels(models, "sampler")
    unit = "" if metric in COUNTS else " (%)"
    seeds = describe_seeds(interval for key, interval in cells.items() if key[1] != REFERENCE)
    fallen = _collapsed(frame)
    notes = _notes(columns, within, bool(reference)) + _split_notes(spreads) + (COLLAPSED if fallen else "")
    caption = (
        f"Experiment {frame['experiment'].iloc[0]}: {metric}{unit}, {seeds}. Best bold, second best underlined.{notes}"
    )

    def row(model: str, name: str) -> tuple[Entry, ...]:
        keys = [(model, name, column) for column in columns]
        entries = [
            Entry(_mean(cells[key]) + ("†" if key in fallen else ""), places.get(key, 0))
            if key in cells
            else Entry(MISSING)
            for key in keys
        ]
        return (*(Entry(label) for label in (model, name)[-len(labels) :]), *entries)

    numbers = [
        (
            *(metric, *label, *column, column in within, *_raw(cells.get((*label, column)))),
            *_raw_spread(spreads.get((*label, column))),
            caption,
        )
        for label in [*ranked, *reference]
        for column in columns
    ]
    return Table(
        caption=caption,
        header=(*labels, *(transfer_label(column, within) for column in columns)),
        labels=len(labels),
        rows=tuple(row(*label) for label in ranked),
        reference_rows=tuple(row(*label) for label in reference),
        numbers=pd.DataFrame(numbers, columns=list(NUMBERS)),
    )


def backbone_table(frame: pd.DataFrame) -> Table:
    """Show what the untuned backbones are worth: zero-shot mAP on every target beside chance (metric `chance_mAP`).

    Both are percentages, means over a target's splits. Raises `DfgsError` when the frame holds no zero-shot mAP or
    mixes protocols.
    """
    known = frame[(frame["metric"] == "chance_mAP") | ((frame["metric"] == "mAP") & (frame["sampler"] == REFERENCE))]
    if "mAP" not in set(known["metric"]):
        raise DfgsError(f"no mAP of sampler {REFERENCE!r} among the metrics; score the untuned backbone first")
    check_one_protocol(known)
    # The backbone has no source: the same number may stand once for each.
    known = known.sort_values(list(COLUMNS)).drop_duplicates(["model", "target", "split", "metric"])
    numbers = known.pivot_table(index=["model", "target"], columns="metric", values="value", aggfunc="mean")
    numbers = numbers.reindex(columns=["mAP", "chance_mAP"]).reset_index()
    numbers["times_chance"] = numbers["mAP"] / numbers["chance_mAP"]
    models = sorted(numbers["model"].unique())
    caption = (
        "The untuned backbone (zero-shot): mAP (%) on each target, beside the mAP (%) that a random ranking is "
        "expected to reach, and how many times chance that is. One deterministic number each, so no interval is given."
    )
    labels = _labels(models, "target")
    rows = tuple(
        (
            *(Entry(str(row[name])) for name in labels),
            *(Entry(_number(row[name])) for name in ("mAP", "chance_mAP", "times_chance")),
        )
        for row in numbers.to_dict("records")
    )
    header = (*labels, "zero-shot mAP", "chance mAP", "times chance")
    return Table(caption, header, len(labels), rows, (), numbers.assign(caption=caption))


def write_comparison(
    frame: pd.DataFrame,
    metric: str,
    stem: Path | str,
    within: Collection[Transfer] = (),
    samplers: Sequence[str] = (),
) -> None:
    """Write `comparison` to `stem` + `.csv`, `.md` and `.tex`."""
    write(comparison(frame, metric, within, samplers), stem)


def write_backbone(frame: pd.DataFrame, stem: Path | str) -> None:
    """Write `backbone_table` to `stem` + `.csv`, `.md` and `.tex`."""
    write(backbone_table(frame), stem)


def _places(cells: dict[tuple[str, str, Transfer], Interval]) -> dict[tuple[str, str, Transfer], int]:
    """Rank the samplers of each model and column by the mean as printed; one sampler alone is not ranked."""
    columns: dict[tuple[str, Transfer], dict[str, float]] = {}
    for (model, name, column), interval in cells.items():
        if name != REFERENCE:
            columns.setdefault((model, column), {})[name] = float(_number(interval.mean))
    return {
        (model, name, column): 1 + sum(other > mean for other in means.values())
        for (model, column), means in columns.items()
        if len(means) > 1
        for name, mean in means.items()
    }


def _collapsed(frame: pd.DataFrame) -> set[tuple[str, str, Transfer]]:
    """Find the cells in which a model collapsed on any split for any seed, and the averages that they enter."""
    rows = frame[(frame["metric"] == "collapsed") & (frame["value"] > 0)]
    names = zip(*(rows[name].astype(str) for name in ("model", "sampler", "source", "target")), strict=True)
    return {key for m, s, source, target in names for key in ((m, s, (source, target)), (m, s, AVERAGE))}


def _labels(models: Sequence[str], last: str) -> list[str]:
    """Name the label columns: the model is one of them when there are several."""
    return ["model", last] if len(models) > 1 else [last]


def _notes(columns: Collection[Transfer], within: Collection[Transfer], has_reference: bool) -> str:
    notes = []
    if has_reference:
        notes.append(f"{REFERENCE} is the untuned backbone, a reference that is not ranked.")
    if any(column in within for column in columns):
        notes.append("(within): the source's own held-out test identities.")
    if AVERAGE in columns:
        notes.append("average: the mean over the cross-domain columns.")
    return "".join(" " + note for note in notes)


def _split_notes(spreads: Mapping[tuple[str, str, Transfer], SplitSpread]) -> str:
    """Say of every target of several splits how far they are apart, the untuned backbone left out."""
    targets: dict[str, list[SplitSpread]] = {}
    for (_, sampler, (_, target)), spread in sorted(spreads.items()):
        if spread.splits > 1 and sampler != REFERENCE:
            targets.setdefault(target, []).append(spread)
    notes = []
    for target, found in targets.items():
        low, high = (_number(end([spread.deviation for spread in found])) for end in (min, max))
        between = low if low == high else f"{low} to {high}"
        splits = max(spread.splits for spread in found)
        notes.append(f" {target}: the mean over {splits} splits, whose standard deviation is {between}.")
    return "".join(notes)


def _number(value: float) -> str:
    return MISSING if math.isnan(value) else f"{value:.1f}"


def _mean(interval: Interval) -> str:
    return _number(interval.mean) + (f" ± {interval.half_width:.1f}" if interval.n > 1 else "")


def _raw(interval: Interval | None) -> tuple[float, float, float, int]:
    """Return mean, low, high and n; nan (empty in the file) where there is none."""
    if interval is None:
        return math.nan, math.nan, math.nan, 0
    return interval.mean, interval.low, interval.high, interval.n


def _raw_spread(spread: SplitSpread | None) -> tuple[int, float]:
    """Return number and deviation of splits; 0 and nan where there are none."""
    return (0, math.nan) if spread is None else (spread.splits, spread.deviation)
