"""The PRID2011 layout, single shot: one image per person in each of two cameras."""

import numpy as np

from dfgs.datasets._files import Naming, Place
from dfgs.datasets._shipped_splits import read_splits
from dfgs.datasets._ten_splits import Partition, TenSplits
from dfgs.datasets.base import Images
from dfgs.errors import DfgsError

FOLDERS = ("single_shot/cam_a", "single_shot/cam_b")
NAMING = Naming.of(r"person_(\d{4})\.png", "person_0001.png")
SHARED = 200
ONLY_IN_A = 1000
"""Added to the pids that camera a has for itself: its person 201 and camera b's are two people."""


class PRID2011(TenSplits):
    """PRID2011 (Hirzer et al., SCIA 2011), single shot: persons 1 to 200 are in both cameras, 385 in a, 749 in b.

    Names are `single_shot/cam_a/person_0001.png`. Splits `split-0` … `split-9` are ours, seeded: 100 of the 200 shared
    persons train; of the other 100 the image in a is the query, and the gallery is theirs in b with that of persons 201
    to 749. `combined()` has all images. Raises `DfgsError` for a missing or empty folder, names of another kind and
    shared persons other than 1 … 200.
    """

    def partition(self, split: str) -> Partition:
        """Return the three views of a split."""
        images = self.everything()
        positions = read_splits("prid2011")[self.names.index(split)]["train"]
        trains, is_shared = np.isin(images.pids, np.array(positions) + 1), images.pids <= SHARED
        in_a = images.camids == 0
        return Partition(
            images.select(trains), images.select(in_a & is_shared & ~trains), images.select(~in_a & ~trains)
        )

    def everything(self) -> Images:
        """Return all images of both cameras."""
        place = Place(self.name, self.root, FOLDERS)
        rows = []
        for camera, folder in enumerate(FOLDERS):
            found = [(path, int(match[1])) for path, match in place.read(folder, NAMING)]
            missing = sorted(set(range(1, SHARED + 1)) - {number for _, number in found})
            if missing:
                raise DfgsError(
                    f"dataset {self.name!r}: {self.root / folder} lacks person {missing[0]}; persons 1 to {SHARED} are "
                    "in both cameras"
                )
            own = ONLY_IN_A if camera == 0 else 0
            rows += [(path, number + own * (number > SHARED), camera) for path, number in found]
        return Images.of(rows)
