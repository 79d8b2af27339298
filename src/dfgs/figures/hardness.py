"""Do hard batches make good models? Hardness and coverage of a training's epochs against the mAP that it ends with."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dfgs.figures._planned import training_values
from dfgs.figures.base import Drawing, FigureData, Look, legend, looks, panels, told
from dfgs.stats import in_order

RUN = ["source", "model", "sampler", "seed"]
QUANTITIES = {
    "hardest_negative": "distance to the nearest other\nperson in the batch (left = harder)",
    "identities": "identities served in an epoch (%)",
    "images": "images served in an epoch (%)",
}
"""What is drawn from left to right, with the words for its axis."""


class Hardness(Drawing):
    """A row of panels per source: each training at its final mAP, from its first epoch (open) to its last (filled).

    Left how hard its batches were, then how many of the source's identities and images an epoch served.
    """

    title = "Hardness and coverage against final mAP"

    def applies(self, data: FigureData) -> bool:
        """Need the curve of a scored training and the size of its source."""
        return not _joined(data).empty

    def compose(self, figure: Figure, data: FigureData) -> str:
        """Share the vertical axis along a row."""
        rows = _joined(data)
        runs = sorted(set(zip(rows["model"], rows["source"], strict=True)))
        marks = looks(in_order(rows["sampler"].unique(), data.samplers))
        drawn = panels(figure, len(QUANTITIES) * len(runs), len(QUANTITIES), (2.9, 2.4), sharey="row")
        for place, axes in enumerate(drawn):
            (model, source), quantity = runs[place // len(QUANTITIES)], list(QUANTITIES)[place % len(QUANTITIES)]
            mine = rows[(rows["model"] == model) & (rows["source"] == source)]
            for name, look in marks.items():
                _draw_trainings(axes, mine[mine["sampler"] == name], quantity, look)
            axes.set_title(f"trained on {source}" + (f"\n{model}" if len({m for m, _ in runs}) > 1 else ""))
            axes.set_xlabel(QUANTITIES[quantity])
            if place % len(QUANTITIES) == 0:
                axes.set_ylabel("final mAP (%),\nmean over targets")
        legend(
            figure,
            [Line2D([], [], color=look.colour, marker=look.marker, label=name) for name, look in marks.items()],
        )
        return f"{rows.drop_duplicates(RUN).shape[0]} trainings; open: first epoch, filled: last epoch"

    def describe(self, data: FigureData) -> str:
        """Give each sampler's mean hardness, coverage and final mAP."""
        rows = _joined(data)
        means = {}
        for name, mine in rows.groupby("sampler"):
            distance, people, images, final = mine[[*QUANTITIES, "value"]].mean()
            means[str(name)] = f"{distance:.2f}, {people:.0f} %, {images:.0f} %, mAP {final:.1f}"
        return (
            "horizontally the distance to the nearest other person in the batch and the identities and images served "
            "in an epoch, vertically the final mAP (%) over targets, one line per training; means over all epochs: "
            f"{told(means, data.samplers)}."
        )


def _joined(data: FigureData) -> pd.DataFrame:
    """Return a row per training and epoch: hardness, coverage in percent and `value`, the final mAP."""
    finals = training_values(data)
    if finals.empty or data.curves.empty or data.costs.empty or "identities_served" not in data.curves:
        return pd.DataFrame()
    rows = data.curves.merge(data.costs[[*RUN, "identities", "images"]], on=RUN).merge(finals, on=RUN)
    for name in ("identities", "images"):
        rows[name] = 100 * rows[f"{name}_served"] / rows[name]
    return rows.sort_values([*RUN, "epoch"], ignore_index=True)


def _draw_trainings(axes: Axes, rows: pd.DataFrame, quantity: str, look: Look) -> None:
    """Draw one sampler's trainings as level lines through all their epochs."""
    for _, epochs in rows.groupby("seed"):
        values = epochs[quantity].dropna().tolist()
        if not values:
            continue
        final = float(epochs["value"].iloc[0])
        axes.plot(values, [final] * len(values), color=look.colour, linewidth=0.9)
        style: dict[str, Any] = {"color": look.colour, "marker": look.marker, "linestyle": "none"}
        axes.plot(values[:1], [final], mfc="white", **style)
        axes.plot(values[-1:], [final], **style)
