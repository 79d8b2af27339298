"""Samplers over datasets: each source→target cell is a block in which they are ranked (Demšar, JMLR 2006)."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from dfgs.errors import DfgsError
from dfgs.stats.paired import RESAMPLES, holm
from dfgs.stats.seeds import Interval

LEAST_BLOCKS = 3


@dataclass(frozen=True, slots=True)
class BlockRanks:
    """Mean ranks of k samplers over b blocks (1 is best, ties share) and what can be said of them.

    `p_value` of Friedman's test that all ranks are alike; two samplers differ by Nemenyi's test if their mean ranks
    differ by `critical_difference` or more.
    """

    mean_ranks: dict[str, float]
    blocks: int
    p_value: float
    critical_difference: float


def block_table(values: pd.DataFrame) -> pd.DataFrame:
    """Lay out `seed_values` as blocks (rows: source, target) by samplers (columns): the mean over seeds.

    Raises `DfgsError` naming a sampler that lacks a block, since ranks over different blocks do not compare.
    """
    table = values.pivot_table(index=["source", "target"], columns="sampler", values="value", aggfunc="mean")
    if table.isna().any(axis=None):
        sampler = table.columns[table.isna().any(axis=0)][0]
        source, target = table.index[table[sampler].isna()][0]
        raise DfgsError(f"sampler {sampler!r} has no value on {source}→{target}; rank samplers on blocks that all have")
    return table


def rank_blocks(table: pd.DataFrame, level: float = 0.05) -> BlockRanks:
    """Rank the samplers (columns) in every block (row) of `block_table`; higher values are better.

    Friedman's test, and the critical difference of Nemenyi's at `level`. Raises `DfgsError` for fewer than three
    samplers or `LEAST_BLOCKS` blocks, where both tests are meaningless.
    """
    blocks, samplers = table.shape
    if samplers < 3 or blocks < LEAST_BLOCKS:
        raise DfgsError(
            f"ranks over datasets: {samplers} samplers on {blocks} source→target blocks; expected at least 3 samplers "
            f"and {LEAST_BLOCKS} blocks"
        )
    ranks = stats.rankdata(-table.to_numpy(), axis=1)
    p_value = float(stats.friedmanchisquare(*table.to_numpy().T).pvalue) if np.ptp(ranks) else 1.0
    studentised = float(stats.studentized_range.ppf(1 - level, samplers, math.inf)) / math.sqrt(2)
    critical = studentised * math.sqrt(samplers * (samplers + 1) / (6 * blocks))
    means = {str(name): float(rank) for name, rank in zip(table.columns, ranks.mean(axis=0), strict=True)}
    return BlockRanks(means, blocks, p_value, critical)


def wilcoxon(table: pd.DataFrame, contrasts: list[tuple[str, str]]) -> list[float]:
    """Return Holm's adjusted p-values of Wilcoxon's signed-rank test over the blocks, one for each contrast.

    A contrast (sampler, baseline) whose values are equal in every block has p = 1. Cells that share a source are not
    independent, so these are too small; `source_interval` respects it.
    """
    differences = [(table[first] - table[second]).to_numpy() for first, second in contrasts]
    return holm([float(stats.wilcoxon(d).pvalue) if d.any() else 1.0 for d in differences])


def source_interval(
    table: pd.DataFrame, sampler: str, baseline: str, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Return the mean difference over blocks with a percentile bootstrap interval clustered by source.

    Sources are drawn with replacement, each with all its targets; `n` is the number of sources. One source has no
    interval, and few sources give one that is too narrow: two sources have three different draws.
    """
    differences = (table[sampler] - table[baseline]).groupby(level="source").agg(["sum", "count"])
    sums, counts = (differences[name].to_numpy(dtype=np.float64) for name in ("sum", "count"))
    mean = float(sums.sum() / counts.sum())
    if len(sums) == 1:
        return Interval(mean, math.nan, math.nan, 1)
    draws: NDArray[np.int64] = np.random.default_rng(seed).integers(0, len(sums), size=(RESAMPLES, len(sums)))
    means = sums[draws].sum(axis=1) / counts[draws].sum(axis=1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(mean, float(low), float(high), len(sums))
