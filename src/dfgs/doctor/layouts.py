"""Which layout a folder has, and its views: whatever is registered is tried, nothing is known here of any of them."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dfgs.datasets import REGISTRY, open_dataset
from dfgs.datasets.base import Dataset, Images
from dfgs.errors import DfgsError, did_you_mean
from dfgs.packs.paths import open_root

TRAIN, COMBINED = "train", "combined"


@dataclass(frozen=True, slots=True)
class Views:
    """The views of a dataset that could be read, and why others could not, by name: `train`, `test/query`, …"""

    images: dict[str, Images]
    refused: dict[str, str]

    @property
    def is_whole(self) -> bool:
        """Whether all images are known: nothing was refused, or only a default `train` beside the combined view."""
        return not self.refused or (COMBINED in self.images and set(self.refused) == {TRAIN})

    def paths(self, *, of_test: bool | None = None) -> list[Path]:
        """All paths, each once and sorted; `of_test` chooses those of the splits, or those of `train`."""
        chosen = [v for k, v in self.images.items() if of_test is None or (k != COMBINED and ("/" in k) == of_test)]
        return sorted({path for images in chosen for path in images.paths})


def split_arguments(arguments: tuple[str, ...]) -> tuple[str | None, list[Path]]:
    """Tell `[NAME] ROOT …` apart: the first of several arguments is a layout unless it is a folder or file."""
    first, *rest = arguments
    if not rest or (Path(first).exists() and first not in REGISTRY.names()):
        return None, [Path(argument) for argument in arguments]
    REGISTRY.check(first, "dfgs doctor")
    return first, [Path(argument) for argument in rest]


def recognise(name: str | None, root: Path) -> Dataset:
    """Open `root`, a folder or a pack, in the layout called `name`, or in the one that can read a view of it.

    Raises `DfgsError` for a root that is not there, an archive, and where no layout or several can read it.
    """
    if not root.exists():
        near = did_you_mean(str(root), REGISTRY.names()) if str(root) == root.name else ""
        raise DfgsError(f"{root} is not there; give the folder or pack of a dataset{near}")
    if name is not None:
        return _open(name, root)
    open_root(root)  # an archive is refused once, not by each layout
    found = [dataset for dataset in (_try(layout, root) for layout in REGISTRY.names()) if dataset is not None]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(dataset.name for dataset in found)
        raise DfgsError(f"{root} can be read as {names}; give the layout's name before it")
    folders = [child for child in sorted(root.iterdir()) if child.is_dir()]
    inside = [child for child in folders if any(_try(layout, child) for layout in REGISTRY.names())]
    hint = f"{inside[0]} has one: give that folder" if inside else "give the layout's name to be told what it lacks"
    raise DfgsError(f"{root} has none of the known layouts ({', '.join(REGISTRY.names())}); {hint}")


def read_views(dataset: Dataset) -> Views:
    """Read every view of a dataset; a view that is refused does not hide the others."""
    images: dict[str, Images] = {}
    refused: dict[str, str] = {}
    for view, read in _readers(dataset, dataset.splits):
        try:
            images[view] = read()
        except DfgsError as error:
            refused[view] = str(error)
        except OSError as error:
            refused[view] = f"{error.filename}: {error.strerror}"
    return Views(images, refused)


def _open(layout: str, root: Path) -> Dataset:
    """Open a dataset of which at least one view can be read; the layout's own sentence tells why there is none."""
    dataset = open_dataset({"name": layout, "layout": layout, "root": str(root), "options": {}})
    reason: DfgsError | None = None
    for _, read in _readers(dataset, dataset.splits[:1]):
        try:
            read()
            return dataset
        except DfgsError as error:
            reason = reason or error
        except OSError as error:
            reason = reason or DfgsError(f"{error.filename}: {error.strerror}")
    raise reason or DfgsError(f"layout {layout} has no views")


def _try(layout: str, root: Path) -> Dataset | None:
    try:
        return _open(layout, root)
    except DfgsError:  # not this layout; `recognise` says so if it is none
        return None


def _readers(dataset: Dataset, splits: Iterable[str]) -> Iterator[tuple[str, Callable[[], Images]]]:
    yield TRAIN, dataset.train
    yield COMBINED, dataset.combined
    for split in splits:
        yield f"{split}/query", partial(dataset.query, split)
        yield f"{split}/gallery", partial(dataset.gallery, split)
