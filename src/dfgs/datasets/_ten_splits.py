"""Small benchmarks that are scored on ten splits: each split has its own training identities."""

from dataclasses import dataclass
from pathlib import Path

from dfgs.datasets.base import Dataset, Images
from dfgs.errors import DfgsError, did_you_mean


@dataclass(frozen=True, slots=True)
class Partition:
    """One split of a benchmark: images of the training identities, queries and gallery."""

    train: Images
    query: Images
    gallery: Images


class TenSplits(Dataset):
    """Splits `split-0` … `split-9`; a subclass gives the hooks `partition` and `everything`.

    Its training identities differ from split to split, so there is a `train()` only where the option `split` names
    one: then that split alone is scored, since the others test people who were trained on.
    """

    names = tuple(f"split-{number}" for number in range(10))

    def __init__(self, name: str, root: Path, *, split: str | None = None) -> None:
        super().__init__(name, root)
        if split is not None and split not in self.names:
            raise DfgsError(f"dataset {name!r}: split is {split!r}{did_you_mean(split, self.names)}")
        self.split = split

    @property
    def splits(self) -> tuple[str, ...]:
        """All ten, or the one that is trained on."""
        return self.names if self.split is None else (self.split,)

    def train(self) -> Images:
        """Return the images of the training identities of the split that the option `split` names."""
        if self.split is None:
            raise DfgsError(
                f"dataset {self.name!r}: its {len(self.names)} splits train on different people; choose one by "
                f"options: {{split: {self.names[0]}}}, or train on all images by view: combined"
            )
        return self.partition(self.split).train

    def query(self, split: str) -> Images:
        """Return the query images of `split`."""
        self.check_split(split)
        return self.partition(split).query

    def gallery(self, split: str) -> Images:
        """Return the gallery images of `split`."""
        self.check_split(split)
        return self.partition(split).gallery

    def combined(self) -> Images:
        """Return all images of identities, distractors left out."""
        images = self.everything()
        return images.select(images.pids > 0)

    def partition(self, split: str) -> Partition:
        """Return the three views of a split that exists."""
        raise NotImplementedError

    def everything(self) -> Images:
        """Return all images."""
        raise NotImplementedError
