"""The Market-1501 layout, real or drawn: JPEG files in `bounding_box_train`, `bounding_box_test` and `query`."""

from pathlib import Path

import numpy as np

from dfgs.datasets._files import Naming, Place
from dfgs.datasets.base import Dataset, Images, union
from dfgs.errors import DfgsError

FOLDERS = ("bounding_box_train", "bounding_box_test", "query")
# The published archive holds names that end in .jpg.jpg.
NAMING = Naming.of(r"(-1|\d{4})_c(\d+)s(\d+)_(\d+)_(\d+)\.jpg(\.jpg)?", "0002_c1s1_000451_03.jpg")
JUNK, DISTRACTOR = -1, 0


class Market1501(Dataset):
    """Market-1501 (Zheng et al., ICCV 2015): names `PPPP_cCsS_FFFFFF_NN.jpg` of id, camera, sequence, frame, box.

    Example: `Market1501("market1501", Path("Market-1501-v15.09.15")).train()` has 12,936 images of 751 identities.

    Junk boxes (id -1) are never returned; distractors (id 0) stay in the gallery. `validation` identities, the last
    ones of the training folder, are held out as the split `val`: their first image per camera is the query, the
    others are the gallery. Split `test` is the published one. `half-0` … `half-9` are ten seeded random halves of the
    test identities, each with the distractors. `combined()` leaves out distractors and held-out identities;
    `background_as_identity` keeps the distractors in it as one identity more, as the paper's code does (1,502 classes,
    the largest with 2,798 images that show nobody). Raises `DfgsError` for a folder that is missing, empty or of
    another layout.
    """

    def __init__(self, name: str, root: Path, *, validation: int = 0, background_as_identity: bool = False) -> None:
        super().__init__(name, root)
        self.validation, self.background_as_identity = validation, background_as_identity

    @property
    def splits(self) -> tuple[str, ...]:
        """`test`, ten seeded halves of it, and `val` where identities were held out."""
        halves = tuple(f"half-{i}" for i in range(10))
        return ("test", *halves, *(("val",) if self.validation else ()))

    def train(self) -> Images:
        """Return the images of `bounding_box_train` whose identities are not held out."""
        images = self._read("bounding_box_train")
        return images.select(~np.isin(images.pids, self._held_out(images)))

    def query(self, split: str) -> Images:
        """Return the query images of `split`."""
        self.check_split(split)
        if split == "val":
            images, first = self._validation()
            return images.select(first)
        return self._half(self._read("query"), split)

    def gallery(self, split: str) -> Images:
        """Return the gallery images of `split`: distractors kept, junk left out."""
        self.check_split(split)
        if split == "val":
            images, first = self._validation()
            return images.select(~first)
        return self._half(self._read("bounding_box_test"), split)

    def combined(self) -> Images:
        """Return the images of all views but `val`; distractors only as `background_as_identity` says."""
        images = union([self.train(), self.query("test"), self.gallery("test")])
        return images if self.background_as_identity else images.select(images.pids != DISTRACTOR)

    def _read(self, folder: str) -> Images:
        found = Place(self.name, self.root, FOLDERS).read(folder, NAMING)
        rows = [(path, int(match[1]), int(match[2])) for path, match in found if int(match[1]) != JUNK]
        if not rows:
            raise DfgsError(f"dataset {self.name!r}: {self.root / folder} holds junk (-1) only, no image of a person")
        return Images.of(rows)

    def _held_out(self, images: Images) -> np.ndarray:
        identities = np.unique(images.pids)
        if self.validation >= len(identities):
            raise DfgsError(
                f"dataset {self.name!r}: validation={self.validation} leaves none of its {len(identities)} training "
                "identities; hold out fewer"
            )
        return identities[len(identities) - self.validation :]

    def _validation(self) -> tuple[Images, np.ndarray]:
        """Held-out images and a mask of the first one of every (identity, camera)."""
        images = self._read("bounding_box_train")
        images = images.select(np.isin(images.pids, self._held_out(images)))
        _, first = np.unique(np.stack([images.pids, images.camids]), axis=1, return_index=True)
        return images, np.isin(np.arange(len(images)), first)

    def _half(self, images: Images, split: str) -> Images:
        if split == "test":
            return images
        identities = np.setdiff1d(np.unique(self._read("query").pids), [DISTRACTOR])
        half = np.random.default_rng([1501, int(split.removeprefix("half-"))]).permutation(identities)[
            : len(identities) // 2
        ]
        return images.select(np.isin(images.pids, [DISTRACTOR, *half]))
