"""Features of a model: right rows, stored once, keyed by everything that changes them."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dfgs import extraction
from dfgs.config import BackboneSettings, Config, InputSettings
from dfgs.data import ImageStore, Loader, decode, normalise
from dfgs.datasets.market1501 import Market1501
from dfgs.errors import DfgsError
from dfgs.extraction import embed_images, embed_targets
from dfgs.feature_store import load_features, store_features, stored
from dfgs.grid import Grid, Trial
from dfgs.models.clip import ImageEncoder, build_clip
from dfgs.provenance import read_json

Values = dict[str, Any]
CPU = torch.device("cpu")
ZERO_SHOT = Trial("a", "tiny", "zero-shot", 0)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of the small CLIP."""
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("weights") / "backbone.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in build(None).state_dict().items()}, path)
    return path


def build(path: Path | None) -> Any:
    values = {"architecture": "dfgs-small", "pretrained": None, "input_size": (64, 32), "stride": None}
    return build_clip(BackboneSettings.model_validate(values | {"last_stride": 2, "pretrain": None}), path)


def embed(values: Values, weights: Path, folder: Path) -> dict[str, Path]:
    """Embed the targets of the untuned backbone; the feature file of each dataset/split/view."""
    job = Grid(Config.parse(values)).embed_job(ZERO_SHOT)
    embed_targets(job, {"backbone": weights}, folder / "index.json", 0, CPU)
    return {view: folder / name for view, name in read_json(folder / "index.json")["features"].items()}


def expected_features(weights: Path, paths: tuple[Path, ...]) -> np.ndarray:
    """Pooled and projected features, image by image."""
    encoder = ImageEncoder(build(weights).visual, freeze_statistics=True).eval()
    rows = []
    with torch.no_grad():
        for path in paths:
            features = encoder(normalise(decode(path, (64, 32))[None], "clip"))
            rows.append(torch.cat([features.pooled, features.projected], dim=1)[0].numpy())
    return np.stack(rows)


def test_every_view_of_every_target_gets_its_images_features_in_order(
    on_disk: Values, weights: Path, world: Path, tmp_path: Path
) -> None:
    files = embed(on_disk, weights, tmp_path)
    views = [f"drawn-a/test/{view}" for view in ("query", "gallery")]
    views += [f"drawn-b/half-{i}/{view}" for i in (0, 1) for view in ("query", "gallery")]
    assert sorted(files) == sorted(views)
    dataset = Market1501("any", world)
    for view, path in files.items():
        _, split, kind = view.split("/")
        images = dataset.query(split) if kind == "query" else dataset.gallery(split)
        features = load_features(path)
        assert features.dtype == np.float32
        np.testing.assert_allclose(features, expected_features(weights, images.paths), rtol=1e-3, atol=1e-4)


def test_features_that_are_there_are_not_made_again(
    on_disk: Values, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = embed(on_disk, weights, tmp_path)

    def refuse(*_: Any) -> None:
        raise AssertionError("embedded again")

    monkeypatch.setattr(extraction, "embed_images", refuse)
    assert embed(on_disk, weights, tmp_path) == first


def test_other_weights_settings_or_pictures_get_other_files(
    on_disk: Values, weights: Path, world: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(world, moved)
    on_disk["experiments"]["main"]["targets"] = ["a"]
    on_disk["datasets"]["drawn-a"]["root"] = str(moved)

    def query_file(path: Path = weights) -> str:
        return embed(on_disk, path, tmp_path)["drawn-a/test/query"].name

    def digest() -> str:
        return str(read_json(tmp_path / "index.json")["images"]["drawn-a/test/query"])

    names = [query_file()]
    images = digest()
    on_disk["datasets"]["drawn-a"]["root"] = str(world)
    assert query_file() == names[0]  # the same pictures elsewhere
    on_disk["models"]["tiny"]["input"]["normalise"] = "half"
    names.append(query_file())
    on_disk["models"]["tiny"]["test"]["features"] = ["projected"]
    names.append(query_file())
    other = tmp_path / "other.safetensors"
    state = build(weights).state_dict()
    state["visual.conv1.weight"] = state["visual.conv1.weight"] + 1
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, other)
    names.append(query_file(other))
    assert digest() == images
    on_disk["datasets"]["drawn-a"]["root"] = str(moved)
    # A world that is drawn anew may keep every name.
    pictures = sorted((moved / "query").iterdir())
    shutil.copyfile(pictures[1], pictures[0])
    names.append(query_file(other))
    assert len(set(names)) == 5
    assert digest() != images


def test_a_trained_tower_replaces_the_backbones(on_disk: Values, weights: Path, world: Path, tmp_path: Path) -> None:
    visual = build(weights).visual.state_dict()
    visual["attnpool.c_proj.bias"] = visual["attnpool.c_proj.bias"] + 7
    save_file({name: tensor.contiguous() for name, tensor in visual.items()}, tmp_path / "trained.safetensors")
    before = embed(on_disk, weights, tmp_path)
    job = Grid(Config.parse(on_disk)).embed_job(Trial("a", "tiny", "pk", 0))
    given = {"backbone": weights, "trained": tmp_path / "trained.safetensors"}
    embed_targets(job, given, tmp_path / "trained.json", 0, CPU)
    index = read_json(tmp_path / "trained.json")
    assert (index["distance"], index["normalise"]) == ("euclidean", False)
    for view, name in index["features"].items():
        untuned, tuned = load_features(before[view]), load_features(tmp_path / name)
        np.testing.assert_allclose(tuned[:, -128:], untuned[:, -128:] + 7, rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(tuned[:, :-128], untuned[:, :-128])


def test_a_spoilt_target_image_is_named(on_disk: Values, weights: Path, world: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(world, copy)
    bad = min((copy / "query").iterdir())
    bad.write_bytes(bad.read_bytes()[:300])
    on_disk["datasets"]["drawn-a"]["root"] = str(copy)
    with pytest.raises(DfgsError, match=f"^image {bad} cannot be read"):
        embed(on_disk, weights, tmp_path)


@pytest.mark.parametrize("training", [True, False])
def test_embedding_does_not_depend_on_the_chunks_and_leaves_the_mode_alone(
    weights: Path, world: Path, monkeypatch: pytest.MonkeyPatch, training: bool
) -> None:
    encoder = ImageEncoder(build(weights).visual, freeze_statistics=False).train(training)
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    store = ImageStore(sorted((world / "query").iterdir()), (64, 32))
    augment = dict.fromkeys(("grey", "pad", "flip", "jitter", "augmix", "erase"), 0)
    loader = Loader(
        store, InputSettings.model_validate({"normalise": "clip", "augment": augment}), augment=False, workers=0
    )
    indices = [3, 1, 4, 1, 5, 0, 2]
    whole = embed_images(encoder, loader, indices, ["intermediate", "projected"], CPU)
    monkeypatch.setattr(extraction, "EMBED_BATCH", 3)
    parts = embed_images(encoder, loader, indices, ["intermediate", "projected"], CPU)
    torch.testing.assert_close(whole, parts, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(whole[1], whole[3])
    assert whole.shape == (7, 64 * 4 + 128)
    assert not whole.requires_grad
    assert not whole.is_inference()
    assert encoder.training == training
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())


def test_stored_features_read_back_and_a_damaged_file_is_named(tmp_path: Path) -> None:
    features = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    path = tmp_path / "f.npy"
    assert not stored(path)
    store_features(features, path)
    assert stored(path)
    np.testing.assert_array_equal(load_features(path), features)
    for text in (path.read_bytes()[:70], b"", b"not an array"):
        path.write_bytes(text)
        with pytest.raises(DfgsError, match=r"cannot read features .*f\.npy: .*; remove it and run again"):
            load_features(path)
    path.unlink()
    with pytest.raises(DfgsError, match=r"f\.npy"):
        load_features(path)
