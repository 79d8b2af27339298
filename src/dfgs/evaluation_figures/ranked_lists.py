"""What the model finds: queries with the nearest gallery images, right ones and wrong ones framed apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from PIL import Image

from dfgs.errors import DfgsError
from dfgs.feature_sets import FeatureSet
from dfgs.figures.base import COLOURS, LETTER, style
from dfgs.images import blur_head, read_rgb
from dfgs.metrics import Distance, Protocol, rank, unit_rows

IntArray = NDArray[np.int64]
Pixels = NDArray[np.uint8]

SIZE = (64, 128)
"""Width and height in pixels of every picture shown."""
CELL, GAP, LEFT, TOP, BOTTOM = (0.5, 1.0), 0.08, 0.95, 0.55, 0.4


@dataclass(frozen=True, slots=True)
class Frame:
    """How a picture is framed; the sign tells right from wrong without any colour."""

    colour: str
    line: Literal["-", "--"]
    sign: str


TRUE, FALSE, QUERY = Frame(COLOURS[0], "-", "✓"), Frame(COLOURS[1], "--", "✗"), Frame("black", "-", "")


@dataclass(frozen=True, slots=True)
class Shown:
    """Which lists are drawn: `queries` spread from the lowest to the highest AP, or the `rows` given; `length` each.

    `allows_real_people` is the reader's word that images of real people may be shown; their heads are blurred.
    """

    queries: int = 8
    rows: tuple[int, ...] = ()
    length: int = 10
    allows_real_people: bool = False


def draw_ranked_lists(features: FeatureSet, protocol: Protocol, distance: Distance, shown: Shown) -> Figure:
    """Draw a row per query: the query, then its nearest gallery images under `protocol`, nearest first.

    Raises `DfgsError` for real people without `allows_real_people`, features that name no images, an image that cannot
    be read and a row that is no query.
    """
    _check(features, shown)
    features.check(protocol)
    ranking = rank(features.query, features.gallery, protocol, distance)
    rows = list(shown.rows) or _spread(ranking.average_precision, shown.queries)
    if not rows:
        raise DfgsError(f"{features.name}: no query has a match under protocol {protocol.name!r}; nothing to draw")
    lists = nearest(features, protocol, distance, rows, shown.length)
    blurred = "" if features.is_drawn else "; heads blurred"
    title = f"Queries and their nearest images: {features.name}"
    width = max(LEFT + (CELL[0] + GAP) * (shown.length + 1) + 0.25, 1.1 * LETTER * len(title))
    height = TOP + (CELL[1] + GAP) * len(rows) + BOTTOM
    with style():
        figure = Figure(figsize=(width, height))
        FigureCanvasAgg(figure)
        for line, (row, found) in enumerate(zip(rows, lists, strict=True)):
            _draw_list(figure, line, features, row, found, ranking.average_precision[row])
        handles = [_handle(TRUE, "same identity"), _handle(FALSE, "another identity"), _handle(QUERY, "query")]
        figure.legend(handles=handles, loc="lower center", ncols=3)
        figure.suptitle(f"{title}\n{protocol.name}, {distance}{blurred}", y=1 - 0.08 / height, va="top")
    return figure


def nearest(
    features: FeatureSet, protocol: Protocol, distance: Distance, rows: Sequence[int], length: int
) -> list[IntArray]:
    """Return the `length` nearest gallery rows of each query row (exact, faiss), without what `protocol` removes."""
    import faiss

    query, gallery = features.query, features.gallery
    kept = np.flatnonzero(~np.isin(gallery.pids, protocol.junk_pids))
    base, asked = gallery.features[kept], query.features[list(rows)]
    if distance == "cosine":
        base, asked = unit_rows(base), unit_rows(asked)
    index = (faiss.IndexFlatL2 if distance == "euclidean" else faiss.IndexFlatIP)(base.shape[1])
    index.add(np.ascontiguousarray(base))
    removed = np.zeros((len(rows), len(kept)), bool)
    if protocol.removes_same_camera:
        for line, row in enumerate(rows):
            removed[line] = (gallery.pids[kept] == query.pids[row]) & (gallery.camids[kept] == query.camids[row])
    # What is removed takes places too: ask for as many more as any query loses.
    _, found = index.search(np.ascontiguousarray(asked), min(len(kept), length + int(removed.sum(axis=1).max())))
    return [kept[line[~gone[line]]][:length] for line, gone in zip(found, removed, strict=True)]


def _check(features: FeatureSet, shown: Shown) -> None:
    if not (features.query_paths and features.gallery_paths):
        raise DfgsError(
            f"{features.name}: names no image files; ranked lists need query_paths and gallery_paths in the .npz, "
            "or the index.json of a trained model"
        )
    if not (features.is_drawn or shown.allows_real_people):
        raise DfgsError(
            f"{features.name}: its images may show real people ({features.query_paths[0].parent}); with "
            "--allow-real-people they are drawn, heads blurred, for your own eyes: the datasets' terms forbid sharing"
        )
    wrong = [row for row in shown.rows if not 0 <= row < len(features.query)]
    if wrong:
        raise DfgsError(f"{features.name}: query row {wrong[0]} is not there; expected 0 to {len(features.query) - 1}")


def _spread(precision: NDArray[np.float64], count: int) -> list[int]:
    """Choose `count` queries with a match, evenly spread from the lowest to the highest average precision."""
    order = np.argsort(precision, kind="stable")[: int((~np.isnan(precision)).sum())]
    places = np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int)
    return [int(row) for row in order[places]] if len(order) else []


def _draw_list(figure: Figure, line: int, features: FeatureSet, row: int, found: IntArray, precision: float) -> None:
    """Draw a query (`row`) and its gallery images (`found`) as the `line`-th row; `precision` is its AP, maybe NaN."""
    has_match = not np.isnan(precision)
    axes = _cell(figure, line, 0)
    _show(axes, features.query_paths[row], features.is_drawn, QUERY)
    label = f"id {features.query.pids[row]}\n" + (f"AP {100 * precision:.0f} %" if has_match else "no match")
    axes.text(-0.15, 0.5, label, ha="right", va="center", transform=axes.transAxes)
    for column, image in enumerate(found.tolist(), start=1):
        is_match = has_match and features.gallery.pids[image] == features.query.pids[row]
        _show(
            _cell(figure, line, column),
            features.gallery_paths[image],
            features.is_drawn,
            TRUE if is_match else FALSE,
        )


def _cell(figure: Figure, line: int, column: int) -> Axes:
    width, height = figure.get_size_inches()
    left = LEFT + (CELL[0] + GAP) * column + (0.15 if column else 0)
    top = TOP + (CELL[1] + GAP) * line
    return figure.add_axes(
        (left / width, 1 - (top + CELL[1]) / height, CELL[0] / width, CELL[1] / height), xticks=[], yticks=[]
    )


def _show(axes: Axes, path: Path, is_drawn: bool, frame: Frame) -> None:
    axes.imshow(_read(path, is_drawn), aspect="auto", interpolation="nearest")
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set(visible=True, color=frame.colour, linewidth=2.2, linestyle=frame.line)
    if frame.sign:
        behind = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
        corner: dict[str, Any] = {"ha": "right", "va": "bottom", "transform": axes.transAxes}
        axes.text(0.97, 0.02, frame.sign, color=frame.colour, weight="bold", bbox=behind, **corner)


def _read(path: Path, is_drawn: bool) -> Pixels:
    small = read_rgb(path).resize(SIZE, Image.Resampling.BILINEAR)
    return np.asarray(small if is_drawn else blur_head(small))


def _handle(frame: Frame, name: str) -> Patch:
    label = f"{frame.sign} {name}".strip()
    return Patch(facecolor="white", edgecolor=frame.colour, linestyle=frame.line, linewidth=2, label=label)
