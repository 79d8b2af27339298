"""Gather what the page says of a grid, from the files that are there."""

from pathlib import Path
from typing import Any

import pandas as pd

from dfgs.errors import DfgsError
from dfgs.grid import Grid
from dfgs.page import cost, protocols, tables, verdicts
from dfgs.page.explorers import Album, disagreements
from dfgs.page.fragments import further_tables
from dfgs.page.grid_results import by_model, gaps, read_scores, told
from dfgs.page.pictures import OF_BATCHES, pictures
from dfgs.page.shown import Experiment, Page, Sheet
from dfgs.provenance import read_json
from dfgs.tables.beside import Beside, costs_of

FIRST_COMMANDS = (
    ("everything, where it stopped", "snakemake --cores 2 --configfile results/config.json -- all"),
    ("one number of this page, compared with its record", "dfgs reproduce CELL"),
    ("every digest of these results, offline", "dfgs verify results"),
    ("this page", "dfgs report results/config.json"),
)


def gather(grid: Grid, results: Path, *, is_partial: bool) -> Page:
    """Read `results` and put together the page of a configuration's running experiments.

    Raises `DfgsError` that counts and names what has no numbers yet (not with `is_partial`: then the page says so),
    for what `grid_results.read_scores` refuses, and for numbers of one target under two protocols.
    """
    rows = read_scores(grid, results)
    missing = gaps(grid, rows)
    if missing and not is_partial:
        raise DfgsError(f"{told(missing)}; run snakemake again, or take --partial for what is known")
    album: Album = {}
    named = {name: by_model([gap for gap in missing if gap.experiment == name]) for name in grid.config.run}
    experiments = tuple(
        _experiment(grid, name, rows[rows["experiment"] == name], (results, tuple(named[name]), album))
        for name in grid.config.run
        if name in set(rows["experiment"])
    )
    records = [read_json(path) for path in _of_runs(grid, grid.config.run, results, "record.json")]
    return Page(
        title=", ".join(experiment.title for experiment in experiments),
        is_partial=bool(missing),
        banners=tuple(_banners(rows, len(missing))),
        experiments=experiments,
        cost=tuple(_costs(grid, records, results)),
        cost_text=_cost_text(rows, records, results),
        protocols=protocols.protocols(rows),
        protocol_text=protocols.sentences(rows),
        words=protocols.words(rows),
        versions=_versions(rows),
        commands=FIRST_COMMANDS,
        album=album,
    )


def _experiment(grid: Grid, name: str, rows: pd.DataFrame, around: tuple[Path, tuple[str, ...], Album]) -> Experiment:
    results, missing, album = around
    job = grid.report_job(name)
    within = {(source, target) for source, target in job["within"]}
    verdict = None if missing else verdicts.verdict_of(results, name)
    first, others = pictures(name, grid.config.experiments[name].figures, results)
    records = _of_runs(grid, (name,), results, "record.json")
    beside = Beside(costs_of(read_json(path) for path in records), verdict)
    audits = _of_runs(grid, (name,), results, "audit.csv") if grid.config.audit else []
    return Experiment(
        name=name,
        title=job["title"],
        sentences=verdict.sentences if verdict else verdicts.without_verdict(rows, within),
        notes=(*(verdict.notes if verdict else ()), *verdicts.notes(rows)),
        contrasts=tables.contrasts(verdict, f"{name}-contrasts") if verdict else None,
        main_picture=first,
        tables=(
            *tables.comparisons(rows, job, beside),
            *(() if missing else further_tables(name, job["metrics"], results)),
        ),
        pictures=tuple(picture for picture in others if picture.name not in OF_BATCHES),
        batch_pictures=tuple(picture for picture in others if picture.name in OF_BATCHES),
        numbers=tables.single_numbers(rows, job),
        audit=tables.audit(audits, job) if audits else None,
        missing=missing,
        disagreements=disagreements(results, name, album),
    )


def _of_runs(grid: Grid, experiments: tuple[str, ...], results: Path, file: str) -> list[Path]:
    """List a file of every training that is there and scored, each once."""
    trials = sorted({trial for name in experiments for trial in grid.trials(name)})
    paths = [results / "runs" / trial.path / file for trial in trials]
    return [path for path in paths if path.is_file()]


def _banners(rows: pd.DataFrame, missing: int) -> list[str]:
    """Say what a reader must know before any number."""
    said = []
    if missing:
        said.append(f"Unfinished: {missing} cells of the grid have no numbers yet. They are named below.")
    for column, kind in (("commit", "commits"), ("versions", "sets of versions")):
        counts = rows.groupby(column).size()
        if len(counts) > 1:
            listed = "; ".join(f"{name} ({count} numbers)" for name, count in counts.items())
            said.append(f"Mixed: the numbers come from {len(counts)} {kind}: {listed}.")
    changed = sorted(name for name in rows["commit"].unique() if str(name).endswith("+"))
    if changed:
        said.append(f"Made from a checkout with uncommitted changes: {', '.join(changed)}.")
    return said


def _costs(grid: Grid, records: list[dict[str, Any]], results: Path) -> list[Sheet]:
    order = list(dict.fromkeys(name for e in grid.config.run for name in grid.config.experiments[e].samplers))
    trained = cost.training_cost(records, order)
    return [*([trained] if trained else []), *cost.ledger(results)]


def _cost_text(rows: pd.DataFrame, records: list[dict[str, Any]], results: Path) -> tuple[str, ...]:
    fallen = cost.collapsed(rows)
    said = [
        f"{len(fallen)} of {len(records)} trainings collapsed, their features are all alike: {', '.join(fallen)}."
        if fallen
        else f"None of the {len(records)} trainings collapsed."
    ]
    if not (results / cost.LEDGER).is_file():
        said.append("There is no ledger of attempts (results/ledger.csv), so what was tried and failed is not known.")
    return tuple(said)


def _versions(rows: pd.DataFrame) -> tuple[tuple[str, str], ...]:
    """Name the commits and the versions of the packages that made the numbers."""
    packages: dict[str, set[str]] = {}
    for text in rows["versions"].unique():
        for word in str(text).split():
            name, _, version = word.partition("=")
            packages.setdefault(name, set()).add(version)
    commits = ", ".join(sorted(map(str, rows["commit"].unique())))
    return (("commit", commits), *((name, ", ".join(sorted(found))) for name, found in packages.items()))
