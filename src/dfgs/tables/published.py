"""Ours beside a printed table, cell by cell: what was printed, what came out, and what is known to differ."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import pandas as pd

from dfgs.errors import DfgsError, did_you_mean
from dfgs.rendering import MISSING, Entry, Table
from dfgs.stats import AVERAGE, Interval, Transfer, intervals, seed_values, with_average

COLUMNS = ("experiment", "target", "model", "sampler", "metric", "value", "mark", "note")
MARKS = {"IMG": "read from a picture of the table", "2ND": "from another paper's table", "-": ""}
"""How a number of the file was read; other marks stand as they are."""
LEGEND = (
    "agrees: the printed number lies within our 95 % t-interval over seeds; higher, lower: ours is, beyond it. The "
    "printed numbers are of one run each, whose own scatter is not known."
)


@dataclass(frozen=True, slots=True)
class _Cell:
    """One cell: the printed number (nan where there is none) with how it was read, and ours (None: not run)."""

    sampler: str
    target: str
    metric: str
    printed: float
    note: str
    ours: Interval | None

    @property
    def difference(self) -> float:
        """Ours - printed; nan where one is missing."""
        return math.nan if self.ours is None else self.ours.mean - self.printed

    @property
    def verdict(self) -> str:
        """Say in a word or two how ours compares."""
        if self.ours is None:
            return "not run"
        if math.isnan(self.printed):
            return "not printed"
        if self.ours.n == 1:
            return "one seed, no interval"
        if self.ours.low <= self.printed <= self.ours.high:
            return "agrees"
        return "higher" if self.difference > 0 else "lower"


def read_published(path: Path) -> pd.DataFrame:
    """Read `published.csv`, `value` as numbers (nan where none was printed); `DfgsError` says what is wrong."""
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
        missing = [name for name in COLUMNS if name not in frame]
        if missing:
            raise DfgsError(f"{path}: columns missing: {', '.join(missing)}")
        return frame.assign(value=pd.to_numeric(frame["value"].where(frame["value"] != "")))
    except (OSError, ValueError) as error:
        raise DfgsError(f"cannot read {path}: {error}") from error


def published_table(job: Mapping[str, Any], published: pd.DataFrame, frame: pd.DataFrame | None) -> Table:
    """Put the cells of `Grid.published_job` beside the printed ones; without `frame`, our long rows, none has run.

    Raises `DfgsError` for an experiment or a method that `published` does not have.
    """
    cells = _cells(job, published, frame)
    notes = list(dict.fromkeys(cell.note for cell in cells if cell.note))
    letters = dict(zip(notes, ascii_lowercase, strict=False))
    experiment = job["published"]["experiment"]
    caption = (
        f"Experiment {job['experiment']} beside {experiment} as printed: percent, ours the mean ± 95 % t-interval over "
        "seeds."
    )
    rows = tuple(
        (
            *(Entry(cell.sampler), Entry(cell.target), Entry(cell.metric)),
            Entry("" if math.isnan(cell.printed) else f"{cell.printed:.1f}", raised=letters.get(cell.note, "")),
            Entry(_ours(cell.ours)),
            Entry(MISSING if math.isnan(cell.difference) else f"{cell.difference:+.1f}"),
            Entry(cell.verdict),
        )
        for cell in cells
    )
    explained = [f"{letter}: {note}." for note, letter in letters.items()]
    header = ("sampler", "target", "metric", "published", "ours", "difference", "verdict")
    return Table(
        caption, header, 3, rows, (), _numbers(cells, caption), (LEGEND, *explained, *job["published"]["deviations"])
    )


def _cells(job: Mapping[str, Any], published: pd.DataFrame, frame: pd.DataFrame | None) -> list[_Cell]:
    places: list[tuple[str, str, Transfer]] = [
        (c["target"], c["dataset"], (c["source"], c["target"])) for c in job["cells"]
    ]
    metrics = job["metrics"]
    all_ours = {} if frame is None else {m: _ours_by_place(frame, m, [place for *_, place in places]) for m in metrics}
    found = []
    for sampler in job["samplers"]:
        rows = _rows(job["published"], sampler, published)
        for metric in metrics:
            ours = all_ours.get(metric, {})
            for name, dataset, transfer in [*places, (AVERAGE[1], AVERAGE[1], AVERAGE)]:
                printed = rows[(rows["metric"] == metric) & (rows["target"] == dataset)]
                value, note = (math.nan, "") if printed.empty else _printed(printed.iloc[0])
                found.append(_Cell(sampler, name, metric, value, note, ours.get((sampler, transfer))))
    return found


def _rows(settings: Mapping[str, Any], sampler: str, published: pd.DataFrame) -> pd.DataFrame:
    """Return the printed rows of a sampler's method; where the method has several samplers, those of this one."""
    experiment = settings["experiment"]
    known: pd.DataFrame = published[published["experiment"] == experiment]
    if known.empty:
        raise DfgsError(
            f"no experiment {experiment!r} was published{did_you_mean(experiment, set(published['experiment']))}"
        )
    method = settings["methods"].get(sampler)
    if method is None:
        return known.iloc[:0]
    rows: pd.DataFrame = known[known["model"] == method]
    if rows.empty:
        raise DfgsError(f"no method {method!r} in {experiment} as published{did_you_mean(method, set(known['model']))}")
    return rows[rows["sampler"] == sampler] if rows["sampler"].nunique() > 1 else rows


def _ours_by_place(
    frame: pd.DataFrame, metric: str, places: Sequence[Transfer]
) -> dict[tuple[str, Transfer], Interval]:
    """Return our intervals by sampler and transfer; the average only where all of `places` have run."""
    values = seed_values(frame, metric)
    within = {cell for cell in zip(values["source"], values["target"], strict=True) if cell not in places}
    found = {(name, place): i for (_, name, place), i in intervals(with_average(values, within)).items()}
    whole = {name for name, _ in found if all((name, place) in found for place in places)}
    return {(name, place): i for (name, place), i in found.items() if place != AVERAGE or name in whole}


def _printed(row: Any) -> tuple[float, str]:
    """Return a printed number with how it was read; an empty one with why."""
    how = MARKS.get(row["mark"], row["mark"])
    return float(row["value"]), "; ".join(part for part in (how, row["note"]) if part)


def _ours(interval: Interval | None) -> str:
    if interval is None:
        return "not run"
    return f"{interval.mean:.1f}" + (f" ± {interval.half_width:.1f}" if interval.n > 1 else "")


def _numbers(cells: Sequence[_Cell], caption: str) -> pd.DataFrame:
    nothing = Interval(math.nan, math.nan, math.nan, 0)
    rows = []
    for cell in cells:
        ours = cell.ours or nothing
        place = (cell.sampler, cell.target, cell.metric, cell.printed)
        rows.append((*place, ours.mean, ours.low, ours.high, ours.n, cell.difference, cell.verdict, cell.note, caption))
    columns = ("sampler", "target", "metric", "published", "mean", "low", "high", "n", "difference", "verdict", "note")
    return pd.DataFrame(rows, columns=[*columns, "caption"])
