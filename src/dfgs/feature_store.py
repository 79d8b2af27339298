"""Feature files: float32 arrays (images, d) in NumPy's own format, and the index that tells what they are."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfgs.errors import DfgsError
from dfgs.provenance import digest_json, read_json, whole_file

INDEX = ("features", "images", "datasets", "distance", "normalise", "settings")
"""Keys of an index: feature files and digests of the images by DATASET/SPLIT/VIEW, the datasets, and what decides a
number (distance, whether rows are scaled to length 1, other settings)."""

HEADER = 128
"""Bytes of NumPy's header before the rows."""


def model_key(weights: Mapping[str, str], job: dict[str, Any]) -> str:
    """Digest what decides a model's features but the images: its weight files' digests by kind, and parts of the job.

    `job` is that of `dfgs embed`, or of the model's training, which holds the same parts.
    """
    decides = [weights, job["backbone"], job["input"]["normalise"], job["test"]["features"]]
    # float32, of which no job tells, is not named, as in keys of before there was another: nothing is embedded again
    return digest_json(decides + ([job["precision"]] if "precision" in job else []))


def view_file(model: str, images: str) -> str:
    """Name the feature file of a `model_key` and a view's images, which are digested in the index."""
    return f"{digest_json([model, images])}.npy"


def stored(path: Path) -> bool:
    """Tell whether a feature file is there; files appear whole, so being there is enough."""
    return path.is_file()


def store_features(features: NDArray[np.float32], path: Path) -> None:
    """Write features, whole or not at all."""
    with whole_file(path, features.nbytes + HEADER) as partial, partial.open("wb") as handle:
        np.save(handle, features, allow_pickle=False)


def load_features(path: Path) -> NDArray[np.float32]:
    """Read features; raises `DfgsError` naming a file that is damaged, or missing and how it is made again."""
    if not stored(path):
        raise DfgsError(
            f"features {path} are not there; make them again: "
            f"snakemake --cores 1 --force {path.with_name('index.json')}"
        )
    try:
        features: NDArray[np.float32] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DfgsError(f"cannot read features {path}: {error}; remove it and run again") from error
    return features


def read_index(path: Path) -> dict[str, Any]:
    """Read the index that `dfgs embed` wrote, with the keys `INDEX`; `DfgsError` names another file."""
    found = read_json(path)
    names = found.get("features") if isinstance(found, dict) else None
    if not isinstance(names, dict) or not all(isinstance(n, str) and Path(n).name == n for n in names.values()):
        raise DfgsError(f"{path}: expected the index of `dfgs embed`, whose features are names of files beside it")
    missing = [key for key in INDEX if key not in found]
    if missing:
        raise DfgsError(
            f"{path}: does not tell {', '.join(missing)}; run `dfgs embed` again (features that are there are kept)"
        )
    return dict(found)


def candidate(index: dict[str, Any], epoch: int) -> dict[str, Any]:
    """Return the index as that of the candidate of `epoch`; `DfgsError` where it names none."""
    found = index.get("candidates", {}).get(str(epoch))
    if found is None:
        raise DfgsError(f"no features of the candidate of epoch {epoch} in the index; run `dfgs embed` again")
    return index | {"features": found}


def drop_features(index: Path) -> int:
    """Delete the feature files that an index names, then the index, and return their bytes.

    Nothing runs again because of it; a job that needs the features later (another target or protocol, a figure) finds
    the index missing and has this model embedded once more. Raises `DfgsError` for a file that is no index.
    """
    freed = 0
    found = read_index(index)
    files = [found["features"], *found.get("candidates", {}).values()]
    for name in sorted({name for part in files for name in part.values()}):
        path = index.with_name(name)
        if stored(path):
            freed += path.stat().st_size
            path.unlink()
    index.unlink()
    return freed
