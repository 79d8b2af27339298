"""MATLAB files that hold a dataset's official split: read strictly, one sentence for each fault."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from dfgs.errors import DfgsError


def read_matlab(name: str, path: Path, fields: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Read the arrays called `fields` from a MATLAB file (version 7 or older) of dataset `name`.

    Raises `DfgsError` for a file that is damaged, of version 7.3 (HDF5), or lacks a field.
    """
    try:
        # The stubs know paths only; the bytes of a file in a pack come as an open file.
        values = loadmat(BytesIO(path.read_bytes()), variable_names=list(fields))  # type: ignore[arg-type]
    except (OSError, ValueError, TypeError, NotImplementedError, MatReadError) as error:
        raise DfgsError(f"dataset {name!r}: cannot read {path} as a MATLAB file: {error}") from error
    missing = [field for field in fields if field not in values]
    if missing:
        raise DfgsError(f"dataset {name!r}: {path} has no field {missing[0]!r}; it is not the split file expected here")
    return {field: np.asarray(values[field]) for field in fields}


def indices(name: str, path: Path, values: NDArray[Any], count: int) -> list[int]:
    """Return MATLAB indices as whole numbers; `DfgsError` where one is not in 1 … `count` or stands twice."""
    numbers = [int(value) for value in values.ravel()]
    wrong = [number for number in numbers if not 1 <= number <= count]
    if wrong or len(set(numbers)) < len(numbers) or not numbers:
        what = f"index {wrong[0]}" if wrong else "an index twice" if numbers else "no index"
        raise DfgsError(f"dataset {name!r}: {path} holds {what}; expected different ones from 1 to {count}")
    return numbers
