"""The pack: an uncompressed zip of a dataset's files, read through a memory map (docs/pack-format.md)."""

import errno
import hashlib
import json
import mmap
import os
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfgs.errors import DfgsError
from dfgs.provenance import whole_file

MARKER, SUMS = "dfgs-pack.json", "SHA256SUMS"
FORMAT = 1
MAGIC = b"PK\x03\x04"
LOCAL_HEADER = 30
"""Bytes of a zip member's header before its name; bytes 26 … 29 are the lengths of the name and of an extra field."""


@dataclass(frozen=True, slots=True)
class Pack:
    """An opened pack: (offset of the header, size, CRC-32) by file name, and the sorted names in each folder."""

    data: mmap.mmap
    files: dict[str, tuple[int, int, int]]
    folders: dict[str, list[str]]

    def read(self, name: str) -> bytes:
        """Return a file's bytes; `OSError` if they are not those that were packed."""
        offset, size, crc = self.files[name]
        start = offset + LOCAL_HEADER
        for at in (26, 28):
            start += int.from_bytes(self.data[offset + at : offset + at + 2], "little")
        found = self.data[start : start + size]
        if len(found) != size or zlib.crc32(found) != crc:
            raise OSError(errno.EIO, "its checksum differs, the pack is damaged", name)
        return found


opened: dict[str, Pack] = {}
"""Packs that this process has open, by path; a worker that was not forked opens its own."""


def is_pack(path: Path) -> bool:
    """Tell whether a path is a pack: a zip file whose first member is `dfgs-pack.json`."""
    if not os.path.isfile(path):  # noqa: PTH113 -- a PackPath's own `is_file` asks this function
        return False
    with open(path, "rb") as handle:  # noqa: PTH123 -- nor its `open`
        head = handle.read(LOCAL_HEADER + len(MARKER))
    return head.startswith(MAGIC) and head[LOCAL_HEADER:] == MARKER.encode()


def write_pack(path: Path, members: Iterable[tuple[str, bytes]], **described: Any) -> None:
    """Write (name, bytes) members to a pack, whole or not at all; the same members give the same file.

    Names are relative to the dataset's root with `/` between folders. `described` goes into its first member.
    """
    sums = []
    with whole_file(path) as partial, zipfile.ZipFile(partial, "w") as archive:
        _add(archive, MARKER, json.dumps({"format": FORMAT, **described}, sort_keys=True).encode() + b"\n")
        for name, data in members:
            _add(archive, name, data)
            sums.append(f"{hashlib.sha256(data).hexdigest()}  {name}\n")
        _add(archive, SUMS, "".join(sums).encode())
    opened.pop(str(path), None)


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    member = zipfile.ZipInfo(name)  # of 1980: a time would make every file another
    member.external_attr = 0o644 << 16
    archive.writestr(member, data)


def open_pack(path: Path) -> Pack:
    """Map a pack and read its index, once in a process. Raises `DfgsError` for a damaged or foreign one."""
    if str(path) not in opened:
        try:
            with open(path, "rb") as handle:  # noqa: PTH123 -- see `is_pack`
                data = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
                with zipfile.ZipFile(handle) as archive:
                    opened[str(path)] = _index(path, data, archive)
        except (OSError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile) as error:
            raise DfgsError(f"pack {path} cannot be read: {error}; pack the folder again") from error
    return opened[str(path)]


def _index(path: Path, data: mmap.mmap, archive: zipfile.ZipFile) -> Pack:
    described = json.loads(archive.read(MARKER))
    if not isinstance(described, dict) or described.get("format") != FORMAT:
        raise DfgsError(f"pack {path} is not of format {FORMAT}; pack the folder again with this version")
    files: dict[str, tuple[int, int, int]] = {}
    folders: dict[str, set[str]] = {"": set()}
    for member in archive.infolist():
        if member.filename in (MARKER, SUMS):
            continue
        if member.compress_type != zipfile.ZIP_STORED or member.is_dir() or member.filename in files:
            what = f"member {member.filename!r} is compressed, a folder or there twice"
            raise DfgsError(f"pack {path}: {what}; pack the folder again")
        files[member.filename] = (member.header_offset, member.file_size, member.CRC)
        *above, name = member.filename.split("/")
        for depth in range(len(above)):
            folders.setdefault("/".join(above[:depth]), set()).add(above[depth])
        folders.setdefault("/".join(above), set()).add(name)
    return Pack(data, files, {folder: sorted(names) for folder, names in folders.items()})
