"""Samplers ranked over datasets: mean ranks, and how far apart they must be to differ (Demšar, JMLR 2006)."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dfgs.figures.base import LETTER, Drawing, FigureData, Look, looks, panels
from dfgs.results import REFERENCE
from dfgs.stats import in_order, seed_values
from dfgs.stats.blocks import LEAST_BLOCKS, BlockRanks, block_table, rank_blocks
from dfgs.stats.verdict import judged_transfers

STEP = 0.42
"""Height between two names, where the axis of ranks has height 0 and points down."""


class CriticalDifference(Drawing):
    """Each sampler's mean rank over the source→target blocks on an axis, best at the left; bars join what may be equal.

    The blocks are the cross-domain cells, each the mean over seeds. Samplers under one thick bar are closer than
    Nemenyi's critical difference at 5 %.
    """

    title = "Ranks over datasets"

    def applies(self, data: FigureData) -> bool:
        """Need three samplers that are all scored on the same three cross-domain cells or more."""
        return bool(_ranks(data))

    def compose(self, figure: Figure, data: FigureData) -> str:
        """Draw a diagram per model."""
        ranks = _ranks(data)
        marks = looks(in_order({name for found in ranks.values() for name in found.mean_ranks}, data.samplers))
        rows = max(-(-len(found.mean_ranks) // 2) for found in ranks.values())
        groups = max(len(cliques(found)) for found in ranks.values())
        margin = LETTER * max(map(len, marks)) + 0.5
        drawn = panels(figure, len(ranks), 1, (4.5 + 2 * margin, 0.9 + 0.3 * rows + 0.12 * groups))
        for axes, (model, found) in zip(drawn, ranks.items(), strict=True):
            _draw_diagram(axes, found, marks)
            friedman = f"{found.blocks} blocks, Friedman p = {found.p_value:.2g}"
            axes.set_title(f"{model}: {friedman}" if len(ranks) > 1 else friedman)
        bars = "thick bars join what may be equal (Nemenyi, 5 %)"
        return f"mean rank by mAP over cross-domain source→target blocks, 1 is best\n{bars}"

    def describe(self, data: FigureData) -> str:
        """List the mean ranks, best first, with the critical difference."""
        told = []
        for model, found in _ranks(data).items():
            ordered = sorted(found.mean_ranks.items(), key=lambda item: item[1])
            names = ", ".join(f"{name} {rank:.2f}" for name, rank in ordered)
            told.append(
                f"{model}: {names} (critical difference {found.critical_difference:.2f}, {found.blocks} blocks, "
                f"Friedman p = {found.p_value:.2g})"
            )
        return f"samplers on an axis of mean ranks over source→target blocks, 1 is best; {'; '.join(told)}."


def cliques(found: BlockRanks) -> list[tuple[str, str]]:
    """Return first and last of every largest group, in order of ranks, that spans less than the critical difference.

    >>> cliques(BlockRanks({"a": 1.0, "b": 1.5, "c": 2.5}, 9, 0.1, 1.2))
    [('a', 'b'), ('b', 'c')]
    """
    names = sorted(found.mean_ranks, key=lambda name: (found.mean_ranks[name], name))
    ranks = [found.mean_ranks[name] for name in names]
    groups: list[tuple[int, int]] = []
    for first, low in enumerate(ranks):
        last = max(i for i, rank in enumerate(ranks) if rank - low < found.critical_difference)
        if last > first and (not groups or last > groups[-1][1]):
            groups.append((first, last))
    return [(names[first], names[last]) for first, last in groups]


def _ranks(data: FigureData) -> dict[str, BlockRanks]:
    """Rank the samplers of every model over the cross-domain cells that all of them have."""
    if data.trained("mAP").empty:
        return {}
    values = seed_values(data.metrics, "mAP")
    values = values[values["sampler"] != REFERENCE]
    judged = judged_transfers(values, data.within)
    values = values[[cell in judged for cell in zip(values["source"], values["target"], strict=True)]]
    ranks = {}
    for model, rows in values.groupby("model", sort=True):
        table = block_table(rows)
        if table.shape[0] >= LEAST_BLOCKS and table.shape[1] >= 3:
            ranks[str(model)] = rank_blocks(table)
    return ranks


def _draw_diagram(axes: Axes, found: BlockRanks, marks: dict[str, Look]) -> None:
    """Draw the axis, the critical difference above it, bars right below it, and names on both sides."""
    count = len(found.mean_ranks)
    bars = cliques(found)
    top = 0.25 + 0.2 * len(bars)
    ordered = sorted(found.mean_ranks.items(), key=lambda item: (item[1], item[0]))
    left = -(-count // 2)
    for place, (name, rank) in enumerate(ordered):
        is_left = place < left
        height = top + STEP * (place if is_left else count - 1 - place)
        edge = 1 - 0.15 if is_left else count + 0.15
        look = marks[name]
        axes.plot([rank, rank, edge], [0, height, height], color=look.colour, linewidth=1.1, linestyle=look.dash)
        axes.plot(rank, 0, color=look.colour, marker=look.marker, clip_on=False)
        words: dict[str, Any] = {"ha": "right" if is_left else "left", "va": "center"}
        axes.text(edge + (-0.04 if is_left else 0.04), height, f"{name} ({rank:.2f})", **words)
    for place, (first, last) in enumerate(bars):
        ends = [found.mean_ranks[first] - 0.04, found.mean_ranks[last] + 0.04]
        axes.plot(ends, [0.18 + 0.2 * place] * 2, color="black", linewidth=4, solid_capstyle="butt", label="_bar")
    axes.plot([1, 1 + found.critical_difference], [-0.55] * 2, color="black", marker="|", markersize=7)
    axes.text(
        1 + found.critical_difference / 2,
        -0.62,
        f"critical difference {found.critical_difference:.2f}",
        ha="center",
        va="bottom",
    )
    axes.set_xlim(0.85, count + 0.15)
    axes.set_ylim(top + STEP * left - 0.1, -1.0)
    axes.spines[:].set_visible(False)
    axes.plot([1, count], [0, 0], color="black", linewidth=0.9, zorder=1)
    for rank in range(1, count + 1):
        axes.plot([rank, rank], [0, -0.1], color="black", linewidth=0.9)
        axes.text(rank, -0.14, str(rank), ha="center", va="bottom", fontsize="small")
    axes.set(xticks=[], yticks=[])
