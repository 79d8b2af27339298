"""CUHK03's MATLAB file (version 7.3, that is HDF5) into folders of PNG files, whose names the layout `cuhk03` reads."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from dfgs.errors import DfgsError
from dfgs.provenance import whole_file

BOXES = ("labeled", "detected")
CELLS, FIRST_OF_VIEW_2 = 10, 6
"""Cells for each person: 1 … 5 hold images of a pair's first camera, 6 … 10 of its second; some are empty."""


def extract(archive: Path, folder: Path) -> Iterator[str]:
    """Write `folder/images_labeled` and `folder/images_detected`; yield a line for each with what it holds.

    Names are `1_001_2_06.png`: camera pair, person, view and cell, each from 1. Images that are there already stay,
    every image appears whole, and a folder gets its name when it is complete. Raises `DfgsError` without h5py (extra
    `cuhk03`) and for a file that is not CUHK03's.
    """
    try:
        import h5py
    except ImportError as error:
        raise DfgsError("dfgs extract needs h5py; install the extra: pip install 'dfgs[cuhk03]'") from error
    try:
        with h5py.File(archive, "r") as file:
            for boxes in BOXES:
                target = folder / f"images_{boxes}"
                yield f"{target}: {_extract_boxes(file, boxes, target)}"
    except OSError as error:
        raise DfgsError(f"cannot read {archive} as CUHK03's cuhk-03.mat (HDF5): {error}") from error


def _extract_boxes(file: Any, boxes: str, target: Path) -> str:
    if target.exists():
        return "there already"
    partial = target.with_name(f".{target.name}.part")
    images = people = 0
    for pair, cells in enumerate(_pairs(file, boxes), 1):
        for person in tqdm(range(cells.shape[1]), desc=f"{boxes}, pair {pair}", unit=" people", disable=None):
            names = [_write(file, cell, partial, (pair, person + 1, i)) for i, cell in enumerate(cells[:, person], 1)]
            images += sum(names)
            people += any(names)
    if not images:
        raise DfgsError(f"{file.filename} holds no image in {boxes!r}; expected CUHK03's cuhk-03.mat")
    partial.rename(target)
    return f"{images:,} images of {people:,} people"


def _pairs(file: Any, boxes: str) -> list[NDArray[Any]]:
    """Return the references of each camera pair's cells, (10, people): HDF5 holds MATLAB's arrays transposed."""
    if boxes not in file:
        raise DfgsError(f"{file.filename} holds no {boxes!r}; expected CUHK03's cuhk-03.mat with {' and '.join(BOXES)}")
    pairs = [np.asarray(file[reference]) for reference in np.ravel(file[boxes])]
    for number, cells in enumerate(pairs, 1):
        if cells.ndim != 2 or cells.shape[0] != CELLS:
            raise DfgsError(
                f"{file.filename}: pair {number} of {boxes} has the shape {cells.shape}; expected (10, people)"
            )
    return pairs


def _write(file: Any, reference: Any, folder: Path, number: tuple[int, int, int]) -> bool:
    """Write one cell's image unless it is there; tell whether the cell holds one."""
    pair, person, cell = number
    stored = file[reference]
    if "MATLAB_empty" in stored.attrs or stored.ndim != 3:
        return False
    path = folder / f"{pair}_{person:03d}_{1 + (cell >= FIRST_OF_VIEW_2)}_{cell:02d}.png"
    if not path.exists():
        if stored.shape[0] != 3 or stored.dtype != np.uint8:
            raise DfgsError(
                f"{file.filename}: image {path.stem} is {stored.dtype} {stored.shape}; expected uint8 (3, w, h)"
            )
        image = Image.fromarray(np.ascontiguousarray(stored[()].T))
        with whole_file(path) as partial:
            image.save(partial, "PNG")
    return True
