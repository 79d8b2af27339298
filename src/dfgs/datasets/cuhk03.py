"""CUHK03 under its new protocol: extracted folders with a split file, or the folders of CUHK03-NP."""

from pathlib import Path

from dfgs.datasets._files import Naming, Place, which_form
from dfgs.datasets._matlab import indices, read_matlab
from dfgs.datasets.base import Dataset, Images
from dfgs.errors import DfgsError, did_you_mean

BOXES = ("labeled", "detected")
EXTRACTED = Naming.of(r"(\d)_(\d{3})_(\d)_(\d{2})\.png", "1_001_1_01.png")
NP = Naming.of(r"(\d{4})_c(\d)_(\d+)\.png", "0001_c1_2.png")
NP_FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
PACKED = "cuhk03_release/cuhk-03.mat"


class CUHK03(Dataset):
    """CUHK03 (Li et al., CVPR 2014), new protocol (Zhong et al., CVPR 2017): 767 identities to train, 700 to test.

    `boxes` are `labeled` (by hand: 7,368 training, 1,400 query, 5,328 gallery images) or `detected` (7,365, 1,400,
    5,332). Two forms are told apart: `images_labeled/1_001_1_01.png` (camera pair, identity, view, number; made from
    `cuhk-03.mat` by `dfgs extract`) with `cuhk03_new_protocol_config_labeled.mat` beside it, and CUHK03-NP's
    `labeled/bounding_box_train/0001_c1_2.png`. Pids are 1000 × pair + identity in the first form, the names' own in the
    second; the camera is the view, 1 or 2. Raises `DfgsError` for another form, a damaged split file and an image that
    it lists and that is missing.
    """

    splits = ("test",)
    protocol = "cuhk03-new"

    def __init__(self, name: str, root: Path, *, boxes: str = "labeled") -> None:
        super().__init__(name, root)
        if boxes not in BOXES:
            raise DfgsError(f"dataset {name!r}: boxes is {boxes!r}{did_you_mean(boxes, BOXES)}")
        self.boxes = boxes

    def train(self) -> Images:
        """Return the images of the 767 training identities."""
        return self._read("train")

    def query(self, split: str) -> Images:
        """Return the query images."""
        self.check_split(split)
        return self._read("query")

    def gallery(self, split: str) -> Images:
        """Return the gallery images."""
        self.check_split(split)
        return self._read("gallery")

    def _read(self, view: str) -> Images:
        extracted = (f"images_{self.boxes}", f"cuhk03_new_protocol_config_{self.boxes}.mat")
        folders = tuple(f"{self.boxes}/{folder}" for folder in NP_FOLDERS.values())
        if (self.root / PACKED).exists() and not (self.root / extracted[0]).exists():
            raise DfgsError(
                f"dataset {self.name!r}: {self.root} holds {PACKED}, not yet {extracted[0]}; run `dfgs extract`"
            )
        if which_form(self.name, self.root, (extracted, folders)) == 0:
            return self._read_extracted(Place(self.name, self.root, extracted), view)
        found = Place(self.name, self.root, folders).read(f"{self.boxes}/{NP_FOLDERS[view]}", NP)
        return Images.of([(path, int(match[1]), int(match[2])) for path, match in found])

    def _read_extracted(self, place: Place, view: str) -> Images:
        folder, split = (place.find(part) for part in place.parts)
        values = read_matlab(self.name, split, ("filelist", f"{view}_idx"))
        names = [str(entry.item()) for entry in values["filelist"].ravel()]
        chosen = sorted(names[i - 1] for i in indices(self.name, split, values[f"{view}_idx"], len(names)))
        files = {path.name: (path, match) for path, match in place.read(folder.name, EXTRACTED)}
        missing = sorted(set(chosen) - set(files))
        if missing:
            raise DfgsError(
                f"dataset {self.name!r}: {split.name} lists {missing[0]}, which is missing from {folder} (one of "
                f"{len(missing)})"
            )
        found = [files[name] for name in chosen]
        return Images.of([(path, 1000 * int(m[1]) + int(m[2]), int(m[3])) for path, m in found])
