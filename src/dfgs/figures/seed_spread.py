"""How much a seed matters: every training's value, trainings of one seed joined from sampler to sampler."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dfgs.figures.base import LETTER, MARKERS, Drawing, FigureData, legend, looks, panel_title, panels, room_for, told
from dfgs.results import REFERENCE
from dfgs.stats import in_order, seed_values, transfers


class SeedSpread(Drawing):
    """One panel per source→target: a marker per sampler and seed; a line joins the trainings that share a seed.

    Lines that run in parallel mean that seeds shift all samplers alike, which pairing takes out; lines that cross mean
    that one seed decides nothing.
    """

    title = "Spread over seeds"

    def applies(self, data: FigureData) -> bool:
        """Need two seeds."""
        return data.trained("mAP")["seed"].nunique() > 1

    def compose(self, figure: Figure, data: FigureData) -> str:
        """Share the vertical axis along a row, samplers from left to right in the order of the experiment."""
        values = seed_values(data.metrics, "mAP")
        values = values[values["sampler"] != REFERENCE]
        samplers, seeds = in_order(values["sampler"].unique(), data.samplers), sorted(values["seed"].unique().tolist())
        models = sorted(values["model"].unique())
        cells = [(m, t) for m in models for t in transfers(values[values["model"] == m], data.within)]
        columns = min(3, max(sum(c[0] == m and c[1][0] == t[0] for c in cells) for m, t in cells))
        # Names stand upright below the panels.
        size = (max(2.4, 0.3 * len(samplers)) + room_for(["100"], columns), 1.9 + LETTER * max(map(len, samplers)))
        drawn = panels(figure, len(cells), columns, size, sharey="row")
        for place, (axes, (model, (source, target))) in enumerate(zip(drawn, cells, strict=True)):
            chosen = (values["model"] == model) & (values["source"] == source) & (values["target"] == target)
            _draw_panel(axes, values[chosen], samplers, seeds)
            axes.set_title(panel_title(model if len(models) > 1 else None, (source, target), data.within))
            if place % columns == 0:
                axes.set_ylabel("mAP (%)")
        grey: dict[str, Any] = {"color": "#777777", "markersize": 5}
        legend(
            figure, [Line2D([], [], marker=_marker(i), label=f"seed {seed}", **grey) for i, seed in enumerate(seeds)]
        )
        return f"mAP (%), one marker per training, n = {len(seeds)} seeds; a line joins those of one seed"

    def describe(self, data: FigureData) -> str:
        """Give every sampler's range over seeds, the widest over the targets."""
        values = seed_values(data.metrics, "mAP")
        values = values[values["sampler"] != REFERENCE]
        spread = values.groupby(["sampler", "model", "source", "target"])["value"].agg(lambda v: v.max() - v.min())
        widest = spread.groupby("sampler").max()
        ranges = told({str(name): f"{points:.1f}" for name, points in widest.items()}, data.samplers)
        return (
            "a panel per source and target, samplers along the horizontal axis, mAP (%) along the vertical, one marker "
            f"per training; widest range over seeds in points: {ranges}."
        )


def _draw_panel(axes: Axes, values: pd.DataFrame, samplers: list[str], seeds: list[int]) -> None:
    """Draw one transfer; a sampler that lacks a seed breaks that seed's line."""
    table = values.pivot_table(index="seed", columns="sampler", values="value").reindex(index=seeds, columns=samplers)
    colours = [look.colour for look in looks(samplers).values()]
    for number, seed in enumerate(seeds):
        line = table.loc[seed].to_numpy()
        axes.plot(range(len(samplers)), line, color="#bbbbbb", linewidth=0.9, zorder=1)
        axes.scatter(range(len(samplers)), line, c=colours, marker=_marker(number), s=26, zorder=2)
    axes.set_xticks(range(len(samplers)), samplers, rotation=90)
    axes.set_xlim(-0.5, len(samplers) - 0.5)
    axes.grid(axis="x", visible=False)


def _marker(number: int) -> str:
    return MARKERS[number % len(MARKERS)]
