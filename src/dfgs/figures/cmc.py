"""Cumulative matching: how many queries have their first match at rank k or above, by sampler."""

import re

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dfgs.figures.base import Drawing, FigureData, Look, draw_means, legend, looks, panel_title, panels, told
from dfgs.results import REFERENCE
from dfgs.stats import Interval, Transfer, describe_seeds, in_order, intervals, seed_values, transfers

Curves = dict[tuple[str, Transfer], dict[str, dict[int, Interval]]]
"""(model, transfer) -> sampler -> rank -> interval over seeds."""


class Cmc(Drawing):
    """One panel per source→target: a line per sampler, the mean over seeds, with a band for its 95 % t-interval."""

    title = "Cumulative matching"

    def applies(self, data: FigureData) -> bool:
        """Need a trained model's rates of two ranks."""
        return len(_ranks(data)) > 1

    def compose(self, figure: Figure, data: FigureData) -> str:
        """Share the vertical axis, so that levels compare across transfers; the untuned backbone is dotted."""
        curves = _curves(data)
        models = {model for model, _ in curves}
        samplers = in_order({name for curve in curves.values() for name in curve}, data.samplers)
        marks = looks(samplers) | {REFERENCE: Look("black", "", (0, (1, 1.5)))}
        columns = min(4, max(sum(m == model and t[0] == s for m, t in curves) for model, (s, _) in curves))
        drawn = panels(figure, len(curves), columns, (2.9, 2.4), sharey=True)
        for place, (axes, ((model, transfer), lines)) in enumerate(zip(drawn, curves.items(), strict=True)):
            _draw_panel(axes, lines, marks)
            axes.set_title(panel_title(model if len(models) > 1 else None, transfer, data.within))
            axes.set_xlabel("rank k")
            if place % columns == 0:
                axes.set_ylabel("queries matched\nby rank k (%)")
        found = {name for lines in curves.values() for name in lines}
        handles = [
            Line2D([], [], color=look.colour, linestyle=look.dash, marker=look.marker, label=name)
            for name, look in marks.items()
            if name in found
        ]
        legend(figure, handles)
        trained = [lines[name].values() for lines in curves.values() for name in lines if name != REFERENCE]
        return describe_seeds(point for points in trained for point in points)

    def describe(self, data: FigureData) -> str:
        """Give every sampler's mean at the first and the last rank."""
        first, *_, last = _ranks(data)
        trained = data.metrics[data.metrics["sampler"] != REFERENCE]
        means = {
            str(name): " and ".join(f"{rows[rows['metric'] == f'rank{k}']['value'].mean():.1f}" for k in (first, last))
            for name, rows in trained.groupby("sampler")
        }
        return (
            "a panel per source and target, ranks along the horizontal axis, queries matched by that rank (%) along "
            f"the vertical, a line per sampler; means over panels at ranks {first} and {last}: "
            f"{told(means, data.samplers)}."
        )


def _ranks(data: FigureData) -> list[int]:
    trained = data.metrics[data.metrics["sampler"] != REFERENCE]
    return sorted(int(name[4:]) for name in trained["metric"].unique() if re.fullmatch("rank[0-9]+", name))


def _curves(data: FigureData) -> Curves:
    """Collect the intervals, panels in the order of `transfers`."""
    by_rank = {k: seed_values(data.metrics, f"rank{k}") for k in _ranks(data)}
    first = next(iter(by_rank.values()))
    curves: Curves = {
        (model, transfer): {}
        for model in sorted(first["model"].unique())
        for transfer in transfers(first[first["model"] == model], data.within)
    }
    for k, values in by_rank.items():
        for (model, sampler, transfer), interval in intervals(values).items():
            curves[model, transfer].setdefault(sampler, {})[k] = interval
    return curves


def _draw_panel(axes: Axes, lines: dict[str, dict[int, Interval]], marks: dict[str, Look]) -> None:
    for name, look in marks.items():
        if name in lines:
            draw_means(axes, list(lines[name]), list(lines[name].values()), look, (0.0, 100.0))
    ranks = sorted({k for points in lines.values() for k in points})
    step = max(1, 5 * round(ranks[-1] / 20))
    axes.set_xticks([ranks[0], *(k for k in ranks[1:] if k % step == 0)])
