"""Bring weights home once: a stranger's file converted apart from the network, or a tag fetched over it."""

import json
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from dfgs.errors import DfgsError
from dfgs.models.clip import architectures, check_architecture, geometry, random_clip, set_input_size
from dfgs.models.torchscript import is_torchscript, read_torchscript
from dfgs.models.weights import (
    ACTIVATIONS,
    NOT_WEIGHTS,
    Facts,
    check_activation,
    check_tag,
    fetched,
    read_weights,
    take_state,
)
from dfgs.provenance import digest_file, write_bytes, write_json
from dfgs.vision import open_clip

ALONE = (
    "import sys; from dfgs.isolation import cut_network; cut_network(); "
    "from dfgs.models.conversion import main; main(sys.argv[1])"
)
TIME_LIMIT = 1800


def convert_weights(source: Path, output: Path, known: Mapping[str, Any]) -> None:
    """Convert a weight file to `output` (safetensors) and the JSON beside it, in a process without network.

    `source` is OpenAI's TorchScript archive or a state dict in its layout. `known` may hold what the file does not
    tell: `architecture`, `quick_gelu`, `input_size`, `stride`. Raises `DfgsError` for a file that is no such thing; no
    code of it is run.
    """
    job = json.dumps({"source": str(source), "output": str(output), "known": dict(known)})
    try:
        done = subprocess.run([sys.executable, "-c", ALONE, job], capture_output=True, text=True, timeout=TIME_LIMIT)
    except subprocess.TimeoutExpired as error:
        raise DfgsError(f"converting {source} took more than {TIME_LIMIT} s; the file is no weight file") from error
    if done.returncode == 2:
        raise DfgsError(done.stderr.strip().splitlines()[-1])
    if done.returncode < 0:
        raise DfgsError(f"converting {source} was killed by signal {-done.returncode}; the file may be damaged")
    if done.returncode:
        raise RuntimeError(f"converting {source} failed:\n{done.stderr}")


def main(job: str) -> None:
    """Do what `convert_weights` asks for, in the process that it starts."""
    given = json.loads(job)
    try:
        _convert(Path(given["source"]), Path(given["output"]), given["known"])
    except DfgsError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


def fetch_weights(architecture: str, tag: str) -> Path:
    """Download the weights `tag` of an open_clip architecture and keep them where jobs look for them; return the file.

    The only function that uses the network. Raises `DfgsError` for an unknown name, an activation that the weights
    were not trained with, and a failed download.
    """
    check_architecture(architecture)
    check_tag(architecture, tag)
    trained = bool(open_clip.pretrained.get_pretrained_cfg(architecture, tag).get("quick_gelu", False))
    check_activation(f"weights {tag!r}", trained, architecture)
    try:
        clip = open_clip.create_model(architecture, pretrained=tag, precision="fp32")
    except (RuntimeError, OSError) as error:
        raise DfgsError(f"cannot fetch {tag!r} of {architecture}: {str(error).splitlines()[0]}") from error
    path = fetched(architecture, tag)
    size, stride = geometry(clip.visual)
    facts = {"architecture": architecture, "quick_gelu": trained, "input_size": size, "stride": stride}
    _write(dict(clip.state_dict()), facts, path)
    return path


def _convert(source: Path, output: Path, known: dict[str, Any]) -> None:
    if output.suffix != ".safetensors":
        raise DfgsError(f"OUT is {output}; expected a name that ends with .safetensors")
    state, activation = _read(source)
    quick_gelu = known.get("quick_gelu", activation)
    if quick_gelu is None:
        raise DfgsError(f"weights {source} do not tell their activation; give --activation quickgelu or gelu")
    if activation not in (None, quick_gelu):
        raise DfgsError(
            f"weights {source} were trained with {ACTIVATIONS[not quick_gelu]}, --activation says "
            f"{ACTIVATIONS[quick_gelu]}; leave it out"
        )
    architecture = known.get("architecture") or _recognise(state, quick_gelu, source)
    check_architecture(architecture)
    check_activation(f"weights {source}", quick_gelu, architecture)
    clip = random_clip(architecture)
    size, stride = geometry(clip.visual)
    size, stride = tuple(known.get("input_size", size)), known.get("stride", stride)
    set_input_size(clip.visual, size, stride)
    take_state(clip, state, source)
    facts = {"architecture": architecture, "quick_gelu": quick_gelu, "input_size": size, "stride": stride}
    _write(state, facts, output)


def _read(source: Path) -> tuple[dict[str, Tensor], bool | None]:
    """Return the state dict in a file, and whether its activation is QuickGELU (None: it does not tell)."""
    try:
        archived = source.is_file() and zipfile.is_zipfile(source) and is_torchscript(source)
        if not archived:
            return read_weights(source), None
        state, classes = read_torchscript(source)
    except DfgsError:
        raise
    except pickle.UnpicklingError as error:
        raise DfgsError(f"cannot read weights {source}: {error}; nothing in it was run") from error
    except Exception as error:  # what a hostile archive raises is up to its author
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise DfgsError(f"cannot read weights {source}: the archive is damaged: {reason}") from error
    activation = True if "QuickGELU" in classes else False if "GELU" in classes else None
    return {name: tensor for name, tensor in state.items() if name not in NOT_WEIGHTS}, activation


def _recognise(state: dict[str, Tensor], quick_gelu: bool, source: Path) -> str:
    """Name the open_clip architecture of a state dict in OpenAI's layout by its sizes."""
    try:
        sizes = _sizes(state)
    except (KeyError, IndexError) as error:
        raise DfgsError(
            f"weights {source} are no CLIP model in OpenAI's layout: {error.args[0]} is missing or no matrix"
        ) from error
    fitting: list[str] = []
    for name in architectures():
        config = open_clip.get_model_config(name)
        if bool(config.get("quick_gelu", False)) == quick_gelu and _sizes_of(config) == sizes:
            fitting.append(name)
    if not fitting:
        raise DfgsError(
            f"weights {source}: open_clip has no {ACTIVATIONS[quick_gelu]} architecture of {sizes}; give --architecture"
        )
    return min(fitting, key=lambda name: (len(name), name))


def _sizes(state: dict[str, Tensor]) -> dict[str, Any]:
    """Return the sizes that tell one architecture from another."""
    blocks = [name for name in state if name.endswith(".attn.in_proj_weight")]
    if "visual.proj" in state:
        width, _, _, patch = state["visual.conv1.weight"].shape + (0,) * (4 - state["visual.conv1.weight"].ndim)
        layers: Any = sum(name.startswith("visual.") for name in blocks)
    else:
        width, patch = state["visual.layer1.0.conv1.weight"].shape[0], None
        layers = [len({n.split(".")[2] for n in state if n.startswith(f"visual.layer{i}.")}) for i in range(1, 5)]
    return {
        "embed_dim": state["text_projection"].shape[1],
        "width": width,
        "layers": layers,
        "patch": patch,
        "text_width": state["token_embedding.weight"].shape[1],
        "text_layers": sum(name.startswith("transformer.") for name in blocks),
        "vocabulary": state["token_embedding.weight"].shape[0],
    }


def _sizes_of(config: dict[str, Any]) -> dict[str, Any] | None:
    """Return the same sizes of an open_clip configuration; None for one of another layout."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    if config.get("custom_text") or "timm_model_name" in vision or "hf_model_name" in text:
        return None
    layers = vision.get("layers", 12)
    return {
        "embed_dim": config["embed_dim"],
        "width": vision.get("width", 768),
        "layers": layers,
        "patch": None if isinstance(layers, list) else vision.get("patch_size", 16),
        "text_width": text.get("width", 512),
        "text_layers": text.get("layers", 12),
        "vocabulary": text.get("vocab_size", 49408),
    }


def _write(state: dict[str, Tensor], facts: dict[str, Any], output: Path) -> None:
    """Write weights, and the JSON that says which they are after them."""
    write_bytes(output, save({name: tensor.contiguous() for name, tensor in state.items()}))
    described = Facts.model_validate({**facts, "weights": digest_file(output)})
    write_json(output.with_suffix(".json"), described.model_dump(mode="json"))
