"""Ranks of the matches without a sort of the gallery: count, per match, the negatives above it and level with it."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module

import numpy as np
from numpy.typing import NDArray

from dfgs.metrics._blocks import Blocks
from dfgs.metrics._matching import IntArray, Pairs

logger = logging.getLogger(__name__)

Counter = Callable[[NDArray[np.float32], IntArray, NDArray[np.float32], IntArray, IntArray], None]

HELD_BLOCKS = 6
MATCHES_AT_ONCE = 2_000_000
SMALL = 2**24
"""Scores in all below which importing numba takes longer than the compiled counter saves."""


@dataclass(slots=True, eq=False)
class Matches:
    """Matches of consecutive queries, each query's from the lowest to the highest score.

    `owner` (p,): the query's position in `Pairs.queries`; `score` (p,) float32; `above`, `level` (p,): negatives with a
    higher and with the same score.
    """

    owner: IntArray
    score: NDArray[np.float32]
    above: IntArray
    level: IntArray


def query_blocks_at_once(blocks: Blocks) -> list[range]:
    """Cut the query blocks into runs with at most about two million matches, which bounds the memory of a run."""
    own = blocks.pairs.own_stop - blocks.pairs.own_start
    sizes = np.add.reduceat(own, np.arange(0, len(own), blocks.height)).tolist()
    runs, start, total = [], 0, 0
    for row, size in enumerate(sizes):
        if row > start and total + size > MATCHES_AT_ONCE:
            runs.append(range(start, row))
            start, total = row, 0
        total += size
    return [*runs, range(start, len(sizes))]


def count(blocks: Blocks, rows: range) -> Matches:
    """Find the matches of the query blocks `rows` and count the negatives above and level with each.

    A match is scored by the same product as the negatives. Sorted by pid, the matches of a query block lie in a few
    gallery blocks: up to six (48 MB) are held until their matches are known, then counted; all others follow, one at a
    time. Only where matches are spread wider (few queries or few identities in a large gallery) are such blocks
    multiplied twice.
    """
    found, counted = {}, set()
    for row in rows:
        found[row], held = _find(blocks, row)
        for column, scores in held.items():
            _count_block(found[row], scores, blocks, (row, column))
            counted.add((row, column))
    for column in range(blocks.shape()[1]):
        for row, matches in found.items():
            if matches.owner.size and (row, column) not in counted:
                _count_block(matches, blocks.scores(row, column), blocks, (row, column))
    return Matches(
        np.concatenate([m.owner for m in found.values()]),
        np.concatenate([m.score for m in found.values()]),
        np.concatenate([m.above for m in found.values()]),
        np.concatenate([m.level for m in found.values()]),
    )


def _find(blocks: Blocks, row: int) -> tuple[Matches, dict[int, NDArray[np.float32]]]:
    """Score the matches of one query block; return with them the gallery blocks held, by number."""
    first = row * blocks.height
    owner, position = blocks.pairs.positives(first, first + blocks.height)
    block = position // blocks.width
    columns = np.unique(block).tolist()
    holds = len(columns) <= HELD_BLOCKS
    score, held = np.empty(len(owner), np.float32), {}
    for slot, column in enumerate(columns):
        scores = blocks.scores(row, column, slot if holds else 0)
        here = block == column
        score[here] = scores[owner[here] - first, position[here] - column * blocks.width]
        if holds:
            held[column] = scores
    order = np.lexsort((score, owner))
    zeros = np.zeros(len(owner), np.int64)
    return Matches(owner[order], score[order], zeros, zeros.copy()), held


def _count_block(matches: Matches, scores: NDArray[np.float32], blocks: Blocks, at: tuple[int, int]) -> None:
    """Add the negatives of one block of scores (overwritten) to the counts of its matches."""
    first = at[0] * blocks.height
    hide_own(blocks.pairs, scores, first, at[1] * blocks.width)
    bounds = np.searchsorted(matches.owner, np.arange(first, first + len(scores) + 1))
    is_small = len(blocks.pairs.queries) * len(blocks.pairs.gallery) < SMALL
    counter = count_rows if is_small else _counter()
    counter(scores, bounds, matches.score, matches.above, matches.level)


@cache
def _counter() -> Counter:
    """Take the compiled counter where numba is installed and works; both count the same."""
    try:
        compiled: Counter = import_module("dfgs.metrics._compiled").count_rows
    except (ImportError, RuntimeError) as error:  # RuntimeError: numba finds no folder for its cache
        logger.info("counting without the compiled extra: %s", error)
        return count_rows
    return compiled


def count_rows(
    scores: NDArray[np.float32], bounds: IntArray, wanted: NDArray[np.float32], above: IntArray, level: IntArray
) -> None:
    """Add to `above` and `level` how many scores of a row are higher than, and equal to, each one wanted of that row.

    Row `i` of `scores` wants `wanted[bounds[i]:bounds[i + 1]]`, in ascending order. Only what reaches a row's lowest
    is sorted: a few per cent for a trained model.
    """
    for row, start, stop in zip(scores, bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        if start == stop:
            continue
        asked = wanted[start:stop]
        reaching = row.compress(row >= asked[0])
        if reaching.size:
            reaching.sort()
            not_above = reaching.searchsorted(asked, side="right")
            above[start:stop] += reaching.size - not_above
            level[start:stop] += not_above - reaching.searchsorted(asked)


def hide_own(pairs: Pairs, scores: NDArray[np.float32], first: int, left: int) -> None:
    """Put what is no negative below everything: the query's own identity, and what this repeat has not drawn."""
    height, width = scores.shape
    start = np.clip(pairs.own_start[first : first + height] - left, 0, width).tolist()
    stop = np.clip(pairs.own_stop[first : first + height] - left, 0, width).tolist()
    for row, begin, end in zip(scores, start, stop, strict=True):
        if begin < end:
            row[begin:end] = -np.inf
    if pairs.is_negative is not None:
        scores[:, ~pairs.is_negative[left : left + width]] = -np.inf
