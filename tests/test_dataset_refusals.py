"""Wrong layouts: each is refused in one sentence that names the dataset, the place and what would be right."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

import dataset_trees as trees
from dfgs.datasets import open_dataset
from dfgs.errors import DfgsError

Spoil = Callable[[Path], object]


def small_cuhk02(root: Path) -> None:
    trees.write(root, trees.cuhk02((3, 2, 2, 2, 2)))


def small_market(root: Path) -> None:
    names = ["0002_c1s1_000451_03.jpg"]
    trees.write(root, {"bounding_box_train": names, "bounding_box_test": names, "query": names})


def small_msmt17(root: Path) -> None:
    trees.msmt17(root, scale=400)


BUILD: dict[str, Spoil] = {
    "market1501": small_market,
    "msmt17": small_msmt17,
    "cuhk02": small_cuhk02,
    "cuhk03": trees.cuhk03_extracted,
    "cuhk-sysu": lambda root: trees.write(root, trees.cuhk_sysu(6, 3)),
    "prid2011": lambda root: trees.write(root, trees.prid2011()),
    "grid": trees.grid,
    "viper": lambda root: trees.write(root, trees.viper()),
    "ilids": lambda root: trees.write(root, trees.ilids()),
    "randperson": lambda root: trees.write(root, trees.randperson(25)),
}


def nest(root: Path) -> None:
    """Move all into a folder of the same name, as an archive that is unpacked into its own folder leaves it."""
    inner = root.with_name("moving")
    root.rename(inner)
    root.mkdir()
    inner.rename(root / root.name)


def only(*kept: str) -> Spoil:
    """Remove all but what is named."""

    def spoil(root: Path) -> None:
        for path in root.iterdir():
            if path.name not in kept:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    return spoil


def without(part: str) -> Spoil:
    return lambda root: shutil.rmtree(root / part) if (root / part).is_dir() else (root / part).unlink()


def emptied(part: str) -> Spoil:
    def spoil(root: Path) -> None:
        shutil.rmtree(root / part)
        trees.write(root, {part: ["Thumbs.db", ".hidden"]})

    return spoil


def adding(folder: str, *names: str) -> Spoil:
    return lambda root: trees.write(root, {folder: list(names)})


def text(part: str, content: str) -> Spoil:
    return lambda root: (root / part).write_text(content, encoding="utf-8")


def zipped(root: Path) -> None:
    only()(root)
    (root / "dataset.ZIP").touch()


def renamed(old: str, new: str) -> Spoil:
    return lambda root: (root / old).rename(root / new)


def packed_cuhk03(root: Path) -> None:
    only()(root)
    trees.write(root, {"cuhk03_release": ["cuhk-03.mat"]})


def listed_too_often(root: Path) -> None:
    values = {
        "filelist": np.array(["1_001_1_01.png"], dtype=object)[:, None],
        "train_idx": [[1.0]],
        "query_idx": [[2.0]],
    }
    savemat(root / "cuhk03_new_protocol_config_labeled.mat", values)


def without_indices(root: Path) -> None:
    savemat(root / "cuhk03_new_protocol_config_labeled.mat", {"labels": [1]})


def nine_splits(root: Path) -> None:
    trees.grid(root, splits=9)


def another_record(root: Path) -> None:
    savemat(root / "features_and_partitions.mat", {"trainIdxAll": np.arange(20.0)})


def person_with_one_image(root: Path) -> None:
    (root / "Persons/0001002.jpg").unlink()


def nested_v2(root: Path) -> None:
    only()(root)
    trees.msmt17(root / "MSMT17_V2", "V2", scale=400)


def nested_np(root: Path) -> None:
    only()(root)
    trees.write(root / "cuhk03-np", trees.cuhk03_np(100))


NESTED = r"must hold .*; found \['{0}'\]; they lie in \S*/{0}/{0}, set root to it"
WRONG: list[tuple[str, Spoil, str]] = [
    *((layout, nest, NESTED.format(layout)) for layout in BUILD),
    *((layout, only(), r"must hold .*; found \[\]") for layout in BUILD),
    ("market1501", zipped, r"found \['dataset.ZIP'\]; unpack dataset.ZIP first"),
    ("market1501", without("bounding_box_train"), r"found \['bounding_box_test', 'query'\]"),
    ("market1501", emptied("bounding_box_train"), "bounding_box_train holds no image named like"),
    ("msmt17", adding("mask_train_v2", "a.jpg"), r"mixes MSMT17 V1 \(train, test\) and V2 \(mask_train_v2\)"),
    ("msmt17", nested_v2, r"must hold mask_train_v2, .*they lie in \S*/MSMT17_V2, set root to it"),
    ("cuhk03", nested_np, r"must hold labeled/bounding_box_train, .*they lie in \S*/cuhk03-np, set root to it"),
    ("msmt17", renamed("test", "mask_test_v2"), r"mixes MSMT17 V1 \(train\) and V2 \(mask_test_v2\)"),
    ("msmt17", without("list_val.txt"), r"must hold train, test, list_train.txt, list_val.txt, .*; found \['list_"),
    ("msmt17", text("list_val.txt", ""), "list_val.txt is empty; expected lines like"),
    ("msmt17", text("list_train.txt", "0000/a.jpg 0\n"), "list_train.txt, line 1: '0000/a.jpg 0' is not written like"),
    (
        "msmt17",
        text("list_train.txt", "0000/0000_000_01_0303morning_0015_0.jpg\n"),
        "line 1: '0000/0000_000_01_0303morning_0015_0.jpg' is not written like",
    ),
    ("msmt17", emptied("train/0000"), r"list_train.txt names \S*, which is missing"),
    ("cuhk02", without("P3"), r"must hold P1/cam1, .*; found \['P1', 'P2', 'P4', 'P5'\]"),
    ("cuhk02", without("P2/cam2"), r"must hold P1/cam1, .*; found"),
    ("cuhk02", emptied("P1/cam2"), "P1/cam2 holds no image named like 001_05006.png"),
    ("cuhk02", adding("P1/cam1", "1_1.png", "b.png"), r"P1/cam1/1_1.png is not named like .* \(one of 2\)"),
    ("cuhk03", packed_cuhk03, "holds cuhk03_release/cuhk-03.mat, not yet images_labeled; run `dfgs extract`"),
    (
        "cuhk03",
        without("cuhk03_new_protocol_config_labeled.mat"),
        "must hold images_labeled, cuhk03_new_proto",
    ),
    ("cuhk03", text("cuhk03_new_protocol_config_labeled.mat", "<html>"), "cannot read .* as a MATLAB file"),
    ("cuhk03", text("cuhk03_new_protocol_config_labeled.mat", ""), "cannot read .* as a MATLAB file"),
    ("cuhk03", without_indices, "has no field 'filelist'; it is not the split file expected here"),
    ("cuhk03", listed_too_often, "holds index 2; expected different ones from 1 to 1"),
    ("cuhk03", without("images_labeled/1_001_1_02.png"), r"lists 1_001_1_02.png, which is missing from .*\(one of 1\)"),
    ("cuhk03", adding("images_labeled", "0001_c1_1.png"), "0001_c1_1.png is not named like 1_001_1_01.png"),
    ("cuhk-sysu", only("readme.txt"), "must hold cropped_images"),
    ("cuhk-sysu", adding("cropped_images", "s1.jpg"), "s1.jpg is not named like p11422_s16929_1.jpg"),
    ("prid2011", renamed("single_shot", "multi_shot"), r"must hold single_shot/cam_a, .*; found \['multi_shot'\]"),
    ("prid2011", without("single_shot/cam_b/person_0007.png"), "cam_b lacks person 7; persons 1 to 200 are in both"),
    ("grid", without("features_and_partitions.mat"), r"must hold .*features_and_partitions.mat; found"),
    ("grid", nine_splits, "trainIdxAll in .* does not hold ten splits"),
    ("grid", another_record, "trainIdxAll in .* does not hold ten splits"),
    ("grid", lambda root: trees.grid(root, trained=100), "has 100 training ids, not 125"),
    ("grid", without("probe/0003_1_25003_107_32_106_221.jpeg"), "probe lacks id 3; expected 1 to 250"),
    ("grid", adding("gallery", "0251_1_1_1_1_1_1.jpeg"), "gallery holds id 251; expected 1 to 250"),
    ("viper", without("cam_b"), r"must hold cam_a, cam_b; found \['cam_a'\]"),
    ("viper", adding("cam_a", "001_90.bmp"), "cam_a holds person 001 twice"),
    ("viper", adding("cam_a", "999_90.bmp"), "person 999 is in one of .*'s cameras only"),
    ("viper", lambda root: [without(f"cam_{c}/000_{a}.bmp")(root) for c, a in ("a0", ("b", 90))], "holds 631 persons"),
    (
        "ilids",
        adding("Persons", "0120001.jpg", "0120002.jpg"),
        "holds 120 persons, expected 119",
    ),
    ("ilids", person_with_one_image, "person 1 has one image; query and gallery need two"),
    (
        "randperson",
        adding("randperson_subset", "000000_s11_c00_f000264.jpg"),
        "names scene 11, camera 0; there is no such",
    ),
    (
        "randperson",
        adding("randperson_subset", "000000_s04_c01_f000264.jpg"),
        "names scene 4, camera 1; there is no such",
    ),
    ("randperson", renamed("randperson_subset", "subset"), r"must hold randperson_subset; found \['subset'\]"),
]


def every_view(layout: str, root: Path) -> list[object]:
    """All that can be read from a folder."""
    dataset = open_dataset({"name": "real", "layout": layout, "root": str(root), "options": {}})
    views = [view(split) for split in dataset.splits for view in (dataset.query, dataset.gallery)]
    return [*views, dataset.combined()]


@pytest.mark.parametrize(
    ("layout", "spoil", "expected"), WRONG, ids=[f"{i}-{layout}" for i, (layout, _, _) in enumerate(WRONG)]
)
def test_a_wrong_layout_is_refused_in_one_sentence(tmp_path: Path, layout: str, spoil: Spoil, expected: str) -> None:
    root = tmp_path / layout
    root.mkdir()
    BUILD[layout](root)
    spoil(root)
    with pytest.raises(DfgsError) as caught:
        every_view(layout, root)
    message = str(caught.value)
    assert message.startswith("dataset 'real': ")
    assert "\n" not in message
    assert re.search(expected, message), message


def test_a_root_that_is_one_of_the_parts_is_led_to_the_folder_above(tmp_path: Path) -> None:
    small_market(tmp_path)
    with pytest.raises(DfgsError, match=f"they lie in {tmp_path}, set root to it"):
        every_view("market1501", tmp_path / "query")


def test_a_root_that_is_missing_or_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for layout in BUILD:
        with pytest.raises(DfgsError, match=r"missing must hold .*; found no such folder"):
            every_view(layout, tmp_path / "missing")
        with pytest.raises(DfgsError, match="file is a file; give the folder of the dataset, or a pack"):
            every_view(layout, tmp_path / "file")


def test_a_file_in_the_place_of_a_folder_of_images_is_named(tmp_path: Path) -> None:
    trees.write(tmp_path, {"": ["cropped_images"]})
    with pytest.raises(DfgsError, match="cropped_images is a file, not a folder of images"):
        every_view("cuhk-sysu", tmp_path)


def test_a_name_of_bytes_or_with_a_line_break_is_shown_in_one_line(tmp_path: Path) -> None:
    trees.write(tmp_path, {"cropped_images": ["p1_s1\n_1.jpg"]})
    with pytest.raises(DfgsError, match=r"cropped_images/p1_s1\\n_1.jpg is not named like"):
        every_view("cuhk-sysu", tmp_path)
    trees.write(tmp_path, {"cropped_images": [os.fsdecode(b"p1_\xff_1.jpg")]})
    with pytest.raises(DfgsError, match=r"cropped_images/p1_s1\\n_1.jpg is not named like .* \(one of 2\)"):
        every_view("cuhk-sysu", tmp_path)
    (tmp_path / "cropped_images/p1_s1\n_1.jpg").unlink()
    with pytest.raises(DfgsError, match=r"cropped_images/p1_\\udcff_1.jpg is not named like"):
        every_view("cuhk-sysu", tmp_path)


def test_boxes_of_cuhk03_that_were_not_extracted_are_named(tmp_path: Path) -> None:
    shutil.rmtree(trees.cuhk03_extracted(tmp_path) / "images_detected")
    job = {"name": "real", "layout": "cuhk03", "root": str(tmp_path), "options": {"boxes": "detected"}}
    with pytest.raises(DfgsError, match=r"must hold images_detected, cuhk03_new_protocol_config_detected.mat; found"):
        open_dataset(job).train()
    with pytest.raises(DfgsError, match=r"boxes is 'labelled' \(did you mean 'labeled'\?\)"):
        open_dataset(job | {"options": {"boxes": "labelled"}})


def test_dukemtmc_reid_is_refused_because_it_was_withdrawn(tmp_path: Path) -> None:
    with pytest.raises(DfgsError, match=r"dataset 'duke': DukeMTMC-reID was withdrawn by its authors in 2019"):
        open_dataset({"name": "duke", "layout": "dukemtmc-reid", "root": str(tmp_path), "options": {}})
