"""The verdict as tables, one per level: trainings, which alone decide, and datasets."""

import math
from dataclasses import asdict

import pandas as pd

from dfgs.rendering import MISSING, Entry, Table
from dfgs.stats.summary import Blocks, Contrast, Verdict
from dfgs.tables.words import label_columns

METHODS = {
    "t": "Student's t",
    "BCa": "bootstrap, bias-corrected and accelerated (BCa)",
}


def verdict_table(verdict: Verdict) -> Table:
    """Show every planned contrast over trainings: difference, interval, p, verdict, and the seeds that are missing."""
    models = sorted({c.model for c in verdict.contrasts})
    labels = [*label_columns(models, "sampler"), "against"]
    methods = sorted({METHODS[c.method] for c in verdict.contrasts if c.method is not None})
    caption = (
        f"Experiment {verdict.experiment}, level of trainings: mean paired difference in {verdict.metric} (points), "
        f"paired by source and seed, each training's mean over {_averaged(verdict)}. "
        f"{_intervals(methods)} p of the exact sign-flip test, then after Holm over all planned contrasts. Equal: the "
        f"interval lies within ± {verdict.margin:g}; better, worse: p ≤ {verdict.level:g} after Holm; more seeds: per "
        "source, to decide if differences go on like these."
    )
    rows = tuple(
        (*(Entry(name) for name in (c.model, c.sampler, c.baseline)[-len(labels) :]), *_cells(c))
        for c in verdict.contrasts
    )
    numbers = [
        {key: value for key, value in asdict(c).items() if key not in ("pairs", "why")} | {"pairs": len(c.pairs)}
        for c in verdict.contrasts
    ]
    header = (*labels, "difference", "95 % interval", "pairs", "p", "p (Holm)", "verdict", "more seeds")
    frame = pd.DataFrame(numbers).assign(level="trainings", caption=caption)
    notes = (*verdict.sentences, *_whys(verdict.contrasts), *verdict.notes)
    return Table(caption, header, len(labels), rows, (), frame, notes)


def blocks_table(verdict: Verdict) -> Table:
    """Show the samplers' mean ranks over source→target blocks, and the planned contrasts at that level."""
    models = sorted(blocks.model for blocks in verdict.blocks)
    labels = [*label_columns(models, "sampler"), "against"]
    caption = (
        f"Experiment {verdict.experiment}, level of datasets: samplers over source→target blocks, each the mean over "
        f"seeds of {verdict.metric}. Mean rank: 1 is best. Difference: the mean over blocks (points) with a 95 % "
        "bootstrap interval that draws whole sources, since cells that share a source are not independent; p of "
        "Wilcoxon's signed-rank test after Holm, which takes them as independent and is too small. This level "
        "describes; the verdict is that of the level of trainings."
    )
    rows = [row for blocks in verdict.blocks for row in _block_rows(blocks)]
    header = (*labels, "mean rank", "difference", "95 % interval", "sources", "p (Holm)")
    shown = tuple(tuple(Entry(text) for text in row[-len(header) :]) for row in rows)
    numbers = [
        {"model": b.model, **asdict(c), "rank": b.mean_ranks.get(c.sampler, math.nan), "blocks": b.blocks}
        | {"friedman_p": b.p_value, "critical_difference": b.critical_difference}
        for b in verdict.blocks
        for c in b.contrasts
    ]
    frame = pd.DataFrame(numbers).assign(level="datasets", caption=caption)
    return Table(caption, header, len(labels), shown, (), frame, tuple(_ranks(b) for b in verdict.blocks))


def _cells(c: Contrast) -> tuple[Entry, ...]:
    needed = "more than 1,000 pairs" if c.seeds_needed is None else str(c.seeds_needed)
    return (
        Entry(f"{c.mean:+.1f}", value=c.mean),
        Entry(_interval(c.low, c.high), value=c.low),
        Entry(str(len(c.pairs))),
        Entry(f"{c.p_value:.2g}", value=c.p_value),
        Entry(f"{c.adjusted:.2g}", value=c.adjusted),
        Entry(c.verdict, 1 if c.verdict in ("better", "worse") else 0),
        Entry(MISSING if c.method is None else needed),
    )


def _block_rows(blocks: Blocks) -> list[tuple[str, ...]]:
    return [
        (
            *(blocks.model, c.sampler, c.baseline, f"{blocks.mean_ranks[c.sampler]:.2f}"),
            *(f"{c.mean:+.1f}", _interval(c.low, c.high), str(c.sources), f"{c.adjusted:.2g}"),
        )
        for c in blocks.contrasts
    ]


def _ranks(blocks: Blocks) -> str:
    """Say of a model what Friedman's and Nemenyi's tests find, or why there are no ranks."""
    if blocks.why:
        return f"{blocks.model}: no ranks. {blocks.why}."
    ranks = ", ".join(
        f"{name} {rank:.2f}" for name, rank in sorted(blocks.mean_ranks.items(), key=lambda item: item[1])
    )
    return (
        f"{blocks.model}: mean ranks over {blocks.blocks} blocks: {ranks}. Friedman's test: p = {blocks.p_value:.2g}; "
        f"by Nemenyi's, samplers whose mean ranks are {blocks.critical_difference:.2f} or more apart differ."
    )


def _averaged(verdict: Verdict) -> str:
    targets = "; ".join(f"{source}: {', '.join(found)}" for source, found in verdict.averaged.items())
    kind = "its own test identities, there being no other targets" if verdict.is_within else "its cross-domain targets"
    return f"{kind} ({targets})"


def _intervals(methods: list[str]) -> str:
    return f"95 % intervals: {' and '.join(methods)}." if methods else "No intervals."


def _whys(contrasts: tuple[Contrast, ...]) -> list[str]:
    """Say once why contrasts have no interval."""
    return [f"No interval: {why}." for why in sorted({c.why for c in contrasts if c.why})]


def _interval(low: float | None, high: float | None) -> str:
    return MISSING if low is None or high is None else f"{low:+.1f} to {high:+.1f}"
