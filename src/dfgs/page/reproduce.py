"""Make a number again, from its drawn people to its score, in a scratch folder, and compare it with its record."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from dfgs.config import Config
from dfgs.config.files import read_given
from dfgs.config.used import used
from dfgs.errors import DfgsError
from dfgs.grid import Grid, Trial
from dfgs.page.cells import Cell
from dfgs.page.grid_results import read_scores, scores_of
from dfgs.page.write import CONFIG
from dfgs.provenance import PACKAGE_ROOT, commit, digest_bytes, digest_file, read_json, versions, write_json
from dfgs.results import REFERENCE, read_metrics

RESULTS = "results"
TIMED = ("graph_seconds", "pass_seconds", "memory_mb")
"""Columns of an audit in which equal trainings differ."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One thing that was made again: what, as recorded, as made now."""

    what: str
    recorded: str
    again: str

    @property
    def is_same(self) -> bool:
        """Tell whether both are equal to the last digit."""
        return self.recorded == self.again

    def __str__(self) -> str:
        return f"{self.what}: recorded {self.recorded}, again {self.again}: {'same' if self.is_same else 'DIFFERENT'}"


def reproduce(cell: Cell, config: Config, results: Path, scratch: Path, cores: int) -> Iterator[Compared]:
    """Run what a number needs anew in `scratch` and compare weights, curve, audit and every value behind it.

    Nothing in `results` is used but the record: worlds, backbone and prompts are made again too. Raises `DfgsError` for
    a cell without a recorded number, a configuration whose jobs are not the recorded ones, and a run that fails.
    """
    grid = Grid(config)
    rows = cell.rows(read_scores(grid, results))
    key = ["source", "model", "sampler", "seed"]
    trials = sorted({Trial(*names) for names in rows[key].itertuples(index=False, name=None)})
    for trial in trials:
        _check_job(grid, trial, results)
    _run(config, trials, results, scratch, cores)
    again = pd.concat([read_metrics(scores_of(trial, scratch / RESULTS)) for trial in trials], ignore_index=True)
    for trial in trials:
        yield from _compare_training(grid, trial, results, scratch / RESULTS)
    merged = rows.merge(again, on=[*key, "target", "split", "metric"], how="left", suffixes=("", "_again"))
    for row in merged.to_dict("records"):
        place = f"{row['source']}→{row['target']}:{row['split']}/{row['model']}/{row['sampler']}/s{row['seed']}"
        yield Compared(f"{row['metric']} of {place}", repr(row["value"]), repr(row["value_again"]))


def config_of(results: Path, configs: Sequence[Path]) -> Config:
    """Return the configuration of results: `configs` over the default, else the one that `dfgs report` has left."""
    left = results / CONFIG
    return read_given(configs) if configs or not left.is_file() else Config.parse(read_json(left))


def why_different(cell: Cell, config: Config, results: Path) -> str:
    """Name commit and versions of the recorded numbers where they are not those of now; empty where they are."""
    rows, now = cell.rows(read_scores(Grid(config), results)), {"commit": commit(), "versions": versions()}
    differs = [f"{name} {', '.join(sorted(set(rows[name])))} then, {text} now" for name, text in now.items()]
    said = [words for words, (name, text) in zip(differs, now.items(), strict=True) if set(rows[name]) != {text}]
    return f": {'; '.join(said)}" if said else ""


def _check_job(grid: Grid, trial: Trial, results: Path) -> None:
    """Refuse a configuration that gives another training than the recorded one, naming the first key that differs."""
    if trial.sampler == REFERENCE:
        return
    path = results / "runs" / trial.path / "record.json"
    recorded, job = read_json(path)["job"], grid.finetune_job(trial)
    differing = sorted(k for k in recorded.keys() | job.keys() if recorded.get(k) != job.get(k))
    if differing:
        name = differing[0]
        raise DfgsError(
            f"{path}: the recorded job has {name} = {recorded.get(name)}, the configuration gives {job.get(name)}; "
            "give the CONFIG that these results were made with"
        )


def _run(config: Config, trials: list[Trial], results: Path, scratch: Path, cores: int) -> None:
    snakefile = PACKAGE_ROOT / "Snakefile"
    if not snakefile.is_file():
        raise DfgsError(f"there is no {snakefile}; run this in a checkout of dfgs, installed with pip install -e")
    scratch = scratch.resolve()
    scratch.mkdir(parents=True, exist_ok=True)
    write_json(scratch / "config.json", _absolute(used(config), results.resolve().parent))
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile), "--directory", str(scratch)]
    command += ["--workflow-profile", str(PACKAGE_ROOT / "workflow" / "profiles" / "default"), "--cores", str(cores)]
    command += ["--configfile", str(scratch / "config.json"), "--quiet", "rules", "progress", "host", "--"]
    command += [scores_of(trial, Path(RESULTS)).as_posix() for trial in trials]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    done = subprocess.run(command, env=os.environ | {"PATH": path}, stdout=sys.stderr, check=False)
    if done.returncode:
        raise DfgsError(f"the run failed with status {done.returncode}, as told above; --scratch keeps its files")


def _absolute(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Let relative paths of a configuration begin at the folder in which it ran, since the new run has another."""

    def lead(path: str | None) -> str | None:
        return path if path is None else str(folder / path)

    if values["data"] is not None:
        values["data"] = lead(values["data"])
    else:
        for dataset in values["datasets"].values():
            dataset["root"] = lead(dataset["root"])
    for backbone in values["backbones"].values():
        if backbone["pretrained"] is not None and (folder / backbone["pretrained"]).is_file():
            backbone["pretrained"] = lead(backbone["pretrained"])
    return values


def _compare_training(grid: Grid, trial: Trial, results: Path, again: Path) -> Iterator[Compared]:
    """Compare what a training left; of the untuned backbone its weights, where they are trained here."""
    if trial.sampler == REFERENCE:
        if grid.needs_pretraining(trial.model):
            name = f"backbones/{grid.config.models[trial.model].backbone}/weights.safetensors"
            yield Compared(f"digest of {name}", digest_file(results / name), digest_file(again / name))
        return
    folders = [root / "runs" / trial.path for root in (results, again)]
    records = [read_json(folder / "record.json") for folder in folders]
    yield Compared(f"digest of the weights of {trial.path}", *(record["weights"] for record in records))
    if "candidates" in records[0]:
        digests = (json.dumps(record.get("candidates")) for record in records)
        yield Compared(f"digests of the candidates of {trial.path}", *digests)
    yield Compared(f"digest of the curve of {trial.path}", *(digest_file(folder / "curve.csv") for folder in folders))
    audits = [_digest_audit(folder / "audit.csv") for folder in folders]
    yield Compared(f"digest of the audit of {trial.path}", *audits)


def _digest_audit(path: Path) -> str:
    """Digest the part of an audit that equal trainings share."""
    rows = pd.read_csv(path).drop(columns=list(TIMED), errors="ignore")
    return digest_bytes(rows.to_csv(index=False).encode())
