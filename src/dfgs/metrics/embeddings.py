"""Feature vectors with the identity and the camera of each: what every metric of this package takes."""

import logging
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfgs.errors import DfgsError

logger = logging.getLogger(__name__)

CONVERTED = ("float16", "float64", "int8", "uint8")
LARGEST_SQUARED_NORM = 1e37
ROWS_AT_ONCE = 1024


@dataclass(frozen=True, slots=True, eq=False)
class Embeddings:
    """The features of `n` images with their identities and cameras, checked once, here.

    `features` (n, d) float32, one row per image; float16, float64, int8 and uint8 are converted, which is logged.
    `pids`, `camids` (n,) integers. `name` is what messages call this set, say "gallery of MSMT17".
    `squared_norms` (n,) float32 is derived.

    Raises `DfgsError` for shapes that disagree, another type, no rows, and a row that holds NaN or infinity or is too
    long for float32 products (the row is named).

    >>> Embeddings(np.eye(2, dtype=np.float32), np.array([1, 2]), np.array([1, 1])).squared_norms.tolist()
    [1.0, 1.0]
    """

    features: NDArray[Any]
    pids: NDArray[Any]
    camids: NDArray[Any]
    name: str = "embeddings"
    squared_norms: NDArray[np.float32] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        features = _as_float32(np.asarray(self.features), self.name)
        object.__setattr__(self, "features", features)
        for label in ("pids", "camids"):
            object.__setattr__(self, label, _as_labels(getattr(self, label), label, len(features), self.name))
        object.__setattr__(self, "squared_norms", _squared_norms(features, self.name))

    def __len__(self) -> int:
        return len(self.pids)


def unit_rows(features: NDArray[np.floating]) -> NDArray[np.floating]:
    """Scale each row of (n, d) to length 1; a row of zeros stays."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / lengths.clip(np.finfo(features.dtype).tiny))


def _as_float32(features: NDArray[Any], name: str) -> NDArray[np.float32]:
    if features.ndim != 2 or 0 in features.shape:
        raise DfgsError(f"{name}: features have shape {features.shape}; expected (images, dimensions), both at least 1")
    if features.dtype.name in CONVERTED:
        logger.info("%s: features are %s, converted to float32", name, features.dtype)
    elif features.dtype != np.float32:
        allowed = ", ".join(("float32", *CONVERTED))
        raise DfgsError(f"{name}: features have type {features.dtype}; expected one of {allowed}")
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(features, dtype=np.float32)


def _as_labels(values: Any, label: str, count: int, name: str) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.shape != (count,) or array.dtype.kind not in "iu":
        raise DfgsError(
            f"{name}: {label} have shape {array.shape} and type {array.dtype}; expected one integer for each of the "
            f"{count} feature rows"
        )
    return array.astype(np.int64)


def _squared_norms(features: NDArray[np.float32], name: str) -> NDArray[np.float32]:
    """Squared lengths, summed in float64; they are finite exactly where the whole row is, so they are the check too."""
    norms = np.empty(len(features))
    for start in range(0, len(features), ROWS_AT_ONCE):
        rows = features[start : start + ROWS_AT_ONCE].astype(np.float64)
        norms[start : start + ROWS_AT_ONCE] = np.einsum("ij,ij->i", rows, rows)
    bad = np.flatnonzero(~(norms <= LARGEST_SQUARED_NORM))
    if bad.size:
        row = int(bad[0])
        what = "has a length beyond 3e18" if np.isfinite(features[row]).all() else "holds NaN or infinity"
        raise DfgsError(
            f"{name}: feature row {row} {what} ({bad.size} such of {len(features)}); expected finite features"
        )
    return norms.astype(np.float32)
