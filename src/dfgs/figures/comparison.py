"""Samplers side by side: mAP on every transfer, single seeds and the interval of their mean."""

from collections.abc import Collection

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dfgs.figures.base import LETTER, Drawing, FigureData, legend, looks, panel_title, panels, room_for, told
from dfgs.results import REFERENCE
from dfgs.stats import Transfer, describe_seeds, in_order, intervals, mean_interval, seed_values, transfers


class Comparison(Drawing):
    """One panel per source→target: a dot per seed, a marker at the mean, a bar for its 95 % t-interval."""

    title = "Samplers compared"

    def applies(self, data: FigureData) -> bool:
        """Need the mAP of a trained model."""
        return not data.trained("mAP").empty

    def compose(self, figure: Figure, data: FigureData) -> str:
        """List the samplers from top to bottom, the same order in every panel."""
        values = seed_values(data.metrics, "mAP")
        samplers = in_order(values["sampler"].unique(), data.samplers)
        models = sorted(values["model"].unique())
        cells = [(model, t) for model in models for t in transfers(values[values["model"] == model], data.within)]
        titles = [panel_title(model if len(models) > 1 else None, t, data.within) for model, t in cells]
        columns = min(5, max(sum(c[0] == model and c[1][0] == t[0] for c in cells) for model, t in cells))
        width = max(2.2, *(LETTER * len(line) for title in titles for line in title.split("\n")))
        size = (width + room_for(samplers, columns), 0.9 + 0.3 * len(samplers))
        drawn = panels(figure, len(cells), columns, size, sharey=True)
        for axes, title, (model, (source, target)) in zip(drawn, titles, cells, strict=True):
            chosen = (values["model"] == model) & (values["source"] == source) & (values["target"] == target)
            _draw_panel(axes, values[chosen], samplers)
            axes.set_title(title)
        legend(
            figure,
            [
                Line2D([], [], color="#444444", marker="o", label="mean, with interval if n > 1"),
                Line2D([], [], color="#444444", marker=".", markersize=3.5, linestyle="none", label="one seed"),
            ],
        )
        trained = values[values["sampler"] != REFERENCE]
        return f"mAP (%), {describe_seeds(intervals(trained).values())}"

    def describe(self, data: FigureData) -> str:
        """Give every sampler's mean over the cross-domain targets."""
        values = seed_values(data.metrics, "mAP")
        means = _averages(values[values["sampler"] != REFERENCE], data.within)
        averages = told({name: f"{mean:.1f}" for name, mean in means.items()}, data.samplers)
        return (
            "a panel per source and target, a row per sampler, horizontally mAP (%) with every seed, mean and 95 % "
            f"interval; means over all panels of other domains: {averages}."
        )


def _averages(values: pd.DataFrame, within: Collection[Transfer]) -> dict[str, float]:
    """Average each sampler over the cells of other domains, or over all cells where there are none."""
    means = values.groupby(["sampler", "source", "target"], as_index=False)["value"].mean()
    is_cross = [cell not in within for cell in zip(means["source"], means["target"], strict=True)]
    kept = means[is_cross] if any(is_cross) else means
    return {str(name): float(value) for name, value in kept.groupby("sampler")["value"].mean().items()}


def _draw_panel(axes: Axes, values: pd.DataFrame, samplers: list[str]) -> None:
    """Draw one transfer; `values` has a row per sampler and seed."""
    for row, (name, look) in enumerate(looks(samplers).items()):
        seeds = values[values["sampler"] == name]["value"].to_numpy()
        if seeds.size == 0:
            continue
        mean = mean_interval(seeds)
        bar = mean.half_width if mean.n > 1 else None
        axes.errorbar(mean.mean, row, xerr=bar, color=look.colour, marker=look.marker, capsize=3, linestyle="none")
        axes.plot(seeds, [row + 0.28] * seeds.size, ".", color=look.colour, markersize=3.5, alpha=0.8)
    axes.set_yticks(range(len(samplers)), samplers)
    axes.set_ylim(len(samplers) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    # A t-interval of few seeds may reach beyond what a percentage can be.
    axes.set_xlim(left=max(0.0, axes.get_xlim()[0]), right=min(100.0, axes.get_xlim()[1]))
    # As a line the untuned backbone, far to the left, would squeeze the differences that the panel is there to show.
    reference = values[values["sampler"] == REFERENCE]["value"].tolist()
    axes.set_xlabel("mAP (%)" + "".join(f", zero-shot: {value:.1f}" for value in reference))
