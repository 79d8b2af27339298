"""What a sampler's gain costs: a training's time and the sampler's share of it against the planned differences."""

from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dfgs.figures._planned import Planned, planned, sampler_looks
from dfgs.figures.base import Drawing, FigureData, Look, legend, panels

UNITS = (("hours", 3600.0), ("minutes", 60.0), ("seconds", 1.0))


@dataclass(frozen=True, slots=True)
class _Cost:
    """What the trainings of a sampler took on average."""

    seconds: float
    share: float


class CostGain(Drawing):
    """Each planned contrast: what the sampler's trainings took (left) and its share of the time (right) against mAP.

    The vertical bar is the 95 % interval of the paired difference; the open circle is the baseline, at gain zero.
    """

    title = "Cost against gain"

    def applies(self, data: FigureData) -> bool:
        """Need a contrast and the records of its trainings."""
        return bool(_contrasts(data))

    def compose(self, figure: Figure, data: FigureData) -> str:
        """Draw two panels per model on one vertical axis."""
        rows, costs = _contrasts(data), _costs(data)
        models = list(dict.fromkeys(row.model for row in rows))
        marks = {name: look for name, look in sampler_looks(data).items() if name in {r.judged.sampler for r in rows}}
        unit, per = next((u, s) for u, s in UNITS if max(c.seconds for c in costs.values()) >= s or s == 1)
        drawn = panels(figure, 2 * len(models), 2, (3.4, 2.7), sharey="row")
        for place, axes in enumerate(drawn):
            model, is_time = models[place // 2], place % 2 == 0
            axes.axhspan(-data.margin, data.margin, color="#cccccc", linewidth=0, zorder=0)
            rightmost = 0.0
            for row in (row for row in rows if row.model == model):
                ends = [costs[model, name] for name in (row.judged.sampler, row.judged.baseline)]
                values = [cost.seconds / per if is_time else 100 * cost.share for cost in ends]
                _draw_contrast(axes, row, values, marks[row.judged.sampler])
                rightmost = max(rightmost, *values)
            axes.set_xlim(-0.03 * (rightmost or 1), 1.08 * (rightmost or 1))
            axes.set_xlabel(f"{unit} per training" if is_time else "sampler's share of the epochs' time (%)")
            if len(models) > 1:
                axes.set_title(model)
            if is_time:
                axes.set_ylabel("difference in mAP to the\nbaseline (points)")
        handles = [Line2D([], [], color=k.colour, marker=k.marker, ls="none", label=n) for n, k in marks.items()]
        legend(figure, [*handles, Line2D([], [], color="black", mfc="white", marker="o", ls="none", label="baseline")])
        equal = f"shaded: counts as equal (± {data.margin:g})"
        return f"means over trainings, bars: 95 % interval of the paired difference; {equal}"

    def describe(self, data: FigureData) -> str:
        """Give time, share and difference of every contrast."""
        costs = _costs(data)
        told = "; ".join(
            f"{row.name}: {costs[row.model, row.judged.sampler].seconds:.0f} against "
            f"{costs[row.model, row.judged.baseline].seconds:.0f} seconds, sampler's share "
            f"{costs[row.model, row.judged.sampler].share:.1%}, {row.judged.interval.mean:+.1f} points"
            for row in _contrasts(data)
        )
        return (
            "horizontally the time of a training and the sampler's share of it, vertically the paired difference in "
            f"mAP to the baseline; {told}."
        )


def _contrasts(data: FigureData) -> list[Planned]:
    """Return the contrasts of which both samplers left records."""
    costs = {} if data.costs.empty else _costs(data)
    rows = planned(data)
    return [row for row in rows if all((row.model, n) in costs for n in (row.judged.sampler, row.judged.baseline))]


def _costs(data: FigureData) -> dict[tuple[str, str], _Cost]:
    """Average over sources and seeds, by (model, sampler)."""
    return {
        (str(model), str(name)): _Cost(float(rows["seconds"].mean()), float(rows["sampler_share"].mean()))
        for (model, name), rows in data.costs.groupby(["model", "sampler"])
    }


def _draw_contrast(axes: Axes, row: Planned, values: list[float], look: Look) -> None:
    """Draw a contrast at its sampler's cost, and its baseline."""
    style: dict[str, Any] = {"color": look.colour, "marker": look.marker, "capsize": 3, "markersize": 6}
    axes.errorbar(values[0], row.judged.interval.mean, yerr=row.bar, **style)
    axes.plot(values[1], 0, color="black", mfc="white", marker="o", linestyle="none")
