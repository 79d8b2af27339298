"""Tables of an experiment for the page, every number with the command that makes it again."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd

from dfgs.page.cells import Cell
from dfgs.page.shown import Commands, Sheet, shown
from dfgs.rendering import MISSING, Entry
from dfgs.report import audit_of
from dfgs.results import REFERENCE
from dfgs.stats import AVERAGE, Transfer, transfer_label
from dfgs.stats.summary import Verdict
from dfgs.tables import backbone_table, comparison
from dfgs.tables.beside import Beside

VERDICT_COLUMNS = ("contrast", "difference", "95 % interval", "pairs", "p (Holm)", "verdict", "more seeds needed")
Job = dict[str, Any]


def comparisons(rows: pd.DataFrame, job: Job, beside: Beside) -> list[Sheet]:
    """Compare the samplers of an experiment by each of its metrics that has numbers, and show the untuned backbone."""
    name, within = job["experiment"], {(source, target) for source, target in job["within"]}
    sheets = []
    for metric in job["metrics"]:
        if metric in set(rows["metric"]):
            table = comparison(rows, metric, within, job["samplers"], beside)
            sheets.append(shown(table, f"{name}-{metric}", _mean_commands(table.numbers, name, within)))
    if (rows["sampler"] == REFERENCE).any():
        sheets.append(shown(backbone_table(rows), f"{name}-backbone", _backbone_commands(rows, name)))
    return sheets


def single_numbers(rows: pd.DataFrame, job: Job) -> Sheet:
    """List every number of the experiment's metrics: a row per training, target, split and metric, with its command."""
    chosen = rows[rows["metric"].isin([*job["metrics"], "mAP"])].sort_values(
        ["metric", "source", "target", "split", "model", "sampler", "seed"]
    )
    body = tuple(_number_row(job["experiment"], row) for row in _records(chosen))
    return Sheet(
        ident=f"{job['experiment']}-numbers",
        title=f"Experiment {job['experiment']}: every single number ({len(body)}).",
        note="No means: a row per trained model, target, split and metric, with the commit that made it.",
        header=("metric", "source", "target", "split", "model", "sampler", "seed", "value", "command", "commit"),
        labels=7,
        rows=body,
    )


def contrasts(verdict: Verdict, ident: str) -> Sheet | None:
    """Show the planned contrasts of a verdict; None where none is planned."""
    if not verdict.contrasts:
        return None
    models = {contrast.model for contrast in verdict.contrasts}
    found = [asdict(contrast) for contrast in verdict.contrasts]
    body = tuple(_contrast(contrast, len(models) > 1) for contrast in found)
    return Sheet(
        ident=ident,
        title=f"Experiment {verdict.experiment}: planned contrasts in {verdict.metric}.",
        note="Sampler minus baseline, paired by source and seed. Equal: the interval lies within "
        f"± {verdict.margin:g} points; better or worse: the sign-flip test rejects at {verdict.level:g} after "
        "Holm; else undecided.",
        header=VERDICT_COLUMNS,
        labels=1,
        rows=body,
        commands=tuple(_contrast_commands(verdict.experiment, contrast) for contrast in found),
    )


def audit(audits: Sequence[Path], job: Job) -> Sheet | None:
    """Show what the batches of the trainings held; None where no training was audited."""
    there = tuple(path for path in audits if path.is_file() and path.stat().st_size > 1)
    if not there:
        return None
    table = audit_of(job, there)
    trained = table.numbers[["model", "sampler"]].drop_duplicates().itertuples(index=False, name=None)
    commands = [(f"{model}, {name}", (_trainings(job["experiment"], model, name),)) for model, name in trained]
    return replace(shown(table, f"{job['experiment']}-audit"), commands=tuple(commands))


def _records(rows: pd.DataFrame) -> list[Job]:
    return [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")]


def _trainings(experiment: str, model: str, sampler: str) -> tuple[str, str]:
    """Return the command that makes all trainings of a sampler again: weights, audits and scores are compared."""
    return "all its trainings", Cell(experiment, *AVERAGE, "", model, sampler, None, "mAP").command


def _contrast_commands(experiment: str, found: Job) -> tuple[str, tuple[tuple[str, str], ...]]:
    names = found["sampler"], found["baseline"]
    commands = tuple((name, _trainings(experiment, found["model"], name)[1]) for name in names)
    return f"{names[0]} − {names[1]}", commands


def _mean_commands(numbers: pd.DataFrame, experiment: str, within: set[Transfer]) -> Commands:
    """Name every mean of a comparison that has numbers, by model and sampler."""
    found: dict[str, list[tuple[str, str]]] = {}
    for number in _records(numbers[numbers["n"] > 0]):
        place, row = (str(number["source"]), str(number["target"])), (str(number["model"]), str(number["sampler"]))
        cell = Cell(experiment, *place, "", *row, None, str(number["metric"]))
        found.setdefault(", ".join(row), []).append((transfer_label(place, within), cell.command))
    return tuple((name, tuple(commands)) for name, commands in found.items())


def _backbone_commands(rows: pd.DataFrame, experiment: str) -> Commands:
    """Name the untuned backbones' mAP and chance on each target."""
    known = rows[(rows["sampler"] == REFERENCE) & rows["metric"].isin(["mAP", "chance_mAP"])]
    found: dict[str, list[tuple[str, str]]] = {}
    for row in _records(known.drop_duplicates(["model", "target", "metric"])):
        place, model = (str(row["source"]), str(row["target"])), str(row["model"])
        cell = Cell(experiment, *place, "", model, REFERENCE, None, str(row["metric"]))
        found.setdefault(f"{model}, {row['target']}", []).append((str(row["metric"]), cell.command))
    return tuple((name, tuple(commands)) for name, commands in found.items())


def _number_row(experiment: str, row: Job) -> tuple[Entry, ...]:
    names = tuple(str(row[key]) for key in ("source", "target", "split", "model", "sampler"))
    source, target, split, model, sampler = names
    cell = Cell(experiment, source, target, split, model, sampler, int(row["seed"]), str(row["metric"]))
    texts = (row["metric"], *names, str(row["seed"]), f"{row['value']:.2f}", cell.command, row["commit"])
    return tuple(Entry(str(text)) for text in texts)


def _contrast(found: Job, has_models: bool) -> tuple[Entry, ...]:
    name = f"{found['sampler']} − {found['baseline']}" + (f" ({found['model']})" if has_models else "")
    interval = MISSING if found["low"] is None else f"{found['low']:+.1f} … {found['high']:+.1f}"
    needed = MISSING if found["seeds_needed"] is None else str(found["seeds_needed"])
    p_value = f"{found['adjusted']:.2g}"
    texts = (name, f"{found['mean']:+.1f}", interval, str(len(found["pairs"])), p_value, found["verdict"], needed)
    return tuple(Entry(text) for text in texts)
