"""k-reciprocal codes (Zhong et al., CVPR 2017, sections 3.2 to 3.4), sparse."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dfgs.metrics._neighbourhoods import Neighbourhoods
from dfgs.metrics._pool import Floats, Pool, Positions

ROWS_AT_ONCE = 512


@dataclass(frozen=True, slots=True, eq=False)
class Codes:
    """Sparse rows: row `i` has the values `values[start[i]:start[i + 1]]` in the columns `columns[...]`, ascending."""

    start: Positions
    columns: NDArray[np.int32]
    values: Floats


def encode(pool: Pool, found: Neighbourhoods, k1: int, k2: int) -> Codes:
    """Return the code of every image of `pool`: a fuzzy set of its expanded k-reciprocal neighbours.

    An image's set R*(k1) holds its k1-reciprocal neighbours, and the k1/2-reciprocal neighbours of each of these if
    more than two thirds of them are in the set already; an image weighs exp(-distance), relative to all weights of the
    set. The code is the mean over the image's k2 nearest images, itself included. Two points follow the authors'
    program where the paper says otherwise or nothing: "more than" two thirds, and distances are relative to the
    farthest image's.
    """
    half = int(np.around(k1 / 2)) + 1
    is_mutual = _mutual(found.nearest)
    is_half_mutual = _mutual(found.nearest[:, :half])
    parts = [np.arange(start, min(start + ROWS_AT_ONCE, pool.size)) for start in range(0, pool.size, ROWS_AT_ONCE)]
    plain = _join([_weigh(pool, found, part, *_expand(part, found, is_mutual, is_half_mutual)) for part in parts])
    return _join([_average(plain, found.nearest[part, :k2]) for part in parts])


def _mutual(nearest: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Tell for each neighbour, (n, count), whether the image is one of its neighbours too."""
    mutual = np.empty(nearest.shape, bool)
    for start in range(0, len(nearest), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        image = np.arange(start, start + len(nearest[part]))
        mutual[part] = (nearest[nearest[part]] == image[:, None, None]).any(axis=-1)
    return mutual


def _expand(
    part: Positions, found: Neighbourhoods, is_mutual: NDArray[np.bool_], is_half_mutual: NDArray[np.bool_]
) -> tuple[Positions, Positions]:
    """Return the members of R* of the images `part`, as pairs (number in `part`, member) in ascending order."""
    nearest, size = found.nearest[part], len(found.nearest)
    owner, slot = np.nonzero(is_mutual[part])
    candidate = nearest[owner, slot]
    members = np.where(is_mutual[part], nearest, -1)
    offered, is_offered = found.nearest[candidate, : is_half_mutual.shape[1]], is_half_mutual[candidate]
    is_shared = (offered[:, :, None] == members[owner][:, None, :]).any(axis=-1) & is_offered
    is_accepted = 3 * is_shared.sum(axis=1) > 2 * is_offered.sum(axis=1)
    added = is_offered & is_accepted[:, None]
    keys = [owner * size + candidate, np.repeat(owner, added.sum(axis=1)) * size + offered[added]]
    owner, member = np.divmod(np.unique(np.concatenate(keys)), size)
    return owner, member


def _weigh(pool: Pool, found: Neighbourhoods, part: Positions, owner: Positions, member: Positions) -> Codes:
    """Give the members their weights; the distances of members beyond the nearest images are computed here."""
    known = (np.arange(len(part))[:, None] * len(found.nearest) + found.nearest[part]).ravel()
    order = np.argsort(known)
    keys = owner * len(found.nearest) + member
    at = order[np.searchsorted(known, keys, sorter=order).clip(max=len(known) - 1)]
    distances = found.distances[part].ravel()[at]
    is_far = known[at] != keys
    distances[is_far] = pool.squared_distances(part[owner[is_far]], member[is_far])
    weights = np.exp(-distances / found.farthest[part[owner]])
    codes = _stored(owner, member, weights, len(part))
    codes.values[:] /= np.repeat(np.add.reduceat(weights, codes.start[:-1]), np.diff(codes.start))
    return codes


def _average(codes: Codes, nearest: NDArray[np.int32]) -> Codes:
    """Average the codes of the images in each row of `nearest` (query expansion)."""
    size = len(codes.start) - 1
    entries, lengths = gather(codes, nearest.ravel())
    owner = np.repeat(np.arange(nearest.size) // nearest.shape[1], lengths)
    keys, which = np.unique(owner * size + codes.columns[entries], return_inverse=True)
    owner, member = np.divmod(keys, size)
    return _stored(owner, member, np.bincount(which, codes.values[entries]) / nearest.shape[1], len(nearest))


def _stored(owner: Positions, member: Positions, values: NDArray[np.floating], rows: int) -> Codes:
    start = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=rows))])
    return Codes(start, member.astype(np.int32), values.astype(np.float32))


def _join(parts: list[Codes]) -> Codes:
    """Stack codes."""
    lengths = np.concatenate([[0], *(np.diff(part.start) for part in parts)])
    columns = np.concatenate([part.columns for part in parts])
    return Codes(np.cumsum(lengths), columns, np.concatenate([part.values for part in parts]))


def gather(codes: Codes, rows: NDArray[np.integer]) -> tuple[Positions, Positions]:
    """Return the indices of all entries of `rows`, row after row, and how many each row has."""
    lengths = codes.start[rows + 1] - codes.start[rows]
    shift = codes.start[rows] - (np.cumsum(lengths) - lengths)
    return np.arange(lengths.sum()) + np.repeat(shift, lengths), lengths


def by_column(codes: Codes, first: int) -> Codes:
    """Transpose `codes`, rows from `first` on only: row `c` lists the images that have member `c`, and its values."""
    size, skipped = len(codes.start) - 1, codes.start[first]
    members = codes.columns[skipped:]
    order = np.argsort(members, kind="stable")
    images = np.repeat(np.arange(first, size, dtype=np.int32), np.diff(codes.start[first:]))
    start = np.concatenate([[0], np.cumsum(np.bincount(members, minlength=size))])
    return Codes(start, images[order], codes.values[skipped:][order])
