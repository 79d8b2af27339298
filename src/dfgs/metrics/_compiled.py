"""The counter of `_counting`, compiled: the only module that needs numba, imported only where numba is installed."""

import numba  # type: ignore[import-not-found, import-untyped, unused-ignore]
import numpy as np
from numpy.typing import NDArray

MANY = 256
# one signature for whole blocks and cut ones, whose rows lie apart: otherwise each is compiled by itself
SIGNATURE = "void(float32[:, :], int64[::1], float32[::1], int64[::1], int64[::1])"


@numba.njit(SIGNATURE, cache=True)  # type: ignore[untyped-decorator, unused-ignore]
def count_rows(
    scores: NDArray[np.float32],
    bounds: NDArray[np.int64],
    wanted: NDArray[np.float32],
    above: NDArray[np.int64],
    level: NDArray[np.int64],
) -> None:
    """Do what `_counting.count_rows` does, with loops free of branches in place of the sort where few are wanted."""
    width = scores.shape[1]
    reaching = np.empty(width + 1, np.float32)
    for row in range(scores.shape[0]):
        start, stop = bounds[row], bounds[row + 1]
        if start == stop:
            continue
        found = 0
        for column in range(width):
            # written before it is known to reach the lowest wanted: a branch here would be guessed wrong too often
            reaching[found] = scores[row, column]
            found += scores[row, column] >= wanted[start]
        if stop - start > MANY:
            ordered = np.sort(reaching[:found])
            not_above = np.searchsorted(ordered, wanted[start:stop], side="right")
            above[start:stop] += found - not_above
            level[start:stop] += not_above - np.searchsorted(ordered, wanted[start:stop])
            continue
        for asked in range(start, stop):
            higher, not_lower = np.int32(0), np.int32(0)
            for i in range(found):
                higher += np.int32(reaching[i] > wanted[asked])
                not_lower += np.int32(reaching[i] >= wanted[asked])
            above[asked] += higher
            level[asked] += not_lower - higher
