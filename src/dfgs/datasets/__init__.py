"""Benchmark layouts on disk: one file per layout, paths to records; no image is opened here."""

from pathlib import Path
from typing import Any

from dfgs.datasets.base import Dataset
from dfgs.errors import DfgsError
from dfgs.packs.paths import open_root
from dfgs.registry import Registry

REGISTRY = Registry("dataset layout", "dfgs.datasets")


def open_dataset(job: dict[str, Any]) -> Dataset:
    """Open the dataset of a job: `name`, `layout`, `root` and the layout's `options`; no image is opened.

    `root` is a folder or a pack. Raises `DfgsError` for an archive and for options that the layout does not know.
    """
    layout = REGISTRY.load(job["layout"])
    try:
        dataset: Dataset = layout(job["name"], open_root(Path(job["root"])), **job["options"])
    except TypeError as error:
        raise DfgsError(
            f"dataset {job['name']!r}: layout {job['layout']} refuses its options {job['options']}: {error}"
        ) from error
    return dataset
