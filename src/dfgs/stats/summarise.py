"""From an experiment's long rows and what was planned to its verdict."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from dfgs.errors import DfgsError
from dfgs.results import REFERENCE
from dfgs.stats.blocks import block_table, rank_blocks, source_interval, wilcoxon
from dfgs.stats.paired import BOOTSTRAP_FROM
from dfgs.stats.seeds import Transfer, seed_values
from dfgs.stats.sentences import limit, prove
from dfgs.stats.summary import BlockContrast, Blocks, Contrast, Pair, Verdict, number_or_none
from dfgs.stats.verdict import LEVEL, Comparison, count, judge, judged_transfers, seeds_needed, source_seed_values

METRIC = "mAP"
BACKBONE = "All seeds share one pre-trained backbone: no interval covers what another backbone would change."
ONE_SEED = "one seed: no training is repeated, so nothing tells how far trainings scatter"


@dataclass(frozen=True, slots=True)
class Plan:
    """What was planned of an experiment: its contrasts (sampler, baseline), their margin, and the grid.

    `within` holds the transfers to a source's own test identities; `is_drawn` tells that people are drawn.
    """

    experiment: str
    title: str
    sources: tuple[str, ...]
    seeds: tuple[int, ...]
    contrasts: tuple[tuple[str, str], ...]
    margin: float
    within: frozenset[Transfer]
    is_drawn: bool

    @classmethod
    def of(cls, job: Mapping[str, Any]) -> "Plan":
        """Read the job of `dfgs judge` (`Grid.verdict_job`)."""
        return cls(
            experiment=job["experiment"],
            title=job["title"],
            sources=tuple(job["sources"]),
            seeds=tuple(job["seeds"]),
            contrasts=tuple((sampler, baseline) for sampler, baseline in job["contrasts"]),
            margin=job["margin"],
            within=frozenset((source, target) for source, target in job["within"]),
            is_drawn=job["drawn"],
        )


def summarise(frame: pd.DataFrame, plan: Plan) -> Verdict:
    """Judge an experiment's long rows by its plan, on mAP.

    Raises `DfgsError` for a planned sampler without numbers, and as `stats.seed_values` does (two protocols).
    """
    values = seed_values(frame, METRIC)
    trained = values[values["sampler"] != REFERENCE]
    judged = judged_transfers(trained, plan.within)
    compared = judge(source_seed_values(trained, plan.within), plan.contrasts, plan.margin)
    contrasts = tuple(_contrast(c, len(compared), plan.margin) for c in compared)
    cells = trained[[cell in judged for cell in zip(trained["source"], trained["target"], strict=True)]]
    return Verdict(
        experiment=plan.experiment,
        title=plan.title,
        metric=METRIC,
        margin=plan.margin,
        level=LEVEL,
        sentences=(
            prove(contrasts, plan.margin),
            limit(contrasts, len(plan.sources), len(plan.seeds), plan.is_drawn),
        ),
        notes=(BACKBONE, *_missing(contrasts, plan), *_mixed(frame)),
        averaged={
            source: tuple(sorted(t for s, t in judged if s == source)) for source in sorted({s for s, _ in judged})
        },
        is_within=judged <= plan.within,
        commits=tuple(sorted(frame["commit"].unique())),
        contrasts=contrasts,
        blocks=tuple(_blocks(str(model), rows, plan) for model, rows in cells.groupby("model")),
    )


def _contrast(c: Comparison, comparisons: int, margin: float) -> Contrast:
    method = "BCa" if c.interval.n >= BOOTSTRAP_FROM else "t"
    return Contrast(
        model=c.model,
        sampler=c.sampler,
        baseline=c.baseline,
        mean=c.interval.mean,
        low=number_or_none(c.interval.low),
        high=number_or_none(c.interval.high),
        method=method if c.is_repeated else None,
        why="" if c.is_repeated else ONE_SEED,
        deviation=number_or_none(c.deviation),
        p_value=c.p_value,
        adjusted=c.adjusted,
        verdict=c.verdict,
        seeds_needed=seeds_needed(c, comparisons, margin),
        pairs=tuple(
            Pair(str(source), int(seed), float(value))
            for (source, seed), value in zip(c.pairs.index, c.pairs, strict=True)
        ),
    )


def _blocks(model: str, cells: pd.DataFrame, plan: Plan) -> Blocks:
    """Rank a model's samplers over its cells; where that is meaningless, say why."""
    try:
        table = block_table(cells)
        ranks = rank_blocks(table)
    except DfgsError as error:
        blocks = len(cells[["source", "target"]].drop_duplicates())
        return Blocks(model, blocks, {}, None, None, str(error), ())
    contrasts = []
    for (sampler, baseline), adjusted in zip(plan.contrasts, wilcoxon(table, list(plan.contrasts)), strict=True):
        found = source_interval(table, sampler, baseline)
        ends = number_or_none(found.low), number_or_none(found.high)
        contrasts.append(BlockContrast(sampler, baseline, found.mean, *ends, found.n, adjusted))
    return Blocks(model, ranks.blocks, ranks.mean_ranks, ranks.p_value, ranks.critical_difference, "", tuple(contrasts))


def _missing(contrasts: tuple[Contrast, ...], plan: Plan) -> list[str]:
    """Name the planned pairs of trainings that a contrast lacks."""
    notes = []
    for c in contrasts:
        there = {(pair.source, pair.seed) for pair in c.pairs}
        lacking = [f"{s} seed {i}" for s in plan.sources for i in plan.seeds if (s, i) not in there]
        if lacking:
            notes.append(
                f"{c.sampler} against {c.baseline} lacks {count(len(lacking), 'planned pair')}: {', '.join(lacking)}."
            )
    return notes


def _mixed(frame: pd.DataFrame) -> list[str]:
    """Name the commits where the numbers come from several."""
    commits = frame["commit"].value_counts().sort_index()
    if len(commits) < 2:
        return []
    return [
        f"The numbers come from {len(commits)} commits: {', '.join(f'{c} ({n} rows)' for c, n in commits.items())}."
    ]
