"""Layouts on disk: counts of the real Market-1501, junk and strays left out, disjoint splits, joined sources."""

import csv
import gzip
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dfgs.datasets import REGISTRY, open_dataset
from dfgs.datasets.base import Images, join
from dfgs.datasets.market1501 import Market1501
from dfgs.errors import DfgsError

FIXTURES = Path(__file__).parent / "fixtures"
FOLDERS = {"train": "bounding_box_train", "test": "bounding_box_test", "query": "query"}
# Counted from the real files.
PER_CAMERA = {
    "train": {1: 2017, 2: 1709, 3: 2707, 4: 920, 5: 2338, 6: 3245},
    "test": {1: 3156, 2: 2944, 3: 3803, 4: 1671, 5: 3814, 6: 4344},
    "query": {1: 668, 2: 530, 3: 717, 4: 248, 5: 622, 6: 583},
}
JUNK, DISTRACTORS = 3819, 2798


def real_names(part: str) -> list[str]:
    """File names of the real Market-1501, `train`, `test` or `query`, with their folder."""
    with gzip.open(FIXTURES / "market1501_names" / f"market1501_{part}.csv.gz", "rt", encoding="utf-8") as handle:
        return [row[1] for row in csv.reader(handle)]


@pytest.fixture(scope="module")
def skeleton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The real folder tree with empty files under the real names, and the strays that come with it."""
    root = tmp_path_factory.mktemp("market") / "Market-1501-v15.09.15"
    for part, folder in FOLDERS.items():
        (root / folder).mkdir(parents=True)
        for name in real_names(part):
            (root / name).open("x").close()
        for stray in ("Thumbs.db", ".DS_Store", "._0002_c1s1_000451_03.jpg", ".0002_c1s1_000451_03.jpg"):
            (root / folder / stray).touch()
    yield root
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def market(skeleton: Path) -> Market1501:
    return Market1501("market1501", skeleton)


def tree(root: Path, *names: str) -> Path:
    """Make empty files; a name that ends in `/` is a folder."""
    for name in names:
        path = root / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.touch()
    return root


def cameras(images: Images) -> dict[int, int]:
    """Images per camera."""
    return dict(sorted(Counter(images.camids.tolist()).items()))


def test_the_training_images_of_the_real_tree_are_counted_as_published(market: Market1501) -> None:
    images = market.train()
    assert len(images) == 12936
    assert len(np.unique(images.pids)) == 751
    assert cameras(images) == PER_CAMERA["train"]
    assert not images.domains.any()


def test_the_queries_of_the_real_tree_are_counted_as_published(market: Market1501) -> None:
    images = market.query("test")
    assert len(images) == 3368
    assert len(np.unique(images.pids)) == 750
    assert cameras(images) == PER_CAMERA["query"]


def test_the_gallery_of_the_real_tree_has_the_distractors_and_no_junk(market: Market1501) -> None:
    images = market.gallery("test")
    assert len(images) == 15913
    assert len(np.unique(images.pids[images.pids > 0])) == 750
    assert (images.pids == 0).sum() == DISTRACTORS
    junk = [name for name in real_names("test") if "/-1_c" in name]
    assert len(junk) == JUNK
    dropped = Counter(int(name.split("_c")[1][0]) for name in junk)
    assert dict(sorted((Counter(cameras(images)) + dropped).items())) == PER_CAMERA["test"]


def test_every_record_agrees_with_its_file_name(market: Market1501, skeleton: Path) -> None:
    for images in (market.train(), market.query("test"), market.gallery("test")):
        assert list(images.paths) == sorted(images.paths)
        for path, pid, camid in zip(images.paths, images.pids, images.camids, strict=True):
            name = path.relative_to(skeleton).name
            assert name.startswith(f"{pid:04d}_c{camid}s")


def test_junk_is_in_no_view(skeleton: Path) -> None:
    market = Market1501("market1501", skeleton, validation=100)
    views = [
        market.train(),
        *(view(split) for split in ("test", "half-3", "val") for view in (market.query, market.gallery)),
    ]
    assert all((view.pids >= 0).all() for view in views)
    assert not any(path.name.startswith(("-1_", ".")) or path.suffix != ".jpg" for v in views for path in v.paths)


def test_validation_identities_are_in_no_other_view(skeleton: Path, market: Market1501) -> None:
    held = Market1501("market1501", skeleton, validation=100)
    train, query, gallery = held.train(), held.query("val"), held.gallery("val")
    validation = set(query.pids.tolist())
    assert len(validation) == 100
    assert set(gallery.pids.tolist()) <= validation
    assert not validation & set(train.pids.tolist())
    assert not validation & set(held.query("test").pids.tolist()) | validation & set(held.gallery("test").pids.tolist())
    assert not set(query.paths) & set(gallery.paths)
    assert sorted(train.paths + query.paths + gallery.paths) == sorted(market.train().paths)


def test_a_validation_query_is_the_first_image_of_an_identity_in_a_camera(skeleton: Path) -> None:
    held = Market1501("market1501", skeleton, validation=20)
    query, gallery = held.query("val"), held.gallery("val")
    firsts: dict[tuple[int, int], Path] = {}
    for images in (query, gallery):
        for path, pid, camid in zip(images.paths, images.pids.tolist(), images.camids.tolist(), strict=True):
            firsts[pid, camid] = min(path, firsts.get((pid, camid), path))
    assert sorted(firsts.values()) == list(query.paths)


def test_without_validation_there_is_no_such_split(market: Market1501) -> None:
    assert market.splits == ("test", *(f"half-{i}" for i in range(10)))
    with pytest.raises(DfgsError, match=r"dataset 'market1501': no split is called 'val'"):
        market.query("val")


def test_a_mistyped_split_is_refused_with_the_one_that_was_meant(market: Market1501) -> None:
    for view in (market.query, market.gallery):
        with pytest.raises(DfgsError, match=r"no split is called 'tset' \(did you mean 'test'\?\)"):
            view("tset")


@pytest.mark.parametrize("validation", [751, 1000])
def test_more_validation_identities_than_there_are_is_refused_with_both_numbers(
    skeleton: Path, validation: int
) -> None:
    with pytest.raises(DfgsError, match=f"validation={validation} leaves none of its 751 training identities"):
        Market1501("market1501", skeleton, validation=validation).train()


def test_a_half_has_half_of_the_identities_and_all_distractors(market: Market1501, skeleton: Path) -> None:
    chosen = []
    for number in range(10):
        query, gallery = market.query(f"half-{number}"), market.gallery(f"half-{number}")
        pids = set(query.pids.tolist())
        assert len(pids) == 375
        assert set(gallery.pids.tolist()) == pids | {0}
        assert (gallery.pids == 0).sum() == DISTRACTORS
        everything = market.query("test")
        assert len(query) == np.isin(everything.pids, list(pids)).sum()
        chosen.append(frozenset(pids))
    assert len(set(chosen)) == 10
    again = Market1501("another-name", skeleton).query("half-4")
    assert set(again.pids.tolist()) == chosen[4]


def test_the_digest_is_independent_of_where_the_folder_lies(tmp_path: Path) -> None:
    names = ["query/0001_c1s1_000001_00.jpg", "query/0002_c2s1_000001_00.jpg"]
    one, two = tree(tmp_path / "one", *names), tree(tmp_path / "far" / "two", *names)
    digests = [Market1501("m", root).query("test").digest(root) for root in (one, two)]
    assert digests[0] == digests[1]
    tree(two, "query/0003_c2s1_000001_00.jpg")
    assert Market1501("m", two).query("test").digest(two) != digests[0]


def test_the_digest_sees_identities_and_cameras(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    digests = {Images.of([(path, pid, camid)]).digest(tmp_path) for pid in (1, 2) for camid in (1, 2)}
    assert len(digests) == 4


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ([], r"\[\]"),
        (["train/0001.png", "test/", "gallery/"], r"\['gallery', 'test', 'train'\]"),
        (["market/query/0001_c1s1_000001_00.jpg"], r"\['market'\]"),
    ],
)
def test_another_layout_is_named_with_what_was_expected_and_found(tmp_path: Path, names: list[str], found: str) -> None:
    expected = f"dataset 'm': {tmp_path} must hold bounding_box_train, bounding_box_test, query; found {found}"
    for view in (lambda d: d.train(), lambda d: d.query("test"), lambda d: d.gallery("test")):
        with pytest.raises(DfgsError, match=expected):
            view(Market1501("m", tree(tmp_path, *names)))


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DfgsError, match=r"missing must hold .* found no such folder"):
        Market1501("m", tmp_path / "missing").train()


@pytest.mark.parametrize("name", ["query/", "query/Thumbs.db", "query/.0001_c1s1_000001_00.jpg"])
def test_a_folder_without_usable_images_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(DfgsError, match=r"query holds no image named like 0002_c1s1_000451_03\.jpg"):
        Market1501("m", tree(tmp_path, name)).query("test")


def test_a_folder_of_junk_alone_is_named(tmp_path: Path) -> None:
    with pytest.raises(DfgsError, match=r"query holds junk \(-1\) only, no image of a person"):
        Market1501("m", tree(tmp_path, "query/-1_c1s1_000001_00.jpg")).query("test")


@pytest.mark.parametrize(
    "name",
    ["1.jpg", "0001_c1_000001_00.jpg", "00001_c1s1_000001_00.jpg", "-2_c1s1_000001_00.jpg", "a.png", "readme.txt"],
)
def test_an_image_with_another_name_is_named(tmp_path: Path, name: str) -> None:
    tree(tmp_path, "query/0001_c1s1_000001_00.jpg", f"query/{name}")
    with pytest.raises(DfgsError, match=f"query/{name} is not named like 0002_c1s1_000451_03.jpg"):
        Market1501("m", tmp_path).query("test")


def test_a_foreign_copy_of_the_layout_parses() -> None:
    dataset = Market1501("tiny", FIXTURES / "datumaro_market1501_tiny" / "market1501_dataset")
    views = (dataset.train(), dataset.query("test"), dataset.gallery("test"))
    assert [(view.pids.tolist(), view.camids.tolist()) for view in views] == [([2], [1]), ([1], [2]), ([1], [1])]


def test_names_with_a_doubled_ending_are_read(tmp_path: Path) -> None:
    tree(tmp_path, "query/0001_c1s1_000001_00.jpg.jpg", "query/0001_c2s1_000001_00.jpg")
    assert Market1501("m", tmp_path).query("test").camids.tolist() == [1, 2]


def test_a_job_opens_a_dataset_by_its_layout(skeleton: Path) -> None:
    job = {"name": "m", "layout": "market1501", "root": str(skeleton), "options": {"validation": 3}}
    dataset = open_dataset(job)
    assert isinstance(dataset, Market1501)
    assert (dataset.name, dataset.root, dataset.validation) == ("m", skeleton, 3)


def test_an_unknown_option_is_named_with_the_dataset(skeleton: Path) -> None:
    job = {"name": "m", "layout": "market1501", "root": str(skeleton), "options": {"valdation": 3}}
    with pytest.raises(DfgsError, match=r"dataset 'm': layout market1501 refuses its options \{'valdation': 3\}"):
        open_dataset(job)


def test_every_layout_has_a_protocol_that_exists() -> None:
    from dfgs.metrics import PROTOCOLS

    assert all(REGISTRY.load(name).protocol in PROTOCOLS for name in REGISTRY.names())


def draw_view(rng: np.random.Generator, folder: str, size: int) -> Images:
    """Images with drawn identities and cameras."""
    rows = [
        (Path(folder, f"{i}.jpg"), int(rng.choice([3, 7, 50, 51])), int(rng.choice([1, 4, 6]))) for i in range(size)
    ]
    return Images.of(rows)


def test_a_joined_source_renumbers_identities_and_cameras_apart() -> None:
    rng = np.random.default_rng(0)
    views = [draw_view(rng, folder, size) for folder, size in (("one", 30), ("two", 40), ("three", 25))]
    joined = join(views)
    assert joined.paths == views[0].paths + views[1].paths + views[2].paths
    assert joined.domains.tolist() == [0] * 30 + [1] * 40 + [2] * 25
    for joined_column, own in ((joined.pids, "pids"), (joined.camids, "camids")):
        keys = [(position, number) for position, view in enumerate(views) for number in getattr(view, own).tolist()]
        number_of = {key: number for number, key in enumerate(sorted(set(keys)))}
        assert joined_column.tolist() == [number_of[key] for key in keys]
        assert joined_column.dtype == np.int64


def test_a_source_of_one_dataset_is_numbered_from_zero(market: Market1501) -> None:
    joined = join([market.train()])
    assert np.unique(joined.pids).tolist() == list(range(751))
    assert np.unique(joined.camids).tolist() == list(range(6))
    assert joined.paths == market.train().paths


def test_a_selection_keeps_the_order() -> None:
    images = draw_view(np.random.default_rng(1), "one", 10)
    by_mask = images.select(np.arange(10) % 3 == 1)
    by_index = images.select(np.array([7, 1, 4]))
    assert by_mask.paths == tuple(images.paths[i] for i in (1, 4, 7))
    assert by_index.paths == tuple(images.paths[i] for i in (7, 1, 4))
    assert by_index.pids.tolist() == images.pids[[7, 1, 4]].tolist()
