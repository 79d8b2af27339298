"""Score the stored features of a trained model on its targets; the only stage that reads a target's labels."""

import csv
import gzip
import io
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dfgs.datasets import open_dataset
from dfgs.datasets.base import Dataset, Images
from dfgs.feature_store import load_features
from dfgs.metrics import PROTOCOLS, Embeddings, KReciprocal, Ranking, rank, rank_reranked, summarise
from dfgs.provenance import commit, read_json, versions, whole_file
from dfgs.results import REFERENCE, RERANKED, write_metrics

UNDECIDED = 1.0
"""Points of mAP that ties may leave open. Beyond it, ties count as lost: a collapsed model, whose features are all
alike, must not earn the 50 % that lie midway between its bounds."""
PER_QUERY = ("target", "split", "query", "pid", "average_precision", "first_rank", "inp")

log = logging.getLogger(__name__)


def score_trial(job: dict[str, Any], index: Path, record: Path | None, metrics: Path, per_query: Path) -> None:
    """Write the metrics of one trained model (long rows, experiment still empty) and one row per query.

    `index` is the file that `dfgs embed` wrote, `record` that of the training, whose commit and versions the rows carry
    (None: those of now); the untuned backbone also gets `chance_mAP`, that of random features. Metric `collapsed` is 1
    where ties left more than `UNDECIDED` points of mAP open and therefore count as lost. A target with `reranking` also
    gets each metric of the re-ranked distances, its name ending in `_reranked`, under a fingerprint of its own.
    """
    folder, found = index.parent, read_json(index)
    trial = job["trial"]
    made = {"commit": commit(), "versions": versions()} if record is None else read_json(record)
    identity = {**trial, "experiment": "-", "commit": made["commit"], "versions": made["versions"]}
    rows: list[dict[str, Any]] = []
    queries: list[list[Any]] = []
    for target in job["targets"]:
        dataset = open_dataset(target["dataset"])
        for split in target["splits"]:
            files = {
                view: folder / found["features"][f"{dataset.name}/{split}/{view}"] for view in ("query", "gallery")
            }
            for suffix, (ranking, fingerprint) in _rank(dataset, split, target, files, job["test"]).items():
                ranking, values = _decide(ranking)
                if values["collapsed"]:
                    log.warning(
                        "%s %s%s: features are alike; ties count as lost (collapsed)", target["name"], split, suffix
                    )
                if trial["sampler"] == REFERENCE and not suffix:
                    values["chance_mAP"] = _chance(dataset, split, target["protocol"])
                rows += [
                    {
                        **identity,
                        "target": target["name"],
                        "split": split,
                        "metric": name + suffix,
                        "value": value,
                        "protocol": fingerprint,
                    }
                    for name, value in values.items()
                ]
                if not suffix:
                    queries += _query_rows(target["name"], split, dataset.query(split), dataset.root, ranking)
    _write_queries(queries, per_query)
    write_metrics(rows, metrics)


def _rank(
    dataset: Dataset, split: str, target: dict[str, Any], files: dict[str, Path], test: dict[str, Any]
) -> dict[str, tuple[Ranking, str]]:
    """Rank plainly and, where the target asks for it, re-ranked: ranking and fingerprint by suffix of the metrics."""
    query, gallery = dataset.query(split), dataset.gallery(split)
    queries = _embeddings(query, files["query"], test["normalise"])
    ranked = _embeddings(gallery, files["gallery"], test["normalise"])
    protocol, reranking = PROTOCOLS[target["protocol"]], target.get("reranking")
    made = {
        "test": test,
        "split": split,
        "dataset": [query.digest(dataset.root), gallery.digest(dataset.root)],
    }
    found = {"": (rank(queries, ranked, protocol, distance=test["distance"]), protocol.fingerprint(**made))}
    if reranking is not None:
        settings = KReciprocal(reranking["k1"], reranking["k2"], reranking["lambda"])
        reranked = rank_reranked(queries, ranked, protocol, settings, test["distance"])
        found[RERANKED] = reranked, protocol.fingerprint(**made, reranking=reranking)
    return found


def _decide(ranking: Ranking) -> tuple[Ranking, dict[str, float]]:
    """Count ties as lost where they leave too much open; return the metrics of what is then left, and `collapsed`."""
    values = _values(ranking)
    is_collapsed = values["mAP_high"] - values["mAP_low"] > UNDECIDED
    if is_collapsed:
        ranking = replace(ranking, optimistic=ranking.pessimistic)
        values = {**_values(ranking), "mAP_high": values["mAP_high"]}
    return ranking, {**values, "collapsed": float(is_collapsed)}


def _embeddings(images: Images, path: Path, normalise: bool) -> Embeddings:
    features = load_features(path)
    if normalise:
        features = features / np.linalg.norm(features, axis=1, keepdims=True).clip(1e-12)
    return Embeddings(features, images.pids, images.camids, name=str(path))


def _values(ranking: Ranking) -> dict[str, float]:
    return {name: float(value) for name, value in summarise(ranking).items()}


def _chance(dataset: Dataset, split: str, protocol: str) -> float:
    """Return the mAP (percent) of random features, the mean over five seeded draws."""
    query, gallery = dataset.query(split), dataset.gallery(split)
    values = []
    for seed in range(5):
        rng = np.random.default_rng([seed, len(query), len(gallery)])
        queries, ranked = (
            Embeddings(rng.standard_normal((len(images), 16), dtype=np.float32), images.pids, images.camids)
            for images in (query, gallery)
        )
        values.append(_values(rank(queries, ranked, PROTOCOLS[protocol]))["mAP"])
    return float(np.mean(values))


def _query_rows(target: str, split: str, query: Images, root: Path, ranking: Ranking) -> list[list[Any]]:
    rows: list[list[Any]] = []
    for i, path in enumerate(query.paths):
        values = (ranking.average_precision[i], ranking.first_rank[i], ranking.inp[i])
        shown = ["" if np.isnan(value) else repr(float(value)) for value in values]
        rows.append([target, split, path.relative_to(root).as_posix(), int(query.pids[i]), *shown])
    return rows


def _write_queries(rows: list[list[Any]], path: Path) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(PER_QUERY)
    writer.writerows(rows)
    with whole_file(path) as partial:
        partial.write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))
