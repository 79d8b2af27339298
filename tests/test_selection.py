"""Model selection: what chooses a candidate, what it must not see, and what tables tell of it."""

import ast
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import dfgs
from dfgs.config import Config
from dfgs.datasets.base import Images
from dfgs.datasets.market1501 import Market1501
from dfgs.errors import DfgsError
from dfgs.extraction import embed_targets
from dfgs.feature_store import drop_features, load_features, store_features
from dfgs.grid import Grid, Trial
from dfgs.provenance import digest_bytes, digest_file, read_json, write_json
from dfgs.results import read_metrics
from dfgs.scoring import score_trial
from dfgs.tables.selection import selection_table
from dfgs.training.finetune import finetune
from dfgs.training.prompts import learn_prompts

Values = dict[str, Any]
CPU = torch.device("cpu")
TRIAL = Trial("a", "tiny", "pk", 0)
PACKAGE = Path(dfgs.__file__).parent


@pytest.fixture
def selecting(on_disk: Values) -> Values:
    """The tiny configuration with a candidate after the first of two epochs, and validation identities."""
    on_disk["models"]["tiny"]["selection"] = [1]
    for name in ("drawn-a", "drawn-b"):
        on_disk["datasets"][name]["options"] = {"validation": 3}
    on_disk["experiments"]["main"] |= {"sources": ["a"], "targets": ["a", "b"]}
    return on_disk


def files_of(folder: Path) -> dict[str, Path]:
    """What `train` leaves in a folder."""
    tensors = {name: folder / f"{name}.safetensors" for name in ("weights", "prompts")}
    tables = {name: folder / f"{name}.csv" for name in ("curve", "audit")}
    return tensors | tables | {"record": folder / "record.json", "index": folder / "index.json"}


def train(values: Values, folder: Path) -> dict[str, Path]:
    """Run both stages of the trial and embed its targets."""
    grid, files = Grid(Config.parse(values)), files_of(folder)
    torch.manual_seed(1)
    learn_prompts(grid.prompts_job("a", "tiny", 0), None, files["prompts"], 0, CPU)
    output = {name: files[name] for name in ("weights", "curve", "audit", "record")}
    finetune(grid.finetune_job(TRIAL), files["prompts"], output, 0, CPU)
    embed_targets(grid.embed_job(TRIAL), {"trained": files["weights"]}, files["index"], 0, CPU)
    return files


def score(values: Values, index: Path, record: Path, folder: Path) -> dict[tuple[str, str, str], float]:
    """Score the trial: values by target, split and metric."""
    written = {"metrics": folder / "m.csv", "per_query": folder / "q.csv.gz"}
    score_trial(Grid(Config.parse(values)).score_job(TRIAL), index, record, written)
    rows = read_metrics(written["metrics"])
    return {(r.target, r.split, r.metric): r.value for r in rows.itertuples()}


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the one training lies that several tests look at."""
    return tmp_path_factory.mktemp("trained") / "run"


@pytest.fixture
def run(selecting: Values, shelf: Path, tmp_path: Path) -> dict[str, Path]:
    """A training of the configuration `selecting` and its features, a copy for each test."""
    if not shelf.exists():
        train(selecting, shelf)
    shutil.copytree(shelf, tmp_path / "run")
    return files_of(tmp_path / "run")


def test_a_candidate_is_the_model_that_a_shorter_training_on_the_same_schedule_ends_with(
    selecting: Values, run: dict[str, Path], tmp_path: Path
) -> None:
    selecting["models"]["tiny"]["finetune"]["epochs"] = 1
    selecting["models"]["tiny"]["selection"] = []
    short = train(selecting, tmp_path / "short")
    kept = run["weights"].parent / "candidates" / "epoch-1.safetensors"
    assert digest_file(kept) == digest_file(short["weights"])
    assert read_json(run["record"])["candidates"] == {"1": digest_file(kept)}
    assert digest_file(kept) != digest_file(run["weights"])


def test_keeping_candidates_changes_no_weight(selecting: Values, run: dict[str, Path], tmp_path: Path) -> None:
    selecting["models"]["tiny"]["selection"] = []
    plain = train(selecting, tmp_path / "plain")
    assert digest_file(plain["weights"]) == digest_file(run["weights"])
    assert "candidates" not in read_json(plain["record"])
    assert "candidates" not in read_json(plain["index"])


def made_features(images: Images, quality: float) -> np.ndarray:
    """Features that know the identity as well as `quality` tells."""
    rng = np.random.default_rng([len(images), 3])
    codes = np.random.default_rng(7).standard_normal((images.pids.max() + 2, 16))
    return (quality * codes[images.pids] + rng.standard_normal((len(images), 16))).astype(np.float32)


def with_features(values: Values, world: Path, folder: Path, qualities: dict[str, dict[str, float]]) -> Path:
    """Store made features, whose quality is given by model (`last`, an epoch) and split; return their index."""
    grid = Grid(Config.parse(values))
    job, names = grid.embed_job(TRIAL), {model: {} for model in qualities}
    parts = [*job["datasets"], *(part | {"splits": ["val"]} for part in job["selection"]["datasets"])]
    for part in parts:
        dataset = Market1501("any", world, **part["options"])
        for split in part["splits"]:
            for view, images in (("query", dataset.query(split)), ("gallery", dataset.gallery(split))):
                for model, quality in qualities.items():
                    file = folder / f"{model}-{part['name']}-{split}-{view}.npy"
                    store_features(made_features(images, quality[split[:4]]), file)
                    names[model][f"{part['name']}/{split}/{view}"] = file.name
    last = names.pop("last")
    described = {"datasets": job["datasets"], "distance": "euclidean", "normalise": False}
    settings = {"features": ["pooled"], "input": [64, 32]}
    images = dict.fromkeys(last, "pixels")
    index = {"features": last, "candidates": names, "images": images, **described, "settings": settings}
    write_json(folder / "index.json", index)
    write_json(folder / "record.json", {"commit": "c0ffee", "versions": "torch=1"})
    return folder / "index.json"


def test_the_sources_validation_chooses_and_the_oracle_sees_each_target(
    selecting: Values, world: Path, tmp_path: Path
) -> None:
    good, bad = 3.0, 0.3
    qualities = {"1": {"val": good, "test": bad, "half": good}, "last": {"val": bad, "test": good, "half": bad}}
    index = with_features(selecting, world, tmp_path, qualities)
    values = score(selecting, index, tmp_path / "record.json", tmp_path)
    a, b = ("a", "test"), ("b", "half-0")
    assert [values[*cell, "epoch_source_val"] for cell in (a, b)] == [1, 1]
    assert [values[*cell, "epoch_oracle"] for cell in (a, b)] == [2, 1]
    assert values[*a, "mAP_source_val"] < values[*a, "mAP"] == values[*a, "mAP_oracle"]
    assert values[*b, "mAP"] < values[*b, "mAP_source_val"] == values[*b, "mAP_oracle"]
    assert values[*b, "rank1_source_val"] > values[*b, "rank1"]


def test_of_equal_candidates_the_later_is_chosen(selecting: Values, world: Path, tmp_path: Path) -> None:
    same = dict.fromkeys(("val", "test", "half"), 1.0)
    index = with_features(selecting, world, tmp_path, {"1": same, "last": same})
    values = score(selecting, index, tmp_path / "record.json", tmp_path)
    assert {values["a", "test", f"epoch_{way}"] for way in ("source_val", "oracle")} == {2}


def test_a_chosen_number_tells_in_its_protocol_how_it_was_chosen(
    selecting: Values, world: Path, tmp_path: Path
) -> None:
    same = dict.fromkeys(("val", "test", "half"), 1.0)
    index = with_features(selecting, world, tmp_path, {"1": same, "last": same})
    score(selecting, index, tmp_path / "record.json", tmp_path)
    rows = read_metrics(tmp_path / "m.csv").query("target == 'a'").set_index("metric")["protocol"]
    assert "checkpoint" not in rows["mAP"]
    assert "candidates=1,2 checkpoint=source-val" in rows["mAP_source_val"]
    assert "candidates=1,2 checkpoint=oracle" in rows["rank1_oracle"]


def test_the_candidates_of_a_training_are_embedded_scored_and_dropped(
    selecting: Values, run: dict[str, Path], tmp_path: Path
) -> None:
    values = score(selecting, run["index"], run["record"], tmp_path)
    assert values["a", "test", "epoch_source_val"] in (1, 2)
    assert {values["a", "test", f"mAP_{way}"] for way in ("source_val", "oracle")} <= set(values.values())
    files = set(run["index"].parent.glob("*.npy"))
    index = read_json(run["index"])
    assert {p.name for p in files} == {*index["features"].values(), *index["candidates"]["1"].values()}
    drop_features(run["index"])
    assert not any(path.exists() for path in files)


def test_an_index_without_the_candidates_is_refused(selecting: Values, run: dict[str, Path], tmp_path: Path) -> None:
    index = read_json(run["index"])
    write_json(run["index"], {name: value for name, value in index.items() if name != "candidates"})
    with pytest.raises(DfgsError, match="no features of the candidate of epoch 1 in the index; run `dfgs embed` again"):
        score(selecting, run["index"], run["record"], tmp_path)


def test_a_missing_candidate_is_named(selecting: Values, run: dict[str, Path]) -> None:
    (run["weights"].parent / "candidates" / "epoch-1.safetensors").unlink()
    job = Grid(Config.parse(selecting)).embed_job(TRIAL)
    with pytest.raises(DfgsError, match=r"epoch-1\.safetensors"):
        embed_targets(job, {"trained": run["weights"]}, run["index"], 0, CPU)


# The firewall.


def shuffle_test_labels(root: Path) -> None:
    """Give the test images of a dataset each other's identities, by their file names."""
    rng = np.random.default_rng(3)
    for folder in ("query", "bounding_box_test"):
        paths = sorted(path for path in (root / folder).iterdir() if path.name[:4] not in ("0000", "-1_c"))
        labels = rng.permutation([path.name[:4] for path in paths])
        moved = [path.rename(path.with_name(f"moving-{i}")) for i, path in enumerate(paths)]
        for number, (path, label, old) in enumerate(zip(moved, labels, paths, strict=True)):
            path.rename(path.with_name(f"{label}{old.name[4:12]}{number:05d}_00.jpg"))


def features_by_picture(index: Path, world: Path) -> dict[str, bytes]:
    """Feature row of every test image of target a, by the digest of its file."""
    names, dataset = read_json(index)["features"], Market1501("any", world)
    found = {}
    for view, images in (("query", dataset.query("test")), ("gallery", dataset.gallery("test"))):
        rows = load_features(index.parent / names[f"drawn-a/test/{view}"])
        found |= {view + digest_bytes(p.read_bytes()): r.tobytes() for p, r in zip(images.paths, rows, strict=True)}
    return found


def test_shuffled_labels_of_the_targets_change_scores_and_nothing_before_them(
    selecting: Values, run: dict[str, Path], world: Path, tmp_path: Path
) -> None:
    other = tmp_path / "shuffled"
    shutil.copytree(world, other)
    shuffle_test_labels(other)
    before = score(selecting, run["index"], run["record"], tmp_path)
    selecting["datasets"] |= {
        name: selecting["datasets"][name] | {"root": str(other)} for name in ("drawn-a", "drawn-b", "drawn-c")
    }
    again = train(selecting, tmp_path / "again")
    for name in ("prompts", "weights", "curve"):
        assert digest_file(again[name]) == digest_file(run[name]), name
    assert features_by_picture(again["index"], other) == features_by_picture(run["index"], world)
    after = score(selecting, again["index"], again["record"], tmp_path)
    assert after["a", "test", "mAP"] != before["a", "test", "mAP"]
    assert after["a", "test", "epoch_source_val"] == before["a", "test", "epoch_source_val"]


def test_training_needs_no_test_image(selecting: Values, run: dict[str, Path], world: Path, tmp_path: Path) -> None:
    shutil.copytree(world / "bounding_box_train", tmp_path / "only" / "bounding_box_train")
    for folder in ("bounding_box_test", "query"):
        (tmp_path / "only" / folder).mkdir()
    selecting["datasets"]["drawn-a"]["root"] = str(tmp_path / "only")
    job = Grid(Config.parse(selecting)).finetune_job(TRIAL)
    output = {name: tmp_path / name for name in ("weights", "curve", "audit", "record")}
    finetune(job, run["prompts"], output, 0, CPU)
    assert digest_file(output["weights"]) == digest_file(run["weights"])


def test_no_job_before_scoring_names_a_target_that_it_does_not_train_on(selecting: Values) -> None:
    selecting["datasets"]["drawn-b"]["layout"] = "market1501"
    grid = Grid(Config.parse(selecting))
    for job in (grid.prompts_job("a", "tiny", 0), grid.finetune_job(TRIAL)):
        assert "drawn-a" in str(job)
        assert "drawn-b" not in str(job)


TEST_VIEWS = {"query", "gallery"}
SEE_TEST_IMAGES = {"extraction", "feature_sets"}
"""Outside `datasets`: the first embeds without labels (its views have none), the second hands them to scoring."""


def test_only_scoring_sees_labels_of_test_images() -> None:
    found = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            is_view = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
            if is_view and node.func.attr in TEST_VIEWS and not name.startswith("datasets."):
                found.add(name)
    assert found == SEE_TEST_IMAGES
    assert "pids" not in (PACKAGE / "extraction.py").read_text(encoding="utf-8")


# Configuration and table.


@pytest.mark.parametrize(("epochs", "told"), [([1, 1], "must rise"), ([2], "before the last of 2 epochs"), ([0], "0")])
def test_candidates_that_are_none_are_refused(selecting: Values, epochs: list[int], told: str) -> None:
    selecting["models"]["tiny"]["selection"] = epochs
    with pytest.raises(DfgsError, match=told):
        Config.parse(selecting)


def test_selection_without_validation_identities_is_refused(selecting: Values) -> None:
    selecting["datasets"]["drawn-a"]["options"] = {}
    with pytest.raises(DfgsError, match="needs validation identities, of which dataset 'drawn-a' has none"):
        Config.parse(selecting)


def test_a_chosen_metric_needs_a_selection(selecting: Values) -> None:
    selecting["experiments"]["main"]["metrics"] = ["mAP_oracle"]
    Config.parse(selecting)
    selecting["models"]["tiny"]["selection"] = []
    with pytest.raises(DfgsError, match=r"'mAP_oracle' needs models\.tiny\.selection"):
        Config.parse(selecting)


def test_jobs_without_candidates_are_what_they_were(selecting: Values) -> None:
    selecting["models"]["tiny"]["selection"] = []
    grid = Grid(Config.parse(selecting))
    assert all("selection" not in job(TRIAL) for job in (grid.finetune_job, grid.embed_job, grid.score_job))
    assert grid.selecting() == []


def long_rows(last: list[float], chosen: list[float], best: list[float]) -> pd.DataFrame:
    """Rows of one sampler on one target, a value for each seed."""
    frames = [
        pd.DataFrame({"metric": metric, "value": values, "seed": range(len(values))})
        for metric, values in (("mAP", last), ("mAP_source_val", chosen), ("mAP_oracle", best))
    ]
    place = {"experiment": "main", "source": "a", "target": "b", "split": "test", "model": "m", "sampler": "pk"}
    return pd.concat(frames).assign(**place, protocol="p", commit="c", versions="v")


def test_gaps_are_taken_within_each_seed() -> None:
    table = selection_table(long_rows([10, 20], [11, 22], [15, 26]), "mAP", samplers=["pk"])
    assert table.header == ("sampler", "last", "source-val", "oracle", "source-val − last", "oracle − source-val")
    assert [cell.text for cell in table.rows[0]][3:] == ["20.5 ± 69.9", "+1.5 ± 6.4", "+4.0 ± 0.0"]
    assert "no result" in table.caption


def test_a_table_of_no_candidates_is_refused() -> None:
    rows = long_rows([1], [1], [1]).query("metric == 'mAP'")
    with pytest.raises(DfgsError, match="no candidates were scored by mAP"):
        selection_table(rows, "mAP")
