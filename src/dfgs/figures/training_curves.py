"""How training went: the loss and the hardness of the batches, per epoch."""

import math

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from dfgs.figures.base import Drawing, FigureData, Look, draw_means, legend, looks, panels, told
from dfgs.stats import Interval, describe_seeds, in_order, mean_interval

QUANTITIES = {"loss": "loss", "hardest_negative": "hardest negative\n(distance, lower = harder)"}
"""Columns of the curves, one row of panels each, with the words for their axis."""


class TrainingCurves(Drawing):
    """Loss (above) and in-batch hardness (below) by sampler; a column per source, a band for the 95 % t-interval."""

    title = "Training"

    def applies(self, data: FigureData) -> bool:
        """Need one epoch of one run."""
        return not data.curves.empty

    def compose(self, figure: Figure, data: FigureData) -> str:
        """Share the vertical axis of a row, so that levels compare across sources."""
        curves = data.curves
        runs = sorted({(str(m), str(s)) for m, s in zip(curves["model"], curves["source"], strict=True)})
        marks = looks(in_order(curves["sampler"].unique(), data.samplers))
        drawn = panels(figure, len(QUANTITIES) * len(runs), len(runs), (3.2, 2.1), sharey="row")
        shown: list[Interval] = []
        for place, axes in enumerate(drawn):
            quantity, (model, source) = list(QUANTITIES)[place // len(runs)], runs[place % len(runs)]
            rows = curves[(curves["model"] == model) & (curves["source"] == source)].dropna(subset=[quantity])
            for name, look in marks.items():
                shown += _draw_line(axes, rows[rows["sampler"] == name], quantity, look)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            if place < len(runs):
                axes.set_title(f"trained on {source}" + (f"\n{model}" if len({m for m, _ in runs}) > 1 else ""))
            if place >= len(drawn) - len(runs):
                axes.set_xlabel("epoch")
            if place % len(runs) == 0:
                axes.set_ylabel(QUANTITIES[quantity])
        handles = [
            Line2D([], [], color=look.colour, linestyle=look.dash, marker=look.marker, label=name)
            for name, look in marks.items()
        ]
        legend(figure, handles)
        return describe_seeds(shown)

    def describe(self, data: FigureData) -> str:
        """Give every sampler's mean loss and hardness in the last epoch."""
        last = data.curves[data.curves["epoch"] == data.curves["epoch"].max()]
        means = {
            str(name): " and ".join(f"{rows[quantity].mean():.2f}" for quantity in QUANTITIES)
            for name, rows in last.groupby("sampler")
        }
        return (
            "epochs along the horizontal axis, loss above and distance to the hardest negative below, a line per "
            f"sampler, a column per source; means in the last epoch: {told(means, data.samplers)}."
        )


def _draw_line(axes: Axes, rows: pd.DataFrame, quantity: str, look: Look) -> list[Interval]:
    """Draw one sampler's mean over seeds by epoch with its band; return the intervals."""
    epochs = sorted(rows["epoch"].unique().tolist())
    points = [mean_interval(rows[rows["epoch"] == epoch][quantity]) for epoch in epochs]
    # Neither losses nor distances go below 0, though a t-interval of few seeds may.
    draw_means(axes, epochs, points, look, (0.0, math.inf))
    return points
