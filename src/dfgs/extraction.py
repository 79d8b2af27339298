"""Image features: of a trained model for all its targets, stored by content, and of the current model for a graph."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dfgs.config import BackboneSettings, InputSettings, TestSettings
from dfgs.data import ImageStore, Loader
from dfgs.datasets import open_dataset
from dfgs.datasets.base import Ids
from dfgs.feature_store import model_key, store_features, stored, view_file
from dfgs.images import image_bytes
from dfgs.models.clip import ImageEncoder, build_clip
from dfgs.models.memory import memory_named
from dfgs.models.precision import Arithmetic
from dfgs.models.towers import candidate_path, load_tower
from dfgs.provenance import digest_bytes, digest_file, digest_json, write_json

EMBED_BATCH = 256
LAST = "last"
log = logging.getLogger(__name__)


def embed_images(
    encoder: ImageEncoder, loader: Loader, indices: Sequence[int], names: Sequence[str], device: torch.device
) -> Tensor:
    """Embed images in eval mode without gradients: float32 (len(indices), d), the features `names` side by side.

    The encoder's mode is left as it was found.
    """
    was_training = encoder.training
    encoder.eval()
    batches = [indices[i : i + EMBED_BATCH] for i in range(0, len(indices), EMBED_BATCH)]
    rows = []
    with torch.inference_mode():
        for images, loaded in loader.load(batches):
            with memory_named("embedding", images.shape, "free the GPU of other jobs, or embed with --device cpu"):
                rows.append(encoder(images.to(device), loader.camera_rows(loaded)).joined(names).cpu())
    encoder.train(was_training)
    return torch.cat(rows).clone()


def embed_targets(
    job: dict[str, Any], weights: dict[str, Path], output: Path, workers: int, device: torch.device
) -> None:
    """Embed every view of every target dataset of a trained model; features that are there already are kept.

    `weights` holds `trained` (image tower of stage 2) or `backbone` (the untuned one). `output` is an index that names
    the feature file of each (dataset, split, view), with what else `feature_store.INDEX` lists; files are keyed by
    weights, image files and preprocessing. A job with `selection` has the candidates beside `trained` embedded too, and
    the validation identities of the source with all of them. The log tells the size of the files.
    """
    models = {name: _model(job, paths, device) for name, paths in _all_weights(job, weights).items()}
    views = _views(job)
    names = {view.key: _embed_view(job, view, models, output.parent, workers) for view in views}
    files = {name for of_models in names.values() for name in of_models.values()}
    total = sum((output.parent / name).stat().st_size for name in files)
    log.info("features in %s: %d files, %.1f MB", output.parent, len(files), total / 1e6)
    index = {model: {key: of_models[model] for key, of_models in names.items()} for model in models}
    write_json(output, {**_described(job), "images": {view.key: view.digest for view in views}, **_by_model(index)})


def _embed_view(
    job: dict[str, Any], view: "_View", models: dict[str, "_Model"], folder: Path, workers: int
) -> dict[str, str]:
    """Embed a view with every model that has not seen it; return the names of the files in `folder`, by model."""
    files = {name: folder / view_file(model.key, view.digest) for name, model in models.items()}
    missing = [name for name, file in files.items() if not stored(file)]
    if missing:
        log.info("embedding %s: %d images", view.key.replace("/", " "), len(view.paths))
        cameras = models[missing[0]].encoder.cameras
        seen = cameras.rows(view.dataset, view.camids.tolist()) if cameras else None
        size, is_seen_again = BackboneSettings.model_validate(job["backbone"]).input_size, len(missing) > 1
        store = ImageStore(view.paths, size, seen, keep=is_seen_again or workers == 0)
        settings, device = InputSettings.model_validate(job["input"]), models[missing[0]].encoder.device
        loader = Loader(store, settings, augment=False, workers=workers, device=device)
    for name in missing:
        encoder, features = models[name].encoder, TestSettings.model_validate(job["test"]).features
        rows = range(len(store))
        store_features(embed_images(encoder, loader, rows, features, encoder.device).numpy(), files[name])
    return {name: file.name for name, file in files.items()}


def _described(job: dict[str, Any]) -> dict[str, Any]:
    """Write down what decides a number beside weights and images."""
    test, size = job["test"], job["backbone"]["input_size"]
    settings = {"features": test["features"], "input": size}
    return {
        "datasets": job["datasets"],
        "distance": test["distance"],
        "normalise": test["normalise"],
        "settings": settings,
    }


def _by_model(index: dict[str, dict[str, str]]) -> dict[str, Any]:
    """Tell the last model's files apart from those of the candidates, where there are any."""
    last = {"features": index.pop(LAST)}
    return {**last, "candidates": index} if index else last


@dataclass(frozen=True, slots=True)
class _Model:
    """An encoder, and the digest of all that decides its features but the images."""

    encoder: ImageEncoder
    key: str


def _all_weights(job: dict[str, Any], weights: dict[str, Path]) -> dict[str, dict[str, Path]]:
    """Name the weights of each model to embed with: the last one's, and every candidate's by its epoch."""
    epochs = job.get("selection", {}).get("epochs", ())
    return {LAST: weights} | {str(epoch): {"trained": candidate_path(weights["trained"], epoch)} for epoch in epochs}


def _model(job: dict[str, Any], weights: dict[str, Path], device: torch.device) -> _Model:
    clip = build_clip(BackboneSettings.model_validate(job["backbone"]), weights.get("backbone"))
    frozen, coefficient = job["freeze_statistics"], job.get("camera_embedding")
    if "trained" in weights:
        encoder = load_tower(clip.visual, weights["trained"], frozen, coefficient)
    else:
        encoder = ImageEncoder(clip.visual, frozen)
    encoder.compute_as(Arithmetic.of(job, device)).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    files = {name: digest_file(path) for name, path in weights.items()}
    return _Model(encoder, model_key(files, job))


@dataclass(frozen=True, slots=True)
class _View:
    """The images of one view, without their identities: only the digest, which names them, has seen those."""

    key: str
    dataset: str
    paths: tuple[Path, ...]
    camids: Ids
    digest: str


def _views(job: dict[str, Any]) -> list[_View]:
    parts = [*job["datasets"], *(part | {"splits": ["val"]} for part in job.get("selection", {}).get("datasets", ()))]
    views = {}
    for part in parts:
        dataset = open_dataset(part)
        for split in part["splits"]:
            for view, images in (("query", dataset.query(split)), ("gallery", dataset.gallery(split))):
                key = f"{part['name']}/{split}/{view}"
                digest = digest_json([images.digest(dataset.root), _contents(images.paths)])
                views[key] = _View(key, part["name"], images.paths, images.camids, digest)
    return list(views.values())


def _contents(paths: Sequence[Path]) -> str:
    """Digest the image files; a world that is drawn anew may keep every name."""
    return digest_json([digest_bytes(image_bytes(path)) for path in paths])
