"""Features of a trained model for its own training images: what an audit of samplers looks at."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dfgs.config import BackboneSettings, InputSettings, TestSettings
from dfgs.data import Loader
from dfgs.errors import DfgsError
from dfgs.extraction import embed_images
from dfgs.models.clip import build_clip
from dfgs.models.precision import Arithmetic
from dfgs.models.towers import load_tower
from dfgs.provenance import digest_file, read_json, whole_file
from dfgs.training.source import load_source

log = logging.getLogger(__name__)


def embed_source(record: Path, output: Path, workers: int, device: torch.device) -> None:
    """Embed the training images of a trained run, of which `record` is the record.json, and write them to `output`.

    `output` is a .npz that `dfgs score` reads: `features` float32 (n, d), as a sampler gets them (those of the model's
    test settings, not normalised); `pids` int64 (n,), 1 to N in the run's order (0 would be a distractor); `camids`,
    `domains` int64 (n,); `paths` (n,), absolute. Raises `DfgsError` for another suffix, another file than a record,
    and weights that are missing or not those of the record.
    """
    if output.suffix != ".npz":
        raise DfgsError(f"{output}: the suffix is {output.suffix!r}; features are written to a .npz")
    job, weights = _run(record)
    backbone, test = BackboneSettings.model_validate(job["backbone"]), TestSettings.model_validate(job["test"])
    clip = build_clip(backbone.model_copy(update={"pretrained": None}), None)
    encoder = load_tower(clip.visual, weights, job["freeze_statistics"], job.get("camera_embedding"))
    encoder.compute_as(Arithmetic.of(job, device)).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    source = load_source(job["source"], backbone)
    loader = Loader(
        source.store, InputSettings.model_validate(job["input"]), augment=False, workers=workers, device=device
    )
    features = embed_images(encoder, loader, range(len(source.store)), test.features, device).numpy()
    labels, paths = source.labels, np.array([str(path.resolve()) for path in source.store.paths])
    with whole_file(output) as partial, partial.open("wb") as handle:
        np.savez(
            handle, features=features, pids=labels.pids + 1, camids=labels.camids, domains=labels.domains, paths=paths
        )
    log.info("%s: %d images of %d identities, %d features", output, len(features), source.identities, features.shape[1])


def _run(record: Path) -> tuple[dict[str, Any], Path]:
    """Read the job of a run and find its weights beside the record."""
    found = read_json(record)
    if not isinstance(found, dict) or not {"job", "weights"} <= set(found):
        raise DfgsError(f"{record}: expected the record.json of a trained run, with the keys job and weights")
    weights = record.with_name("weights.safetensors")
    if not weights.is_file():
        raise DfgsError(f"{weights}: no such file; expected the weights of {record.name} beside it")
    if digest_file(weights) != found["weights"]:
        raise DfgsError(f"{weights} are not those that {record} tells of; train the run again")
    return found["job"], weights
