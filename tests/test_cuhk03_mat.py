"""CUHK03's MATLAB file becomes folders: names, pixels, empty cells, interruptions, and other files refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from dfgs import cuhk03_mat
from dfgs.cuhk03_mat import extract
from dfgs.errors import DfgsError

PEOPLE = (3, 2)
"""People in each of two camera pairs; the real file has 843, 440, 77, 58 and 49."""


def pixels(boxes: str, pair: int, person: int, cell: int) -> np.ndarray:
    """A made-up picture (h, w, 3) whose size differs from cell to cell."""
    rng = np.random.default_rng([len(boxes), pair, person, cell])
    return rng.integers(0, 256, (20 + cell, 10 + person, 3), dtype=np.uint8)


def is_empty(pair: int, person: int, cell: int) -> bool:
    return (pair + person + cell) % 4 == 0


@pytest.fixture
def mat(tmp_path: Path) -> Path:
    """A file with the structure of cuhk-03.mat: cells are references, arrays are transposed, empty ones are marked."""
    path = tmp_path / "cuhk-03.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        for boxes in ("labeled", "detected"):
            pairs = file.create_dataset(boxes, (1, len(PEOPLE)), h5py.ref_dtype)
            for pair, people in enumerate(PEOPLE, 1):
                cells = file.create_dataset(f"#refs#/{boxes}{pair}", (10, people), h5py.ref_dtype)
                pairs[0, pair - 1] = cells.ref
                for person, cell in np.ndindex(people, 10):
                    cells[cell, person] = _cell(file, boxes, pair, person + 1, cell + 1).ref
    with path.open("r+b") as handle:
        handle.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64")
    return path


def _cell(file: Any, boxes: str, pair: int, person: int, cell: int) -> Any:
    name = f"#refs#/{boxes}-{pair}-{person}-{cell}"
    if not is_empty(pair, person, cell):
        return file.create_dataset(name, data=pixels(boxes, pair, person, cell).T)
    stored = file.create_dataset(name, data=np.zeros(2, np.uint64))
    stored.attrs["MATLAB_empty"] = np.uint8(1)
    return stored


def expected(boxes: str) -> dict[str, np.ndarray]:
    """The pictures by file name."""
    return {
        f"{pair}_{person:03d}_{1 if cell <= 5 else 2}_{cell:02d}.png": pixels(boxes, pair, person, cell)
        for pair, people in enumerate(PEOPLE, 1)
        for person in range(1, people + 1)
        for cell in range(1, 11)
        if not is_empty(pair, person, cell)
    }


def test_every_image_gets_its_name_and_its_pixels(mat: Path, tmp_path: Path) -> None:
    said = list(extract(mat, tmp_path / "out"))
    for boxes in ("labeled", "detected"):
        folder, wanted = tmp_path / "out" / f"images_{boxes}", expected(boxes)
        assert {path.name for path in folder.iterdir()} == set(wanted)
        for name, picture in wanted.items():
            assert np.array_equal(np.asarray(Image.open(folder / name)), picture)
        assert f"{folder}: {len(wanted)} images of 5 people" in said
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["images_detected", "images_labeled"]


def test_an_interrupted_extraction_goes_on_where_it_stopped(
    mat: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []
    whole = cuhk03_mat.whole_file

    def interrupted(path: Path) -> Any:
        if len(written) == 7:
            raise KeyboardInterrupt
        written.append(path)
        return whole(path)

    monkeypatch.setattr(cuhk03_mat, "whole_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(extract(mat, tmp_path))
    assert not (tmp_path / "images_labeled").exists()
    monkeypatch.setattr(cuhk03_mat, "whole_file", lambda path: (written.append(path), whole(path))[1])
    list(extract(mat, tmp_path))
    assert len(written) == len(set(written)) == len(expected("labeled")) + len(expected("detected"))
    assert {path.name for path in (tmp_path / "images_labeled").iterdir()} == set(expected("labeled"))
    assert list(extract(mat, tmp_path)) == [f"{tmp_path}/images_{b}: there already" for b in ("labeled", "detected")]
    assert len(written) == len(set(written))


def _without_labeled(file: Any) -> None:
    del file["labeled"]


def _with_nine_cells(file: Any) -> None:
    del file["#refs#/labeled1"]
    cells = file.create_dataset("#refs#/labeled1", (9, 2), h5py.ref_dtype)
    file["labeled"][0, 0] = cells.ref


def _with_floats(file: Any) -> None:
    stored = file.create_dataset("#refs#/floats", data=np.zeros((3, 4, 5)))
    file["#refs#/labeled1"][0, 0] = stored.ref


def _empty(file: Any) -> None:
    del file["labeled"]
    file.create_dataset("labeled", (1, 0), h5py.ref_dtype)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_without_labeled, "holds no 'labeled'"),
        (_with_nine_cells, "pair 1 of labeled has the shape (9, 2); expected (10, people)"),
        (_with_floats, "image 1_001_1_01 is float64 (3, 4, 5); expected uint8 (3, w, h)"),
        (_empty, "holds no image in 'labeled'"),
    ],
)
def test_another_file_is_refused_in_one_line(
    mat: Path, tmp_path: Path, spoil: Callable[[Any], None], words: str
) -> None:
    with h5py.File(mat, "r+") as file:
        spoil(file)
    with pytest.raises(DfgsError) as caught:
        list(extract(mat, tmp_path / "out"))
    assert words in str(caught.value)
    assert str(mat) in str(caught.value)
    assert not (tmp_path / "out" / "images_labeled").exists()


@pytest.mark.parametrize("data", [b"", b"no HDF5 file", None])
def test_a_file_that_is_no_hdf5_is_named(tmp_path: Path, data: bytes | None) -> None:
    path = tmp_path / "cuhk-03.mat"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(DfgsError, match=r"^cannot read .*cuhk-03\.mat as CUHK03's cuhk-03\.mat \(HDF5\): "):
        list(extract(path, tmp_path / "out"))


def test_without_h5py_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(DfgsError, match=r"needs h5py; install the extra: pip install 'dfgs\[cuhk03\]'$"):
        list(extract(tmp_path / "a.mat", tmp_path))
