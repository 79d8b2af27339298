"""Seeded splits of PRID2011, VIPeR and i-LIDS, shipped in `splits/`.

`python -m dfgs.datasets._shipped_splits` writes the files. The datasets' papers say only that identities are
divided at random. A split names identities by their position among the dataset's sorted ones, 0 … n-1, because not all
of their numbers are published. Every file ends with a digest.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from dfgs.errors import DfgsError
from dfgs.provenance import digest_json, write_text

FOLDER = Path(__file__).with_name("splits")
SEEDS = {"prid2011": 2011, "viper": 2007, "ilids": 2009}
"""The years of the datasets."""
SIZES = {"prid2011": (200, 100), "viper": (632, 316), "ilids": (119, 59)}
"""Identities that are divided, and how many of them train."""
DRAWS = 840
"""i-LIDS also draws two images of each test identity. A number below 840 is uniform modulo any count of images to 8."""

Split = dict[str, list[int]]


def read_splits(dataset: str) -> list[Split]:
    """Return the ten shipped splits; `train` holds positions, `draws` two numbers for each test identity in turn.

    Raises `DfgsError` for a file that was changed.
    """
    path = FOLDER / f"{dataset}.json"
    value = json.loads(path.read_text(encoding="utf-8"))
    splits: list[Split] = value["splits"]
    if digest_json(splits) != value["digest"]:
        raise DfgsError(f"{path} was changed: its digest is not {value['digest']}; install the package anew")
    return splits


def draw_splits(dataset: str) -> list[Split]:
    """Draw the ten splits of `dataset`; the same on every machine with the same numpy generator."""
    count, train = SIZES[dataset]
    splits = []
    for number in range(10):
        rng = np.random.default_rng([SEEDS[dataset], number])
        split = {"train": sorted(rng.permutation(count)[:train].tolist())}
        if dataset == "ilids":
            split["draws"] = rng.integers(DRAWS, size=2 * (count - train)).tolist()
        splits.append(split)
    return splits


def render(dataset: str) -> str:
    """Write the splits of `dataset` as JSON, one line for each."""
    splits = draw_splits(dataset)
    count, train = SIZES[dataset]
    head: dict[str, Any] = {"dataset": dataset, "identities": count, "train": train, "seed": SEEDS[dataset]}
    lines = [f'"{key}": {json.dumps(value)}' for key, value in head.items()]
    rows = ",\n".join(json.dumps(split, separators=(",", ":")) for split in splits)
    lines += [f'"splits": [\n{rows}\n]', f'"digest": "{digest_json(splits)}"']
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    for each in sorted(SIZES):
        write_text(FOLDER / f"{each}.json", render(each))
