"""Score the stored features of a trained model on its targets; the only stage that reads a target's labels."""

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dfgs.feature_sets import FeatureSet, stored_features
from dfgs.feature_store import read_index
from dfgs.metrics import PROTOCOLS, Embeddings, KReciprocal, Products, Protocol, rank, summarise
from dfgs.per_query import write_queries
from dfgs.provenance import commit, read_json, versions
from dfgs.results import RANKS, REFERENCE, write_metrics
from dfgs.score_files import Extras, Score, query_table, score
from dfgs.selection import Selection

ProductsOf = Callable[[Embeddings, Embeddings], Products]
Row = dict[str, Any]
log = logging.getLogger(__name__)


def score_trial(
    job: dict[str, Any], index: Path, record: Path | None, outputs: dict[str, Path], products: ProductsOf | None = None
) -> None:
    """Write the metrics of one trained model (long rows, experiment still empty) and one row per query.

    `index` is the file that `dfgs embed` wrote, `record` that of the training, whose commit and versions the rows carry
    (None: those of now); `outputs` holds `metrics` and `per_query`; `products` as in `score_files.Extras`. Metric
    `collapsed` is 1 where features are alike and ties therefore count as lost; the untuned backbone also gets
    `chance_mAP`, that of random features. A target with `reranking` also gets each metric of the re-ranked distances,
    its name ending in `_reranked`, under a fingerprint of its own, and such columns beside the plain ones per query.
    A job with `selection` also gets the metrics of the chosen candidates (`dfgs.selection`).
    """
    found, trial = read_index(index), job["trial"]
    selection = None
    if "selection" in job:
        selection = Selection(job["selection"], index, found, Extras(products=products))
        told = ", ".join(f"epoch {epoch} {value:.1f}" for epoch, value in sorted(selection.validation.items()))
        log.info("mAP on the validation identities: %s; chosen: epoch %d", told, selection.chosen)
    made = {"commit": commit(), "versions": versions()} if record is None else read_json(record)
    identity = {**trial, "experiment": "-", "commit": made["commit"], "versions": made["versions"]}
    rows: list[Row] = []
    queries: list[pd.DataFrame] = []
    for target in job["targets"]:
        for split in target["splits"]:
            features = stored_features(index, found, target["dataset"], split)
            scores = _score(features, target, products)
            place = {"target": target["name"], "split": split}
            rows += [{**identity, **place, **row} for found_score in scores for row in _rows(found_score)]
            if trial["sampler"] == REFERENCE:
                chance = {"metric": "chance_mAP", "value": _chance(features, scores[0].protocol)}
                rows.append({**identity, **place, **chance, "protocol": scores[0].fingerprint})
            queries.append(_per_query(scores, target, split))
        if selection:
            rows += [{**identity, "target": target["name"], **row} for row in selection.rows(target)]
    write_queries(pd.concat(queries, ignore_index=True), outputs["per_query"])
    write_metrics(rows, outputs["metrics"])


def _score(features: FeatureSet, target: dict[str, Any], products: ProductsOf | None) -> list[Score]:
    """Score plainly and, where the target asks for it, re-ranked."""
    ways = [Extras(needs_rates=True, products=products)]
    if (reranking := target.get("reranking")) is not None:
        ways.append(Extras(reranking=KReciprocal(reranking["k1"], reranking["k2"], reranking["lambda"])))
    return [score(features, PROTOCOLS[target["protocol"]], features.distance, RANKS, way) for way in ways]


def _rows(found: Score) -> list[Row]:
    """Return a row per metric; without pairs of two people there are no true positive rates."""
    bounds = {"mAP_low": found.lost["mAP"], "mAP_high": found.won["mAP"]}
    rates = {name: value for name, value in found.rates.items() if not math.isnan(value)}
    values = {**found.values, **bounds, **rates, "collapsed": found.is_open}
    protocol = found.fingerprint
    return [{"metric": name + found.suffix, "value": float(v), "protocol": protocol} for name, v in values.items()]


def _per_query(scores: list[Score], target: dict[str, Any], split: str) -> pd.DataFrame:
    rows = query_table(scores)
    rows["query"] = [path.relative_to(scores[0].features.root).as_posix() for path in rows["query"]]
    rows.insert(0, "target", target["name"])
    rows.insert(1, "split", split)
    return rows


def _chance(features: FeatureSet, protocol: Protocol) -> float:
    """Return the mAP (percent) of random features, the mean over five seeded draws."""
    views = features.query, features.gallery
    values = []
    for seed in range(5):
        rng = np.random.default_rng([seed, *map(len, views)])
        drawn = [Embeddings(rng.standard_normal((len(v), 16), dtype=np.float32), v.pids, v.camids) for v in views]
        values.append(summarise(rank(drawn[0], drawn[1], protocol))["mAP"])
    return float(np.mean(values))
