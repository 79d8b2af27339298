"""What the samplers put into a batch: the images of one early and one late batch of each."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from dfgs.figures.base import LETTER, Drawing, FigureData, panels, told
from dfgs.images import blur_head, read_rgb
from dfgs.stats import in_order

SIZE = (32, 64)
"""Width and height in pixels of every image."""
GAP = 2
"""White pixels between images."""
HIGHEST, HEADING = 18.0, 0.5
"""Inches that all batches and each one's title may take."""


class Batches(Drawing):
    """A row per sampler: the first batch of the first epoch (left) and of the last (right), for one source and seed.

    Images of an identity stand in one column where every identity has as many; identities are in the order in which
    the sampler served them, so that a walk over look-alikes reads from left to right. Heads of real people are blurred.
    """

    title = "Batches"

    def applies(self, data: FigureData) -> bool:
        """Need a training that has noted its batches, of people who may be shown."""
        return not data.batches.empty

    def compose(self, figure: Figure, data: FigureData) -> str:
        """Draw the first model's trainings on the first source with the lowest seed."""
        rows, which = _first(data.batches)
        found = set(zip(rows["sampler"], rows["epoch"], strict=True))
        order = in_order(rows["sampler"].unique(), data.samplers)
        cells = [(name, epoch) for name in order for epoch in _epochs(rows) if (name, epoch) in found]
        mosaics = [mosaic(rows[(rows["sampler"] == name) & (rows["epoch"] == epoch)]) for name, epoch in cells]
        tallest, widest = (max(picture.shape[axis] for picture in mosaics) for axis in (0, 1))
        # As wide as a page allows, and no higher than two of them.
        lines = -(-len(cells) // len(_epochs(rows)))
        wide = min(5.2, (HIGHEST / lines - HEADING) * widest / tallest)
        titles = [_title(name, epoch, rows) for name, epoch in cells]
        broad = max(wide, *(LETTER * len(line) for title in titles for line in title.split("\n")))
        drawn = panels(figure, len(cells), len(_epochs(rows)), (broad, HEADING + wide * tallest / widest))
        for axes, title, picture in zip(drawn, titles, mosaics, strict=True):
            _draw_mosaic(axes, picture)
            axes.set_title(title)
        return which + ("" if rows["is_drawn"].all() else "; heads blurred")

    def describe(self, data: FigureData) -> str:
        """Count the identities in the first and the last epoch's batch of every sampler."""
        rows, which = _first(data.batches)
        counts = {
            str(name): " and ".join(str(mine[mine["epoch"] == epoch]["pid"].nunique()) for epoch in _epochs(mine))
            for name, mine in rows.groupby("sampler")
        }
        return (
            f"images of one batch per sampler, early and late, grouped by identity, {which}; identities in them: "
            f"{told(counts, data.samplers)}."
        )


def mosaic(rows: pd.DataFrame) -> NDArray[np.uint8]:
    """Lay a batch out as one picture (height, width, 3): a column per identity, or full columns where they differ.

    `rows` has `path, pid, is_drawn` in the order of serving; identities keep the order in which they first come.
    """
    order = {pid: place for place, pid in enumerate(dict.fromkeys(rows["pid"]))}
    rows = rows.sort_values("pid", key=lambda pids: pids.map(order), kind="stable")
    counts = rows["pid"].value_counts()
    # Batches without identities of equal size, such as plain shuffles, fill columns of four.
    height = int(counts.iloc[0]) if counts.nunique() == 1 and counts.iloc[0] > 1 else 4
    columns = -(-len(rows) // height)
    step = SIZE[0] + GAP, SIZE[1] + GAP
    picture = np.full((height * step[1] - GAP, columns * step[0] - GAP, 3), 255, dtype=np.uint8)
    for number, (path, is_drawn) in enumerate(zip(rows["path"], rows["is_drawn"], strict=True)):
        left, top = number // height * step[0], number % height * step[1]
        small = read_rgb(path).resize(SIZE, Image.Resampling.BILINEAR)
        picture[top : top + SIZE[1], left : left + SIZE[0]] = np.asarray(small if is_drawn else blur_head(small))
    return picture


def _first(batches: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Choose the first model, source and seed, and say which."""
    model, source, seed = min(zip(batches["model"], batches["source"], batches["seed"], strict=True))
    is_it = (batches["model"] == model) & (batches["source"] == source) & (batches["seed"] == seed)
    return batches[is_it], f"model {model}, source {source}, seed {seed}"


def _title(name: str, epoch: int, rows: pd.DataFrame) -> str:
    mine = rows[(rows["sampler"] == name) & (rows["epoch"] == epoch)]
    return f"{name}\nepoch {epoch}: {mine['pid'].nunique()} identities, {len(mine)} images"


def _epochs(rows: pd.DataFrame) -> list[int]:
    return sorted(rows["epoch"].unique().tolist())


def _draw_mosaic(axes: Axes, picture: NDArray[np.uint8]) -> None:
    axes.imshow(picture, interpolation="nearest")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.set(xticks=[], yticks=[])
