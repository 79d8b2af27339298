"""Check every digest of results again, offline: what is written must follow from what it was made of."""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dfgs.errors import DfgsError
from dfgs.page import digests, numbers

CHECKS: dict[str, Callable[[Path], digests.Faults]] = {
    "weights against records": digests.weights,
    "prompts": digests.prompts,
    "features against weights and images": digests.features,
    "drawn images against manifests": digests.worlds,
    "scores against queries and records": numbers.scores,
    "metrics against scores": numbers.metrics,
    "tables against metrics": numbers.tables,
    "files against the crate": digests.crate,
}


@dataclass(frozen=True, slots=True)
class Checked:
    """One kind of check: how many things were looked at, and what is wrong."""

    kind: str
    count: int
    faults: tuple[str, ...]


def verify(results: Path) -> Iterator[Checked]:
    """Check `results` kind by kind; raises `DfgsError` for a folder that holds no results."""
    if not results.is_dir() or not any(results.glob("*/**/*.csv")):
        raise DfgsError(f"{results}: no results there; give the folder that a grid has left")
    for kind, check in CHECKS.items():
        found = list(_guarded(check, results))
        yield Checked(kind, len(found), tuple(fault for fault in found if fault is not None))


def _guarded(check: Callable[[Path], digests.Faults], results: Path) -> digests.Faults:
    """A file that is missing, damaged or lacks a part is a fault; what comes after it in its kind stays unchecked."""
    try:
        yield from check(results)
    except (DfgsError, OSError, ValueError, KeyError, EOFError, zlib.error) as error:
        why = str(error) if isinstance(error, DfgsError) else f"{type(error).__name__}: {error}"
        yield f"{why} (the rest of this kind was not checked)"
