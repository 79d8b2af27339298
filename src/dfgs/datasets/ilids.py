"""The QMUL i-LIDS layout: all images in `Persons`, two to eight per person, cameras not labelled."""

import numpy as np

from dfgs.datasets._files import Naming, Place
from dfgs.datasets._shipped_splits import SIZES, read_splits
from dfgs.datasets._ten_splits import Partition, TenSplits
from dfgs.datasets.base import Images
from dfgs.errors import DfgsError

NAMING = Naming.of(r"(\d{4})(\d{3})\.jpg", "0001001.jpg")
IDENTITIES = SIZES["ilids"][0]


class ILIDS(TenSplits):
    """QMUL i-LIDS (Zheng et al., BMVC 2009): `Persons/PPPPNNN.jpg`, 476 images of 119 persons.

    The names tell no camera. As in the paper's code the running number NNN stands for it, so an image never shares a
    camera with another one of its person. Splits `split-0` … `split-9` are ours, seeded: 59 persons train; of each of
    the other 60 one image is the query and another the gallery, both drawn. `combined()` has all images. Raises
    `DfgsError` for a missing or empty folder, names of another kind, another number of persons than 119 and a person
    with one image.
    """

    def partition(self, split: str) -> Partition:
        """Return the three views of a split."""
        images = self.everything()
        identities = np.unique(images.pids)
        chosen = read_splits("ilids")[self.names.index(split)]
        trains = np.isin(images.pids, identities[chosen["train"]])
        tested = [np.flatnonzero(images.pids == pid) for pid in np.unique(images.pids[~trains])]
        query, gallery = [], []
        for own, first, second in zip(tested, chosen["draws"][::2], chosen["draws"][1::2], strict=True):
            query.append(own[first % len(own)])
            others = own[own != query[-1]]
            gallery.append(others[second % len(others)])
        return Partition(images.select(trains), images.select(np.array(query)), images.select(np.array(gallery)))

    def everything(self) -> Images:
        """Return all images."""
        found = Place(self.name, self.root, ("Persons",)).read("Persons", NAMING)
        images = Images.of([(path, int(match[1]), int(match[2])) for path, match in found])
        identities, counts = np.unique(images.pids, return_counts=True)
        if len(identities) != IDENTITIES:
            raise DfgsError(
                f"dataset {self.name!r}: {self.root} holds {len(identities)} persons, expected {IDENTITIES}"
            )
        if counts.min() < 2:
            alone = identities[counts.argmin()]
            raise DfgsError(f"dataset {self.name!r}: person {alone} has one image; query and gallery need two")
        return images
