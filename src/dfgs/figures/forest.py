"""The planned contrasts at a glance: every pair's difference, the mean with its interval, and the verdict."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from dfgs.figures._planned import Planned, planned, sampler_looks
from dfgs.figures.base import LETTER, Drawing, FigureData, legend, panels, room_for

HEADINGS = ("mean [95 % interval]", "pairs", "verdict")


class Forest(Drawing):
    """A row per planned contrast: a dot per pair (source × seed), a marker at the mean, a bar for its 95 % interval.

    Right of zero the sampler is better than its baseline; differences within the shaded region count as equal. A dot is
    open where one of the two trainings collapsed. Numbers and verdicts stand at the right, as in a table.
    """

    title = "Planned contrasts"

    def applies(self, data: FigureData) -> bool:
        """Need a planned contrast of trained and scored samplers."""
        return bool(planned(data))

    def compose(self, figure: Figure, data: FigureData) -> str:
        """Draw a panel per model, all on one axis."""
        rows = planned(data)
        models = list(dict.fromkeys(row.model for row in rows))
        marks = sampler_looks(data)
        width = 4.2 + room_for([row.name for row in rows], 1) + _table_width(rows)
        drawn = panels(figure, len(models), 1, (width, 0.9 + 0.42 * len(rows) / len(models)))
        for axes, model in zip(drawn, models, strict=True):
            mine = [row for row in rows if row.model == model]
            axes.axvspan(-data.margin, data.margin, color="#cccccc", linewidth=0, zorder=0)
            axes.axvline(0, color="black", linewidth=0.8)
            for place, row in enumerate(mine):
                _draw_row(axes, place, row, marks[row.judged.sampler].colour)
            _write_table(axes, mine)
            axes.set_yticks(range(len(mine)), [row.name for row in mine])
            axes.set_ylim(len(mine) - 0.4, -0.6)
            axes.grid(axis="y", visible=False)
            axes.set_xlabel("difference in mAP, sampler \N{MINUS SIGN} baseline (points)")
            if len(models) > 1:
                axes.set_title(model, loc="left", pad=18)
        _share_x(drawn)
        legend(figure, _handles(data.margin, any(row.collapsed.any() for row in rows)))
        return "mAP over targets, trainings paired by source and seed; p-values after Holm decide"

    def describe(self, data: FigureData) -> str:
        """Name every contrast with mean, interval, pairs and verdict."""
        told = [f"{row.name} {row.numbers}, n = {row.judged.interval.n}, {row.verdict}" for row in planned(data)]
        return (
            f"one row per planned contrast, horizontally the paired difference in mean mAP (points); {'; '.join(told)}."
        )


def _draw_row(axes: Axes, place: int, row: Planned, colour: str) -> None:
    """Draw the pairs above the line of the mean and its interval."""
    for is_collapsed in (False, True):
        values = row.judged.pairs[row.collapsed == is_collapsed].tolist()
        face = "white" if is_collapsed else colour
        axes.plot(values, [place - 0.22] * len(values), "o", color=colour, mfc=face, markersize=4)
    axes.errorbar(
        row.judged.interval.mean, place + 0.12, xerr=row.bar, color="black", marker="D", capsize=3.5, markersize=5.5
    )


def _write_table(axes: Axes, rows: list[Planned]) -> None:
    """Write means, pairs and verdicts at the right of the axes."""
    columns = _columns(rows)
    left = 8.0
    for heading, texts, wide in zip(HEADINGS, columns, _widths(rows), strict=True):
        for place, text in [(-0.6, heading), *enumerate(texts)]:
            where: dict[str, Any] = {"xycoords": axes.get_yaxis_transform(), "textcoords": "offset points"}
            where |= {"va": "bottom", "weight": "bold"} if place < 0 else {"va": "center"}
            axes.annotate(text, (1.0, place), (left, 0), **where)
        left += 72 * wide


def _columns(rows: list[Planned]) -> list[list[str]]:
    return [
        [row.numbers for row in rows],
        [str(row.judged.interval.n) for row in rows],
        [row.verdict for row in rows],
    ]


def _widths(rows: list[Planned]) -> list[float]:
    """Return the widths in inches of the table's columns."""
    return [1.05 * LETTER * (1 + max(map(len, (h, *t)))) for h, t in zip(HEADINGS, _columns(rows), strict=True)]


def _table_width(rows: list[Planned]) -> float:
    return sum(_widths(rows))


def _share_x(drawn: list[Axes]) -> None:
    """Give all panels one horizontal axis."""
    ends = [axes.get_xlim() for axes in drawn]
    for axes in drawn:
        axes.set_xlim(min(low for low, _ in ends), max(high for _, high in ends))


def _handles(margin: float, has_collapsed: bool) -> list[Line2D | Patch]:
    dot: dict[str, Any] = {"color": "#444444", "linestyle": "none", "marker": "o", "markersize": 4}
    handles: list[Line2D | Patch] = [
        Line2D([], [], label="one pair", **dot),
        Line2D([], [], color="black", marker="D", markersize=5.5, label="mean, with interval if seeds repeat"),
        Patch(color="#cccccc", label=f"counts as equal (± {margin:g})"),
    ]
    if has_collapsed:
        handles.insert(1, Line2D([], [], mfc="white", label="one pair, a model collapsed", **dot))
    return handles
