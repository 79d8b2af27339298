"""Layouts of the real benchmarks: counts as published, identities, cameras, options, and splits that are disjoint."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import dataset_trees as trees
from dfgs.datasets import REGISTRY, _files, _shipped_splits, open_dataset
from dfgs.datasets._shipped_splits import draw_splits, read_splits, render
from dfgs.datasets.base import Dataset, Images
from dfgs.errors import DfgsError
from dfgs.metrics import PROTOCOLS

LAYOUTS = ["cuhk02", "cuhk03", "cuhk-sysu", "grid", "ilids", "market1501", "msmt17", "prid2011", "randperson", "viper"]


def opened(layout: str, root: Path, **options: object) -> Dataset:
    return open_dataset({"name": layout, "layout": layout, "root": str(root), "options": options})


def counts(images: Images) -> tuple[int, int]:
    """Images and identities."""
    return len(images), len(np.unique(images.pids))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small or whole tree of every layout, named after it, hidden files and `Thumbs.db` in each."""
    root = tmp_path_factory.mktemp("datasets")
    trees.write(root / "market1501", trees.some_of_market1501())
    trees.msmt17(root / "msmt17", scale=20)
    trees.write(root / "cuhk02", trees.cuhk02((9, 3, 2, 2, 4)))
    trees.cuhk03_extracted(root / "cuhk03")
    trees.write(root / "cuhk-sysu", trees.cuhk_sysu(300, 100))
    trees.grid(root / "grid")
    for layout in ("prid2011", "viper", "ilids", "randperson"):
        trees.write(root / layout, getattr(trees, layout)())
    for folder in [path for path in sorted(root.rglob("*")) if path.is_dir()]:
        trees.write(folder, {"": ["Thumbs.db", ".DS_Store", "._0002_c1s1_000451_03.jpg"]})
    return root


@pytest.fixture
def virtual(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[trees.Tree], Path]:
    """Pretend that folders hold the names of a tree, which is quicker than making tens of thousands of files."""
    names: dict[Path, list[str]] = {}
    monkeypatch.setattr(_files, "listed", lambda folder: sorted(names[folder]) if folder in names else [])

    def pretend(tree: trees.Tree) -> Path:
        trees.write(tmp_path, {folder: [] for folder in tree})
        names.update({tmp_path / folder: own for folder, own in tree.items()})
        return tmp_path

    return pretend


def test_the_registry_knows_every_layout_and_the_withdrawn_one() -> None:
    assert REGISTRY.names() == sorted([*LAYOUTS, "dukemtmc-reid"])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_view_is_sorted_and_of_real_identities(small: Path, layout: str) -> None:
    dataset = opened(layout, small / layout)
    views = [dataset.combined(), *(v(s) for s in dataset.splits[:12] for v in (dataset.query, dataset.gallery))]
    for images in views:
        assert len(images)
        assert list(images.paths) == sorted(set(images.paths))
        assert all(path.is_relative_to(small / layout) for path in images.paths)
        assert not any(path.name.startswith(".") or path.name == "Thumbs.db" for path in images.paths)
        assert (images.pids >= 0).all()
    assert (dataset.combined().pids > 0).all()
    assert dataset.protocol in PROTOCOLS


@pytest.mark.parametrize("layout", LAYOUTS)
def test_queries_find_their_person_elsewhere_and_training_knows_none_of_them(small: Path, layout: str) -> None:
    for split in opened(layout, small / layout).splits:
        trained = {"split": split} if split.startswith("split-") else {}
        dataset = opened(layout, small / layout, **trained)
        train, query, gallery = dataset.train(), dataset.query(split), dataset.gallery(split)
        assert not set(query.paths) & set(gallery.paths)
        assert not (set(query.pids) | set(gallery.pids)) & set(train.pids)
        if layout not in ("market1501", "msmt17"):  # of these only a part of the names was taken
            for pid, camid in zip(query.pids, query.camids, strict=True):
                assert ((gallery.pids == pid) & (gallery.camids != camid)).any()


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name not in ("market1501", "msmt17", "cuhk03")])
def test_combined_holds_every_file_but_distractors(small: Path, layout: str) -> None:
    files = [p for p in (small / layout).rglob("*") if p.is_file() and not p.name.startswith((".", "Thumbs", "0000_"))]
    expected = sorted(path for path in files if path.suffix != ".mat")
    assert list(opened(layout, small / layout).combined().paths) == expected


def test_market_combined_keeps_distractors_as_one_identity_only_in_the_papers_way(small: Path) -> None:
    root = small / "market1501"
    plain = opened("market1501", root).combined()
    quirk = opened("market1501", root, background_as_identity=True).combined()
    assert counts(quirk) == (len(plain) + 50, counts(plain)[1] + 1)
    assert (quirk.pids == 0).sum() == 50
    held = opened("market1501", root, validation=2)
    kept = held.combined()
    assert not set(kept.pids) & set(held.query("val").pids)
    assert counts(kept)[1] == counts(plain)[1] - 2


def test_msmt17_trains_on_both_lists_of_its_training_identities(tmp_path: Path) -> None:
    root = trees.msmt17(tmp_path, scale=20)
    dataset = opened("msmt17", root)
    assert counts(dataset.train()) == (30248 // 20 + 2373 // 20, 52)
    assert counts(opened("msmt17", root, train_without_val=True).train()) == (30248 // 20, 52)
    assert counts(dataset.query("test")) == (11659 // 20, 153)
    assert counts(dataset.gallery("test")) == (82161 // 20, 153)
    combined = dataset.combined()
    assert counts(combined) == (30248 // 20 + 2373 // 20 + 11659 // 20 + 82161 // 20, 52 + 153)
    assert np.unique(combined.camids).tolist() == list(range(1, 16))


@pytest.mark.parametrize(("version", "folder"), [("V1", "test"), ("V2", "mask_test_v2")])
def test_the_versions_of_msmt17_are_told_apart_by_their_folders(tmp_path: Path, version: str, folder: str) -> None:
    dataset = opened("msmt17", trees.msmt17(tmp_path, version, scale=400))
    assert dataset.version == version  # type: ignore[attr-defined]
    assert {path.relative_to(tmp_path).parts[0] for path in dataset.gallery("test").paths} == {folder}


def test_an_msmt17_line_becomes_a_record(tmp_path: Path) -> None:
    root = trees.msmt17(tmp_path, scale=400)
    name = "0001/0001_007_12_0303afternoon_0015_0_ex.jpg"
    for part, first in (("train", 1), ("query", 1042)):
        path = root / f"list_{part}.txt"
        path.write_text(path.read_text(encoding="utf-8").splitlines()[0] + f"\n{name} 1\n", encoding="utf-8")
        images = opened("msmt17", root).query("test") if part == "query" else opened("msmt17", root).train()
        folder = root / ("test" if part == "query" else "train")
        assert (folder / name, first + 1, 12) in images.rows()


def test_cuhk02_is_counted_as_published(virtual: Callable[[trees.Tree], Path]) -> None:
    dataset = opened("cuhk02", virtual(trees.cuhk02()))
    assert counts(dataset.train()) == (4 * 1577, 1577)
    assert counts(dataset.query("test")) == counts(dataset.gallery("test")) == (478, 239)
    assert counts(dataset.combined()) == (7264, 1816)
    assert np.unique(dataset.combined().camids).tolist() == list(range(10))


def test_a_cuhk02_name_becomes_a_record(small: Path) -> None:
    root = small / "cuhk02"
    rows = opened("cuhk02", root).combined().rows()
    assert (root / "P2/cam2/003_00016.png", 2003, 3) in rows
    assert (root / "P1/cam2/003_00016.png", 1003, 1) in rows


@pytest.mark.parametrize("boxes", ["labeled", "detected"])
def test_cuhk03_np_is_counted_as_published(virtual: Callable[[trees.Tree], Path], boxes: str) -> None:
    dataset = opened("cuhk03", virtual(trees.cuhk03_np()), boxes=boxes)
    parts = trees.CUHK03_SIZES[boxes]
    assert counts(dataset.train()) == parts["train"]
    assert counts(dataset.query("test")) == parts["query"]
    assert counts(dataset.gallery("test")) == parts["gallery"]
    assert counts(dataset.combined()) == (sum(images for images, _ in parts.values()), 1467)


@pytest.mark.parametrize("boxes", ["labeled", "detected"])
def test_extracted_cuhk03_is_divided_by_its_split_file(small: Path, boxes: str) -> None:
    root = small / "cuhk03"
    dataset = opened("cuhk03", root, boxes=boxes)
    assert [counts(v) for v in (dataset.train(), dataset.query("test"), dataset.gallery("test"))] == [
        (30, 5),
        (8, 4),
        (16, 4),
    ]
    assert dataset.query("test").rows()[0] == (root / f"images_{boxes}/2_003_1_01.png", 2003, 1)
    assert dataset.protocol == "cuhk03-new"
    assert dataset.splits == ("test",)


def test_cuhk_sysu_is_counted_as_published_and_has_scenes_for_cameras(virtual: Callable[[trees.Tree], Path]) -> None:
    root = virtual(trees.cuhk_sysu())
    images = opened("cuhk-sysu", root).train()
    assert counts(images) == counts(opened("cuhk-sysu", root).combined()) == (34574, 11934)
    assert all(path.name.split("_")[1] == f"s{camera}" for path, _, camera in images.rows())
    assert set(opened("cuhk-sysu", root, one_camera=True).train().camids) == {0}


def test_prid2011_has_100_queries_and_649_gallery_images_in_every_split(small: Path) -> None:
    dataset = opened("prid2011", small / "prid2011")
    assert counts(dataset.combined()) == (385 + 749, 200 + 185 + 549)
    for split in dataset.splits:
        query, gallery = dataset.query(split), dataset.gallery(split)
        assert counts(query) == (100, 100)
        assert counts(gallery) == (649, 649)
        assert set(query.camids) == {0}
        assert set(gallery.camids) == {1}
        assert len(set(query.pids) & set(gallery.pids)) == 100
        assert set(range(201, 750)) <= set(gallery.pids)
        assert counts(opened("prid2011", small / "prid2011", split=split).train()) == (200, 100)


def test_grid_reads_its_splits_from_its_own_file(small: Path) -> None:
    dataset = opened("grid", small / "grid")
    for number, split in enumerate(dataset.splits):
        tested = set(range(1, 251)) - set(trees.grid_trained(number))
        assert set(dataset.query(split).pids) == tested
        assert set(dataset.gallery(split).pids) == tested | {0}
        assert (len(dataset.query(split)), len(dataset.gallery(split))) == (125, 900)
        train = opened("grid", small / "grid", split=split).train()
        assert counts(train) == (250, 125)
        assert set(train.pids) == set(trees.grid_trained(number))
    assert counts(dataset.combined()) == (500, 250)
    assert dataset.query("split-0").camids[0] == 1


def test_viper_is_searched_in_both_directions_of_every_half(small: Path) -> None:
    dataset = opened("viper", small / "viper")
    assert len(dataset.splits) == 20
    assert counts(dataset.combined()) == (1264, 632)
    for number in range(10):
        there, back = f"split-{number}-ab", f"split-{number}-ba"
        assert counts(dataset.query(there)) == counts(dataset.gallery(there)) == (316, 316)
        assert dataset.query(there).rows() == dataset.gallery(back).rows()
        assert dataset.gallery(there).rows() == dataset.query(back).rows()
        assert {path.parent.name for path in dataset.query(there).paths} == {"cam_a"}
        assert counts(opened("viper", small / "viper", split=back).train()) == (632, 316)


def test_ilids_has_one_query_and_one_gallery_image_of_60_persons(small: Path) -> None:
    dataset = opened("ilids", small / "ilids")
    assert counts(dataset.combined()) == (474, 119)
    for split in dataset.splits:
        query, gallery = dataset.query(split), dataset.gallery(split)
        assert query.pids.tolist() == gallery.pids.tolist()
        assert counts(query) == counts(gallery) == (60, 60)
        assert counts(opened("ilids", small / "ilids", split=split).train())[1] == 59
    assert dataset.combined().rows()[1] == (small / "ilids/Persons/0001002.jpg", 1, 2)


def test_randperson_numbers_its_19_cameras_over_the_scenes(small: Path) -> None:
    images = opened("randperson", small / "randperson").train()
    assert np.unique(images.camids).tolist() == list(range(19))
    by_name = {path.name: (pid, camid) for path, pid, camid in images.rows()}
    assert by_name["000018_s10_c03_f000018.jpg"] == (19, 18)
    assert by_name["000008_s04_c00_f000008.jpg"] == (9, 8)


@pytest.mark.parametrize("layout", ["prid2011", "viper", "ilids"])
def test_the_shipped_splits_are_what_their_generator_draws(layout: str) -> None:
    assert (_shipped_splits.FOLDER / f"{layout}.json").read_text(encoding="utf-8") == render(layout)
    splits = read_splits(layout)
    count, train = _shipped_splits.SIZES[layout]
    assert splits == draw_splits(layout)
    assert len({tuple(split["train"]) for split in splits}) == 10
    for split in splits:
        assert len(set(split["train"])) == train
        assert set(split["train"]) <= set(range(count))


def test_a_split_file_that_was_changed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    value = json.loads(render("viper"))
    value["splits"][3]["train"][0] += 1
    (tmp_path / "viper.json").write_text(json.dumps(value), encoding="utf-8")
    monkeypatch.setattr(_shipped_splits, "FOLDER", tmp_path)
    with pytest.raises(DfgsError, match=r"viper\.json was changed: its digest is not"):
        read_splits("viper")


def test_a_drawn_image_of_ilids_is_any_of_its_persons_images_with_equal_chance() -> None:
    for images in range(1, 9):
        assert len(set(np.bincount(np.arange(_shipped_splits.DRAWS) % images))) == 1


@pytest.mark.parametrize("layout", ["prid2011", "grid", "viper", "ilids"])
def test_who_trains_on_a_split_is_scored_on_that_split_alone(small: Path, layout: str) -> None:
    split = opened(layout, small).splits[3]
    dataset = opened(layout, small / layout, split=split)
    assert dataset.splits == (split,)
    with pytest.raises(DfgsError, match="no split is called"):
        dataset.query(opened(layout, small).splits[4])
    with pytest.raises(DfgsError, match="splits train on different people; choose one by options"):
        opened(layout, small / layout).train()
    with pytest.raises(DfgsError, match=r"split is 'split-77'"):
        opened(layout, small / layout, split="split-77")


@pytest.mark.parametrize("layout", ["cuhk-sysu", "randperson"])
def test_a_dataset_without_a_test_part_says_so(small: Path, layout: str) -> None:
    with pytest.raises(DfgsError, match="is for training only: it has no split to be scored on"):
        opened(layout, small / layout).check_split("test")


def test_options_and_names_of_splits_are_known_without_the_files(tmp_path: Path) -> None:
    for layout in LAYOUTS:
        assert isinstance(opened(layout, tmp_path / "nowhere").splits, tuple)
