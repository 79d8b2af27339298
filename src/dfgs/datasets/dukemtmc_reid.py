"""DukeMTMC-reID: a name that people look for, and why it is refused."""

from pathlib import Path
from typing import Any

from dfgs.datasets.base import Dataset
from dfgs.errors import DfgsError


class DukeMTMCReID(Dataset):
    """DukeMTMC-reID (Ristani et al., 2016; Zheng et al., ICCV 2017): withdrawn by its authors in June 2019, refused.

    Raises `DfgsError` always.
    """

    def __init__(self, name: str, root: Path, **_: Any) -> None:
        raise DfgsError(
            f"dataset {name!r}: DukeMTMC-reID was withdrawn by its authors in 2019, since people were filmed without "
            "consent; it is not supported, use msmt17 or market1501 in its place"
        )
