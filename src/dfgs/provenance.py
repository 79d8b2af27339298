"""Digests, versions and whole-or-nothing file writing."""

import errno
import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dfgs.errors import DfgsError

PACKAGE_ROOT = Path(__file__).resolve().parents[2]
VERSIONED = ("dfgs", "torch", "open_clip_torch", "numpy", "pillow")


_guard: Callable[[Path], None] | None = None
"""Of the whole process, its threads included: a writer in the background must not slip past it."""
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_SHORT = re.compile(r"\d+ requested and \d+ written")


@contextmanager
def guarded(guard: Callable[[Path], None]) -> Iterator[None]:
    """Have `guard(path)` asked around every rename of `whole_file`; what it raises keeps the file from appearing."""
    global _guard
    earlier, _guard = _guard, guard
    try:
        yield
    finally:
        _guard = earlier


@contextmanager
def whole_file(path: Path | str, need: int | None = None) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success sync it and move it there, on failure remove it.

    A reader sees the earlier file or the new one, never a part, also after a crash. `need` is the size in bytes where
    it is known. Raises `DfgsError` when the folder can't be written or is full, telling how much is needed, and what
    the process's guard raises (see `guarded`).
    """
    with _whole(Path(path), need, _ask) as partial:
        yield partial


@contextmanager
def unguarded_file(path: Path) -> Iterator[Path]:
    """Do as `whole_file`, asking no guard; for a job's record of itself."""
    with _whole(path, None, lambda _: None) as partial:
        yield partial


@contextmanager
def whole_folder(path: Path, described_by: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on success sync its files and put it there, on failure remove it.

    The file `described_by` is removed before an earlier folder gives way: a reader that finds it finds a whole folder.
    Raises as `whole_file` does.
    """
    with _publishing(path, None) as partial:
        shutil.rmtree(partial, ignore_errors=True)
        yield partial
        os.sync()  # thousands of small files are synced at once in a fraction of the time
        _ask(path)
        described_by.unlink(missing_ok=True)
        earlier = path.with_name(f".{path.name}.{os.getpid()}-earlier.part")
        if path.exists():
            path.replace(earlier)
        try:
            partial.replace(path)
        except FileNotFoundError:
            if earlier.exists():
                earlier.replace(path)
            _ask(path)
            raise
        _ask(path)
        sync_folder(path.parent)
        shutil.rmtree(earlier, ignore_errors=True)


@contextmanager
def _whole(path: Path, need: int | None, ask: Callable[[Path], None]) -> Iterator[Path]:
    with _publishing(path, need) as partial:
        yield partial
        try:
            _sync(partial)
            ask(path)
            partial.replace(path)  # nothing between the question and the rename
        except FileNotFoundError:
            ask(path)  # who takes a job over clears its temporary files away
            raise
        ask(path)
        sync_folder(path.parent)


@contextmanager
def _publishing(path: Path, need: int | None) -> Iterator[Path]:
    """Yield the temporary path of `path`, gone in the end; tell an error of the disk as a user can mend it."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
    except OSError as error:
        said = "No space left on device" if _is_full(error) else error.strerror or error
        raise DfgsError(f"cannot write {path}: {said}; {_remedy(error, partial, need)}") from error
    finally:
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        with suppress(OSError):  # a path that cannot be reached holds nothing to remove
            partial.unlink()


def _ask(path: Path) -> None:
    if _guard is not None:
        _guard(path)


def _remedy(error: OSError, partial: Path, need: int | None) -> str:
    """Say how much a full disk lacks: `need` bytes, or more than the part that was written."""
    if not _is_full(error):
        return "check the folder and its free space"
    written, free = 0, "?"
    with suppress(OSError):
        written = sum(path.stat().st_size for path in [partial, *partial.rglob("*")] if path.is_file())
    with suppress(OSError):
        found = os.statvfs(partial.parent)
        free = str(found.f_bavail * found.f_frsize + written)
    wanted = f"it needs {need} bytes" if need is not None else f"it needs more than {written} bytes"
    return f"{wanted} and {free} are free there; make room and run again"


def _sync(path: Path) -> None:
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


def _is_full(error: OSError) -> bool:
    """Tell whether there is no room; NumPy's short writes carry no number, only words."""
    return error.errno in _FULL or (error.errno is None and bool(_SHORT.search(str(error))))


def sync_folder(folder: Path) -> None:
    """Have the names in a folder survive a power cut, where the file system can be asked to."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):  # it cannot be asked to
            raise
    finally:
        os.close(handle)


def write_bytes(path: Path | str, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all."""
    with whole_file(path, len(data)) as partial:
        partial.write_bytes(data)


def write_text(path: Path | str, text: str) -> None:
    """Write `text` (UTF-8) to `path`, whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


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
