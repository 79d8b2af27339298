"""The tensors of a TorchScript archive, read without running any of its code.

`torch.jit.load` runs the `__setstate__` that an archive brings along. This reader builds plain records in place of the
archive's classes and knows no name but those of tensors, so nothing in the file is executed.
"""

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

DTYPES = {
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


def is_torchscript(path: Path) -> bool:
    """Tell whether a zip archive is one of TorchScript: beside its data it has code or constants."""
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") or "/code/" in name for name in archive.namelist())


def read_torchscript(path: Path) -> tuple[dict[str, Tensor], set[str]]:
    """Return the tensors of the archived module by their dotted names, and the class names of all its parts.

    Raises `pickle.UnpicklingError` for a name that no tensor needs, `zipfile.BadZipFile`, `ValueError` or
    `RuntimeError` for an archive that is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        main = next((name for name in archive.namelist() if name.endswith("/data.pkl")), None)
        if main is None:
            raise ValueError("the archive has no data.pkl")
        reader = _Reader(io.BytesIO(_stored(archive, main)), archive, main.removesuffix(".pkl"))
        module = reader.load()
    if not isinstance(module, _Part):
        raise ValueError(f"the archive holds a {type(module).__name__}, expected a module")
    return dict(_tensors(module, "", frozenset())), reader.classes


class _Part:
    """A module of the archive: its attributes, and none of its methods."""

    attributes: Any = None

    def __setstate__(self, state: Any) -> None:
        self.attributes = state


class _Reader(pickle.Unpickler):
    """Unpickles tensors, containers and `_Part`s; every other name is refused."""

    def __init__(self, stream: Any, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(stream)
        self.archive, self.folder = archive, folder
        self.classes: set[str] = set()

    def find_class(self, module: str, name: str) -> Any:
        """Map a name of the archive to what stands for it here."""
        if module.split(".")[0] == "__torch__":
            self.classes.add(name.rpartition(".")[2])
            return _Part
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        known = KNOWN.get(f"{module}.{name}")
        if known is None:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no weights need")
        return known

    def persistent_load(self, pid: Any) -> Tensor:
        """Read the storage ("storage", dtype, key, device, count) as a flat tensor."""
        _, dtype, key, _, count = pid
        data = bytearray(_stored(self.archive, f"{self.folder}/{key}"))
        if not data:
            return torch.empty(0, dtype=dtype)
        flat = torch.frombuffer(data, dtype=dtype)
        if len(flat) != count:
            raise ValueError(f"storage {key} holds {len(flat)} numbers, expected {count}")
        return flat


def _stored(archive: zipfile.ZipFile, name: str) -> bytes:
    """Read an entry; torch never compresses data, so one that would swell is no weights."""
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"entry {name} is compressed, which torch never does")
    return archive.read(name)


def _rebuild(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    return storage.as_strided(size, stride, offset)


KNOWN: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": OrderedDict,
    "torch._utils._rebuild_tensor_v2": _rebuild,
    "torch.jit._pickle.build_intlist": list,
    "torch.jit._pickle.build_doublelist": list,
    "torch.jit._pickle.build_boollist": list,
    "torch.jit._pickle.build_tensorlist": list,
    "torch.jit._pickle.restore_type_tag": lambda value, _: value,
}


def _tensors(part: _Part, prefix: str, above: frozenset[int]) -> Iterator[tuple[str, Tensor]]:
    if id(part) in above or not isinstance(part.attributes, dict):
        raise ValueError(f"module {prefix or 'at the top'!r} of the archive is not a tree of attributes")
    for name, value in part.attributes.items():
        if isinstance(value, Tensor):
            yield f"{prefix}{name}", value
        elif isinstance(value, _Part) and value.attributes is not None:
            yield from _tensors(value, f"{prefix}{name}.", above | {id(part)})
