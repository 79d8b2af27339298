"""What the batches held: pairs of look-alikes by sampler, and hardness by quarter of the first and the last epoch."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dfgs.figures.base import Drawing, FigureData, Look, legend, looks, panels, room_for, told
from dfgs.stats import Interval, describe_seeds, in_order, mean_interval

QUARTERS = [f"image_distance_q{i}" for i in range(1, 5)]


class Audit(Drawing):
    """A row of panels per source: in-batch neighbour pairs beside chance, and the distance to the nearest other image.

    The epochs of the audit, usually the first and the last, are told apart by open and filled markers on the left and
    stand one after the other on the right.
    """

    title = "Audit of the batches"

    def applies(self, data: FigureData) -> bool:
        """Need one audited epoch."""
        return not data.audits.empty

    def compose(self, figure: Figure, data: FigureData) -> str:
        """Draw two panels for every source and model, on the same axes."""
        audits = data.audits
        runs = sorted(set(zip(audits["model"], audits["source"], strict=True)))
        marks = looks(in_order(audits["sampler"].unique(), data.samplers))
        extra = room_for(marks, 2)
        drawn = panels(figure, 2 * len(runs), 2, (3.4 + extra, 1.5 + 0.19 * len(marks)))
        shown: list[Interval] = []
        for place, (model, source) in enumerate(runs):
            rows = audits[(audits["model"] == model) & (audits["source"] == source)]
            shown += _draw_pairs(drawn[2 * place], rows, marks)
            _draw_hardness(drawn[2 * place + 1], rows, marks)
            name = f"{source}" + (f", {model}" if len({m for m, _ in runs}) > 1 else "")
            drawn[2 * place].set_title(f"{name}: look-alikes")
            drawn[2 * place + 1].set_title(f"{name}: hardness")
        handles = [
            Line2D([], [], color=look.colour, linestyle=look.dash, marker=look.marker, label=name)
            for name, look in marks.items()
        ]
        legend(figure, handles)
        return describe_seeds(shown)

    def describe(self, data: FigureData) -> str:
        """Give every sampler's share of neighbour pairs in the last epoch, beside chance."""
        last = data.audits[data.audits["epoch"] == data.audits["epoch"].max()]
        means = 100 * last.groupby("sampler")["neighbour_share"].mean()
        shares = told({str(name): f"{share:.1f}" for name, share in means.items()}, data.samplers)
        return (
            "for each source the in-batch pairs that are neighbours (%) by sampler, and by quarter of the epoch the "
            f"distance to the nearest other person in the batch; neighbour pairs in the last epoch: {shares}, by "
            f"chance {100 * last['neighbour_chance'].mean():.1f}."
        )


def _epochs(rows: pd.DataFrame) -> list[int]:
    """List the first and the last audited epoch; one where they are the same."""
    return sorted({int(rows["epoch"].min()), int(rows["epoch"].max())})


def _draw_pairs(axes: Axes, rows: pd.DataFrame, marks: dict[str, Look]) -> list[Interval]:
    """Draw each sampler's share of neighbour pairs with its interval over seeds; the last epoch filled."""
    epochs, shown = _epochs(rows), []
    for height, (name, look) in enumerate(marks.items()):
        for epoch in epochs:
            values = 100 * rows[(rows["sampler"] == name) & (rows["epoch"] == epoch)]["neighbour_share"].dropna()
            if values.empty:
                continue
            interval = mean_interval(values)
            filled = look.colour if epoch == epochs[-1] else "white"
            spread = interval.half_width if interval.n > 1 else 0.0
            axes.errorbar(interval.mean, height, xerr=spread, color=look.colour, marker=look.marker, mfc=filled)
            shown.append(interval)
        if rows[rows["sampler"] == name]["at_chance"].all():
            axes.text(0.99, height, "graph at chance", transform=axes.get_yaxis_transform(), ha="right", va="center")
    chance = 100 * float(rows["neighbour_chance"].mean())
    axes.axvline(chance, color="black", linestyle=(0, (4, 2)), linewidth=1.0)
    axes.set_yticks(range(len(marks)), list(marks))
    axes.set_ylim(len(marks) - 0.5, -0.5)
    axes.set_xlim(left=0)
    told = f"; open: epoch {epochs[0]}, filled: epoch {epochs[-1]}" if len(epochs) > 1 else ""
    axes.set_xlabel(f"in-batch pairs that are neighbours (%)\ndashed: chance{told}")
    return shown


def _draw_hardness(axes: Axes, rows: pd.DataFrame, marks: dict[str, Look]) -> None:
    """Draw the mean over seeds by quarter, the epochs one after the other."""
    epochs = _epochs(rows)
    for name, look in marks.items():
        for block, epoch in enumerate(epochs):
            part = rows[(rows["sampler"] == name) & (rows["epoch"] == epoch)]
            places = [1 + 5 * block + quarter for quarter in range(4)]
            style: dict[str, Any] = {"color": look.colour, "linestyle": look.dash, "marker": look.marker}
            axes.plot(places, part[QUARTERS].mean().tolist(), markersize=4, **style)
    ticks = [1 + 5 * block + quarter for block in range(len(epochs)) for quarter in range(4)]
    axes.set_xticks(ticks, ["1", "2", "3", "4"] * len(epochs))
    named = " and of ".join(f"epoch {epoch}" for epoch in epochs) if len(epochs) > 1 else "the pass"
    axes.set_xlabel(f"quarter of {named}")
    axes.set_ylabel("distance to the nearest\nother person in the batch")
