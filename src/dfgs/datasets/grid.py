"""The QMUL GRID layout: `probe` and `gallery` folders, and ten splits in the dataset's own MATLAB file."""

import numpy as np

from dfgs.datasets._files import Naming, Place
from dfgs.datasets._matlab import indices, read_matlab
from dfgs.datasets._ten_splits import Partition, TenSplits
from dfgs.datasets.base import Images
from dfgs.errors import DfgsError

SPLITS = "features_and_partitions.mat"
PARTS = ("probe", "gallery", SPLITS)
NAMING = Naming.of(r"(\d{4})_(\d)_(\d+)_(\d+)_(\d+)_(\d+)_(\d+)\.jpeg", "0001_1_25004_107_32_106_221.jpeg")
IDENTITIES, TRAIN = 250, 125


class GRID(TenSplits):
    """QMUL underground GRID (Loy et al., CVPR 2009): 250 persons with a probe and a gallery image, 775 distractors.

    Names are `IIII_C_FFFFF_x_y_w_h.jpeg`: id (0000 in the gallery is a distractor), camera, frame, box. The ten splits
    are the dataset's own, field `trainIdxAll` of `features_and_partitions.mat`: 125 persons train, and the probe images
    of the others look for theirs among 900 gallery images. `combined()` leaves the distractors out. Raises
    `DfgsError` for a missing part, names of another kind, persons other than 1 … 250 and splits of another form.
    """

    def partition(self, split: str) -> Partition:
        """Return the three views of a split."""
        trains = self._trained(self.names.index(split))
        probe, gallery = self._read("probe"), self._read("gallery")
        own = [images.select(np.isin(images.pids, trains)) for images in (gallery, probe)]
        others = [images.select(~np.isin(images.pids, trains)) for images in (probe, gallery)]
        train = Images.of([row for images in own for row in images.rows()])
        return Partition(train, *others)

    def everything(self) -> Images:
        """Return all images, gallery first."""
        return Images.of([*self._read("gallery").rows(), *self._read("probe").rows()])

    def _read(self, folder: str) -> Images:
        found = Place(self.name, self.root, PARTS).read(folder, NAMING)
        images = Images.of([(path, int(match[1]), int(match[2])) for path, match in found])
        people = set(images.pids.tolist()) - {0}
        wrong = sorted(people ^ set(range(1, IDENTITIES + 1)))
        if wrong:
            what = "holds" if wrong[0] in people else "lacks"
            raise DfgsError(f"dataset {self.name!r}: {self.root / folder} {what} id {wrong[0]}; expected 1 to 250")
        return images

    def _trained(self, number: int) -> list[int]:
        """Ids that train in a split: the third field of the cell's record."""
        path = Place(self.name, self.root, PARTS).find(SPLITS)
        cells = read_matlab(self.name, path, ("trainIdxAll",))["trainIdxAll"].ravel()
        try:
            record = cells[number].ravel()[0]
            trained = indices(self.name, path, np.asarray(record[2]), IDENTITIES)
        except (IndexError, TypeError, ValueError, AttributeError) as error:
            raise DfgsError(f"dataset {self.name!r}: trainIdxAll in {path} does not hold ten splits") from error
        if len(trained) != TRAIN:
            raise DfgsError(f"dataset {self.name!r}: split {number} in {path} has {len(trained)} training ids, not 125")
        return trained
