"""Checks of files: every digest is that of the file it stands for. Each yields None, or a fault in words."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from dfgs.drawn.world import DomainSpec, differing_files
from dfgs.errors import DfgsError
from dfgs.feature_store import model_key, read_index, view_file
from dfgs.page.crate import CRATE, sha256
from dfgs.provenance import digest_file, read_json

Faults = Iterator[str | None]
"""One item per thing that was checked: None, or what is wrong with it."""


def weights(results: Path) -> Faults:
    """Every record tells the digest of its weights, and of the prompts where it names them."""
    for path in sorted(results.glob("runs/**/record.json")):
        record = read_json(path)
        yield _differs(path.with_name("weights.safetensors"), record["weights"], path)
        for epoch, digest in record.get("candidates", {}).items():
            yield _differs(path.parent / "candidates" / f"epoch-{epoch}.safetensors", digest, path)
        if "prompts" in record:
            trial = record["trial"]
            prompts = results / "prompts" / trial["source"] / trial["model"] / f"s{trial['seed']}.safetensors"
            yield _differs(prompts, record["prompts"], path)


def _differs(file: Path, digest: str, record: Path) -> str | None:
    if not file.is_file():
        return f"{file} is missing; {record} names it"
    found = digest_file(file)
    return None if found == digest else f"{file}: its digest is {found}, {record} says {digest}"


def prompts(results: Path) -> Faults:
    """Every prompt file tells the training images that it was learned on, one identity per row of its texts."""
    for path in sorted(results.glob("prompts/**/*.safetensors")):
        header = _header(path)
        is_whole = "source" in header.get("__metadata__", {}) and {"contexts", "text"} <= header.keys()
        yield None if is_whole else f"{path}: it does not tell its source, or lacks contexts or texts"


def _header(path: Path) -> dict[str, Any]:
    """Read the JSON head of a safetensors file and check that the file is as long as it says."""
    try:
        with path.open("rb") as handle:
            (size,) = struct.unpack("<Q", handle.read(8))
            header: dict[str, Any] = json.loads(handle.read(size))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    except (OSError, ValueError, struct.error, KeyError, TypeError, OverflowError, MemoryError) as error:
        raise DfgsError(f"cannot read {path}: {error}") from error
    if path.stat().st_size != 8 + size + max(ends, default=0):
        raise DfgsError(f"{path}: it is {path.stat().st_size} bytes long, its head says {8 + size + max(ends)}")
    return header


def features(results: Path) -> Faults:
    """Every feature file that an index names is there, whole, and of the weights and images that it stands for."""
    for index in sorted(results.glob("features/**/index.json")):
        found, keys = read_index(index), _model_keys(index, results)
        lists = {"": found["features"], **found.get("candidates", {})}
        for epoch, names in lists.items():
            for view, name in sorted(names.items()):
                key = keys.get(epoch)
                wanted = None if key is None else view_file(key, found["images"][view])
                yield _feature_fault(index.with_name(name), wanted)


def _model_keys(index: Path, results: Path) -> dict[str, str]:
    """Return the `model_key` of the last model ("") and of each candidate by its epoch.

    The untuned backbone has no record; its job is that of any training of its model, and without one it has no key.
    """
    place = index.parent.relative_to(results / "features")
    folder, model = results / "runs" / place, place.parts[1]
    records = [folder / "record.json", *sorted(results.glob(f"runs/*/{model}/*/s*/record.json"))]
    record = next((path for path in records if path.is_file()), None)
    if record is None:
        return {}
    job = read_json(record)["job"]
    reports = [
        path for path in sorted(results.glob("backbones/*/report.json")) if read_json(path)["job"] == job["backbone"]
    ]
    weights = {"backbone": digest_file(reports[0].with_name("weights.safetensors"))} if reports else {}
    if record != records[0]:
        return {"": model_key(weights, job)}
    candidates = {path.stem.removeprefix("epoch-"): path for path in folder.glob("candidates/epoch-*.safetensors")}
    keys = {epoch: model_key({"trained": digest_file(path)}, job) for epoch, path in candidates.items()}
    last = folder / "weights.safetensors"
    return keys | ({"": model_key(weights | {"trained": digest_file(last)}, job)} if last.is_file() else {})


def _feature_fault(file: Path, wanted: str | None) -> str | None:
    if not file.is_file():
        return f"{file} is missing; the index beside it names it"
    if wanted is not None and file.name != wanted:
        return f"{file}: these features are not of the weights and images that the index stands for, those are {wanted}"
    try:
        rows = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        return f"{file}: {error}"
    return None if np.isfinite(rows).all() else f"{file}: not every feature is a finite number"


def worlds(results: Path) -> Faults:
    """Every drawn dataset is drawn anew, picture by picture, and held against its files and its manifest."""
    for manifest in sorted(results.glob("worlds/*.json")):
        said, root = read_json(manifest), manifest.with_suffix("")
        digest, wrong = differing_files(DomainSpec(**said["spec"]), root)
        yield None if digest == said["digest"] else f"{manifest}: its digest is {said['digest']}, drawn anew {digest}"
        yield f"{root}: {len(wrong)} images are not as drawn, the first is {wrong[0]}" if wrong else None


def crate(results: Path) -> Faults:
    """Every file of the provenance crate is the one that it describes."""
    path = results / CRATE
    if not path.is_file():
        return
    for entity in read_json(path)["@graph"]:
        if entity["@type"] == "File":
            file = results / unquote(entity["@id"])
            if not file.is_file():
                yield f"{file} is missing; {path} names it"
            elif sha256(file) != entity["sha256"]:
                yield f"{file}: it is not the file that {path} describes"
            else:
                yield None
