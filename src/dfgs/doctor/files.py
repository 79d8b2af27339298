"""The files of a dataset's folder, whatever its layout makes of them."""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from dfgs.errors import DfgsError
from dfgs.images import SUFFIXES
from dfgs.packs.files import MARKER, SUMS

STRAYS = frozenset({"thumbs.db", "desktop.ini", "__macosx", MARKER.lower(), SUMS.lower()})


def is_image(path: Path) -> bool:
    """Tell by a path's suffix, in any case, whether it should be an image."""
    return path.suffix.lower() in SUFFIXES


def walk(folder: Path, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """Yield everything below a folder that is no folder, sorted; strays and hidden names are left out.

    A folder that is named like an image is yielded as one. Links are followed, except to a folder above. Raises
    `DfgsError` for a folder that cannot be listed.
    """
    here = folder.resolve()
    for path in listed(folder):
        if is_image(path) or not path.is_dir():
            yield path
        elif path.resolve() not in above | {here}:
            yield from walk(path, above | {here})


def listed(folder: Path) -> list[Path]:
    """List a folder, sorted, without hidden names and what systems leave behind."""
    try:
        found = sorted(folder.iterdir())
    except OSError as error:
        raise DfgsError(f"folder {folder} cannot be listed: {error.strerror}") from error
    return [path for path in found if not path.name.startswith(".") and path.name.lower() not in STRAYS]


def images_beside(paths: Iterable[Path]) -> list[Path]:
    """All image files in the folders of `paths`, and `paths` themselves though they may be missing, sorted."""
    given = set(paths)
    beside = (path for folder in {path.parent for path in given} if folder.is_dir() for path in listed(folder))
    return sorted(given | {path for path in beside if is_image(path)})


def shape(name: str) -> str:
    """Reduce a name to its form: `0002_c1s1_000451_03.jpg` and `0003_c2s1_000452_01.jpg` are both `0_a0a0_0_0.jpg`."""
    stem, dot, suffix = name.rpartition(".")
    form = "".join("0" if c.isdigit() else "a" if c.isalpha() else c for c in stem)
    while "00" in form:
        form = form.replace("00", "0")
    return form + dot + suffix


def named_otherwise(paths: Iterable[Path]) -> list[Path]:
    """Files whose names have a form that is rare in their folder, a tenth as frequent as its usual one or less."""
    folders: dict[Path, list[Path]] = {}
    for path in paths:
        folders.setdefault(path.parent, []).append(path)
    found: list[Path] = []
    for beside in folders.values():
        forms = Counter(shape(path.name) for path in beside)
        usual = max(forms.values())
        found += [path for path in beside if forms[shape(path.name)] <= max(1, usual // 10) < usual]
    return found
