"""Feature files: float32 arrays (images, d) in NumPy's own format, whole or not at all."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dfgs.errors import DfgsError
from dfgs.provenance import whole_file


def stored(path: Path) -> bool:
    """Tell whether a feature file is there; files appear whole, so being there is enough."""
    return path.is_file()


def store_features(features: NDArray[np.float32], path: Path) -> None:
    """Write features, whole or not at all."""
    with whole_file(path) as partial, partial.open("wb") as handle:
        np.save(handle, features, allow_pickle=False)


def load_features(path: Path) -> NDArray[np.float32]:
    """Read features; raises `DfgsError` naming a file that is missing or damaged."""
    try:
        features: NDArray[np.float32] = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DfgsError(f"cannot read features {path}: {error}; remove it and run again") from error
    return features
