"""Figures of an experiment as data URIs, so that the page needs no other file."""

import base64
import io
from pathlib import Path

from PIL import Image

from dfgs.figures import REGISTRY
from dfgs.page.shown import Picture

FIRST = ("forest", "comparison")
"""The figure that opens the page: the first of these that is there."""
OF_BATCHES = ("audit", "batches", "hardness")
"""Figures that belong to the audit."""
KINDS = {".svg": "image/svg+xml", ".png": "image/png"}
"""A figure's file, the best kind first."""
LARGEST = 1_000_000
"""Bytes of a file that goes into the page as it is; more come from the pictures in it, for which WebP is meant."""


def pictures(experiment: str, names: tuple[str, ...], results: Path) -> tuple[Picture | None, tuple[Picture, ...]]:
    """Return the figure that opens the page (None where no figure is drawn yet) and the others, in their order."""
    found = {name: _picture(experiment, name, results) for name in names}
    there = {name: picture for name, picture in found.items() if picture is not None}
    first = next((name for name in (*FIRST, *there) if name in there), None)
    return there.get(first or ""), tuple(picture for name, picture in there.items() if name != first)


def data_uri(path: Path) -> str:
    """Return an image file as a data URI."""
    return f"data:{KINDS[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"


def small_uri(path: Path) -> str:
    """Return a figure's file as a data URI: a large one as WebP, drawn from the PNG beside it."""
    if path.stat().st_size <= LARGEST:
        return data_uri(path)
    written = io.BytesIO()
    with Image.open(path.with_suffix(".png")) as drawn:
        drawn.convert("RGB").save(written, "WEBP", quality=80)
    return f"data:image/webp;base64,{base64.b64encode(written.getvalue()).decode()}"


def _picture(experiment: str, name: str, results: Path) -> Picture | None:
    stem = results / "figures" / experiment / name
    files = [path for kind in KINDS if (path := stem.with_name(name + kind)).is_file()]
    if not files or files[-1].suffix != ".png":
        return None
    drawing = REGISTRY.load(name)
    text = " ".join((drawing.__doc__ or "").split("\n\n")[0].split())
    with Image.open(stem.with_name(f"{name}.png")) as drawn:
        described = str(drawn.info.get("Description", ""))
    drawn_as = f"results/figures/{experiment}/{name}.png"
    command = f"snakemake --cores 1 --configfile results/config.json --force {drawn_as}"
    return Picture(name, drawing.title, text, described or f"{drawing.title}. {text}", small_uri(files[0]), command)
