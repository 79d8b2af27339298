"""The VIPeR layout: one image per person in each of two cameras, searched in both directions."""

from itertools import pairwise

import numpy as np

from dfgs.datasets._files import Naming, Place
from dfgs.datasets._shipped_splits import SIZES, read_splits
from dfgs.datasets._ten_splits import Partition, TenSplits
from dfgs.datasets.base import Images
from dfgs.errors import DfgsError

CAMERAS = ("cam_a", "cam_b")
NAMING = Naming.of(r"(\d{3})_(\d+)\.bmp", "000_45.bmp")
IDENTITIES = SIZES["viper"][0]


class VIPeR(TenSplits):
    """VIPeR (Gray et al., PETS 2007): 632 persons, one image in each of `cam_a` and `cam_b`, `NNN_ANGLE.bmp`.

    Pids are the names' numbers + 1. Ten seeded halves of ours, each in both directions: `split-0-ab` … `split-9-ab`
    look for 316 images of camera a in b, `split-0-ba` … for those of b in a. `combined()` has all images. Raises
    `DfgsError` for a missing or empty folder, names of another kind, a person who is there twice or in one camera only,
    and another number of persons than 632.
    """

    names = tuple(f"split-{number}-{way}" for way in ("ab", "ba") for number in range(10))

    def partition(self, split: str) -> Partition:
        """Return the three views of a split; the last two letters say who is looked for in which camera."""
        images = self.everything()
        identities = np.unique(images.pids)
        trains = np.isin(images.pids, identities[read_splits("viper")[self.names.index(split) % 10]["train"]])
        in_query = images.camids == "ab".index(split[-2])
        return Partition(images.select(trains), images.select(~trains & in_query), images.select(~trains & ~in_query))

    def everything(self) -> Images:
        """Return the images of both cameras."""
        place = Place(self.name, self.root, CAMERAS)
        found = {camera: [(p, int(m[1])) for p, m in place.read(camera, NAMING)] for camera in CAMERAS}
        numbers = [[number for _, number in rows] for rows in found.values()]
        for camera, own in zip(CAMERAS, numbers, strict=True):
            twice = [a for a, b in pairwise(own) if a == b]
            if twice:
                raise DfgsError(f"dataset {self.name!r}: {self.root / camera} holds person {twice[0]:03d} twice")
        alone = sorted(set(numbers[0]) ^ set(numbers[1]))
        if alone:
            raise DfgsError(f"dataset {self.name!r}: person {alone[0]:03d} is in one of {self.root}'s cameras only")
        if len(numbers[0]) != IDENTITIES:
            raise DfgsError(
                f"dataset {self.name!r}: {self.root} holds {len(numbers[0])} persons, expected {IDENTITIES}"
            )
        return Images.of([(p, n + 1, camera) for camera, rows in enumerate(found.values()) for p, n in rows])
