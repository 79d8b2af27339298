"""Image features: of a trained model for all its targets, stored by content, and of the current model for a graph."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dfgs.config import BackboneSettings, InputSettings, TestSettings
from dfgs.data import ImageStore, Loader
from dfgs.datasets import open_dataset
from dfgs.datasets.base import Images
from dfgs.feature_store import store_features, stored
from dfgs.images import image_bytes
from dfgs.models.clip import ImageEncoder, build_clip
from dfgs.models.towers import load_tower
from dfgs.provenance import digest_bytes, digest_file, digest_json, write_json

EMBED_BATCH = 256
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
            rows.append(encoder(images.to(device), loader.camera_rows(loaded)).joined(names).cpu())
    encoder.train(was_training)
    return torch.cat(rows).clone()


def embed_targets(
    job: dict[str, Any], weights: dict[str, Path], output: Path, workers: int, device: torch.device
) -> None:
    """Embed every view of every target dataset of a trained model; features that are there already are kept.

    `weights` holds `trained` (image tower of stage 2) or `backbone` (the untuned one). `output` is an index that names
    the feature file of each (dataset, split, view), with what else `feature_store.INDEX` lists; files are keyed by
    weights, image files and preprocessing. The log tells their size.
    """
    backbone = BackboneSettings.model_validate(job["backbone"])
    settings, test = InputSettings.model_validate(job["input"]), TestSettings.model_validate(job["test"])
    clip = build_clip(backbone, weights.get("backbone"))
    frozen, coefficient = job["freeze_statistics"], job.get("camera_embedding")
    if "trained" in weights:
        encoder = load_tower(clip.visual, weights["trained"], frozen, coefficient)
    else:
        encoder = ImageEncoder(clip.visual, frozen)
    encoder.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    model_key = digest_json(
        [
            {name: digest_file(path) for name, path in weights.items()},
            job["backbone"],
            settings.normalise,
            test.features,
        ]
    )
    index: dict[str, str] = {}
    digests: dict[str, str] = {}
    for dataset, split, view, images, root in _views(job):
        key = f"{dataset}/{split}/{view}"
        digests[key] = digest_json([images.digest(root), _contents(images)])
        file = output.parent / f"{digest_json([model_key, digests[key]])}.npy"
        index[key] = file.name
        if not stored(file):
            cameras = encoder.cameras.rows(dataset, images.camids.tolist()) if encoder.cameras else None
            store = ImageStore(images.paths, backbone.input_size, cameras)
            loader = Loader(store, settings, augment=False, workers=workers)
            log.info("embedding %s %s %s: %d images", dataset, split, view, len(images))
            features: NDArray[np.float32] = embed_images(
                encoder, loader, range(len(images)), test.features, device
            ).numpy()
            store_features(features, file)
    size = sum((output.parent / name).stat().st_size for name in index.values())
    log.info("features in %s: %d files, %.1f MB", output.parent, len(index), size / 1e6)
    described = {"datasets": job["datasets"], "distance": test.distance, "normalise": test.normalise}
    settings_of_numbers = {"features": test.features, "input": backbone.input_size}
    write_json(output, {"features": index, "images": digests, **described, "settings": settings_of_numbers})


def _contents(images: Images) -> str:
    """Digest the image files; a world that is drawn anew may keep every name."""
    return digest_json([digest_bytes(image_bytes(path)) for path in images.paths])


def _views(job: dict[str, Any]) -> list[tuple[str, str, str, Images, Path]]:
    views = []
    for part in job["datasets"]:
        dataset = open_dataset(part)
        for split in part["splits"]:
            views.append((part["name"], split, "query", dataset.query(split), dataset.root))
            views.append((part["name"], split, "gallery", dataset.gallery(split), dataset.root))
    return views
