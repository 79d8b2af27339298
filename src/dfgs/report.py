"""Tables and figures of one experiment, from its metrics and training curves."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from dfgs.audit.tables import audit_table
from dfgs.config import FRESH
from dfgs.errors import DfgsError
from dfgs.figures import REGISTRY as FIGURES
from dfgs.figures.base import FigureData, save
from dfgs.provenance import read_json
from dfgs.rendering import write
from dfgs.results import read_metrics
from dfgs.samplers import REGISTRY as SAMPLERS
from dfgs.selection_table import selection_table
from dfgs.stats import in_order
from dfgs.tables import write_backbone, write_comparison

CURVE_IDENTITY = ("source", "model", "sampler", "seed")
AUDIT = "audit.csv"
"""The file that a training leaves beside its `curve.csv`."""


def write_table(job: dict[str, Any], metric: str, metrics: Path, stem: Path) -> None:
    """Write the comparison of an experiment's samplers by one metric to `stem` + `.csv`, `.md` and `.tex`."""
    write_comparison(read_metrics(metrics), metric, stem, within=_within(job), samplers=job["samplers"])


def write_backbone_table(metrics: Path, stem: Path) -> None:
    """Write the untuned backbones' mAP beside chance to `stem` + `.csv`, `.md` and `.tex`."""
    write_backbone(read_metrics(metrics), stem)


def write_selection_table(job: dict[str, Any], metric: str, metrics: Path, stem: Path) -> None:
    """Write what choosing a candidate would change to `stem` + `.csv`, `.md` and `.tex`."""
    write(selection_table(read_metrics(metrics), metric, _within(job), job["samplers"]), stem)


def write_audit_table(job: dict[str, Any], audits: tuple[Path, ...], stem: Path) -> None:
    """Write what the batches of an experiment's trials held, by sampler and audited epoch, means over all trials.

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
    write(audit_table(rows, [*models, "sampler", "epoch"], caption), stem)


def write_figure(job: dict[str, Any], name: str, metrics: Path, curves: tuple[Path, ...], stem: Path) -> None:
    """Draw the figure called `name` to `stem` + `.png` and `.pdf`; `DfgsError` where it has nothing to show."""
    data = FigureData(
        metrics=read_metrics(metrics),
        curves=_read_runs(curves),
        audits=_read_runs([path.with_name(AUDIT) for path in curves]),
        experiment=job["experiment"],
        samplers=tuple(job["samplers"]),
        settings={sampler: _all_arguments(setting) for sampler, setting in job["settings"].items()},
        within=frozenset(_within(job)),
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


def _all_arguments(sampler: dict[str, Any]) -> dict[str, Any]:
    """Name the class of a sampler setting, its features and all its own arguments, defaults filled in."""
    signature = inspect.signature(SAMPLERS.load(sampler["class"]))
    defaults = {n: p.default for n, p in signature.parameters.items() if p.default is not inspect.Parameter.empty}
    return {
        "class": sampler["class"],
        "args": {"features": sampler.get("features", FRESH), **defaults, **sampler["arguments"]},
    }
