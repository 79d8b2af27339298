"""Where a dataset's files are: a folder, or the inside of a pack, which reads as a folder does."""

import errno
import io
import os
import stat
from collections.abc import Generator, Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PosixPath, PurePosixPath
from typing import Any

from dfgs.errors import DfgsError
from dfgs.packs.files import Pack, is_pack, open_pack, opened

HDF5 = "a MATLAB or HDF5 file"
ARCHIVES = {
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "a gzip archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
    b"\x28\xb5\x2f\xfd": "a zstd archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a rar archive",
    b"\x89HDF": HDF5,
    b"MATLAB 7.3": HDF5,
}


class PackPath(PosixPath):
    """A path inside a pack, such as `market.zip/query/0001_c1s1_001051_00.jpg`, that reads as a path in a folder does.

    Everything that a layout asks of a path works: `/`, `relative_to`, `is_dir`, `is_file`, `exists`, `iterdir`, `glob`,
    `rglob`, `stat`, `open` (to read), `read_text`, `read_bytes`. The functions of `os` and the built-in `open` don't
    know what is inside. It holds no state and can be pickled. A path with no pack above it is an ordinary one.
    """

    __slots__ = ()

    def _inside(self) -> tuple[Pack, str] | None:
        above = (self, *self.parents)
        outer = next((p for p in above if str(p) in opened), None) or next((p for p in above if is_pack(p)), None)
        if outer is None:
            return None
        name = self.relative_to(outer).as_posix()
        return open_pack(outer), "" if name == "." else name

    def is_file(self, **options: Any) -> bool:
        """Tell whether this is a file."""
        found = self._inside()
        return super().is_file(**options) if found is None else found[1] in found[0].files

    def is_dir(self, **options: Any) -> bool:
        """Tell whether this is a folder; the pack itself is one."""
        found = self._inside()
        return super().is_dir(**options) if found is None else found[1] in found[0].folders

    def exists(self, **options: Any) -> bool:
        """Tell whether this is a file or a folder."""
        return super().exists(**options) if self._inside() is None else self.is_file() or self.is_dir()

    def is_symlink(self) -> bool:
        """Tell whether this is a link; a pack holds none."""
        return super().is_symlink() if self._inside() is None else False

    def stat(self, **options: Any) -> os.stat_result:
        """Return kind and size; everything else is 0."""
        found = self._inside()
        if found is None:
            return super().stat(**options)
        pack, name = found
        if name in pack.folders:
            return os.stat_result((stat.S_IFDIR | 0o555, 0, 0, 1, 0, 0, 0, 0, 0, 0))
        return os.stat_result((stat.S_IFREG | 0o444, 0, 0, 1, 0, 0, pack.files[self._file(pack, name)][1], 0, 0, 0))

    def iterdir(self) -> Generator["PackPath", None, None]:
        """Yield what is in a folder, sorted."""
        found = self._inside()
        if found is None:
            yield from super().iterdir()
            return
        pack, name = found
        if name not in pack.folders:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(self))
        for child in pack.folders[name]:
            yield self / child

    def glob(self, pattern: str, **_: Any) -> Iterator["PackPath"]:  # type: ignore[override]
        """Yield what matches `pattern`, in which `**` stands for any folders; upper and lower case differ."""
        yield from dict.fromkeys(_matches(self, PurePosixPath(pattern).parts))

    def rglob(self, pattern: str, **_: Any) -> Iterator["PackPath"]:  # type: ignore[override]
        """Yield what matches `pattern` here or in any folder below."""
        yield from self.glob(f"**/{pattern}")

    def open(
        self,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> Any:
        """Open a file to read it, `r` or `rb`."""
        found = self._inside()
        if found is None:
            return super().open(mode, buffering, encoding, errors, newline)
        if mode not in ("r", "rt", "rb"):
            raise OSError(errno.EROFS, "a pack can only be read", str(self))
        data = io.BytesIO(found[0].read(self._file(*found)))
        return data if mode == "rb" else io.TextIOWrapper(data, encoding, errors, newline)

    def _file(self, pack: Pack, name: str) -> str:
        if name in pack.files:
            return name
        code = errno.EISDIR if name in pack.folders else errno.ENOENT
        raise OSError(code, os.strerror(code), str(self))  # the subclass that belongs to the code


def open_root(root: Path) -> Path:
    """Return where a dataset's files are: `root` itself if it is a folder, the inside of a pack if it is one.

    Raises `DfgsError` for another file: an archive is never unpacked here.
    """
    if not root.is_file():
        return root
    try:
        if is_pack(root):
            open_pack(root)
            return PackPath(root)
        kind = archive_kind(root)
    except OSError as error:
        raise DfgsError(f"{root} cannot be read: {error.strerror or error}") from error
    if kind == HDF5:
        raise DfgsError(f"{root} is {kind}; `dfgs extract` turns CUHK03's cuhk-03.mat into folders")
    if kind:
        raise DfgsError(f"{root} is {kind}, which is never unpacked here; unpack it yourself and give the folder")
    raise DfgsError(f"{root} is a file; give the folder of the dataset, or a pack that `dfgs pack` wrote")


def archive_kind(path: Path) -> str | None:
    """Say what kind of archive a file is by its first bytes, None if it is none."""
    with path.open("rb") as handle:
        head = handle.read(512)
    if head[257:262] == b"ustar":
        return "a tar archive"
    return next((kind for magic, kind in ARCHIVES.items() if head.startswith(magic)), None)


def _matches(folder: PackPath, parts: tuple[str, ...]) -> Iterator[PackPath]:
    if not parts:
        yield folder
        return
    children = list(folder.iterdir())
    if parts[0] == "**":
        yield from _matches(folder, parts[1:])
        for child in children:
            if child.is_dir():
                yield from _matches(child, parts)
        return
    for child in children:
        if fnmatchcase(child.name, parts[0]) and (len(parts) == 1 or child.is_dir()):
            yield from _matches(child, parts[1:])
