"""Digests, versions and whole-or-nothing file writing."""

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dfgs.errors import DfgsError

PACKAGE_ROOT = Path(__file__).resolve().parents[2]
VERSIONED = ("dfgs", "torch", "open_clip_torch", "numpy", "pillow")


@contextmanager
def whole_file(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success sync it and move it there, on failure remove it.

    A reader sees the earlier file or the new one, never a part. Raises `DfgsError` when the folder can't be written.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with partial.open("rb") as handle:
            os.fsync(handle.fileno())
        partial.replace(path)
    except OSError as error:
        raise DfgsError(
            f"cannot write {path}: {error.strerror or error}; check the folder and its free space"
        ) from error
    finally:
        with suppress(OSError):  # a path that cannot be reached holds nothing to remove
            partial.unlink()


def write_text(path: Path | str, text: str) -> None:
    """Write `text` (UTF-8) to `path`, whole or not at all."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented JSON with sorted keys, whole or not at all."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path | str) -> Any:
    """Read a JSON file that this package wrote; `DfgsError` names a file that is missing or damaged."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DfgsError(f"cannot read {path}: {error}") from error


def digest_json(value: Any) -> str:
    """Digest a JSON-able value (16 hexadecimal digits), whatever the order of its keys."""
    return digest_bytes(json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode())


def digest_bytes(data: bytes) -> str:
    """Digest bytes (16 hexadecimal digits)."""
    return hashlib.sha256(data).hexdigest()[:16]


def digest_file(path: Path | str) -> str:
    """Digest a file's bytes (16 hexadecimal digits)."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()[:16]


@cache
def commit() -> str:
    """Return the short commit of the checkout this package runs from, `+` if it has changes, or `unknown`."""
    git = ["git", "-C", str(PACKAGE_ROOT), "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty=+"]
    try:
        done = subprocess.run(git, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()


@cache
def versions() -> str:
    """Return `name=version` of the packages that can change a number, joined by spaces."""
    return " ".join(f"{name}={version(name)}" for name in VERSIONED)
