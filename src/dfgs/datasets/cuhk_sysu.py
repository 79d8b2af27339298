"""The CUHK-SYSU layout: cropped people in one folder, for training only."""

from pathlib import Path

from dfgs.datasets._files import Naming, Place
from dfgs.datasets.base import Dataset, Images

NAMING = Naming.of(r"p(\d+)_s(\d+)_(\d+)\.jpg", "p11422_s16929_1.jpg")


class CUHKSYSU(Dataset):
    """CUHK-SYSU (Xiao et al., CVPR 2017): `cropped_images/pP_sS_N.jpg`, 34,574 crops of 11,934 identities.

    No cameras are labelled. Every scene image S is its own camera, so that samplers which look for another camera find
    another scene; with `one_camera` all images share camera 0, as in the paper's code. There is no test part. Raises
    `DfgsError` for a missing or empty folder and for names of another kind.
    """

    splits: tuple[str, ...] = ()

    def __init__(self, name: str, root: Path, *, one_camera: bool = False) -> None:
        super().__init__(name, root)
        self.one_camera = one_camera

    def train(self) -> Images:
        """Return all images."""
        found = Place(self.name, self.root, ("cropped_images",)).read("cropped_images", NAMING)
        return Images.of([(path, int(match[1]), 0 if self.one_camera else int(match[2])) for path, match in found])
