"""The doctor: every odd image in one pass, counts, identities, duplicates, names, and which layout a folder has."""

import csv
import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from dfgs.cli import cli
from dfgs.datasets import REGISTRY
from dfgs.doctor import checks, examine, layouts
from dfgs.doctor.duplicates import NEAR, _alike
from dfgs.doctor.examine import run
from dfgs.doctor.images import look_at
from dfgs.errors import DfgsError
from odd_images import ERRORS, NOTES, encoded, picture

TRAIN, GALLERY, QUERY = "bounding_box_train", "bounding_box_test", "query"


@pytest.fixture(autouse=True)
def _no_hang() -> Iterator[None]:
    """An examination that waits for ever fails after two minutes."""
    signal.alarm(120)
    yield
    signal.alarm(0)


@pytest.fixture
def root(world: Path, tmp_path: Path) -> Path:
    """A dataset to spoil; no manifest tells that it is drawn."""
    shutil.copytree(world, tmp_path / "market")
    return tmp_path / "market"


def examined(*arguments: object, workers: int = 1, report: Path | None = None) -> tuple[int, list[str]]:
    """The number of errors and all lines."""
    lines: list[str] = []
    return run(tuple(map(str, arguments)), workers, report, lines.append), lines


def said(lines: list[str], *words: str) -> list[str]:
    """The lines that hold all words."""
    return [line for line in lines if all(word in line for word in words)]


def first(folder: Path) -> Path:
    return min(folder.iterdir())


def put(root: Path, folder: str, name: str, seed: int) -> Path:
    """A drawn picture under a name."""
    path = root / folder / name
    path.write_bytes(encoded(picture(seed, (32, 64)), quality=95))
    return path


def test_a_sound_dataset_has_no_errors(root: Path) -> None:
    errors, lines = examined(root)
    assert errors == 0
    assert lines[0] == f"market1501: {root}"
    assert re.search(r"train +\d+ images +10 identities +3 cameras", lines[1])
    assert said(lines, "and 10 more splits: half-0 … half-9")
    assert not said(lines, "error:")


def test_every_odd_image_is_named_in_one_pass(root: Path, tmp_path: Path) -> None:
    assert len(ERRORS) + len(NOTES) > 40
    expected = {}
    for folder, odd in ((QUERY, ERRORS), (TRAIN, NOTES)):
        for number, (make, words) in enumerate(odd.values(), 700 if odd is ERRORS else 800):
            name = f"{folder}/{number:04d}_c1s1_000000_00.jpg"
            make(root / name)
            expected[name] = ("error" if odd is ERRORS else "note", words)
    errors, lines = examined(root, workers=2, report=tmp_path / "report.csv")
    assert errors == len(ERRORS)
    with (tmp_path / "report.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    for name, (severity, words) in expected.items():
        found = [row for row in rows if row["where"] == name and row["kind"] == "image"]
        assert {row["severity"] for row in found} == {severity}, name
        assert any(word in row["what"] for row in found for word in words.split("|")), name
        assert severity == "note" or len(said(lines, f"error: image: {name}: ")) == 1
    assert {row["where"] for row in rows if row["kind"] == "image"} == set(expected)
    assert lines[-1] == f"{errors:,} errors, {len(rows) - errors:,} notes"


def test_names_that_are_bytes_or_break_lines_are_shown_and_opened(root: Path, tmp_path: Path) -> None:
    names = [b"0002_c1s1_\xff\xfe_00.jpg", b"0002_c1s1_00\n01_00.jpg", b"0002_C1S1_000451_03.JPG", b"holiday.png"]
    for name in names:
        (root / QUERY / os.fsdecode(name)).touch()
    errors, lines = examined("market1501", root, report=tmp_path / "report.csv")
    assert errors
    for name in (r"0002_c1s1_\xff\xfe_00.jpg", r"0002_c1s1_00\n01_00.jpg", "0002_C1S1_000451_03.JPG", "holiday.png"):
        assert said(lines, f"{QUERY}/{name}: the file is empty"), name
    assert said(lines, r"error: name: query/0002_c1s1_\xff\xfe_00.jpg: the name is no UTF-8")
    assert said(lines, "error: layout: ", " views more: ", "is not named like 0002_c1s1_000451_03.jpg")
    assert said(lines, "note: name: named unlike most images beside it", "holiday.png", r"\xff\xfe", "C1S1")
    assert all(line.isprintable() for line in lines)
    (tmp_path / "report.csv").read_text(encoding="utf-8")


def test_strays_are_passed_over(root: Path) -> None:
    for name in ("Thumbs.db", ".DS_Store", "._0002_c1s1_000451_03.jpg", "desktop.ini"):
        (root / TRAIN / name).write_bytes(b"x")
    errors, lines = examined(root)
    assert errors == 0
    assert not said(lines, "humbs")
    assert not said(lines, "0002_c1s1_000451_03")


def test_a_bad_file_that_no_view_uses_is_a_note(root: Path) -> None:
    (root / GALLERY / "-1_c1s1_999999_00.jpg").touch()
    errors, lines = examined(root)
    assert errors == 0
    assert said(lines, "note: image: the file is empty: 1 (bounding_box_test/-1_c1s1_999999_00.jpg)")


def test_folders_that_are_linked_in_a_circle_end(root: Path) -> None:
    (root / QUERY / "nested").mkdir()
    (root / QUERY / "nested" / "up").symlink_to("../..")
    (root / QUERY / "strange.jpg").touch()
    assert len(said(examined("market1501", root)[1], "strange.jpg: the file is empty")) == 1


def test_many_errors_are_cut_short_on_the_screen_and_whole_in_the_report(root: Path, tmp_path: Path) -> None:
    for number in range(60):
        (root / QUERY / f"{700 + number:04d}_c1s1_000000_00.jpg").touch()
    errors, lines = examined(root, report=tmp_path / "report.csv")
    assert errors == 60
    assert len(said(lines, "error: image: query/")) == 50
    assert said(lines, "error: image: … and 10 more; --report FILE lists them all")
    assert (tmp_path / "report.csv").read_text().count("the file is empty") == 60


def test_counts_are_held_against_the_published_ones(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = examined(root)[1]
    assert said(lines, "note: counts: images", "instead of 12,936", "identities 10 instead of 751 (-741)", "a part of")
    sizes = {line.split()[0]: int(line.split()[1]) for line in lines if " identities " in line and line[0] == " "}
    train, query, gallery = (sizes[view] for view in ("train", "test/query", "test/gallery"))
    right = {"train": [train, 10, 3], "test/query": [query, 5, 3], "test/gallery": [gallery, 5, None]}
    for module in (checks, examine):
        monkeypatch.setattr(module, "published_counts", lambda _: right)
    lines = examined(root)[1]
    assert not said(lines, ": counts: ")
    assert len(said(lines, "  as published")) == 3
    right["train"] = [train + 2, 11, 3]
    errors, lines = examined(root)
    assert errors == 1
    assert said(lines, f"error: counts: train: images {train} instead of {train + 2} (-2), identities 10 instead of 11")


def test_a_drawn_world_is_not_held_against_the_real_counts(world: Path) -> None:
    errors, lines = examined(world)
    assert errors == 0
    assert said(lines, "a drawn dataset, nothing published")
    assert not said(lines, "instead of")


def test_published_counts_are_whole_numbers_and_have_a_source() -> None:
    for layout in REGISTRY.names():
        for view, counts in checks.published_counts(layout).items():
            assert re.fullmatch(r"train|combined|[a-z0-9-]+/(query|gallery)", view)
            assert len(counts) == 3
            assert all(number is None or number > 0 for number in counts)
    assert checks.published_counts("market1501")["test/gallery"] == [15913, 750, 6]
    assert checks.published_counts("unheard-of") == {}


def test_identities_with_one_image_and_queries_without_an_answer_are_noted(root: Path) -> None:
    put(root, TRAIN, "0800_c1s1_000000_00.jpg", 1)
    put(root, QUERY, "0801_c1s1_000000_00.jpg", 2)
    put(root, GALLERY, "0801_c1s1_000001_00.jpg", 3)
    errors, lines = examined(root)
    assert errors == 0
    assert said(lines, "note: identity: one training image only, so batches repeat it: 1 (id 800)")
    assert said(lines, "note: queries: a query without a right answer in the gallery, not scored: 1 (id 801)")


def test_an_identity_in_training_and_test_is_an_error(root: Path) -> None:
    for folder, seed in ((TRAIN, 1), (QUERY, 2), (GALLERY, 3)):
        put(root, folder, f"0800_c{seed}s1_000000_00.jpg", seed)
    errors, lines = examined(root)
    assert errors == 1
    assert said(lines, "error: identity: id 800: in training and in test")


def test_a_test_with_one_camera_is_an_error(root: Path) -> None:
    for path in [*(root / QUERY).iterdir(), *(root / GALLERY).iterdir()]:
        if "c1" not in path.name:
            path.unlink()
    lines = examined(root)[1]
    what = "no query has a right answer under protocol market1501; its gallery has one camera only"
    assert said(lines, f"error: queries: test: {what}")


def test_the_same_bytes_are_found_by_what_they_spoil(root: Path) -> None:
    train = put(root, TRAIN, "0800_c1s1_000000_00.jpg", 1)
    put(root, TRAIN, "0800_c2s1_000000_00.jpg", 2)
    other = put(root, GALLERY, "0000_c1s1_777777_00.jpg", 1)
    twice = [put(root, TRAIN, f"0801_c{camera}s1_000000_00.jpg", 3) for camera in (1, 2)]
    errors, lines = examined(root)
    names = [f"{path.parent.name}/{path.name}" for path in (other, train, *twice)]
    assert errors == 1
    assert said(lines, f"error: duplicate: {names[0]} = {names[1]}: the same bytes under two identities")
    assert said(lines, "note: duplicate: the same bytes twice under one identity: 1", f"{names[2]} = {names[3]}")


def test_the_same_bytes_in_training_and_test_are_an_error_under_one_identity_too(root: Path) -> None:
    put(root, TRAIN, "0800_c1s1_000000_00.jpg", 1)
    put(root, GALLERY, "0800_c2s1_000000_00.jpg", 1)
    assert said(examined(root)[1], "error: duplicate: ", "the same bytes in training and test")


def test_a_training_picture_that_was_saved_anew_is_found_in_the_test(root: Path) -> None:
    path = put(root, TRAIN, "0800_c1s1_000000_00.jpg", 1)
    put(root, TRAIN, "0800_c2s1_000000_00.jpg", 2)
    Image.open(path).resize((64, 128)).save(root / GALLERY / "0000_c1s1_777777_00.jpg", quality=80)
    errors, lines = examined(root)
    assert errors == 0
    pair = "bounding_box_train/0800_c1s1_000000_00.jpg ~ bounding_box_test/0000_c1s1_777777_00.jpg"
    assert said(lines, "note: duplicate: training and test pictures that look alike", pair)


def test_pictures_in_two_datasets_are_found(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    for folder in (TRAIN, GALLERY, QUERY):
        (other / folder).mkdir(parents=True)
        for camera in (1, 2):
            put(other, folder, f"{len(folder):04d}_c{camera}s1_000000_00.jpg", 40 + 2 * len(folder) + camera)
    errors, lines = examined(root, other)
    assert said(lines, f"{root} and {other}: 0 pictures in both")
    shutil.copy(first(root / TRAIN), other / TRAIN / "0900_c1s1_000000_00.jpg")
    again = put(root, TRAIN, "0800_c1s1_000000_00.jpg", 1)
    Image.open(again).save(other / TRAIN / "0901_c1s1_000000_00.jpg", quality=60)
    more, lines = examined(root, other)
    assert more == errors + 1
    assert said(lines, "error: duplicate: ", f"the same bytes in {root} and {other}", "0900_c1s1_000000_00.jpg")
    assert said(lines, "note: duplicate: ", f"pictures of {root} and {other} that look alike", "0901_c1s1_000000_00")


def test_a_layout_is_recognised_or_named(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert layouts.split_arguments((str(root),)) == (None, [root])
    assert layouts.split_arguments(("market1501", "a", "b")) == ("market1501", [Path("a"), Path("b")])
    assert layouts.split_arguments((str(root), "b")) == (None, [root, Path("b")])
    assert layouts.recognise(None, root).name == "market1501"
    with pytest.raises(DfgsError, match=r"no dataset layout is called 'makret1501' \(did you mean 'market1501'\?\)$"):
        layouts.split_arguments(("makret1501", str(root)))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "is not there; give the folder or pack of a dataset"),
        (lambda path: path.mkdir(), "has none of the known layouts"),
        (lambda path: path.write_bytes(b"PK\x03\x04" + bytes(99)), "is a zip archive, which is never unpacked here"),
        (lambda path: path.write_bytes(b"x"), "is a file; give the folder of the dataset"),
    ],
    ids=["missing", "empty", "archive", "file"],
)
def test_what_is_no_dataset_is_said_in_one_line(tmp_path: Path, make: object, words: str) -> None:
    make(tmp_path / "data")  # type: ignore[operator]
    for name in ((), ("market1501",)):
        with pytest.raises(DfgsError) as caught:
            examined(*name, tmp_path / "data")
        assert "\n" not in str(caught.value)
        assert str(tmp_path / "data") in str(caught.value)
        assert name or words in str(caught.value)


def test_a_folder_around_the_dataset_is_told_what_to_give(root: Path) -> None:
    with pytest.raises(DfgsError, match=rf"has none of the known layouts .*; {root} has one: give that folder$"):
        examined(root.parent)


def test_a_folder_that_several_layouts_read_needs_a_name(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_as = layouts._open
    monkeypatch.setattr(REGISTRY, "names", lambda: ["market1501", "market1502"])

    def either(layout: str, root: Path) -> object:
        found = open_as("market1501", root)
        found.name = layout
        return found

    monkeypatch.setattr(layouts, "_open", either)
    with pytest.raises(DfgsError, match="can be read as market1501, market1502; give the layout's name before it"):
        layouts.recognise(None, root)


def test_a_pack_is_examined_as_its_folder_is(root: Path, tmp_path: Path) -> None:
    put(root, TRAIN, "0800_c1s1_000000_00.jpg", 1)
    done = CliRunner().invoke(cli, ["pack", str(root), str(tmp_path / "pack.zip")])
    assert done.exit_code == 0, done.output
    folder, pack = (examined(where)[1][1:] for where in (root, tmp_path / "pack.zip"))
    assert pack == folder


def test_the_exit_status_tells_sound_from_faulty(root: Path, tmp_path: Path) -> None:
    arguments = ["doctor", "market1501", str(root), "--workers", "1", "--report", str(tmp_path / "report.csv")]
    assert CliRunner().invoke(cli, arguments).exit_code == 0
    first(root / TRAIN).write_bytes(b"")
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 1
    assert "1 errors, " in done.output
    assert (tmp_path / "report.csv").read_text().startswith("root,severity,kind,where,what\n")


def test_every_pair_that_looks_alike_is_the_nearest_by_slow_counting(root: Path) -> None:
    for number in range(11):
        path = put(root, TRAIN, f"08{number:02d}_c1s1_000000_00.jpg", number)
        smaller = (30 - 2 * number, 64 - 4 * number)
        Image.open(path).resize(smaller).save(root / GALLERY / f"0000_c1s1_7777{number:02d}_00.jpg", quality=50)
    sides = [[look_at(path) for path in sorted((root / folder).iterdir())] for folder in (TRAIN, GALLERY)]
    found = {(one.path, other.path) for one, other in _alike(*sides)}
    assert 0 < len(found) < len(sides[0])
    bits = [[np.unpackbits(np.frombuffer(look.hash, np.uint8)) for look in looks] for looks in sides]
    for i, one in enumerate(sides[0]):
        distances = [int((bits[0][i] != bits[1][j]).sum()) for j in range(len(sides[1]))]
        paired = [other.path for other in sides[1] if (one.path, other.path) in found]
        assert bool(paired) == (min(distances) <= NEAR)
        nearest = {sides[1][j].path for j, distance in enumerate(distances) if distance == min(distances)}
        assert set(paired) <= nearest
