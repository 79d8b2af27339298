"""What a dataset is to the rest of the house: records of image paths with identity, camera and domain."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dfgs.errors import DfgsError, did_you_mean
from dfgs.provenance import digest_json

Ids: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Images:
    """Images of one view of a dataset: n paths, and int64 arrays of shape (n,) beside them.

    `pids` are numbers of identities from 1 (0 = distractor, -1 = junk), `camids` the dataset's camera numbers,
    `domains` the position of the dataset within a source (0 for a dataset on its own).
    """

    paths: tuple[Path, ...]
    pids: Ids
    camids: Ids
    domains: Ids

    def __len__(self) -> int:
        return len(self.paths)

    @classmethod
    def of(cls, rows: Sequence[tuple[Path, int, int]]) -> "Images":
        """Build from (path, pid, camid) rows, in their order."""
        pids = np.array([row[1] for row in rows], dtype=np.int64)
        camids = np.array([row[2] for row in rows], dtype=np.int64)
        return cls(tuple(row[0] for row in rows), pids, camids, np.zeros(len(rows), dtype=np.int64))

    def rows(self) -> list[tuple[Path, int, int]]:
        """Return (path, pid, camid) of every image, what `of` takes."""
        return list(zip(self.paths, self.pids.tolist(), self.camids.tolist(), strict=True))

    def select(self, keep: NDArray[Any]) -> "Images":
        """Return the images chosen by a boolean mask or an index array, order kept."""
        chosen = np.arange(len(self))[keep]
        paths = tuple(self.paths[i] for i in chosen)
        return Images(paths, self.pids[chosen], self.camids[chosen], self.domains[chosen])

    def digest(self, root: Path) -> str:
        """Digest names, identities and cameras (not pixels); independent of where `root` lies."""
        rows = [
            (path.relative_to(root).as_posix(), int(p), int(c))
            for path, p, c in zip(self.paths, self.pids, self.camids, strict=True)
        ]
        return digest_json(rows)


class Dataset:
    """One benchmark in one layout on disk; a subclass turns file names into records and opens no image.

    Views: `train()`, `query(split)` / `gallery(split)` for every name in `splits`, and `combined()`. All views are
    sorted. Identities of `train`, of the split `val` and of the other splits are disjoint. Nothing is read before a
    view is asked for, so that options and names of splits can be checked without the files.
    """

    protocol: str = "market1501"
    """Name of the evaluation protocol in `dfgs.metrics.PROTOCOLS`."""

    def __init__(self, name: str, root: Path) -> None:
        self.name, self.root = name, root

    @property
    def version(self) -> str:
        """Which released version of the dataset lies in `root`; empty where there is only one."""
        return ""

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits that can be scored."""
        raise NotImplementedError

    def train(self) -> Images:
        """Return the training images."""
        raise NotImplementedError

    def query(self, split: str) -> Images:
        """Return the query images of `split`."""
        raise NotImplementedError

    def gallery(self, split: str) -> Images:
        """Return the gallery images of `split`, distractors kept, junk left out."""
        raise NotImplementedError

    def combined(self) -> Images:
        """Return all images of the training and test identities, without distractors (protocols 1 and 3)."""
        tests = [self.query("test"), self.gallery("test")] if "test" in self.splits else []
        images = union([self.train(), *tests])
        return images.select(images.pids > 0)

    def check_split(self, split: str) -> None:
        """Raise `DfgsError` if the dataset has no split of this name."""
        if not self.splits:
            raise DfgsError(f"dataset {self.name!r} is for training only: it has no split to be scored on")
        if split not in self.splits:
            raise DfgsError(f"dataset {self.name!r}: no split is called {split!r}{did_you_mean(split, self.splits)}")


def union(views: Sequence[Images]) -> Images:
    """Return the images of several views of one dataset, sorted by path, each once."""
    return in_order({row for view in views for row in view.rows()})


def in_order(rows: Iterable[tuple[Path, int, int]]) -> Images:
    """Return images sorted by path; comparing the parts is five times as fast as comparing paths."""
    return Images.of(sorted(rows, key=lambda row: row[0].parts))


def join(views: Sequence[Images]) -> Images:
    """Join several datasets' images into one source: unique pids and camids, `domains` = position in `views`.

    Identities are renumbered from 0 in the order of (dataset, pid) and cameras likewise, so that equal numbers
    in two datasets never meet. A source of one dataset is renumbered too: labels are always 0 … N-1.
    """
    paths: list[Path] = []
    pids, camids, domains = [], [], []
    first_pid = first_camera = 0
    for position, view in enumerate(views):
        identities, pid = np.unique(view.pids, return_inverse=True)
        cameras, camera = np.unique(view.camids, return_inverse=True)
        paths += view.paths
        pids.append(pid + first_pid)
        camids.append(camera + first_camera)
        domains.append(np.full(len(view), position))
        first_pid, first_camera = first_pid + len(identities), first_camera + len(cameras)
    return Images(tuple(paths), *(np.concatenate(part).astype(np.int64) for part in (pids, camids, domains)))
