"""Feature files: float32 arrays (images, d) in NumPy's own format, whole or not at all."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dfgs.errors import DfgsError
from dfgs.provenance import read_json, whole_file


def stored(path: Path) -> bool:
    """Tell whether a feature file is there; files appear whole, so being there is enough."""
    return path.is_file()


def store_features(features: NDArray[np.float32], path: Path) -> None:
    """Write features, whole or not at all."""
    with whole_file(path) as partial, partial.open("wb") as handle:
        np.save(handle, features, allow_pickle=False)


def load_features(path: Path) -> NDArray[np.float32]:
    """Read features; raises `DfgsError` naming a file that is damaged, or missing and how it is made again."""
    if not stored(path):
        raise DfgsError(
            f"features {path} are not there (dropped after scoring?); make them again: "
            f"snakemake --cores 1 --force {path.with_name('index.json')}"
        )
    try:
        features: NDArray[np.float32] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DfgsError(f"cannot read features {path}: {error}; remove it and run again") from error
    return features


def drop_features(index: Path) -> int:
    """Delete the feature files that an index names and return their bytes; the index stays, so nothing runs again.

    What needs the features afterwards (another target or protocol, a figure) has to embed all images of this model
    once more. Raises `DfgsError` for a file that is no index.
    """
    found = read_json(index)
    names = found.get("features") if isinstance(found, dict) else None
    if not isinstance(names, dict) or not all(isinstance(n, str) and Path(n).name == n for n in names.values()):
        raise DfgsError(f"{index}: expected the index of `dfgs embed`, whose features are names of files beside it")
    freed = 0
    for name in sorted(set(names.values())):
        path = index.with_name(name)
        if stored(path):
            freed += path.stat().st_size
            path.unlink()
    return freed
