"""The CUHK02 layout: five pairs of cameras, `P1` … `P5`, with PNG files in `cam1` and `cam2`."""

from collections.abc import Sequence

from dfgs.datasets._files import Naming, Place
from dfgs.datasets.base import Dataset, Images

PAIRS = ("P1", "P2", "P3", "P4", "P5")
CAMERAS = ("cam1", "cam2")
PARTS = tuple(f"{pair}/{camera}" for pair in PAIRS for camera in CAMERAS)
NAMING = Naming.of(r"(\d{3})_(\d{5})\.png", "001_05006.png")


class CUHK02(Dataset):
    """CUHK02 (Li and Wang, CVPR 2013): 7,264 images of 1,816 identities, two per identity in each camera of a pair.

    Names are `PPP_NNNNN.png`; identities start again in each pair, so a pid is 1000 × pair + number. Cameras are 0 … 9
    over the pairs. `train()` has pairs 1 to 4, split `test` looks for the images of P5's `cam1` in its `cam2`;
    `combined()` has all pairs. Raises `DfgsError` for a missing or empty folder and for names of another kind.
    """

    splits = ("test",)

    def train(self) -> Images:
        """Return the images of pairs 1 to 4."""
        return self._read([part for part in PARTS if not part.startswith("P5")])

    def query(self, split: str) -> Images:
        """Return the images of pair 5's first camera."""
        self.check_split(split)
        return self._read(["P5/cam1"])

    def gallery(self, split: str) -> Images:
        """Return the images of pair 5's second camera."""
        self.check_split(split)
        return self._read(["P5/cam2"])

    def _read(self, parts: Sequence[str]) -> Images:
        place = Place(self.name, self.root, PARTS)
        return Images.of(
            [
                (path, 1000 * int(part[1]) + int(match[1]), PARTS.index(part))
                for part in parts
                for path, match in place.read(part, NAMING)
            ]
        )
