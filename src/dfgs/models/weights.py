"""Weight files: read without running anything in them, found, and checked key for key against the model."""

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from dfgs.config import BackboneSettings, is_weight_file
from dfgs.errors import DfgsError, did_you_mean
from dfgs.models.torchscript import is_torchscript
from dfgs.provenance import digest_file, read_json
from dfgs.vision import open_clip

NOT_WEIGHTS = ("input_resolution", "context_length", "vocab_size", "attn_mask")
"""Entries of OpenAI's archives that are facts of the model or can be computed."""
ACTIVATIONS = {True: "QuickGELU", False: "GELU"}
SHOWN = 3


class Facts(BaseModel):
    """What `dfgs convert-weights` writes beside a weight file; `weights` is that file's digest.

    `stride` is the step between patches, of a ResNet the stride of its last stage.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: str
    quick_gelu: bool
    input_size: tuple[int, int]
    stride: int
    weights: str


def weights_folder() -> Path:
    """Return where `dfgs fetch-weights` keeps weights: $DFGS_WEIGHTS, else `~/.cache/dfgs/weights`."""
    return Path(os.environ.get("DFGS_WEIGHTS", "~/.cache/dfgs/weights")).expanduser()


def fetched(architecture: str, tag: str) -> Path:
    """Return the file that `dfgs fetch-weights ARCHITECTURE TAG` writes."""
    return weights_folder() / f"{architecture.replace('/', '-')}.{tag}.safetensors"


def find_weights(settings: BackboneSettings) -> Path:
    """Return the local file that `settings.pretrained` (a file or a tag) stands for; never asks the network."""
    pretrained = str(settings.pretrained)
    if is_weight_file(pretrained):
        return Path(pretrained)
    check_tag(settings.architecture, pretrained)
    path = fetched(settings.architecture, pretrained)
    if not path.is_file():
        raise DfgsError(
            f"backbone: weights {pretrained!r} of {settings.architecture} are not at {path}, and jobs do not use the "
            f"network; run once, where there is one: dfgs fetch-weights {settings.architecture} {pretrained}"
        )
    return path


def check_tag(architecture: str, tag: str) -> None:
    """Raise `DfgsError` if open_clip knows no weights called `tag` for an architecture."""
    known = open_clip.pretrained.list_pretrained_tags_by_model(architecture)
    if tag not in known:
        near = did_you_mean(tag, known) if known else " (it has none; give a file)"
        raise DfgsError(f"backbone: open_clip has no weights {tag!r} for {architecture}{near}")


def check_activation(what: str, quick_gelu: bool, architecture: str) -> None:
    """Raise `DfgsError` if weights were trained with another activation than the architecture computes."""
    has = bool(open_clip.get_model_config(architecture).get("quick_gelu", False))
    if has != quick_gelu:
        raise DfgsError(
            f"{what} were trained with {ACTIVATIONS[quick_gelu]}, architecture {architecture} computes "
            f"{ACTIVATIONS[has]}; take the one {'with' if quick_gelu else 'without'} -quickgelu in its name"
        )


def read_facts(path: Path) -> Facts | None:
    """Read the JSON beside a weight file; None where there is none, `DfgsError` where it is another file's."""
    beside = path.with_suffix(".json")
    if not beside.exists():
        return None
    try:
        facts = Facts.model_validate(read_json(beside))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DfgsError(f"{beside}: {where}: {first['msg']}; write it anew with dfgs convert-weights") from error
    if facts.weights != digest_file(path):
        raise DfgsError(f"{beside} describes other weights than {path}; convert them again")
    return facts


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a stranger's state dict (safetensors, or a `.pt` with nothing but tensors) by name.

    Wrappings of training scripts (`state_dict`, `module.`) are taken off. Raises `DfgsError` for what is no such file;
    no code in it is run.
    """
    kind = _kind(path)
    try:
        found: Any = load_file(path) if kind == "safetensors" else _load_pickle(path)
    except DfgsError:
        raise
    except Exception as error:  # what a hostile file raises is up to its author
        raise DfgsError(f"cannot read weights {path}: {_reason(error)}") from error
    found = found.get("state_dict", found) if isinstance(found, dict) else found
    if not isinstance(found, dict) or not all(isinstance(t, Tensor) for t in found.values()) or not found:
        raise DfgsError(f"weights {path} hold a {_describe(found)}, expected tensors by name (a state dict)")
    return {str(name).removeprefix("module."): tensor for name, tensor in found.items() if name not in NOT_WEIGHTS}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file that this package wrote; `DfgsError` names one that is missing or damaged."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise DfgsError(f"cannot load weights {path}: {_reason(error)}") from error


def load_weights(module: nn.Module, path: Path) -> None:
    """Load a safetensors file that holds exactly the state of `module`; `DfgsError` names what disagrees."""
    take_state(module, read_tensors(path), path)


def take_state(module: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Load `state` into `module`, cast to its types; `DfgsError` names entries that are missing, unknown or unfit."""
    expected = module.state_dict()
    both = sorted(expected.keys() & state.keys())
    shapes = [
        f"{name} (file {tuple(state[name].shape)}, model {tuple(expected[name].shape)})"
        for name in both
        if state[name].shape != expected[name].shape
    ]
    types = [
        f"{name} ({state[name].dtype})"
        for name in both
        if state[name].is_floating_point() != expected[name].is_floating_point()
    ]
    faults = {
        "missing": sorted(expected.keys() - state.keys()),
        "unknown": sorted(state.keys() - expected.keys()),
        "of another shape": shapes,
        "of another type": types,
    }
    if any(faults.values()):
        listed = "; ".join(f"{len(names)} {fault}: {_few(names)}" for fault, names in faults.items() if names)
        raise DfgsError(f"cannot load weights {path} into {type(module).__name__}: {listed}")
    infinite = [name for name in both if not bool(torch.isfinite(state[name]).all())]
    if infinite:
        raise DfgsError(f"weights {path}: {len(infinite)} tensors are not finite: {_few(infinite)}")
    module.load_state_dict(state)


def _few(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")


def _kind(path: Path) -> str:
    """Tell a file's format by its first bytes: a name says what somebody wished."""
    try:
        with path.open("rb") as handle:
            head = handle.read(16)
    except OSError as error:
        raise DfgsError(f"cannot read weights {path}: {error.strerror}") from error
    if head.startswith(b"PK"):
        return "zip"
    if head[8:9] == b"{":
        return "safetensors"
    if head.startswith(b"\x80"):
        return "pickle"
    begins = f"it begins with {head!r}" if head else "the file is empty"
    raise DfgsError(f"cannot read weights {path}: {begins}; expected a safetensors file or a .pt state dict")


def _load_pickle(path: Path) -> Any:
    if _kind(path) == "zip" and is_torchscript(path):
        raise DfgsError(
            f"weights {path} are a TorchScript archive; convert them once: dfgs convert-weights {path} OUT.safetensors"
        )
    return torch.load(path, map_location="cpu", weights_only=True)


def _describe(found: Any) -> str:
    if isinstance(found, dict) and found:
        odd = next(name for name, value in found.items() if not isinstance(value, Tensor))
        return f"{type(found[odd]).__name__} called {odd!r}"
    return f"{type(found).__name__}"


def _reason(error: Exception) -> str:
    """Put an error into a few words; torch's longer ones end with advice to load the file unsafely."""
    if isinstance(error, pickle.UnpicklingError):
        return "it is more than tensors, or damaged; nothing in it was run"
    if isinstance(error, zipfile.BadZipFile | EOFError) or "zip archive" in str(error):
        return "the archive is damaged or cut short"
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
