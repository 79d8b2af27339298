"""Results of a tiny grid as its stages would leave them, without any training; every file follows from the others."""

import csv
import json
import struct
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dfgs.audit.record import COLUMNS
from dfgs.config import Config
from dfgs.datasets import open_dataset
from dfgs.drawn.world import DomainSpec, publish_domain
from dfgs.feature_store import model_key, store_features, view_file
from dfgs.grid import Grid, Trial
from dfgs.metrics import PROTOCOLS
from dfgs.page.grid_results import read_scores, scores_of
from dfgs.per_query import write_queries
from dfgs.provenance import digest_file, digest_json, write_json
from dfgs.report import TableInputs, write_audit_table, write_figure, write_table
from dfgs.results import REFERENCE, write_metrics

VERSIONS = "dfgs=0.1.0 numpy=2.4"
COMMIT = "c0ffee123456"


def write_results(config: Config, results: Path) -> None:
    """Write everything that the page reads and `dfgs verify` checks."""
    grid, root = Grid(config), results.parent
    for name, dataset in config.datasets.items():
        if dataset.draw is not None:
            spec = DomainSpec(**grid.draw_job(name))
            publish_domain(spec, root / config.root(name), results / "worlds" / f"{name}.json")
    weights = results / "backbones" / "small" / "weights.safetensors"
    _tensors(weights, {"backbone": 1})
    write_json(weights.with_name("report.json"), {"job": grid.pretrain_job("small")})
    for number, trial in enumerate([*grid.all_trials(), *grid.references("main")]):
        if trial.sampler != REFERENCE:
            _train(grid, trial, results, number)
        _embed(grid, trial, results)
        write_scores(grid, trial, results, np.random.default_rng(number))
    _tabulate(grid, results)


def write_scores(
    grid: Grid, trial: Trial, results: Path, rng: np.random.Generator, commit: str = COMMIT, rule: str = "market1501"
) -> None:
    """Write the long rows of a trial, and queries whose mean its mAP is."""
    rows, queries = [], []
    for target in grid.score_job(trial)["targets"]:
        for split in target["splits"]:
            precision = rng.uniform(0.2, 0.6, 4)
            place = {"target": target["name"], "split": split}
            queries.append(pd.DataFrame({**place, "query": list("abcd"), "average_precision": precision}))
            protocol = PROTOCOLS[rule].fingerprint(split=split, input=(64, 32))
            identity = {**asdict(trial), "experiment": "-", "commit": commit, "versions": VERSIONS, **place}
            values = {"mAP": 100 * precision.mean(), "rank1": 50.0, "collapsed": 0.0}
            values |= {"chance_mAP": 5.0} if trial.sampler == REFERENCE else {}
            rows += [{**identity, "metric": m, "value": v, "protocol": protocol} for m, v in values.items()]
    path = scores_of(trial, results)
    write_queries(pd.concat(queries, ignore_index=True), path.with_name("per_query.csv.gz"))
    write_metrics(rows, path)


def _train(grid: Grid, trial: Trial, results: Path, number: int) -> None:
    folder = results / "runs" / trial.path
    _tensors(folder / "weights.safetensors", {"tower": number})
    prompts = results / "prompts" / trial.source / trial.model / f"s{trial.seed}.safetensors"
    _tensors(prompts, {"contexts": 1, "text": 2}, {"source": "digest"})
    (folder / "curve.csv").write_text(f"epoch,loss\n1,{number}\n", encoding="utf-8")
    audit = dict.fromkeys(COLUMNS, 1.0) | {"epoch": 1, "at_chance": 0, "by_design": 0}
    with (folder / "audit.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(audit))
        writer.writeheader()
        writer.writerow(audit)
    size = {"identities": 4, "images": 9}
    seconds = {"seconds": 10.0 + number, "epoch_seconds": [4.0], "sampler_seconds": [1.0], "graph_seconds": 0.5}
    digests = {"weights": digest_file(folder / "weights.safetensors"), "prompts": digest_file(prompts)}
    made = {"commit": COMMIT, "versions": VERSIONS, "trial": asdict(trial), "job": grid.finetune_job(trial)}
    write_json(folder / "record.json", {**made, **digests, **seconds, **size})


def _tensors(path: Path, values: dict[str, int], metadata: dict[str, str] | None = None) -> None:
    """Write one float32 per tensor in safetensors' format."""
    head: dict[str, Any] = {"__metadata__": metadata or {}}
    for place, name in enumerate(values):
        head[name] = {"dtype": "F32", "shape": [1], "data_offsets": [4 * place, 4 * place + 4]}
    text = json.dumps(head).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + struct.pack(f"<{len(values)}f", *values.values()))


def _embed(grid: Grid, trial: Trial, results: Path) -> None:
    """Write features that nobody computed under the names that real ones would have."""
    job, folder = grid.embed_job(trial), results / "features" / trial.path
    weights = {"backbone": digest_file(results / "backbones" / "small" / "weights.safetensors")}
    if trial.sampler != REFERENCE:
        weights["trained"] = digest_file(results / "runs" / trial.path / "weights.safetensors")
    key, images, names = model_key(weights, job), {}, {}
    for part in job["datasets"]:
        dataset = open_dataset(part | {"root": str(results.parent / part["root"])})
        for split in part["splits"]:
            for view, found in (("query", dataset.query(split)), ("gallery", dataset.gallery(split))):
                place = f"{part['name']}/{split}/{view}"
                images[place] = digest_json([found.digest(dataset.root), place])
                names[place] = view_file(key, images[place])
                store_features(np.ones((len(found), 2), np.float32), folder / names[place])
    settings = {"features": job["test"]["features"], "input": job["backbone"]["input_size"]}
    described = {"distance": "euclidean", "normalise": False, "datasets": job["datasets"], "settings": settings}
    write_json(folder / "index.json", {"features": names, "images": images, **described})


def _tabulate(grid: Grid, results: Path) -> None:
    """Write metrics, tables and figures of every experiment."""
    rows = read_scores(grid, results)
    for name in grid.config.run:
        metrics, job = results / "experiments" / name / "metrics.csv", grid.report_job(name)
        write_metrics(rows[rows["experiment"] == name], metrics)
        for metric in grid.config.experiments[name].metrics:
            write_table(job, metric, TableInputs(metrics), results / "tables" / name / metric)
        folders = [results / "runs" / trial.path for trial in grid.trials(name)]
        write_audit_table(job, tuple(folder / "audit.csv" for folder in folders), results / "tables" / name / "audit")
        for figure in grid.config.experiments[name].figures:
            curves = tuple(folder / "curve.csv" for folder in folders)
            write_figure(job, figure, metrics, curves, results / "figures" / name / figure)
    write_metrics(rows, results / "metrics.csv")
