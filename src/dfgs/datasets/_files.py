"""What all layouts do with folders: list them, find their parts, match names; each mistake is one sentence."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dfgs.errors import DfgsError

LITTER = frozenset({"thumbs.db", "desktop.ini", "__macosx"})
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".rar")
SHOWN = 6


@dataclass(frozen=True, slots=True)
class Place:
    """A dataset's name and folder, and what that folder must hold in this layout: folders and files."""

    name: str
    root: Path
    parts: tuple[str, ...]

    def find(self, part: str) -> Path:
        """Return the path of `part`; `DfgsError` says what the folder holds in its place and where to look."""
        path = self.root / part
        if path.exists():
            return path
        found = str(listed(self.root)[:SHOWN]) if self.root.is_dir() else "no such folder"
        parts = ", ".join(self.parts)
        raise DfgsError(f"dataset {self.name!r}: {self.root} must hold {parts}; found {found}{self.hint}")

    @property
    def present(self) -> list[str]:
        """The parts that are there."""
        return [part for part in self.parts if (self.root / part).exists()]

    @property
    def hint(self) -> str:
        """Where the parts are, if not in `root`; empty if unknown."""
        inside = listed(self.root) if self.root.is_dir() else []
        for near in (*(self.root / name for name in inside), self.root.parent):
            if all((near / part).exists() for part in self.parts):
                return f"; they lie in {near}, set root to it"
        packed = [name for name in inside if name.lower().endswith(ARCHIVES)]
        return f"; unpack {packed[0]} first" if packed else ""

    def read(self, part: str, naming: "Naming") -> list[tuple[Path, re.Match[str]]]:
        """Match every file name of the folder `part`, sorted; hidden files and `Thumbs.db` are left out.

        Raises `DfgsError` for a folder without files and for names of another kind, the first of them named.
        """
        folder = self.find(part)
        if not folder.is_dir():
            raise DfgsError(f"dataset {self.name!r}: {folder} is a file, not a folder of images")
        names = listed(folder)
        matches = [naming.pattern.fullmatch(name) for name in names]
        strange = [name for name, match in zip(names, matches, strict=True) if match is None]
        if strange:
            more = f" (one of {len(strange)})" if len(strange) > 1 else ""
            first = shown(folder / strange[0])
            raise DfgsError(f"dataset {self.name!r}: {first} is not named like {naming.example}{more}")
        if not names:
            raise DfgsError(f"dataset {self.name!r}: {folder} holds no image named like {naming.example}")
        return [(folder / name, match) for name, match in zip(names, matches, strict=True) if match is not None]


@dataclass(frozen=True, slots=True)
class Naming:
    """How a layout names its images: a pattern for the whole name, and an example for people."""

    pattern: re.Pattern[str]
    example: str

    @classmethod
    def of(cls, pattern: str, example: str) -> "Naming":
        """Compile `pattern`, which must match the example."""
        return cls(re.compile(pattern), example)


def listed(folder: Path) -> list[str]:
    """List a folder's names, sorted, without hidden files and what operating systems leave behind."""
    names = (path.name for path in folder.iterdir())
    return sorted(name for name in names if not name.startswith(".") and name.lower() not in LITTER)


def shown(path: Path) -> str:
    """Write a path in one line, whatever characters or bytes are in its names."""
    text = str(path)
    return text if text.isprintable() else ascii(text)[1:-1]


def which_form(name: str, root: Path, forms: Sequence[tuple[str, ...]]) -> int:
    """Return which of several forms of a layout `root` has; `DfgsError` where it has none."""
    for number, parts in enumerate(forms):
        if all((root / part).exists() for part in parts):
            return number
    places = [Place(name, root, parts) for parts in forms]
    closest = max(places, key=lambda place: (len(place.present), bool(place.hint)))
    closest.find(next(part for part in closest.parts if part not in closest.present))
    raise AssertionError("a form that is complete has been returned")
