"""What training on each source is worth on every target: one matrix per sampler."""

import math

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from dfgs.figures.base import Drawing, FigureData, panels, room_for
from dfgs.results import REFERENCE
from dfgs.stats import Transfer, in_order, intervals, seed_values

# The lightness of this map rises steadily, so that it reads in grey and with any colour vision.
COLOURMAP = "cividis"


class TransferMatrix(Drawing):
    """One matrix source by target of mean mAP per sampler, the numbers printed; a frame marks within-domain cells."""

    title = "Source to target"

    def applies(self, data: FigureData) -> bool:
        """Need the mAP of a trained model."""
        return not data.trained("mAP").empty

    def compose(self, figure: Figure, data: FigureData) -> str:
        """Draw all matrices on one colour scale, so that equal colours are equal numbers."""
        values = seed_values(data.metrics, "mAP")
        cells = intervals(values[values["sampler"] != REFERENCE])
        models, found = sorted({key[0] for key in cells}), {key[:2] for key in cells}
        samplers = in_order(values["sampler"].unique(), data.samplers)
        matrices = [(model, name) for model in models for name in samplers if (model, name) in found]
        sources, targets = (sorted({key[2][i] for key in cells}) for i in (0, 1))
        within = [(sources.index(s), targets.index(t)) for s, t in {key[2] for key in cells} if (s, t) in data.within]
        scale = Normalize(min(i.mean for i in cells.values()), max(i.mean for i in cells.values()))
        rows = math.ceil(len(matrices) / max(1, min(5, 12 // len(targets))))
        columns = math.ceil(len(matrices) / rows)
        size = (0.4 + 0.6 * len(targets) + room_for(sources, columns), 0.8 + 0.45 * len(sources))
        drawn = panels(figure, len(matrices), columns, size, sharey=True)
        for place, (axes, (model, name)) in enumerate(zip(drawn, matrices, strict=True)):
            grid = [[cells.get((model, name, (source, target))) for target in targets] for source in sources]
            means = np.array([[cell.mean if cell else np.nan for cell in row] for row in grid])
            _draw_matrix(axes, means, scale)
            _frame(axes, within)
            _label(axes, sources, targets, is_lowest=place + columns >= len(matrices))
            axes.set_title(f"{model}\n{name}" if len(models) > 1 else name)
        figure.supylabel("source", fontsize="medium")
        figure.colorbar(ScalarMappable(scale, COLOURMAP), ax=drawn, label="mAP (%)", aspect=30)
        counts = [interval.n for interval in cells.values()]
        seeds = " to ".join(map(str, sorted({min(counts), max(counts)})))
        return f"mAP (%), mean over seeds (n = {seeds})" + ("; framed: within-domain" if within else "")

    def describe(self, data: FigureData) -> str:
        """Give the best sampler of every cell with its mean."""
        values = seed_values(data.metrics, "mAP")
        means = intervals(values[values["sampler"] != REFERENCE])
        best: dict[tuple[str, Transfer], tuple[float, str]] = {}
        for (model, name, transfer), interval in means.items():
            best[model, transfer] = max(best.get((model, transfer), (-math.inf, "")), (interval.mean, name))
        told = ", ".join(f"{s}→{t} {mean:.1f} ({name})" for (_, (s, t)), (mean, name) in sorted(best.items()))
        return (
            f"a matrix per sampler, sources down, targets across, mean mAP (%) in each cell; highest of each: {told}."
        )


def _draw_matrix(axes: Axes, means: npt.NDArray[np.float64], scale: Normalize) -> None:
    """Colour and print a (sources, targets) matrix; nan is a cell that was not run."""
    axes.imshow(means, cmap=COLOURMAP, norm=scale, aspect="auto")
    for (row, column), mean in np.ndenumerate(means):
        colour = "black" if np.isnan(mean) or scale(mean) > 0.5 else "white"
        text = "\N{EN DASH}" if np.isnan(mean) else f"{mean:.1f}"
        axes.text(column, row, text, color=colour, ha="center", va="center")


def _frame(axes: Axes, places: list[tuple[int, int]]) -> None:
    for row, column in places:
        axes.add_patch(Rectangle((column - 0.46, row - 0.46), 0.92, 0.92, fill=False, edgecolor="#D55E00", linewidth=2))


def _label(axes: Axes, sources: list[str], targets: list[str], is_lowest: bool) -> None:
    """Name rows and columns; only the lowest matrix of a column names its targets."""
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelbottom=is_lowest)
    axes.set_yticks(range(len(sources)), sources)
    axes.set_xticks(range(len(targets)), targets)
    if max(len(target) for target in targets) > 7:
        axes.tick_params(axis="x", rotation=90)
    if is_lowest:
        axes.set_xlabel("target")
