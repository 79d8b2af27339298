"""The trained image tower as a file: its weights, and its camera embedding where it has one."""

import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import nn

from dfgs.errors import DfgsError
from dfgs.models.cameras import CameraEmbedding
from dfgs.models.clip import ImageEncoder
from dfgs.models.weights import read_tensors, take_state
from dfgs.provenance import write_bytes

TABLE = "cameras.table"


def candidate_path(weights: Path, epoch: int) -> Path:
    """Return where the candidate of `epoch` lies, beside the `weights` of the last one."""
    return weights.parent / "candidates" / f"epoch-{epoch}.safetensors"


def save_tower(encoder: ImageEncoder, path: Path) -> None:
    """Write the image tower of stage 2, whole or not at all; the cameras' names go into the file's metadata."""
    tensors, metadata = dict(encoder.visual.state_dict()), None
    if encoder.cameras is not None:
        tensors[TABLE] = encoder.cameras.table.detach()
        metadata = {"cameras": json.dumps(encoder.cameras.cameras)}
    write_bytes(path, save({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, metadata=metadata))


def load_tower(visual: nn.Module, path: Path, freeze_statistics: bool, coefficient: float | None) -> ImageEncoder:
    """Read what `save_tower` wrote into `visual`; `coefficient` is the configuration's `camera_embedding`.

    Raises `DfgsError` for a file of another model, or one that has cameras where the configuration has none.
    """
    state = read_tensors(path)
    table = state.pop(TABLE, None)
    take_state(visual, state, path)
    if (table is None) != (coefficient is None):
        has = "no" if table is None else "a"
        raise DfgsError(f"weights {path} have {has} camera embedding, camera_embedding is {coefficient}; train anew")
    if table is None or coefficient is None:
        return ImageEncoder(visual, freeze_statistics)
    with safe_open(path, "pt") as file:
        named = [(str(dataset), int(camid)) for dataset, camid in json.loads(file.metadata()["cameras"])]
    cameras = CameraEmbedding(named, table.shape[1], coefficient, torch.Generator())
    take_state(cameras, {"table": table}, path)
    return ImageEncoder(visual, freeze_statistics, cameras)
