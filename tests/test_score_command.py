"""`dfgs score` and stored features: known answers, per-query rows, ties, fingerprints, bad input in one line."""

import csv
import gzip
import io
import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.io
import torch
from click.testing import CliRunner, Result

from conftest import write_index
from dfgs.cli import cli
from dfgs.config import Config
from dfgs.datasets.market1501 import Market1501
from dfgs.errors import DfgsError
from dfgs.extraction import embed_targets
from dfgs.feature_sets import MAT, ONE_SET, TWO_SETS, read_feature_set
from dfgs.feature_store import drop_features, load_features, store_features
from dfgs.grid import Grid, Trial
from dfgs.metrics import PROTOCOLS, KReciprocal, Ranking, difference, rank_reranked
from dfgs.per_query import MEASURES, PER_QUERY, write_queries
from dfgs.results import read_metrics
from dfgs.score_files import Extras, Score, as_table, find_protocol, parse_ranks, query_table, score
from dfgs.scoring import score_trial

FIXTURES = Path(__file__).parent / "fixtures"
SKETCH = FIXTURES / "sketch_reid_result" / "pytorch_result.mat"
RULE = PROTOCOLS["market1501"]


def arrays(seed: int = 0, queries: int = 12, gallery: int = 40) -> dict[str, Any]:
    """A query and a gallery of drawn numbers, in the keys of our format; the last query has no match."""
    rng = np.random.default_rng(seed)
    made: dict[str, Any] = {}
    for view, count in (("query", queries), ("gallery", gallery)):
        made[f"{view}_features"] = rng.normal(size=(count, 6)).astype(np.float32)
        made[f"{view}_pids"] = rng.integers(-1 if view == "gallery" else 1, 6, count)
        made[f"{view}_camids"] = rng.integers(1, 4, count)
    made["query_pids"][-1] = 99
    return made


def npz(folder: Path, **values: Any) -> Path:
    """Write a `.npz`; a value of None leaves the key out."""
    path = folder / "features.npz"
    np.savez(path, **{key: value for key, value in values.items() if value is not None})
    return path


def scored(path: Path, distance: Any = "cosine", **extras: Any) -> Score:
    return score(read_feature_set(path), RULE, distance, (1, 5, 10), Extras(**extras))


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments])


def slow_precision(a: dict[str, Any], query: int) -> float | None:
    """Average precision by cosine similarity under Market-1501's rule, written out; None without a match."""
    pid, camid, vector = a["query_pids"][query], a["query_camids"][query], a["query_features"][query].astype(float)
    ranked = []
    for other, who, where in zip(a["gallery_features"], a["gallery_pids"], a["gallery_camids"], strict=True):
        if who != -1 and not (who == pid and where == camid):
            ranked.append((vector @ other / np.linalg.norm(vector) / np.linalg.norm(other.astype(float)), who == pid))
    ranked.sort(key=lambda pair: -pair[0])
    right, precisions = 0, []
    for place, (_, is_match) in enumerate(ranked, start=1):
        if is_match:
            right += 1
            precisions.append(right / place)
    return sum(precisions) / len(precisions) if precisions else None


def test_a_market_style_mat_file_gives_its_known_answers() -> None:
    found = scored(SKETCH)
    expected = json.loads((SKETCH.parent / "expected.json").read_text())["recomputed"]
    assert [found.values[f"rank{k}"] / 100 for k in (1, 5, 10)] == pytest.approx([0.14, 0.36, 0.48])
    assert found.values["mAP"] / 100 == pytest.approx(expected["mAP_standard"], abs=1e-6)
    assert found.values["mAP_trapezoid"] / 100 == pytest.approx(expected["mAP_trapezoid"], abs=1e-6)


def test_all_against_all_gives_its_known_answers_and_says_that_float16_is_converted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = FIXTURES / "siamese_market_gallery854"
    with np.load(folder / "embeddings.npz") as given:
        path = npz(tmp_path, **given, extra=np.zeros(1))
    caplog.set_level(logging.INFO, "dfgs")
    found = scored(path, "euclidean")
    expected = json.loads((folder / "expected.json").read_text())["all_vs_all_cross_camera_percent"]
    for name, key in (("mAP", "mAP"), ("mINP", "mINP"), ("rank1", "r1"), ("rank5", "r5"), ("rank10", "r10")):
        assert found.values[name] == pytest.approx(expected[key], abs=0.01)
    assert "features are float16, converted to float32" in caplog.text
    assert "not used: extra" in caplog.text


def test_int8_features_are_converted_and_that_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    values = arrays()
    whole = {key: np.round(10 * v) if key.endswith("features") else v for key, v in values.items()}
    small = {key: v.astype(np.int8) if key.endswith("features") else v for key, v in whole.items()}
    caplog.set_level(logging.INFO, "dfgs")
    assert scored(npz(tmp_path, **whole)).values == scored(npz(tmp_path, **small)).values
    assert "features are int8, converted to float32" in caplog.text


def test_a_mat_file_with_doubles_scores_as_our_own_format(tmp_path: Path) -> None:
    values = arrays()
    order = [f"{view}_{what}" for view in ("query", "gallery") for what in ("features", "pids", "camids")]
    mat = {new: values[old].astype(np.float64) for new, old in zip(MAT, order, strict=True)}
    scipy.io.savemat(tmp_path / "features.mat", mat)
    own, other = scored(npz(tmp_path, **values)), scored(tmp_path / "features.mat")
    assert own.values == other.values
    assert own.fingerprint == other.fingerprint


@pytest.mark.parametrize("name", ["queries.csv", "deep/queries.csv.gz"])
def test_the_per_query_file_agrees_with_a_slow_version(tmp_path: Path, name: str) -> None:
    values = arrays()
    found = scored(npz(tmp_path, **values))
    write_queries(query_table([found]), tmp_path / name)
    data = (tmp_path / name).read_bytes()
    rows = list(csv.DictReader(io.StringIO((gzip.decompress(data) if name.endswith("gz") else data).decode())))
    assert tuple(rows[0]) == PER_QUERY
    slow = [slow_precision(values, i) for i in range(12)]
    assert slow[-1] is None
    assert None not in slow[:5]
    for i, (row, precision) in enumerate(zip(rows, slow, strict=True)):
        assert (int(row["query"]), int(row["pid"])) == (i, values["query_pids"][i])
        if precision is None:
            assert (row["matches"], row["average_precision"], row["first_rank"], row["inp"]) == ("0", "", "", "")
        else:
            assert float(row["average_precision"]) == pytest.approx(precision, abs=1e-6)
    assert found.values["mAP"] == pytest.approx(100 * np.mean([p for p in slow if p is not None]), abs=1e-4)


def test_the_per_query_file_names_the_images_where_the_features_do(tmp_path: Path) -> None:
    names = {
        f"{view}_paths": np.array([f"{view}/{i}.jpg" for i in range(n)]) for view, n in (("query", 12), ("gallery", 40))
    }
    write_queries(query_table([scored(npz(tmp_path, **arrays(), **names))]), tmp_path / "q.csv")
    assert (tmp_path / "q.csv").read_text().splitlines()[3].startswith(f"{tmp_path / 'query/2.jpg'},")


def test_the_per_query_file_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = scored(npz(tmp_path, **arrays()))
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(Path, "replace", lambda self, target: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(DfgsError, match=r"cannot write .*q\.csv: No space left"):
        write_queries(query_table([found]), tmp_path / "out" / "q.csv")
    assert not list((tmp_path / "out").iterdir())


def test_the_table_shows_bounds_queries_without_match_fingerprint_and_the_definition_of_ap(tmp_path: Path) -> None:
    path = npz(tmp_path, **arrays())
    done = run("score", path, "--ranks", "3,1", "--tpr", "--out", tmp_path / "q.csv")
    assert done.exit_code == 0, done.output
    found = scored(path)
    assert found.fingerprint in done.stdout
    assert "of 12 queries, not averaged in" in done.stdout
    assert "standard: mean over the matches" in done.stdout
    assert "market1501" in done.stdout
    names = [line.split()[0] for line in done.stdout.split("\n\n")[1].splitlines()]
    assert names[1:6] == ["mAP", "mAP_trapezoid", "rank1", "rank3", "mINP"]
    assert names[6:] == ["tpr_at_fpr_0.01", "tpr_at_fpr_0.001", "tpr_at_fpr_0.0001"]
    assert (tmp_path / "q.csv").is_file()


def test_equal_scores_leave_bounds_and_the_value_lies_midway(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    pids = np.repeat(np.arange(1, 101), 4)
    features = rng.normal(size=(400, 8))
    features[1::400] = features[2::400] = features[5::400]
    path = npz(tmp_path, features=features, pids=pids, camids=np.tile([1, 2, 3, 4], 100))
    found = scored(path, "euclidean")
    assert found.lost["mAP"] < found.values["mAP"] < found.won["mAP"] < found.lost["mAP"] + 1
    assert found.values["mAP"] == pytest.approx((found.lost["mAP"] + found.won["mAP"]) / 2)
    assert "midway" in as_table(found)


def test_the_ties_of_features_all_alike_count_as_lost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    values = arrays()
    alike = {key: np.ones_like(v) if key.endswith("features") else v for key, v in values.items()}
    found = scored(npz(tmp_path, **alike))
    assert found.won["mAP"] == 100
    assert found.values == found.lost
    assert "count as lost" in as_table(found)
    assert "collapsed" in caplog.text
    np.testing.assert_array_equal(found.ranking.average_precision, found.ranking.average_precision_low)


def test_the_fingerprint_tells_labels_and_distance_but_not_features_or_order(tmp_path: Path) -> None:
    values = arrays()
    shuffled = dict(values)
    order = np.random.default_rng(1).permutation(40)
    for what in ("features", "pids", "camids"):
        shuffled[f"gallery_{what}"] = values[f"gallery_{what}"][order]
    shuffled["query_features"] = values["query_features"] + 1
    relabelled = values | {"gallery_camids": values["gallery_camids"] + 1}
    one = scored(npz(tmp_path, **values))
    assert scored(npz(tmp_path, **shuffled)).fingerprint == one.fingerprint
    assert scored(npz(tmp_path, **relabelled)).fingerprint != one.fingerprint
    assert scored(npz(tmp_path, **values), "euclidean").fingerprint != one.fingerprint


def with_nan() -> dict[str, Any]:
    values = arrays()
    values["gallery_features"][7, 2] = np.nan
    return values


BAD = {
    "another key": (
        arrays() | {"query_pids": None, "query_ids": np.arange(12)},
        r"expected the keys query_features, .*; found .*query_ids",
    ),
    "cameras missing": (arrays() | {"gallery_camids": None}, r"expected the keys .*gallery_camids.*; found query_f"),
    "pickled objects": (
        arrays() | {"query_pids": np.array([{}] * 12)},
        r"'query_pids' holds pickled objects, .*refused",
    ),
    "a row of NaN": (with_nan(), r"gallery of .*feature row 7 holds NaN or infinity \(1 such of 40\)"),
    "too few ids": (
        arrays() | {"query_pids": np.arange(11)},
        r"query of .*: pids have shape \(11,\).* 12 feature rows",
    ),
    "a fraction as id": (arrays() | {"query_pids": np.full(12, 1.5)}, r"query_pids row 0 is 1\.5; expected a whole"),
    "an empty gallery": (
        arrays()
        | {"gallery_features": np.zeros((0, 6)), "gallery_pids": np.zeros(0, int), "gallery_camids": np.zeros(0, int)},
        r"gallery of .*shape \(0, 6\)",
    ),
    "junk alone": (arrays() | {"gallery_pids": np.full(40, -1)}, "all 40 images are junk"),
    "two depths": (arrays() | {"query_features": np.ones((12, 5))}, "has 5 dimensions, .* has 6"),
    "texts as features": (arrays() | {"query_features": np.full((12, 6), "a")}, "features have type <U1"),
    "no match": (arrays() | {"query_pids": np.full(12, 77)}, "none of the 12 queries has a match"),
    "too few paths": (
        arrays() | {"query_paths": np.array(["a"])},
        r"query_paths have shape \(1,\).* expected 12 texts",
    ),
    "a zero row": (arrays() | {"query_features": np.zeros((12, 6))}, "all zero .*cosine needs a direction"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_features_are_refused_in_one_line(what: str, tmp_path: Path) -> None:
    values, message = BAD[what]
    with pytest.raises(DfgsError, match=message) as caught:
        scored(npz(tmp_path, **values))
    assert "\n" not in str(caught.value)


def test_all_against_all_under_a_protocol_where_images_find_themselves_is_refused(tmp_path: Path) -> None:
    path = npz(tmp_path, features=np.eye(4), pids=np.array([1, 1, 2, 2]), camids=np.arange(4))
    with pytest.raises(DfgsError, match="would find itself"):
        score(read_feature_set(path), PROTOCOLS["plain"], "cosine", (1,))


@pytest.mark.parametrize("suffix", [".npz", ".mat", ".json"])
@pytest.mark.parametrize("data", [b"", b"nonsense", b"PK\x03\x04 cut off", b"\x80\x04K\x01."])
def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path, suffix: str, data: bytes) -> None:
    path = tmp_path / f"features{suffix}"
    path.write_bytes(data)
    with pytest.raises(DfgsError, match=r"cannot read .*features"):
        read_feature_set(path)


def test_a_cut_npz_is_refused(tmp_path: Path) -> None:
    path = npz(tmp_path, **arrays(gallery=400))
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(DfgsError, match=r"cannot read .*features"):
        read_feature_set(path)


def test_mat_files_with_other_keys_or_cells_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "features.mat"
    scipy.io.savemat(path, {"feat": np.eye(3)})
    with pytest.raises(DfgsError, match=r"expected the keys query_f, .*; found feat"):
        read_feature_set(path)
    cell = np.empty(2, object)
    cell[:] = [np.eye(2), "x"]
    scipy.io.savemat(path, dict.fromkeys(MAT, np.ones((2, 2))) | {"query_f": cell})
    with pytest.raises(DfgsError, match="'query_f' holds object values; expected a matrix of numbers"):
        read_feature_set(path)


def test_other_names_options_and_files_are_refused(tmp_path: Path) -> None:
    path = npz(tmp_path, **arrays())
    (tmp_path / "features.pt").touch()
    for call, message in (
        (lambda: read_feature_set(tmp_path / "no.npz"), r"no\.npz: no such file"),
        (
            lambda: read_feature_set(tmp_path / "features.pt"),
            r"the suffix is '\.pt'; expected one of \.npz, \.mat, \.json",
        ),
        (lambda: read_feature_set(path, "a/test"), "'a/test' chooses a view of an index.json"),
        (lambda: find_protocol("market"), r"no protocol is called 'market' \(did you mean 'market1501'\?\)"),
        (lambda: parse_ranks("1,x"), "ranks are '1,x'; expected whole numbers from 1"),
        (lambda: parse_ranks("0"), "ranks are '0'"),
    ):
        with pytest.raises(DfgsError, match=message):
            call()


def test_the_command_prints_one_line_and_exits_with_2(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dfgs", "score", str(npz(tmp_path, pids=np.arange(3)))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert all(key in done.stderr for key in (*TWO_SETS, *ONE_SET))


def index_of(world: Path, folder: Path, *splits: str) -> Path:
    """Features of drawn numbers for a dataset on disk, as `dfgs embed` leaves them."""
    dataset, rng = Market1501("tiny", world), np.random.default_rng(0)
    features = {}
    for split in splits:
        for view, images in (("query", dataset.query(split)), ("gallery", dataset.gallery(split))):
            features[f"tiny/{split}/{view}"] = f"{split}-{view}.npy"
            store_features(rng.normal(size=(len(images), 8)).astype(np.float32), folder / f"{split}-{view}.npy")
    part = {"name": "tiny", "layout": "market1501", "root": str(world), "options": {}, "splits": list(splits)}
    test = {"distance": "euclidean", "normalise": True, "features": ["pooled"]}
    write_index(folder / "index.json", features, [part], test)
    return folder / "index.json"


def test_the_stored_features_of_a_trained_model_are_scored_with_its_own_distance(world: Path, tmp_path: Path) -> None:
    index = index_of(world, tmp_path, "test", "half-0")
    with pytest.raises(DfgsError, match="holds tiny/half-0, tiny/test; choose one with --of"):
        read_feature_set(index)
    with pytest.raises(DfgsError, match=r"no features are called 'tiny/tset' \(did you mean 'tiny/test'\?\)"):
        read_feature_set(index, "tiny/tset")
    features = read_feature_set(index, "tiny/test")
    assert (features.distance, features.is_normalised, features.is_drawn) == ("euclidean", True, True)
    np.testing.assert_allclose(features.query.squared_norms, 1, rtol=1e-6)
    assert features.query_paths == Market1501("tiny", world).query("test").paths
    done = run("score", index, "--of", "tiny/test")
    assert "distance  euclidean, normalised on reading: yes" in done.stdout


def test_an_index_without_datasets_says_how_to_make_one(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text('{"features": {}}')
    with pytest.raises(DfgsError, match="run `dfgs embed` again"):
        read_feature_set(tmp_path / "index.json")


def test_dropped_features_free_their_bytes_and_the_index_goes_with_them(world: Path, tmp_path: Path) -> None:
    index = index_of(world, tmp_path, "test")
    size = sum(path.stat().st_size for path in tmp_path.glob("*.npy"))
    (tmp_path / "other.npy").touch()
    assert run("drop-features", index).stdout == f"{index}: {size / 1e6:.1f} MB freed\n"
    assert [path.name for path in tmp_path.iterdir()] == ["other.npy"]
    with pytest.raises(DfgsError, match=r"are not there; make them again: snakemake --cores 1 --force .*index\.json"):
        load_features(tmp_path / "test-query.npy")


@pytest.mark.parametrize("text", ['{"features": {"a": "../x.npy"}}', '{"features": {"a": 1}}', "[]", "{}"])
def test_dropping_what_is_no_index_deletes_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.npy").touch()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "index.json").write_text(text)
    with pytest.raises(DfgsError, match="expected the index of `dfgs embed`"):
        drop_features(tmp_path / "run" / "index.json")
    assert (tmp_path / "x.npy").is_file()


def test_per_query_columns_beyond_the_labels_are_metrics_of_a_ranking() -> None:
    assert all(hasattr(Ranking, name) for name in MEASURES)


def test_what_embed_stores_can_be_scored_and_its_size_is_logged(
    on_disk: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job, index = Grid(Config.parse(on_disk)).embed_job(Trial("a", "tiny", "zero-shot", 0)), tmp_path / "index.json"
    caplog.set_level(logging.INFO, "dfgs")
    embed_targets(job, {}, index, 0, torch.device("cpu"))
    size = sum(path.stat().st_size for path in tmp_path.glob("*.npy"))
    assert f"features in {tmp_path}: 6 files, {size / 1e6:.1f} MB" in caplog.text
    features = read_feature_set(index, "drawn-b/half-1")
    assert len(features.gallery) == len(features.gallery_paths) > len(features.query) == len(features.query_paths)
    assert score(features, RULE, features.distance, (1,)).values["queries"] == len(features.query)


def test_a_matlab_7_3_file_says_how_to_save_it(tmp_path: Path) -> None:
    (tmp_path / "new.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(400))
    with pytest.raises(DfgsError, match=r"MATLAB 7\.3 \(HDF5\); save it with -v7"):
        read_feature_set(tmp_path / "new.mat")


def test_reranked_numbers_stand_in_a_table_and_columns_of_their_own_under_another_fingerprint(tmp_path: Path) -> None:
    path = npz(tmp_path, **arrays())
    done = run("score", path, "--rerank", "--k1", 6, "--k2", 2, "--lambda", 0.5, "--out", tmp_path / "q.csv")
    assert done.exit_code == 0, done.output
    images = read_feature_set(path)
    plain, again = scored(path), scored(path, reranking=KReciprocal(6, 2, 0.5))
    assert difference(plain.fingerprint, again.fingerprint) == "k1 none and 6; k2 none and 2; lambda none and 0.5"
    one, other = as_table(plain), as_table(again)
    assert done.stdout == f"{one}\n\n{other}\n"
    assert "_reranked" not in one
    assert all(line.split()[0].endswith("_reranked") for line in other.split("\n\n")[1].splitlines()[1:])
    rows = pd.read_csv(tmp_path / "q.csv")
    assert list(rows.columns) == [*PER_QUERY, *(f"{name}_reranked" for name in (*MEASURES, "protocol"))]
    expected = rank_reranked(images.query, images.gallery, RULE, KReciprocal(6, 2, 0.5), "cosine")
    np.testing.assert_array_equal(rows["average_precision_reranked"], expected.average_precision)
    np.testing.assert_array_equal(rows["average_precision"], plain.ranking.average_precision)
    assert (rows["protocol"].unique(), rows["protocol_reranked"].unique()) == (plain.fingerprint, again.fingerprint)


def test_reranking_has_the_papers_values_and_refuses_impossible_ones(tmp_path: Path) -> None:
    path = npz(tmp_path, **arrays())
    assert "k1 20, k2 6, lambda 0.3" in run("score", path, "--rerank").stdout
    for options, message in (
        (["--k1", 5, "--k2", 6], "k2 is 6, k1 is 5; expected k2 at most k1"),
        (["--lambda", 2], "lambda is 2.0; expected a share"),
        (["--distance", "dot"], "distance: 'dot' cannot be re-ranked"),
        (["--k1", 60], "k1 is 60, but .* hold 12 \\+ .* images; expected at least 61"),
    ):
        with pytest.raises(DfgsError, match=message):
            cli.main(["score", str(path), "--rerank", *map(str, options)], standalone_mode=False)
    for option in ("--k1", "--k2", "--lambda"):
        with pytest.raises(DfgsError, match=f"{option} is set without --rerank"):
            cli.main(["score", str(path), option, "1"], standalone_mode=False)


def test_a_number_of_stored_features_has_the_fingerprint_that_the_workflow_gives_it(
    on_disk: dict[str, Any], world: Path, tmp_path: Path
) -> None:
    grid, trial = Grid(Config.parse(on_disk)), Trial("a", "tiny", "zero-shot", 0)
    index = tmp_path / "index.json"
    embed_targets(grid.embed_job(trial), {}, index, 0, torch.device("cpu"))
    score_trial(grid.score_job(trial), index, None, {"metrics": tmp_path / "m.csv", "per_query": tmp_path / "q.csv.gz"})
    rows = read_metrics(tmp_path / "m.csv")
    (row,) = rows.query("target == 'b' and split == 'half-1' and metric == 'mAP'").itertuples()
    features = read_feature_set(index, "drawn-b/half-1")
    found = score(features, RULE, features.distance, (1,))
    assert (row.protocol, row.value) == (found.fingerprint, found.values["mAP"])
    for word in ("rule=market1501", "split=half-1", "input=64,32", "features=pooled,projected", "rows=as-they-are"):
        assert word in row.protocol.split()
