"""Trees of file names like the published benchmarks': empty files, or no files at all, never a picture."""

import csv
import gzip
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.io import savemat

FIXTURES = Path(__file__).parent / "fixtures"
Tree = dict[str, list[str]]
"""Names of files by folder, relative to a root."""


def write(root: Path, tree: Mapping[str, Sequence[str]]) -> Path:
    """Make the folders and empty files of a tree."""
    for folder, names in tree.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for name in names:
            (root / folder / name).touch()
    return root


def spread(images: int, identities: int) -> list[int]:
    """How many images each identity has: as equal as it goes."""
    return [images // identities + (i < images % identities) for i in range(identities)]


def market1501() -> Tree:
    """Every name of the real dataset."""
    tree: Tree = {"bounding_box_train": [], "bounding_box_test": [], "query": []}
    for part in ("train", "test", "query"):
        with gzip.open(FIXTURES / f"market1501_names/market1501_{part}.csv.gz", "rt", encoding="utf-8") as handle:
            for _, path in csv.reader(handle):
                folder, name = path.split("/")
                tree[folder].append(name)
    return tree


def some_of_market1501() -> Tree:
    """All images of some identities, with some of the junk and of the distractors."""
    tree = {}
    for folder, names in market1501().items():
        strays = [[name for name in names if name.startswith(kind)][:50] for kind in ("-1_", "0000_")]
        tree[folder] = [*strays[0], *strays[1], *(n for n in names if "0001" <= n < "0013" or n > "1499")]
    return tree


def msmt17(root: Path, version: str = "V1", scale: int = 1) -> Path:
    """The four lists with the published numbers of lines and identities / `scale`; of the images the first ones."""
    folders = {"V1": ("train", "test"), "V2": ("mask_train_v2", "mask_test_v2")}[version]
    sizes = {"train": (30248, 1041), "val": (2373, 1041), "query": (11659, 3060), "gallery": (82161, 3060)}
    number = 0
    for part, (images, identities) in sizes.items():
        lines = []
        for pid, count in enumerate(spread(images // scale, identities // scale)):
            for _ in range(count):
                number += 1
                lines.append(f"{pid:04d}/{pid:04d}_000_{number % 15 + 1:02d}_0303morning_{number:06d}_0.jpg {pid}")
        (root / folders[part in ("query", "gallery")] / "0000").mkdir(parents=True, exist_ok=True)
        (root / folders[part in ("query", "gallery")] / lines[0].split()[0]).touch()
        (root / f"list_{part}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def cuhk02(sizes: Sequence[int] = (971, 306, 107, 193, 239)) -> Tree:
    """Two images per identity and camera."""
    return {
        f"P{pair}/cam{camera}": [f"{i:03d}_{5 * i + j:05d}.png" for i in range(1, n + 1) for j in (0, 1)]
        for pair, n in enumerate(sizes, 1)
        for camera in (1, 2)
    }


CUHK03_SIZES = {
    "labeled": {"train": (7368, 767), "query": (1400, 700), "gallery": (5328, 700)},
    "detected": {"train": (7365, 767), "query": (1400, 700), "gallery": (5332, 700)},
}


def cuhk03_np(scale: int = 1) -> Tree:
    """CUHK03-NP, labelled and detected, with the published counts / `scale`."""
    folders = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
    tree: Tree = {}
    for boxes, parts in CUHK03_SIZES.items():
        for part, (images, people) in parts.items():
            rows = spread(images // scale, people // scale)
            first, number = (1 if part == "train" else 768), 5 if part == "gallery" else 1
            tree[f"{boxes}/{folders[part]}"] = [
                f"{first + i:04d}_c{j % 2 + 1}_{number + j}.png" for i, count in enumerate(rows) for j in range(count)
            ]
    return tree


def cuhk03_extracted(root: Path) -> Path:
    """Nine identities of three camera pairs extracted, and the split files: 5 train, 4 test, two views of 3 images."""
    for boxes in ("labeled", "detected"):
        places = [(pair, i, view, n) for pair in (1, 2, 5) for i in (1, 2, 3) for view in (1, 2) for n in (1, 2, 3)]
        names = ["{}_{:03d}_{}_{:02d}.png".format(*place) for place in places]
        write(root, {f"images_{boxes}": names})
        people = np.arange(len(names)) // 6
        image = np.arange(len(names)) % 3
        views = {"train": people < 5, "query": (people >= 5) & (image == 0), "gallery": (people >= 5) & (image > 0)}
        values = {f"{view}_idx": np.flatnonzero(mask)[:, None] + 1.0 for view, mask in views.items()}
        values["filelist"] = np.array(names, dtype=object)[:, None]
        savemat(root / f"cuhk03_new_protocol_config_{boxes}.mat", values | {"labels": people[:, None] + 1})
    return root


def cuhk_sysu(images: int = 34574, identities: int = 11934) -> Tree:
    """Crops with scene numbers."""
    rows = [(i, j) for i, count in enumerate(spread(images, identities), 1) for j in range(count)]
    return {"cropped_images": [f"p{i}_s{7 * i + j}_{j + 1}.jpg" for i, j in rows]}


def prid2011() -> Tree:
    """Persons 1 … 385 in camera a, 1 … 749 in b."""
    sizes = {"a": 385, "b": 749}
    return {f"single_shot/cam_{c}": [f"person_{i:04d}.png" for i in range(1, n + 1)] for c, n in sizes.items()}


def grid_images() -> Tree:
    """250 persons in both folders, 775 distractors in the gallery."""
    person = [f"{i:04d}_{{}}_2500{i % 7}_107_32_106_221.jpeg" for i in range(1, 251)]
    distractors = [f"0000_{i % 6 + 1}_{i:05d}_10_20_30_40.jpeg" for i in range(775)]
    return {"probe": [n.format(1) for n in person], "gallery": [*distractors, *(n.format(2) for n in person)]}


def grid_trained(split: int) -> list[int]:
    """The ids that train in a split of the generated partition file."""
    return sorted(1 + np.random.default_rng(split).permutation(250)[:125])


def grid(root: Path, splits: int = 10, trained: int = 125) -> Path:
    """Images and partition file."""
    return grid_partitions(write(root, grid_images()), splits, trained)


def grid_partitions(root: Path, splits: int = 10, trained: int = 125) -> Path:
    """The partition file: a cell for each split, the training ids in its record's third field."""
    cells = np.empty((1, splits), dtype=object)
    for split in range(splits):
        ids = np.array([grid_trained(split)[:trained]], dtype=float)
        cells[0, split] = {"first": 0.0, "second": 0.0, "third": ids}
    savemat(root / "features_and_partitions.mat", {"trainIdxAll": cells})
    return root


def viper(persons: int = 632) -> Tree:
    """Numbers with gaps, the first one 0; other angles in the two cameras."""
    numbers = [i + i // 3 for i in range(persons)]
    return {"cam_a": [f"{i:03d}_0.bmp" for i in numbers], "cam_b": [f"{i:03d}_{90 + i % 2 * 45}.bmp" for i in numbers]}


def ilids(persons: int = 119) -> Tree:
    """476 images, two to eight each."""
    counts = [2 + i % 5 for i in range(persons)]
    return {"Persons": [f"{i:04d}{j:03d}.jpg" for i, count in enumerate(counts, 1) for j in range(1, count + 1)]}


def randperson(images: int = 400, identities: int = 20) -> Tree:
    """Some of the subset: every scene and camera of it."""
    cameras = [(0, 2), (1, 2), (2, 2), (3, 2), (4, 1), (5, 1), (6, 2), (7, 1), (8, 1), (9, 1), (10, 4)]
    places = [(scene, camera) for scene, count in cameras for camera in range(count)]

    def names() -> Iterator[str]:
        for i in range(images):
            scene, camera = places[i % len(places)]
            yield f"{i % identities:06d}_s{scene:02d}_c{camera:02d}_f{i:06d}.jpg"

    return {"randperson_subset": list(names())}
