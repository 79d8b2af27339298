"""Disagreements: votes over seeds, the queries chosen, their lists, and real people only on request."""

import base64
import io
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image

from conftest import write_index
from dfgs.cli import cli
from dfgs.datasets.market1501 import Market1501
from dfgs.disagreements import LENGTH, MOST, OUTCOMES, count_votes, write_disagreements
from dfgs.errors import DfgsError
from dfgs.feature_store import store_features
from dfgs.grid import Trial
from dfgs.metrics import PROTOCOLS, Embeddings, rank
from dfgs.per_query import query_rows, write_queries
from dfgs.provenance import read_json

TEST = {"features": ["pooled"], "normalise": False, "distance": "euclidean"}
SEEDS = (0, 1, 2)
TRIALS = [Trial("a", "tiny", name, seed) for name in ("gs", "pk") for seed in SEEDS]
RULE = PROTOCOLS["market1501"]


def features_of(trial: Trial, pids: np.ndarray, view: str) -> np.ndarray:
    """Features that find the right person more often for PK than for GS."""
    rng = np.random.default_rng([trial.seed, trial.sampler == "pk", view == "query"])
    noise = 1.6 if trial.sampler == "gs" else 1.0
    centres = np.random.default_rng(5).normal(size=(2000, 8))
    return (centres[pids] + noise * rng.normal(size=(len(pids), 8))).astype(np.float32)


@pytest.fixture
def job(world: Path) -> dict[str, Any]:
    """Two samplers, three seeds, one target."""
    dataset = {"name": "drawn", "layout": "market1501", "root": str(world), "options": {}}
    target = {"name": "t", "dataset": dataset, "protocol": "market1501", "splits": ["test"]}
    trials = [{"source": t.source, "model": t.model, "sampler": t.sampler, "seed": t.seed} for t in TRIALS]
    return {"experiment": "main", "contrasts": [["gs", "pk"]], "within": [], "trials": trials, "targets": [target]}


@pytest.fixture
def scored(world: Path, tmp_path: Path, job: dict[str, Any]) -> list[Path]:
    """Stored features below `features` and rows per query of every trial."""
    dataset, paths = Market1501("drawn", world), []
    query, gallery = dataset.query("test"), dataset.gallery("test")
    for number, trial in enumerate(TRIALS):
        folder = tmp_path / "features" / trial.path
        sets = []
        for view, images in (("query", query), ("gallery", gallery)):
            rows = features_of(trial, np.maximum(images.pids, 0), view)
            store_features(rows, folder / f"{view}.npy")
            sets.append(Embeddings(rows, images.pids, images.camids))
        names = {f"drawn/test/{view}": f"{view}.npy" for view in ("query", "gallery")}
        write_index(folder / "index.json", names, [{**job["targets"][0]["dataset"], "splits": ["test"]}], TEST)
        ranking = rank(*sets, RULE, "euclidean")
        files = [path.relative_to(world).as_posix() for path in query.paths]
        frame = query_rows(files, sets[0], {"": (ranking, "p")})
        frame.insert(0, "target", "t")
        frame.insert(1, "split", "test")
        write_queries(frame, tmp_path / f"per_query{number}.csv.gz")
        paths.append(tmp_path / f"per_query{number}.csv.gz")
    return paths


def found(job: dict[str, Any], scored: list[Path], tmp_path: Path) -> dict[str, Any]:
    """What is written."""
    write_disagreements(job, scored, tmp_path / "features", tmp_path / "d.json")
    value: dict[str, Any] = read_json(tmp_path / "d.json")
    return value


def test_outcomes_are_majorities_over_seeds_counted_one_by_one(
    job: dict[str, Any], scored: list[Path], tmp_path: Path
) -> None:
    (block,) = found(job, scored, tmp_path)["blocks"]
    frames = {trial: pd.read_csv(path).set_index("query") for trial, path in zip(TRIALS, scored, strict=True)}
    counts = dict.fromkeys(OUTCOMES, 0)
    for query in frames[TRIALS[0]].index:
        if np.isnan(frames[TRIALS[0]].loc[query, "average_precision"]):
            continue
        votes = {
            n: sum(frames[t].loc[query, "first_rank"] == 1 for t in TRIALS if t.sampler == n) for n in ("gs", "pk")
        }
        right = {name: vote > 1.5 for name, vote in votes.items()}
        both = "both_right" if right["gs"] else "both_wrong"
        counts[both if right["gs"] == right["pk"] else "only_sampler" if right["gs"] else "only_baseline"] += 1
    assert {name: block[name] for name in OUTCOMES} == counts
    assert block["queries"] == sum(counts.values())
    assert counts["only_baseline"] > 0
    assert (block["sampler"], block["baseline"], block["seeds"], block["within"]) == ("gs", "pk", [0, 1, 2], False)


def test_half_of_an_even_number_of_seeds_is_undecided() -> None:
    rows = []
    for query, (first, second) in enumerate(itertools.product(((0, 0), (0, 1), (1, 1)), repeat=2)):
        for seed in (0, 1):
            rights = {"right_sampler": bool(first[seed]), "right_baseline": bool(second[seed])}
            rows.append({"query": f"q{query}", "row": query, "seed": seed, **rights})
    view = pd.DataFrame(rows).assign(average_precision_sampler=0.5, average_precision_baseline=0.25)
    assert count_votes(view)["outcome"].tolist() == [
        *("both_wrong", "undecided", "only_baseline"),
        *("undecided", "undecided", "undecided"),
        *("only_sampler", "undecided", "both_right"),
    ]


def test_the_queries_shown_are_the_farthest_apart_with_the_lists_of_the_lowest_seed_that_disagrees(
    job: dict[str, Any], scored: list[Path], tmp_path: Path, world: Path
) -> None:
    written = found(job, scored, tmp_path)
    dataset = Market1501("drawn", world)
    query, gallery = dataset.query("test"), dataset.gallery("test")
    for side in ("sampler", "baseline"):
        shown = [entry for entry in written["blocks"][0]["shown"] if entry["right"] == side]
        assert len(shown) == min(MOST, written["blocks"][0][f"only_{side}"])
        apart = [abs(e["average_precision"]["sampler"] - e["average_precision"]["baseline"]) for e in shown]
        assert apart == sorted(apart, reverse=True)
    entry = next(e for e in written["blocks"][0]["shown"] if e["right"] == "baseline")
    at, person = entry["row"], query.pids[entry["row"]]
    assert entry["query"] == "drawn/" + query.paths[at].relative_to(world).as_posix()
    for side, name in (("sampler", "gs"), ("baseline", "pk")):
        trial = Trial("a", "tiny", name, entry["seed"])
        one = features_of(trial, query.pids, "query")[at]
        others = features_of(trial, np.maximum(gallery.pids, 0), "gallery")
        kept = (gallery.pids != person) | (gallery.camids != query.camids[at])
        order = [i for i in np.argsort(np.linalg.norm(others - one, axis=1)) if kept[i]][:LENGTH]
        expected = ["drawn/" + gallery.paths[i].relative_to(world).as_posix() for i in order]
        assert [image["image"] for image in entry["lists"][side]] == expected
        assert [image["right"] for image in entry["lists"][side]] == [bool(gallery.pids[i] == person) for i in order]
        assert entry["lists"][side][0]["right"] == (entry["right"] == side)
    named = {e["query"] for e in written["blocks"][0]["shown"]}
    named |= {i["image"] for e in written["blocks"][0]["shown"] for side in e["lists"].values() for i in side}
    assert set(written["images"]) == named


def thumbnails(written: dict[str, Any]) -> list[str | None]:
    return [image["thumbnail"] for image in written["images"].values()]


def test_drawn_people_are_shown_and_real_ones_only_on_request_and_blurred(
    job: dict[str, Any], scored: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = thumbnails(found(job, scored, tmp_path))
    head, data = str(drawn[0]).split(",")
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert (head, image.size) == ("data:image/webp;base64", (48, 96))
    monkeypatch.setattr("dfgs.disagreements.is_drawn_world", lambda _: False)
    assert set(thumbnails(found(job, scored, tmp_path))) == {None}
    calls = []
    monkeypatch.setattr("dfgs.disagreements.blur_head", lambda picture: calls.append(picture) or picture)
    real = thumbnails(found(job | {"real_people": True}, scored, tmp_path))
    assert len(calls) == len(real)
    assert None not in real


def test_dropped_features_leave_queries_without_lists_and_name_the_trial(
    job: dict[str, Any], scored: list[Path], tmp_path: Path
) -> None:
    before = found(job, scored, tmp_path)
    (tmp_path / "features" / "a/tiny/gs/s0/index.json").unlink()
    (tmp_path / "features" / "a/tiny/pk/s1/query.npy").unlink()
    after = found(job, scored, tmp_path)
    for one, other in zip(before["blocks"][0]["shown"], after["blocks"][0]["shown"], strict=True):
        assert other == one | {"lists": None if one["seed"] in (0, 1) else one["lists"]}
    seeds = {entry["seed"] for entry in before["blocks"][0]["shown"]}
    gone = {0: "a/tiny/gs/s0", 1: "a/tiny/pk/s1"}
    assert after["without_lists"] == [gone[seed] for seed in sorted(seeds & gone.keys())]
    assert after["without_lists"]


def test_models_scored_on_other_queries_are_refused(job: dict[str, Any], scored: list[Path], tmp_path: Path) -> None:
    rows = pd.read_csv(scored[3])
    write_queries(rows.assign(query=["query/other.jpg", *rows["query"][1:]]), scored[3])
    with pytest.raises(DfgsError, match=r"a/tiny/gs/s0 and a/tiny/pk/s0 were scored on different queries: .*\.jpg of"):
        found(job, scored, tmp_path)
    assert not (tmp_path / "d.json").exists()


def test_without_planned_contrasts_there_are_no_blocks_and_the_command_gives_the_same_bytes_twice(
    job: dict[str, Any], scored: list[Path], tmp_path: Path
) -> None:
    assert found({k: v for k, v in job.items() if k != "contrasts"}, scored, tmp_path)["blocks"] == []
    for name in ("one.json", "two.json"):
        words = ["disagreements", "--job", json.dumps(job), "--features", str(tmp_path / "features")]
        done = CliRunner().invoke(cli, [*words, str(tmp_path / name), *map(str, scored)], catch_exceptions=False)
        assert done.exit_code == 0
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    assert read_json(tmp_path / "one.json")["blocks"]
