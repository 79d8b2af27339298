"""Scoring: the numbers of a slow loop, one row per query, the training's commit, chance beside the reference."""

import gzip
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from conftest import write_index
from dfgs.config import Config
from dfgs.datasets.base import Images
from dfgs.datasets.market1501 import Market1501
from dfgs.errors import DfgsError
from dfgs.feature_store import store_features
from dfgs.grid import Grid, Trial
from dfgs.per_query import PER_QUERY
from dfgs.provenance import commit, read_json, write_json
from dfgs.results import COLUMNS, check_one_protocol, read_metrics
from dfgs.scoring import score_trial

Values = dict[str, Any]
Made = dict[str, Any]
RECORD = {"commit": "c0ffee", "versions": "torch=1"}


def score(values: Values, world: Path, folder: Path, sampler: str = "pk", draw: str = "random") -> Made:
    """Store features of every view, score them, and return what was written and what was stored."""
    grid = Grid(Config.parse(values))
    trial = Trial("a", "tiny", sampler, 0)
    dataset, index, features = Market1501("any", world), {}, {}
    job = grid.embed_job(trial)
    for part in job["datasets"]:
        for split in part["splits"]:
            for view, images in (("query", dataset.query(split)), ("gallery", dataset.gallery(split))):
                name = f"{part['name']}-{split}-{view}.npy"
                features[part["name"], split, view] = rows = make_features(images, draw)
                store_features(rows, folder / name)
                index[f"{part['name']}/{split}/{view}"] = name
    write_index(folder / "index.json", index, job["datasets"], job["test"])
    write_json(folder / "record.json", RECORD)
    record = None if sampler == "zero-shot" else folder / "record.json"
    score_trial(grid.score_job(trial), folder / "index.json", record, outputs(folder))
    return {
        "metrics": read_metrics(folder / "m.csv"),
        "queries": pd.read_csv(folder / "q.csv.gz"),
        "features": features,
        "dataset": dataset,
    }


def outputs(folder: Path, suffix: str = "") -> dict[str, Path]:
    return {"metrics": folder / f"m{suffix}.csv", "per_query": folder / f"q{suffix}.csv.gz"}


def make_features(images: Images, draw: str) -> np.ndarray:
    """Features that know the identity, or nothing; one row per image."""
    if draw == "perfect":
        return np.eye(100, dtype=np.float32)[images.pids]
    if draw == "alike":
        return np.ones((len(images), 4), dtype=np.float32)
    return np.random.default_rng(len(images)).normal(size=(len(images), 4)).astype(np.float32)


def naive(query: Images, gallery: Images, q: np.ndarray, g: np.ndarray) -> list[tuple[float, float, float]]:
    """Average precision, first rank and INP of each query by Market-1501's rules; NaN without a match."""
    rows = []
    for i in range(len(query)):
        kept = [
            j
            for j in range(len(gallery))
            if not (gallery.pids[j] == query.pids[i] and gallery.camids[j] == query.camids[i])
        ]
        kept.sort(key=lambda j: math.dist(q[i], g[j]))
        hits = [rank for rank, j in enumerate(kept, start=1) if gallery.pids[j] == query.pids[i]]
        if not hits:
            rows.append((math.nan, math.nan, math.nan))
            continue
        precision = [(n + 1) / rank for n, rank in enumerate(hits)]
        rows.append((sum(precision) / len(hits), float(hits[0]), len(hits) / hits[-1]))
    return rows


def cell(metrics: pd.DataFrame, metric: str, target: str = "a", split: str = "test") -> float:
    rows = metrics[(metrics["metric"] == metric) & (metrics["target"] == target) & (metrics["split"] == split)]
    (value,) = rows["value"]
    return float(value)


@pytest.mark.parametrize("normalise", [False, True])
def test_metrics_and_rows_per_query_are_those_of_a_slow_loop(
    on_disk: Values, world: Path, tmp_path: Path, normalise: bool
) -> None:
    on_disk["models"]["tiny"]["test"]["normalise"] = normalise
    made = score(on_disk, world, tmp_path)
    assert list(made["queries"].columns) == ["target", "split", *PER_QUERY]
    for target, name, split in (("a", "drawn-a", "test"), ("b", "drawn-b", "half-0"), ("b", "drawn-b", "half-1")):
        query, gallery = made["dataset"].query(split), made["dataset"].gallery(split)
        q, g = (made["features"][name, split, view].astype(np.float64) for view in ("query", "gallery"))
        if normalise:
            q, g = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (q, g))
        expected = np.array(naive(query, gallery, q, g))
        rows = made["queries"].query("target == @target and split == @split")
        np.testing.assert_allclose(rows[["average_precision", "first_rank", "inp"]], expected, atol=1e-6)
        assert rows["query"].tolist() == [f"query/{path.name}" for path in query.paths]
        assert rows["pid"].tolist() == query.pids.tolist()
        found = expected[~np.isnan(expected[:, 0])]
        assert cell(made["metrics"], "mAP", target, split) == pytest.approx(100 * found[:, 0].mean(), abs=1e-4)
        assert cell(made["metrics"], "rank1", target, split) == pytest.approx(100 * (found[:, 1] == 1).mean())
        assert cell(made["metrics"], "mINP", target, split) == pytest.approx(100 * found[:, 2].mean(), abs=1e-4)
        assert cell(made["metrics"], "queries", target, split) == len(query)


def test_features_that_know_the_identity_score_one_hundred(on_disk: Values, world: Path, tmp_path: Path) -> None:
    metrics = score(on_disk, world, tmp_path, draw="perfect")["metrics"]
    assert {cell(metrics, name) for name in ("mAP", "rank1", "mINP")} == {100.0}
    assert cell(metrics, "collapsed") == 0


def test_features_that_are_all_alike_are_marked_and_lose_their_ties(
    on_disk: Values, world: Path, tmp_path: Path
) -> None:
    metrics = score(on_disk, world, tmp_path, draw="alike")["metrics"]
    assert cell(metrics, "collapsed") == 1
    assert cell(metrics, "mAP") == cell(metrics, "mAP_low") < 30
    assert cell(metrics, "mAP_high") == 100


def test_rows_carry_the_trial_and_the_commit_of_the_training(on_disk: Values, world: Path, tmp_path: Path) -> None:
    metrics = score(on_disk, world, tmp_path)["metrics"]
    assert tuple(metrics.columns) == COLUMNS
    for name, value in {"source": "a", "model": "tiny", "sampler": "pk", "seed": 0, "experiment": "-"}.items():
        assert set(metrics[name]) == {value}
    assert set(metrics["commit"]) == {"c0ffee"}
    assert set(metrics["versions"]) == {"torch=1"}
    assert "chance_mAP" not in set(metrics["metric"])


def test_the_untuned_backbone_stands_beside_chance_and_carries_the_present_commit(
    on_disk: Values, world: Path, tmp_path: Path
) -> None:
    made = score(on_disk, world, tmp_path, sampler="zero-shot")
    assert set(made["metrics"]["commit"]) == {commit()}
    query, gallery = made["dataset"].query("test"), made["dataset"].gallery("test")
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(60):
        q, g = rng.normal(size=(len(query), 16)), rng.normal(size=(len(gallery), 16))
        draws.append(np.nanmean([row[0] for row in naive(query, gallery, q, g)]))
    assert cell(made["metrics"], "chance_mAP") == pytest.approx(100 * float(np.mean(draws)), abs=6)


def test_the_protocol_of_a_number_changes_with_split_normalisation_and_dataset_only(
    on_disk: Values, world: Path, tmp_path: Path
) -> None:
    def protocols(folder: str, sampler: str = "pk", draw: str = "random") -> dict[tuple[str, str], str]:
        metrics = score(on_disk, world, tmp_path / folder, sampler, draw)["metrics"]
        keys = zip(metrics["target"], metrics["split"], strict=True)
        return dict(zip(keys, metrics["protocol"], strict=True))

    first = protocols("one")
    assert len(set(first.values())) == 3
    assert protocols("two", sampler="random", draw="perfect") == first
    on_disk["models"]["tiny"]["test"]["normalise"] = True
    assert not set(protocols("three").values()) & set(first.values())


def test_a_world_drawn_anew_under_the_same_names_is_another_dataset(
    on_disk: Values, world: Path, tmp_path: Path
) -> None:
    first = score(on_disk, world, tmp_path / "one")["metrics"]
    index = read_json(tmp_path / "one" / "index.json")
    index["images"]["drawn-a/test/gallery"] = "other pixels"
    write_json(tmp_path / "one" / "index.json", index)
    job = Grid(Config.parse(on_disk)).score_job(Trial("a", "tiny", "pk", 0))
    score_trial(job, tmp_path / "one" / "index.json", None, outputs(tmp_path))
    rows = pd.concat([first, read_metrics(tmp_path / "m.csv").assign(seed=1)])
    with pytest.raises(DfgsError, match=r"on target a .* under 2 protocols: dataset [0-9a-f]{16} and [0-9a-f]{16} \("):
        check_one_protocol(rows)


def test_equal_runs_write_equal_bytes(on_disk: Values, world: Path, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        score(on_disk, world, tmp_path / folder)
    for name in ("m.csv", "q.csv.gz"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_query_without_a_match_has_empty_values(on_disk: Values, world: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(world, copy)
    pid = min(path.name for path in (copy / "query").iterdir()).split("_")[0]
    for path in (copy / "bounding_box_test").glob(f"{pid}_*"):
        path.unlink()
    on_disk["datasets"]["drawn-a"]["root"] = str(copy)
    on_disk["experiments"]["main"]["targets"] = ["a"]
    made = score(on_disk, copy, tmp_path)
    lines = gzip.decompress((tmp_path / "q.csv.gz").read_bytes()).decode().splitlines()
    empty = [line for line in lines if f"query/{pid}_" in line]
    assert empty
    assert all(",0,,,,,,," in line for line in empty)
    assert cell(made["metrics"], "queries_without_match") == len(empty)


def test_missing_features_are_named(on_disk: Values, world: Path, tmp_path: Path) -> None:
    score(on_disk, world, tmp_path)
    (tmp_path / "drawn-a-test-gallery.npy").unlink()
    job = Grid(Config.parse(on_disk)).score_job(Trial("a", "tiny", "pk", 0))
    with pytest.raises(DfgsError, match=r"features .*drawn-a-test-gallery\.npy"):
        score_trial(job, tmp_path / "index.json", None, outputs(tmp_path, "2"))


def test_a_target_that_was_never_embedded_is_named(on_disk: Values, world: Path, tmp_path: Path) -> None:
    score(on_disk, world, tmp_path)
    index = read_json(tmp_path / "index.json")
    del index["features"]["drawn-b/half-1/gallery"]
    write_json(tmp_path / "index.json", index)
    job = Grid(Config.parse(on_disk)).score_job(Trial("a", "tiny", "pk", 0))
    with pytest.raises(DfgsError, match=r"index\.json: holds no features of drawn-b/half-1/gallery; run `dfgs embed`"):
        score_trial(job, tmp_path / "index.json", None, outputs(tmp_path, "2"))


def test_features_of_another_number_of_images_are_refused(on_disk: Values, world: Path, tmp_path: Path) -> None:
    score(on_disk, world, tmp_path)
    store_features(np.ones((3, 4), dtype=np.float32), tmp_path / "drawn-a-test-gallery.npy")
    job = Grid(Config.parse(on_disk)).score_job(Trial("a", "tiny", "pk", 0))
    with pytest.raises(DfgsError, match="3"):
        score_trial(job, tmp_path / "index.json", None, outputs(tmp_path, "2"))
    assert not (tmp_path / "m2.csv").exists()
