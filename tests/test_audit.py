"""The audit: every column against a slow version, graphs at chance, the command, its files and its refusals."""

import re
import shlex
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from conftest import write_index
from dfgs.audit import batches, memory
from dfgs.audit.batches import identity_means
from dfgs.audit.measure import audit
from dfgs.audit.memory import PeakMemory
from dfgs.audit.record import COLUMNS, Served
from dfgs.audit.sources import read_settings, read_training_set
from dfgs.cli import cli
from dfgs.datasets.market1501 import Market1501
from dfgs.errors import DfgsError
from dfgs.feature_store import store_features
from dfgs.samplers import REGISTRY
from dfgs.samplers._continued import ContinuedPasses
from dfgs.samplers._labels import Labels
from dfgs.samplers.base import BatchSampler, Pass

ROOT = Path(__file__).parents[1]
SIAMESE = "tests/fixtures/siamese_market_gallery854/embeddings.npz"
TIMES = ("graph_seconds", "pass_seconds", "memory_mb")


def crowd(seed: int, identities: int = 14, images: int = 6, cameras: int = 4) -> tuple[Labels, np.ndarray]:
    """Random people with one to `images` images each, in two domains, images in random order."""
    rng = np.random.default_rng([seed, 7])
    counts = rng.integers(1, images + 1, identities)
    pids = rng.permutation(np.repeat(3 * np.arange(identities) - 5, counts))
    labels = Labels(pids, rng.integers(10, 10 + cameras, len(pids)), (pids > 10).astype(int))
    return labels, rng.normal(size=(len(pids), 5)).astype(np.float32) * rng.uniform(0.5, 3, (len(pids), 1))


def slow_nearest(labels: Labels, features: np.ndarray, count: int) -> dict[int, list[int]]:
    """The pids of the nearest means, by sorting all distances in float64."""
    means = {p: features[labels.pids == p].astype(float).mean(axis=0) for p in labels.identities.tolist()}
    return {
        p: sorted((q for q in means if q != p), key=lambda q: float(np.linalg.norm(means[p] - means[q])))[:count]
        for p in means
    }


def slow_distances(labels: Labels, features: np.ndarray, batch: list[int]) -> tuple[float, float]:
    """Mean distance to the nearest image, and to the nearest mean, of another identity in the batch."""
    unit = features.astype(float) / np.linalg.norm(features.astype(float), axis=1, keepdims=True)
    pids = labels.pids
    means = {p: unit[pids == p].mean(axis=0) for p in set(pids[batch].tolist())}
    image = [min((np.linalg.norm(unit[i] - unit[j]) for j in batch if pids[j] != pids[i]), default=None) for i in batch]
    mean = [min((np.linalg.norm(unit[i] - m) for p, m in means.items() if p != pids[i]), default=None) for i in batch]
    if None in image:
        return np.nan, np.nan
    return float(np.mean(image)), float(np.mean(mean))


def slow_cameras(labels: Labels, batch: list[int]) -> tuple[int, int]:
    """Cameras beyond the first that the identities of a batch come from, and could come from."""
    reached = possible = 0
    for pid in set(labels.pids[batch].tolist()):
        own = [i for i in batch if labels.pids[i] == pid]
        reached += len(set(labels.camids[own].tolist())) - 1
        possible += min(len(own), len(set(labels.camids[labels.pids == pid].tolist()))) - 1
    return reached, possible


def slow_audit(labels: Labels, features: np.ndarray, served: Served, k: int) -> dict[str, float]:
    """Every column of the audit by loops in float64, the times left out."""
    everyone, batches = labels.identities.tolist(), [batch.tolist() for batch in served.images]
    drawn = [i for batch in batches for i in batch]
    near, hits, pairs = slow_nearest(labels, features, k), 0, 0
    for batch in batches:
        present = set(labels.pids[batch].tolist())
        hits += sum(q in near[p] for p in present for q in present if q != p)
        pairs += len(present) * (len(present) - 1)
    row: dict[str, float] = {
        "batches": len(batches),
        "identities": len(everyone),
        "identities_served": len({int(labels.pids[i]) for i in drawn}),
        "images": len(labels),
        "images_served": len(set(drawn)),
        "images_repeated": len(drawn) - len(set(drawn)),
        "restarts": served.restarts,
        "neighbour_share": hits / pairs if pairs else np.nan,
        "neighbour_chance": k / (len(everyone) - 1),
    }
    distances = [slow_distances(labels, features, batch) for batch in batches]
    for which, name in enumerate(("image_distance", "mean_distance")):
        values = [pair[which] for pair in distances]
        row[name] = float(np.nanmean(values))
        quarter = -(-len(values) // 4)
        assert len(values) % 4 == 0, "so that quarters are plain"
        for q in range(4):
            row[f"{name}_q{q + 1}"] = float(np.nanmean(values[q * quarter : (q + 1) * quarter]))
    purities = [max(np.mean(labels.domains[batch] == d) for d in (0, 1)) for batch in batches]
    reached, possible = np.sum([slow_cameras(labels, batch) for batch in batches], axis=0)
    row |= {"domain_purity": float(np.mean(purities)), "camera_balance": reached / possible if possible else np.nan}
    return row | slow_graph(labels, features, served)


def slow_graph(labels: Labels, features: np.ndarray, served: Served) -> dict[str, float]:
    everyone = labels.identities.tolist()
    true, count = 0, 0
    near = slow_nearest(labels, features, served.reach)
    for table in served.edges:
        for row, others in enumerate(table.tolist()):
            true += sum(everyone[other] in near[everyone[row]] for other in others)
            count += len(others)
    if not count:
        empty = dict.fromkeys(("graph_fidelity", "graph_chance", "graph_deviations"), np.nan)
        return {"graph_edges": 0, "graph_reach": 0, **empty}
    p = served.reach / (len(everyone) - 1)
    return {
        "graph_edges": count,
        "graph_reach": served.reach,
        "graph_fidelity": true / count,
        "graph_chance": p,
        "graph_deviations": (true - count * p) / (count * p * (1 - p)) ** 0.5,
    }


@pytest.mark.parametrize("seed", range(12))
def test_every_column_is_what_slow_loops_find(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "BLOCK", 3)
    labels, features = crowd(seed)
    rng = np.random.default_rng([seed, 8])
    images = rng.integers(0, len(labels), (8, 2 + seed))
    tables = tuple(rng.integers(0, 14, (14, 3)).astype(np.int32) for _ in range(seed % 3))
    served = Served(images, restarts=seed, edges=tables, reach=4 if tables else 0)
    found = audit(labels, features, served, 1 + seed % 5)
    expected = slow_audit(labels, features, served, 1 + seed % 5)
    assert {*expected, *TIMES} == set(COLUMNS)
    for name, value in expected.items():
        assert getattr(found, name) == pytest.approx(value, rel=1e-5, abs=1e-6, nan_ok=True), name


def serve(name: str, labels: Labels, features: np.ndarray, **arguments: Any) -> Served:
    """A pass of a sampler that got what it asked for; the identities' means stand in for text."""
    sampler: BatchSampler = REGISTRY.load(name)(labels, batch_size=8, instances=2, seed=0, **arguments)
    if request := sampler.feature_request(0):
        image = None if request.images is None else request.pool(features[request.images])
        text = identity_means(labels, features) if "text" in request.kinds else None
        sampler.set_features(identities=labels.identities, image=image, text=text)
    return Served.of_pass(sampler)


def pairs_of_images(identities: int = 60) -> tuple[Labels, np.ndarray]:
    """Identities with four images each around a point of their own."""
    rng = np.random.default_rng(3)
    pids = np.repeat(np.arange(identities), 4)
    features = rng.normal(size=(identities, 4))[pids] + 0.3 * rng.normal(size=(len(pids), 4))
    return Labels(pids, np.tile([0, 0, 1, 2], identities), np.zeros(len(pids), int)), features.astype(np.float32)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("dfgs", {"representation": "mean"}),
        ("dfgs", {"representation": "mean", "neighbours": 4, "skip": 9, "order": "nearest"}),
        ("dfgs", {"graph": "text"}),
    ],
)
def test_a_window_of_ranks_on_the_means_themselves_is_all_true(name: str, arguments: dict[str, Any]) -> None:
    labels, features = pairs_of_images()
    found = audit(labels, features, serve(name, labels, features, **arguments))
    assert found.graph_fidelity == 1
    assert found.graph_reach == arguments.get("neighbours", 10) + arguments.get("skip", 2)
    assert not found.is_at_chance


@pytest.mark.parametrize(
    ("name", "arguments", "at_chance"),
    [
        ("gs", {}, False),
        ("gs-released", {}, False),
        ("dfgs-released", {}, False),
        ("dfgs-released", {"graph": "text"}, True),
        ("dfgs-permuted", {}, True),
        ("pk", {}, False),
    ],
)
def test_only_scrambled_graphs_are_at_chance(name: str, arguments: dict[str, Any], at_chance: bool) -> None:
    labels, features = pairs_of_images()
    found = audit(labels, features, serve(name, labels, features, **arguments))
    assert found.is_at_chance == at_chance
    assert np.isnan(found.graph_fidelity) == (name == "pk")


def test_rows_in_a_wrong_order_leave_a_right_sampler_with_a_graph_at_chance() -> None:
    labels, features = pairs_of_images()
    wrong = features[np.random.default_rng(0).permutation(len(features))]
    assert audit(labels, features, serve("dfgs", labels, wrong)).is_at_chance


def test_a_random_graph_passes_for_a_true_one_less_than_once_in_a_thousand_times() -> None:
    labels, features = pairs_of_images()
    rng = np.random.default_rng(0)
    images, passed = np.arange(8)[None], 0
    for _ in range(300):
        table = np.array([rng.permutation(np.delete(np.arange(60), i))[:5] for i in range(60)], dtype=np.int32)
        passed += not audit(labels, features, Served(images, edges=(table,), reach=5)).is_at_chance
    assert passed == 0


def test_a_graph_that_reaches_everybody_tells_nothing() -> None:
    labels, features = crowd(0)
    table = np.array([np.delete(np.arange(14), i) for i in range(14)], dtype=np.int32)
    found = audit(labels, features, Served(np.arange(8)[None], edges=(table,), reach=13))
    assert found.graph_fidelity == found.graph_chance == 1
    assert np.isnan(found.graph_deviations)
    assert not found.is_at_chance


def test_a_pass_without_batches_and_a_batch_of_one_identity_leave_gaps_and_no_warning(
    recwarn: pytest.WarningsRecorder,
) -> None:
    labels, features = crowd(1)
    empty = audit(labels, features, Served(np.empty((0, 4), dtype=np.int64)))
    assert (empty.batches, empty.identities_served) == (0, 0)
    one = audit(labels, features, Served(labels.order[labels.offsets[0] : labels.offsets[1]][None]))
    for name in ("neighbour_share", "image_distance", "mean_distance", "graph_fidelity"):
        assert np.isnan(getattr(empty, name)), name
        assert np.isnan(getattr(one, name)), name
    assert one.domain_purity == 1
    assert not len(recwarn)


class Islands(BatchSampler):
    """Passes of two lengths with graphs of their own, for the bookkeeping of epochs."""

    def draw_pass(self, rng: np.random.Generator) -> Pass:
        rows = np.arange(3 * self.batch_size).reshape(3, -1) % len(self.labels)
        return Pass(rows, restarts=2, edges=np.full((14, 2), self.epoch, dtype=np.int32))


def test_an_epoch_is_audited_with_the_graphs_of_all_passes_that_it_served_from() -> None:
    labels, _ = crowd(2)
    passes = ContinuedPasses(Islands(labels, batch_size=8, instances=2, seed=0), 5)
    served = []
    for _ in range(3):
        list(passes)
        served.append(Served.of_epoch(passes))
    # passes of three batches: epochs of five serve from passes 0 and 1, 1 to 3, 3 and 4
    assert [[int(table[0, 0]) for table in s.edges] for s in served] == [[0, 1], [1, 2, 3], [3, 4]]
    assert [s.restarts for s in served] == [4, 4, 2]
    assert all(len(s.images) == 5 for s in served)


def test_features_that_do_not_fit_are_refused_by_row() -> None:
    labels, features = crowd(4)
    served = Served(np.arange(8)[None])
    broken = features.copy()
    broken[5, 2] = np.nan
    for call, message in (
        (lambda: audit(labels, features[:-1], served), rf"shape \({len(features) - 1}, 5\); give one row for each of"),
        (lambda: audit(labels, broken, served), rf"feature row 5 \(pid {labels.pids[5]}\) is NaN"),
        (lambda: audit(labels, features, served, 14), "neighbours=14 exceeds the 13 other identities"),
        (lambda: audit(Labels([4, 4], [0, 1], [0, 0]), features[:2], served), "only identity is pid 4"),
    ):
        with pytest.raises(DfgsError, match=message):
            call()


def test_peak_memory_sees_what_is_freed_before_the_end() -> None:
    with PeakMemory() as grown:
        len(np.ones(8_000_000))
    assert 50e6 < grown.growth < 100e6


def test_where_the_high_water_mark_cannot_be_set_back_the_highest_ever_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "PROCESS", tmp_path / "no")
    with PeakMemory() as grown:
        pass
    assert grown.growth == 0


# The command


def npz(folder: Path, **changes: Any) -> Path:
    """Write a `.npz` of 20 identities with four images each; a value of None leaves the key out."""
    labels, features = pairs_of_images(20)
    arrays = {"features": features, "pids": labels.pids, "camids": labels.camids, **changes}
    path = folder / "features.npz"
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(cli, ["audit", *(str(a) for a in arguments)])


SMALL = ("--batch-size", 16)


def test_the_command_writes_table_and_figure_and_prints_the_table(tmp_path: Path) -> None:
    stem = tmp_path / "out" / "audit"
    samplers = ("-s", "pk", "-s", "dfgs:neighbours=3,skip=1", "--passes", 2)
    done = run(npz(tmp_path), *SMALL, *samplers, "--out", stem)
    assert done.exit_code == 0, done.output
    assert sorted(p.suffix for p in stem.parent.iterdir()) == [".csv", ".html", ".md", ".pdf", ".png", ".svg", ".tex"]
    assert stem.with_suffix(".md").read_text() in done.stdout
    rows = pd.read_csv(stem.with_suffix(".csv"))
    assert set(COLUMNS) <= set(rows.columns)
    assert rows["sampler"].tolist() == ["pk", "pk", "dfgs:neighbours=3,skip=1", "dfgs:neighbours=3,skip=1"]
    pk, dfgs = (line.split("|") for line in done.stdout.splitlines() if line.startswith(("| pk", "| dfgs")))
    place = [cell.strip() for cell in table_of(done.stdout)[0]].index("nearest image") + 1
    assert float(pk[place]) == pytest.approx(rows["image_distance"][:2].mean(), abs=5e-4)
    assert float(dfgs[place]) == pytest.approx(rows["image_distance"][2:].mean(), abs=5e-4)
    assert "stand in" not in done.stdout


def test_a_scrambled_graph_ends_with_1_and_the_samplers_name_once_all_is_written(tmp_path: Path) -> None:
    labels, features = pairs_of_images(60)
    path = npz(tmp_path, features=features, pids=labels.pids, camids=labels.camids)
    done = run(path, *SMALL, "-s", "dfgs-released", "-s", "dfgs-released:graph=text", "--out", tmp_path / "a")
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1].startswith("error: sampler dfgs-released:graph=text: the graph is at chance")
    assert done.stderr.count("error:") == 1
    assert "the identities' mean image features stand in" in done.stdout
    assert (tmp_path / "a.png").is_file()


def test_a_control_at_chance_is_shown_as_meant_and_ends_with_0(tmp_path: Path) -> None:
    done = run(npz(tmp_path), *SMALL, "-s", "dfgs-permuted:neighbours=3,skip=0", "--out", tmp_path / "a")
    assert done.exit_code == 0, done.output
    assert "at chance, as meant" in done.stdout


def test_isolated_clusters_show_their_restarts(tmp_path: Path) -> None:
    labels, features = pairs_of_images(20)
    islands = features + 1000 * (labels.pids % 4)[:, None]
    path = npz(tmp_path, features=islands.astype(np.float32))
    samplers = ("-s", "dfgs:neighbours=3,skip=0", "-s", "dfgs:neighbours=3,skip=0,restart=false")
    done = run(path, "--batch-size", 20, *samplers, "--out", tmp_path / "a")
    rows = pd.read_csv(tmp_path / "a.csv").set_index("sampler")
    assert rows["restarts"].iloc[0] >= 3
    assert rows["restarts"].iloc[1] == 0
    assert rows["identities_served"].iloc[0] == 20 > rows["identities_served"].iloc[1]
    assert done.exit_code == 0, done.output


def test_domains_and_text_of_a_file_are_used(tmp_path: Path) -> None:
    labels, features = pairs_of_images(20)
    text = np.random.default_rng(5).normal(size=(20, 6))
    path = npz(tmp_path, domains=labels.pids % 2, text=text)
    done = run(path, *SMALL, "-s", "pk-domain", "-s", "dfgs:graph=text,neighbours=3", "--out", tmp_path / "a")
    rows = pd.read_csv(tmp_path / "a.csv")
    assert rows["domain_purity"].iloc[0] == 1 > rows["domain_purity"].iloc[1]
    # text that has nothing to do with the images makes a graph that joins no look-alikes
    assert done.exit_code == 1
    assert "stand in" not in done.stdout
    given = read_training_set(path)
    np.testing.assert_allclose(given.text, text, rtol=1e-6)
    np.testing.assert_array_equal(given.features, features)
    path = npz(tmp_path, text=identity_means(labels, features))
    run(path, *SMALL, "-s", "dfgs:graph=text,neighbours=3", "--out", tmp_path / "a")
    assert pd.read_csv(tmp_path / "a.csv")["graph_fidelity"][0] == 1


def test_query_and_gallery_are_joined_without_junk_and_distractors(tmp_path: Path) -> None:
    labels, features = pairs_of_images(20)
    arrays: dict[str, Any] = {}
    for view, part in (("query", slice(0, 30)), ("gallery", slice(30, 80))):
        arrays |= {f"{view}_features": features[part], f"{view}_camids": labels.camids[part]}
        arrays[f"{view}_pids"] = labels.pids[part] - 1
    path = tmp_path / "two.npz"
    np.savez(path, **arrays)
    found = read_training_set(path)
    assert found.labels.identities.tolist() == list(range(1, 19))
    np.testing.assert_array_equal(found.features, features[8:])


def test_the_stored_features_of_a_trained_model_are_audited(world: Path, tmp_path: Path) -> None:
    dataset, rng, features = Market1501("tiny", world), np.random.default_rng(0), {}
    views = {"query": dataset.query("test"), "gallery": dataset.gallery("test")}
    for view, images in views.items():
        features[f"tiny/test/{view}"] = f"{view}.npy"
        store_features(rng.normal(size=(len(images), 8)).astype(np.float32), tmp_path / f"{view}.npy")
    part = {"name": "tiny", "layout": "market1501", "root": str(world), "options": {}, "splits": ["test"]}
    compared = {"distance": "euclidean", "normalise": True, "features": ["pooled"]}
    write_index(tmp_path / "index.json", features, [part], compared)
    pids = np.concatenate([images.pids for images in views.values()])
    assert (pids <= 0).any()
    options = ("--batch-size", 8, "--instances", 2, "--neighbours", 2, "-s", "pk")
    done = run(tmp_path / "index.json", *options, "--of", "tiny/test", "--out", tmp_path / "a")
    assert done.exit_code == 0, done.output
    rows = pd.read_csv(tmp_path / "a.csv")
    assert (rows["images"][0], rows["identities"][0]) == (int((pids > 0).sum()), 5)
    np.testing.assert_allclose(
        np.linalg.norm(read_training_set(tmp_path / "index.json").features, axis=1), 1, rtol=1e-5
    )


def test_samplers_are_named_settings_of_a_configuration_or_classes(tmp_path: Path) -> None:
    config = ROOT / "config" / "config.yaml"
    text = read_settings(["dfgs-text", "pk-camera", "gs-released:neighbours=3"], config)
    assert [(s.kind, s.arguments) for s in text] == [
        ("dfgs", {"graph": "text"}),
        ("pk-camera", {}),
        ("gs-released", {"neighbours": 3}),
    ]
    assert {"random", "pk", "gs", "dfgs-image", "dfgs-text"} <= {s.name for s in read_settings([], config)}
    banked = tmp_path / "bank.yaml"
    banked.write_text("samplers: {dfgs-bank: {class: dfgs, features: bank, skip: 0}}")
    assert read_settings([], banked)[0].arguments == {"skip": 0}


def with_nan() -> np.ndarray:
    features = pairs_of_images(20)[1].copy()
    features[7, 1] = np.nan
    return features


def zero_row() -> np.ndarray:
    features = pairs_of_images(20)[1].copy()
    features[3] = 0
    return features


BAD: dict[str, tuple[dict[str, Any], tuple[Any, ...], str]] = {
    "unknown sampler": ({}, ("-s", "dgfs"), r"--sampler dgfs: no sampler is called 'dgfs' \(did you mean 'dfgs'\?\)"),
    "unknown argument": ({}, ("-s", "dfgs:skp=1"), r"class dfgs has no argument 'skp' \(did you mean 'skip'\?\)"),
    "no value": ({}, ("-s", "dfgs:skip"), r"'skip'; expected argument=value"),
    "twice": ({}, ("-s", "pk", "-s", "pk"), "--sampler pk is given 2 times"),
    "none": ({}, (), "no sampler to audit; give --sampler or --config"),
    "no config": ({}, ("--config", "no.yaml"), r"cannot read no\.yaml"),
    "other rows": ({"pids": np.arange(79)}, ("-s", "pk"), r"pids have shape \(79,\).*80 feature rows"),
    "other domains": ({"domains": np.zeros(3, int)}, ("-s", "pk"), r"entries; give one of each per image"),
    "other text": ({"text": np.ones((3, 2))}, ("-s", "pk"), r"text has shape \(3, 2\).*one row for each of 20 pids"),
    "NaN": ({"features": with_nan()}, ("-s", "pk"), "feature row 7 holds NaN or infinity"),
    "zero": ({"features": zero_row()}, ("-s", "pk"), "feature row 3 is all zero"),
    "one identity": ({"pids": np.ones(80, int)}, ("-s", "random"), "the only identity is pid 1"),
    "k + m": ({}, ("-s", "dfgs:neighbours=15,skip=5"), r"sampler dfgs:neighbours=15,skip=5: .*exceeds the 19 other"),
    "k": ({}, ("-s", "pk", "--neighbours", 20), "neighbours=20 exceeds the 19 other identities"),
    "no pids": ({"pids": None}, ("-s", "pk"), "expected the keys .*pids"),
    "no pass": ({}, ("-s", "pk", "--passes", 0), "passes=0"),
    "NaN text": ({"text": np.full((20, 2), np.nan)}, ("-s", "dfgs:graph=text"), r"text row 0 \(pid 0\) is NaN"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_refused_in_one_line_and_nothing_is_written(what: str, tmp_path: Path) -> None:
    changes, arguments, message = BAD[what]
    path = npz(tmp_path, **changes)
    done = run(path, *SMALL, *arguments, "--out", tmp_path / "out" / "a")
    assert isinstance(done.exception, DfgsError)
    assert re.search(message, str(done.exception)), str(done.exception)
    assert "\n" not in str(done.exception)
    assert not (tmp_path / "out").exists()


# The README


def table_of(text: str) -> list[list[str]]:
    """The cells of the first pipe table in `text`, without its rule."""
    after = text[text.index("\n|") :].strip()
    lines = list(takewhile(lambda line: line.startswith("|"), after.splitlines()))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in [lines[0], *lines[2:]]]


def test_the_readmes_audit_is_what_its_command_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8").replace("\\\n", "")
    command = next(line for line in text.splitlines() if line.startswith("dfgs audit "))
    words = shlex.split(command)
    monkeypatch.chdir(ROOT)
    stem = tmp_path / "audit"
    done = run(*words[2 : words.index("--out")], "--out", stem, *words[words.index("--out") + 2 :])
    assert done.exit_code == 1
    assert "sampler dfgs-released:graph=text: the graph is at chance" in done.stderr
    shown = table_of(text.partition(command)[2])
    written = table_of(stem.with_suffix(".md").read_text(encoding="utf-8"))
    places = [written[0].index(name) for name in shown[0]]
    assert [[row[place] for place in places] for row in written] == shown
