"""Tables and figures of one experiment, from its metrics and training curves."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from dfgs.audit.tables import audit_table
from dfgs.config import FRESH
from dfgs.config.files import read_given
from dfgs.datasets import open_dataset
from dfgs.errors import DfgsError
from dfgs.feature_sets import is_drawn_world
from dfgs.figures import REGISTRY as FIGURES
from dfgs.figures.base import FigureData, save
from dfgs.grid import Grid
from dfgs.provenance import read_json
from dfgs.rendering import Table, to_markdown, write
from dfgs.results import read_metrics
from dfgs.samplers import REGISTRY as SAMPLERS
from dfgs.stats import in_order
from dfgs.stats.summarise import Plan, summarise
from dfgs.stats.summary import read_verdict, write_verdict
from dfgs.stats.verdict import MARGIN
from dfgs.tables import backbone_table, comparison
from dfgs.tables.beside import Beside, costs_of
from dfgs.tables.published import published_table, read_published
from dfgs.tables.queries import queries_table, read_queries
from dfgs.tables.selection import selection_table
from dfgs.tables.verdict import blocks_table, verdict_table

CURVE_IDENTITY = ("source", "model", "sampler", "seed")
COSTS = (*CURVE_IDENTITY, "seconds", "sampler_share", "identities", "images")
BATCHES = (*CURVE_IDENTITY, "epoch", "path", "pid", "is_drawn")
AUDIT = "audit.csv"
"""The file that a training leaves beside its `curve.csv`."""


@dataclass(frozen=True, slots=True)
class TableInputs:
    """Files of a comparison: metrics, the verdict (None: no contrasts are planned) and the records of trainings."""

    metrics: Path
    verdict: Path | None = None
    records: tuple[Path, ...] = ()


def write_table(job: dict[str, Any], metric: str, inputs: TableInputs, stem: Path) -> None:
    """Write the comparison of an experiment's samplers by one metric to `stem` + `.csv`, `.md`, `.tex` and `.html`."""
    beside = Beside(
        costs=costs_of(read_json(path) for path in inputs.records),
        verdict=None if inputs.verdict is None else read_verdict(inputs.verdict),
    )
    write(comparison(read_metrics(inputs.metrics), metric, _within(job), job["samplers"], beside), stem)


def write_verdict_tables(job: dict[str, Any], metrics: Path, verdict: Path, folder: Path) -> None:
    """Judge an experiment by its plan: the file `verdict`, and tables `verdict` and `blocks` in `folder`."""
    found = summarise(read_metrics(metrics), Plan.of(job))
    write(verdict_table(found), folder / "verdict")
    write(blocks_table(found), folder / "blocks")
    write_verdict(found, verdict)


def write_queries_table(job: dict[str, Any], metrics: tuple[Path, ...], stem: Path) -> None:
    """Write the planned contrasts at the level of queries, from `per_query.csv.gz` beside each trial's `metrics`."""
    write(queries_table(read_queries(metrics), Plan.of(job)), stem)


def write_published_table(job: dict[str, Any], published: Path, metrics: Path, stem: Path) -> None:
    """Write ours beside the printed table that an experiment repeats."""
    write(published_table(job, read_published(published), read_metrics(metrics)), stem)


def paper_tables(config: Path, published: Path, results: Path) -> list[str]:
    """Return, as Markdown, the experiments of a configuration beside the printed ones that they repeat.

    Ours are read from `results` where they have run. Raises `DfgsError` if no experiment that runs repeats one.
    """
    grid, printed = Grid(read_given([config], on_disk=False)), read_published(published)
    repeats = [name for name in grid.config.run if grid.config.experiments[name].published is not None]
    if not repeats:
        raise DfgsError(f"{config}: no experiment that runs has a key `published`; try config/protocol-1.yaml")
    found = []
    for name in repeats:
        metrics = results / "experiments" / name / "metrics.csv"
        ours = read_metrics(metrics) if metrics.exists() else None
        found.append(to_markdown(published_table(grid.published_job(name), printed, ours)))
    return found


def write_backbone_table(metrics: Path, stem: Path) -> None:
    """Write the untuned backbones' mAP beside chance to `stem` + `.csv`, `.md`, `.tex` and `.html`."""
    write(backbone_table(read_metrics(metrics)), stem)


def write_selection_table(job: dict[str, Any], metric: str, metrics: Path, stem: Path) -> None:
    """Write what choosing a candidate would change to `stem` + `.csv`, `.md` and `.tex`."""
    write(selection_table(read_metrics(metrics), metric, _within(job), job["samplers"]), stem)


def write_audit_table(job: dict[str, Any], audits: tuple[Path, ...], stem: Path) -> None:
    """Write `audit_of` to `stem` + `.csv`, `.md` and `.tex`."""
    write(audit_of(job, audits), stem)


def audit_of(job: dict[str, Any], audits: tuple[Path, ...]) -> Table:
    """Tell what the batches of an experiment's trials held, by sampler and audited epoch, means over all trials.

    `audits` are the runs' `audit.csv`. Raises `DfgsError` if none of them holds an audit.
    """
    rows = _read_runs(audits)
    if rows.empty:
        raise DfgsError(f"no audit in {audits[0]} and {len(audits) - 1} others; set audit: true and train again")
    models = ["model"] if rows["model"].nunique() > 1 else []
    order = in_order(rows["sampler"].unique(), job["samplers"])
    rows["place"] = rows["sampler"].map(order.index)
    rows = rows.sort_values(["model", "place", "epoch", "source", "seed"], ignore_index=True).drop(columns="place")
    trials = rows.drop_duplicates(list(CURVE_IDENTITY))
    caption = (
        f"Experiment {job['experiment']}: what the batches of the first and the last epoch held, under the features of "
        f"the model before that epoch; means over {trials['source'].nunique()} sources and {trials['seed'].nunique()} "
        "seeds."
    )
    return audit_table(rows, [*models, "sampler", "epoch"], caption)


def write_figure(job: dict[str, Any], name: str, metrics: Path, curves: tuple[Path, ...], stem: Path) -> None:
    """Draw the figure called `name` to `stem` + `.png`, `.pdf` and `.svg`; `DfgsError` where it has nothing to show."""
    data = FigureData(
        metrics=read_metrics(metrics),
        curves=_read_runs(curves),
        audits=_read_runs([path.with_name(AUDIT) for path in curves]),
        experiment=job["experiment"],
        samplers=tuple(job["samplers"]),
        settings={sampler: _all_arguments(setting) for sampler, setting in job["settings"].items()},
        within=frozenset(_within(job)),
        contrasts=tuple((sampler, baseline) for sampler, baseline in job.get("contrasts", ())),
        margin=job.get("margin", MARGIN),
        costs=_read_costs(curves),
        batches=_read_batches(curves, job.get("real_people", False)),
    )
    drawing = FIGURES.load(name)()
    if not drawing.applies(data):
        raise DfgsError(f"figure {name!r} has nothing to show in experiment {job['experiment']!r}; leave it out")
    save(drawing.draw(data), stem)


def _within(job: dict[str, Any]) -> set[tuple[str, str]]:
    return {(source, target) for source, target in job["within"]}


def _read_runs(paths: Sequence[Path]) -> pd.DataFrame:
    """Join `curve.csv` or `audit.csv` files of runs; whose they are comes from `record.json` beside each."""
    frames = []
    for path in paths:
        job = read_json(path.with_name("record.json"))["trial"]
        frames.append(pd.read_csv(path).assign(**{key: job[key] for key in CURVE_IDENTITY}))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=[*CURVE_IDENTITY, "epoch"])


def _read_costs(curves: Sequence[Path]) -> pd.DataFrame:
    """Read from the records beside `curves` what every training took and the size of its source."""
    rows = []
    for path in curves:
        record = read_json(path.with_name("record.json"))
        whole = sum(record["epoch_seconds"])
        share = sum(record["sampler_seconds"]) / whole if whole else 0.0
        taken = {name: record[name] for name in ("seconds", "identities", "images")}
        rows.append({**{key: record["trial"][key] for key in CURVE_IDENTITY}, **taken, "sampler_share": share})
    return pd.DataFrame(rows, columns=list(COSTS))


def _read_batches(curves: Sequence[Path], shows_real_people: bool) -> pd.DataFrame:
    """Read which images the first batch of the first and of the last epoch held, of runs whose people may be shown."""
    rows = []
    for path in curves:
        record = read_json(path.with_name("record.json"))
        if "batches" not in record:  # trained without an audit, or before batches were noted
            continue
        roots = {part["name"]: open_dataset(part).root for part in record["job"]["source"]["datasets"]}
        drawn = {name: is_drawn_world(root) for name, root in roots.items()}
        identity = {key: record["trial"][key] for key in CURVE_IDENTITY}
        for epoch, batch in record["batches"].items():
            for name, pid in zip(batch["images"], batch["pids"], strict=True):
                dataset, file = name.split("/", 1)
                if drawn[dataset] or shows_real_people:
                    image = {"path": roots[dataset] / file, "pid": pid, "is_drawn": drawn[dataset]}
                    rows.append({**identity, "epoch": int(epoch), **image})
    return pd.DataFrame(rows, columns=list(BATCHES))


def _all_arguments(sampler: dict[str, Any]) -> dict[str, Any]:
    """Name the class of a sampler setting, its features and all its own arguments, defaults filled in."""
    signature = inspect.signature(SAMPLERS.load(sampler["class"]))
    defaults = {n: p.default for n, p in signature.parameters.items() if p.default is not inspect.Parameter.empty}
    return {
        "class": sampler["class"],
        "args": {"features": sampler.get("features", FRESH), **defaults, **sampler["arguments"]},
    }
