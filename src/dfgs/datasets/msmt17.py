"""The MSMT17 layout, V1 or V2: four list files that name images in a training and a test folder."""

import re
from pathlib import Path

from dfgs.datasets._files import Place, which_form
from dfgs.datasets.base import Dataset, Images, in_order, union
from dfgs.errors import DfgsError

LISTS = ("list_train.txt", "list_val.txt", "list_query.txt", "list_gallery.txt")
FOLDERS = {"V1": ("train", "test"), "V2": ("mask_train_v2", "mask_test_v2")}
FORMS = tuple((*folders, *LISTS) for folders in FOLDERS.values())
LINE = re.compile(r"(\d{4}/\d{4}_\d+_(\d{2})_\d+[a-z]+_\d+_\d+(?:_ex)?\.jpg) (\d+)")
EXAMPLE = "0000/0000_000_01_0303morning_0015_0.jpg 0"
TRAIN_IDENTITIES = 1041


class MSMT17(Dataset):
    """MSMT17 (Wei et al., CVPR 2018): 126,441 images of 4,101 identities in 15 cameras; faces are masked in V2.

    Lines of the lists are `0000/0000_000_01_0303morning_0015_0.jpg 0`: the third number is the camera, the last one the
    identity. Pids are that number + 1, and + 1,042 in the test lists, where it starts at 0 again. Which version lies in
    the folder is told by its folders, and `version` names it. `train()` has `list_train` and `list_val`, two parts of
    the same 1,041 identities (32,621 images); `train_without_val` leaves the second out (30,248), as the paper's code
    does. `combined()` has all lists. Raises `DfgsError` for a folder with parts of both versions, a missing list, a
    line of another kind and a list whose first image is missing.
    """

    splits = ("test",)

    def __init__(self, name: str, root: Path, *, train_without_val: bool = False) -> None:
        super().__init__(name, root)
        self.train_without_val = train_without_val

    @property
    def version(self) -> str:
        """`V1` or `V2`; raises `DfgsError` for a folder that holds parts of both, or neither."""
        here = {v: [f for f in folders if (self.root / f).exists()] for v, folders in FOLDERS.items()}
        if here["V1"] and here["V2"]:
            raise DfgsError(
                f"dataset {self.name!r}: {self.root} mixes MSMT17 V1 ({', '.join(here['V1'])}) and V2 "
                f"({', '.join(here['V2'])}); keep each version in a folder of its own"
            )
        return list(FOLDERS)[which_form(self.name, self.root, FORMS)]

    def train(self) -> Images:
        """Return the images of `list_train.txt` and, unless `train_without_val`, of `list_val.txt`."""
        train = self._read("list_train.txt")
        return train if self.train_without_val else union([train, self._read("list_val.txt")])

    def query(self, split: str) -> Images:
        """Return the images of `list_query.txt`."""
        self.check_split(split)
        return self._read("list_query.txt")

    def gallery(self, split: str) -> Images:
        """Return the images of `list_gallery.txt`."""
        self.check_split(split)
        return self._read("list_gallery.txt")

    def combined(self) -> Images:
        """Return the images of all four lists."""
        return union([self._read(name) for name in LISTS])

    def _read(self, name: str) -> Images:
        number = list(FOLDERS).index(self.version)
        place = Place(self.name, self.root, FORMS[number])
        is_test = name in ("list_query.txt", "list_gallery.txt")
        folder = place.find(FORMS[number][is_test])
        first = 1 + TRAIN_IDENTITIES * is_test
        path = place.find(name)
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        rows = []
        for line_number, line in enumerate(lines, 1):
            match = LINE.fullmatch(line.strip())
            if match is None:
                where = f"dataset {self.name!r}: {path}, line {line_number}"
                raise DfgsError(f"{where}: {line[:80]!r} is not written like {EXAMPLE!r}")
            rows.append((folder / match[1], int(match[3]) + first, int(match[2])))
        if not rows:
            raise DfgsError(f"dataset {self.name!r}: {path} is empty; expected lines like {EXAMPLE!r}")
        if not rows[0][0].exists():
            raise DfgsError(f"dataset {self.name!r}: {path} names {rows[0][0]}, which is missing")
        return in_order(rows)
