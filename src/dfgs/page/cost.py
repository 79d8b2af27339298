"""What the grid cost and what went wrong in it: from its trainings' records, and from the ledger if there is one."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from dfgs.errors import DfgsError
from dfgs.page.shown import Sheet
from dfgs.rendering import Entry

LEDGER = "ledger.csv"
LEDGER_COLUMNS = ("stage", "cell", "attempt", "outcome", "reason", "seconds", "wasted_seconds")
FINE = ("completed", "preempted", "running", "superseded")
"""Outcomes that are no failure."""


def training_cost(records: Iterable[dict[str, Any]], order: list[str]) -> Sheet | None:
    """Sum up the trainings of each sampler: how many, their hours, and the sampler's share; None without trainings."""
    rows = pd.DataFrame([_figures(record) for record in records], columns=["sampler", "seconds", "share", "graph"])
    if rows.empty:
        return None
    names = [name for name in order if name in set(rows["sampler"])]
    body = tuple(_row(name, rows[rows["sampler"] == name]) for name in names)
    return Sheet(
        ident="training-cost",
        title="What the trainings of each sampler took.",
        note="Seconds of stage 2 as its records tell them, on whatever machine it ran. Sampler: the share of an epoch "
        "that goes into features, graph and batches.",
        header=("sampler", "trainings", "hours in all", "seconds each", "slowest (s)", "sampler (%)", "graph (s)"),
        labels=1,
        rows=body,
    )


def _figures(record: dict[str, Any]) -> tuple[str, float, float, float]:
    share = sum(record["sampler_seconds"]) / max(sum(record["epoch_seconds"]), 1e-9)
    return record["trial"]["sampler"], record["seconds"], share, record["graph_seconds"]


def _row(name: str, rows: pd.DataFrame) -> tuple[Entry, ...]:
    seconds = rows["seconds"]
    return _entries(
        *(name, str(len(rows)), f"{seconds.sum() / 3600:.2f}", f"{seconds.mean():.0f}", f"{seconds.max():.0f}"),
        *(f"{100 * rows['share'].mean():.1f}", f"{rows['graph'].mean():.1f}"),
    )


def collapsed(rows: pd.DataFrame) -> list[str]:
    """Name the trainings whose features were all alike on some target."""
    fallen = rows[(rows["metric"] == "collapsed") & (rows["value"] > 0)]
    names = fallen[["source", "model", "sampler", "seed"]].drop_duplicates().itertuples(index=False, name=None)
    return [f"{source}/{model}/{sampler}/s{seed}" for source, model, sampler, seed in sorted(names)]


def ledger(results: Path) -> list[Sheet]:
    """Count the attempts in `ledger.csv` by stage and outcome, and name those that failed; empty without a ledger.

    Raises `DfgsError` for a file that lacks one of `LEDGER_COLUMNS`.
    """
    path = results / LEDGER
    if not path.is_file():
        return []
    try:
        rows = pd.read_csv(path, keep_default_na=False, usecols=list(LEDGER_COLUMNS))
        rows = rows.astype({"seconds": float, "wasted_seconds": float})
    except (OSError, ValueError) as error:
        raise DfgsError(f"cannot read {path}: {error}; expected the columns {', '.join(LEDGER_COLUMNS)}") from error
    failed = rows[~rows["outcome"].isin(FINE)]
    return [_outcomes(rows), *([_failures(failed)] if len(failed) else [])]


def _outcomes(rows: pd.DataFrame) -> Sheet:
    groups = rows.groupby(["stage", "outcome"], sort=True)
    body = tuple(
        _entries(stage, outcome, len(part), _hours(part, "seconds"), _hours(part, "wasted_seconds"))
        for (stage, outcome), part in groups
    )
    whole, wasted = float(rows["seconds"].sum()), float(rows["wasted_seconds"].sum())
    share = f" {100 * wasted / whole:.1f} % of them were wasted: no result holds what they computed." if whole else ""
    return Sheet(
        ident="ledger",
        title=f"Attempts by stage and how they ended ({len(rows)} in all).",
        note=f"Every attempt counts, also those that were killed or preempted: {whole / 3600:.2f} hours.{share}",
        header=("stage", "outcome", "attempts", "hours", "wasted (hours)"),
        labels=2,
        rows=body,
    )


def _failures(rows: pd.DataFrame) -> Sheet:
    body = tuple(
        _entries(*row) for row in rows[["cell", "attempt", "outcome", "reason"]].itertuples(index=False, name=None)
    )
    return Sheet(
        ident="failures",
        title=f"Attempts that failed ({len(rows)}), and why.",
        note="A cell that failed once may have ended well at a later attempt.",
        header=("cell", "attempt", "outcome", "reason"),
        labels=4,
        rows=body,
    )


def _hours(rows: pd.DataFrame, column: str) -> str:
    return f"{rows[column].sum() / 3600:.2f}"


def _entries(*values: object) -> tuple[Entry, ...]:
    return tuple(Entry(str(value)) for value in values)
