"""How many seeds would settle a planned contrast, if trainings go on scattering as they did."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from dfgs.figures._planned import Planned, planned
from dfgs.figures.base import Drawing, FigureData, Look, legend, looks, panels
from dfgs.stats.paired import POWER, half_width, pairs_to_reject, power
from dfgs.stats.verdict import LEVEL, count

MOST = 64
"""Seeds per source at which the curves end at the latest."""
TICKS = (1, 2, 3, 5, 8, 16, 32, MOST)


class SeedsNeeded(Drawing):
    """A line per planned contrast against seeds per source: the interval's half-width (left), the power (right).

    Both follow from the observed standard deviation of the pairs' differences. The power is to tell the observed mean
    difference from zero at the level that Holm leaves the smallest p-value; it is zero while the sign-flip test has too
    few pairs to reject at all. The marker is the present number of seeds.
    """

    title = "Seeds needed"

    def applies(self, data: FigureData) -> bool:
        """Need a contrast whose seeds differ."""
        return bool(_spread(data))

    def compose(self, figure: Figure, data: FigureData) -> str:
        """Draw two panels per model."""
        rows = _spread(data)
        models = list(dict.fromkeys(row.model for row in rows))
        marks = looks([*dict.fromkeys(row.name for row in rows)])
        drawn = panels(figure, 2 * len(models), 2, (3.4, 2.7))
        for place, axes in enumerate(drawn):
            model = models[place // 2]
            for row in (row for row in rows if row.model == model):
                draw = _draw_width if place % 2 == 0 else _draw_power
                draw(axes, row, marks[row.name], len(data.contrasts) * len(models))
            _label(axes, is_width=place % 2 == 0, margin=data.margin)
            if len(models) > 1:
                axes.set_title(model)
        handles = [Line2D([], [], color=k.colour, ls=k.dash, marker=k.marker, label=n) for n, k in marks.items()]
        legend(figure, handles)
        contrasts = count(len(data.contrasts) * len(models), "planned contrast")
        return f"from the observed spread of the pairs, {contrasts}; marker: seeds so far"

    def describe(self, data: FigureData) -> str:
        """Give each contrast's half-width now and the seeds that it still needs."""
        told = "; ".join(
            f"{row.name}: ± {_width(row, _seeds(row)):.1f} points with {_seeds(row):g} seeds, {row.verdict}"
            for row in _spread(data)
        )
        return (
            "seeds per source along the horizontal axis, vertically the half-width of the 95 % interval and the chance "
            f"to find the observed difference; {told}."
        )


def _spread(data: FigureData) -> list[Planned]:
    """Return the contrasts whose pairs scatter."""
    return [row for row in planned(data) if row.has_interval and row.judged.deviation > 0]


def _seeds(row: Planned) -> float:
    """Return the present number of seeds per source, a mean where sources differ."""
    return row.judged.interval.n / row.judged.sources


def _width(row: Planned, seeds: float) -> float:
    return half_width(row.judged.deviation, round(seeds * row.judged.sources), LEVEL)


def _chance(row: Planned, seeds: float, contrasts: int) -> float:
    """Return the power with so many seeds per source, in percent; see the class."""
    pairs = round(seeds * row.judged.sources)
    if pairs < pairs_to_reject(contrasts, LEVEL):
        return 0.0
    return 100 * power(row.judged.interval.mean, row.judged.deviation, pairs, LEVEL / contrasts)


def _numbers(row: Planned) -> list[int]:
    """List the numbers of seeds that give two pairs or more."""
    return [seeds for seeds in range(1, MOST + 1) if seeds * row.judged.sources > 1]


def _draw_width(axes: Axes, row: Planned, look: Look, contrasts: int) -> None:
    numbers = _numbers(row)
    _draw(axes, look, numbers, [_width(row, seeds) for seeds in numbers], (_seeds(row), _width(row, _seeds(row))))


def _draw_power(axes: Axes, row: Planned, look: Look, contrasts: int) -> None:
    numbers = _numbers(row)
    now = (_seeds(row), _chance(row, _seeds(row), contrasts))
    _draw(axes, look, numbers, [_chance(row, seeds, contrasts) for seeds in numbers], now)


def _draw(axes: Axes, look: Look, numbers: list[int], values: list[float], now: tuple[float, float]) -> None:
    axes.plot(numbers, np.array(values), color=look.colour, linestyle=look.dash)
    axes.plot(*now, color=look.colour, marker=look.marker, markersize=7, linestyle="none")


def _label(axes: Axes, is_width: bool, margin: float) -> None:
    """Name the axes and draw the level that is to be reached."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(TICKS))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("seeds per source")
    if is_width:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_ylabel("half-width of the 95 %\ninterval (mAP points)")
    else:
        axes.set_ylim(-3, 103)
        axes.set_ylabel("chance to find the\nobserved difference (%)")
    level, words = (margin, f"counts as equal: ± {margin:g}") if is_width else (100 * POWER, f"{POWER:.0%}")
    axes.axhline(level, color="black", linestyle=(0, (4, 2)), linewidth=1.0)
    axes.text(0.02, level, words, transform=axes.get_yaxis_transform(), va="bottom", fontsize="small")
