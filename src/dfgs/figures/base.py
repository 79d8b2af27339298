"""What all figures share: their data, one style (colour-blind safe, readable in grey), panels, and saving."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar
from xml.etree import ElementTree

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dfgs.errors import DfgsError
from dfgs.provenance import whole_file
from dfgs.results import REFERENCE
from dfgs.stats import Interval, Transfer, in_order, transfer_label
from dfgs.stats.verdict import MARGIN

Name = TypeVar("Name", bound=Hashable)
Dash = tuple[float, tuple[float, ...]]

# Okabe and Ito's palette without yellow, which is too pale for a line on white, and without black, which is kept for
# references and averages.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", ">", "<", "p", "*")
DASHES: tuple[Dash, ...] = ((0, ()), (0, (5, 1.5)), (0, (1, 1)), (0, (6, 1.5, 1, 1.5)), (0, (3, 1, 1, 1, 1, 1)))
PNG_DPI = 150
LETTER = 0.075
"""Width of a letter in inches, on the safe side."""
STYLE = {
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "axes.labelsize": 9.0,
    "figure.titlesize": 10.0,
    "legend.fontsize": 8.5,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.5,
    "lines.markersize": 5.0,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    # Letters as outlines look alike everywhere; a fixed salt gives equal figures equal names inside.
    "svg.fonttype": "path",
    "svg.hashsalt": "dfgs",
}


@dataclass(frozen=True, slots=True)
class Look:
    """How one name is drawn in every panel of a figure; no two of the first 30 names share colour and dash."""

    colour: str
    marker: str
    dash: Dash


@dataclass(frozen=True, slots=True, eq=False)
class FigureData:
    """What a figure may draw: the long rows and training curves of one experiment.

    `metrics` has `dfgs.results.COLUMNS`; `curves` has `source, model, sampler, seed, epoch` and the columns of the
    runs' `curve.csv`. `samplers` is the order of the legend. `settings` gives for each sampler `{"class": name,
    "args": {…}}` with *all* arguments of the class, defaults filled in. `within` holds the transfers to a source's own
    test identities. `audits` has `source, model, sampler, seed, epoch` and the columns of the runs' `audit.csv`.
    `contrasts` are the planned comparisons (sampler, baseline), `margin` how many points of mAP count as none. `costs`
    has a row per run: `source, model, sampler, seed, seconds, sampler_share` (of the epochs' seconds), `identities,
    images`. `batches` has `source, model, sampler, seed, epoch, path, pid, is_drawn`: a row per image of the first
    batch of the first and of the last epoch, in the order of serving.
    """

    metrics: pd.DataFrame
    curves: pd.DataFrame
    experiment: str
    samplers: tuple[str, ...]
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    within: frozenset[Transfer] = frozenset()
    audits: pd.DataFrame = field(default_factory=pd.DataFrame)
    contrasts: tuple[tuple[str, str], ...] = ()
    margin: float = MARGIN
    costs: pd.DataFrame = field(default_factory=pd.DataFrame)
    batches: pd.DataFrame = field(default_factory=pd.DataFrame)

    def trained(self, metric: str) -> pd.DataFrame:
        """Return the rows of `metric` that come from trained models."""
        return self.metrics[(self.metrics["metric"] == metric) & (self.metrics["sampler"] != REFERENCE)]


class Drawing(ABC):
    """A figure of the report: a title, whether it applies to an experiment, and two hooks, `compose` and `describe`."""

    title: ClassVar[str]

    @abstractmethod
    def applies(self, data: FigureData) -> bool:
        """Tell whether `data` has anything for this figure to show."""

    @abstractmethod
    def compose(self, figure: Figure, data: FigureData) -> str:
        """Draw `data` on the empty `figure` and return the line under its title; the style is on."""

    @abstractmethod
    def describe(self, data: FigureData) -> str:
        """Say in a sentence, for who cannot see the figure, what its axes show and the numbers that matter most."""

    def draw(self, data: FigureData) -> Figure:
        """Return the finished figure; the same data give the same picture whatever the user's matplotlib settings."""
        with style():
            figure = Figure(layout="constrained")
            FigureCanvasAgg(figure)
            below = self.compose(figure, data)
            figure.suptitle(f"{self.title}, experiment {data.experiment}\n{below}")
        # The figure's label is not drawn; `save` writes it into the files.
        figure.set_label(f"{self.title}: {self.describe(data)}")
        return figure


def style() -> AbstractContextManager[None]:
    """Return the context in which figures are made and saved: matplotlib's defaults with `STYLE`."""
    return matplotlib.style.context(["default", STYLE])


def save(figure: Figure, stem: Path | str) -> None:
    """Write `figure` to `stem` + `.png` (150 dpi), `.pdf` and `.svg`, whole or not at all; equal ones as equal bytes.

    The figure's label, its alternative text, goes along as the files' description; `alternative_text` reads it.
    """
    stem, text = Path(stem), str(figure.get_label()) or None
    # Dates and the library's name would make two equal pictures differ.
    anonymous = {"Creator": None, "Producer": None, "CreationDate": None}
    metadata: dict[str, dict[str, str | None]] = {
        "png": {"Software": None, "Description": text},
        "pdf": {**anonymous, "Subject": text},
        "svg": {"Creator": None, "Date": None, "Description": text},
    }
    with style(), ExitStack() as stack:
        for kind, words in metadata.items():
            part = stack.enter_context(whole_file(stem.with_name(f"{stem.name}.{kind}")))
            figure.savefig(part, format=kind, dpi=PNG_DPI, metadata=words)


def alternative_text(svg: Path | str) -> str:
    """Return the alternative text of a figure that `save` wrote; empty where it has none. `DfgsError` if unreadable."""
    try:
        found = ElementTree.parse(svg).find(".//{http://purl.org/dc/elements/1.1/}description")
    except (OSError, ElementTree.ParseError) as error:
        raise DfgsError(f"cannot read the figure {svg}: {error}") from error
    return "" if found is None else found.text or ""


def told(figures: Mapping[str, str], order: Sequence[str]) -> str:
    """Join what is told of each sampler, in the order of the experiment, those without anything left out."""
    return ", ".join(f"{name} {figures[name]}" for name in in_order(figures, order) if name in figures)


def looks(names: Sequence[Name]) -> dict[Name, Look]:
    """Give each name a colour, a marker and a dash, by its place in `names`."""
    return {
        name: Look(COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)], DASHES[i % len(DASHES)])
        for i, name in enumerate(names)
    }


def panels(
    figure: Figure, count: int, columns: int, size: tuple[float, float], sharey: bool | Literal["row"] = False
) -> list[Axes]:
    """Size `figure` for `count` panels of `size` inches, `columns` in a row, and return them.

    The last row may be short. `sharey` shares the vertical axis among all panels or, as `"row"`, along each row.
    """
    columns = min(columns, count)
    rows = -(-count // columns)
    # An inch for the labels on the left, half an inch for the title.
    figure.set_size_inches(max(columns * size[0] + 1.0, 5.5), rows * size[1] + 0.5)
    axes = list(figure.subplots(rows, columns, squeeze=False, sharey=sharey).ravel())
    for spare in axes[count:]:
        spare.remove()
    return axes[:count]


def room_for(labels: Iterable[str], columns: int) -> float:
    """Return by how many inches each of `columns` panels must be wider for the tick labels left of the first."""
    return max(0.0, LETTER * max(map(len, labels)) - 0.8) / columns


def legend(figure: Figure, handles: Sequence[Artist]) -> None:
    """Add a legend below the panels, in as many columns as fit, and make the figure taller by its rows."""
    width, height = figure.get_size_inches()
    entry = 0.6 + LETTER * max(len(str(handle.get_label())) for handle in handles)
    columns = max(1, min(len(handles), int(width / entry)))
    rows = -(-len(handles) // columns)
    figure.set_size_inches(width, height + 0.1 + 0.2 * rows)
    figure.legend(handles=list(handles), loc="outside lower center", ncols=columns)


def draw_means(
    axes: Axes, places: Sequence[float], points: Sequence[Interval], look: Look, limits: tuple[float, float]
) -> None:
    """Draw means as a line with a band for their intervals, which are cut at what the quantity can be (`limits`)."""
    axes.plot(
        places,
        [point.mean for point in points],
        color=look.colour,
        linestyle=look.dash,
        marker=look.marker,
        markersize=4,
        markevery=max(1, len(places) // 8),
    )
    low, high = (np.clip([getattr(p, end) for p in points], *limits) for end in ("low", "high"))
    axes.fill_between(places, low, high, color=look.colour, alpha=0.15, linewidth=0)


def panel_title(model: str | None, transfer: Transfer, within: Collection[Transfer]) -> str:
    """Write a transfer (and the model, if one is given) as a panel's title, broken at the arrow where it is long."""
    label = transfer_label(transfer, within)
    if len(label) > 24:
        label = label.replace("→", "→\n")
    return label if model is None else f"{model}\n{label}"
