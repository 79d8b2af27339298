"""The RandPerson layout: rendered people in one folder, for training only."""

from dfgs.datasets._files import Naming, Place
from dfgs.datasets.base import Dataset, Images
from dfgs.errors import DfgsError

FOLDER = "randperson_subset"
NAMING = Naming.of(r"(\d{6})_s(\d{2})_c(\d{2})_f(\d{6})\.jpg", "000000_s00_c00_f000264.jpg")
FIRST_CAMERA = (0, 2, 4, 6, 8, 9, 10, 12, 13, 14, 15)
"""Number of the first camera of each scene; the last scene has four."""


class RandPerson(Dataset):
    """RandPerson (Wang et al., ACM MM 2020), the subset: 132,145 rendered images of 8,000 identities in 19 cameras.

    Names are `IIIIII_sSS_cCC_fFFFFFF.jpg`: identity (pid - 1), scene, camera within the scene, frame. There is no test
    part. Raises `DfgsError` for a missing or empty folder, a name of another kind and a scene or camera that the
    dataset does not have.
    """

    splits = ()

    def train(self) -> Images:
        """Return all images."""
        found = Place(self.name, self.root, (FOLDER,)).read(FOLDER, NAMING)
        limits = (*FIRST_CAMERA[1:], 19)
        rows = []
        for path, match in found:
            scene, camera = int(match[2]), int(match[3])
            if scene >= len(FIRST_CAMERA) or FIRST_CAMERA[scene] + camera >= limits[scene]:
                raise DfgsError(f"dataset {self.name!r}: {path} names scene {scene}, camera {camera}; there is no such")
            rows.append((path, int(match[1]) + 1, FIRST_CAMERA[scene] + camera))
        return Images.of(rows)
