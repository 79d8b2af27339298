"""A dataset's folder into one file, checked against the folder before anybody trusts it."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from dfgs.datasets import open_dataset
from dfgs.datasets.base import Dataset
from dfgs.doctor.files import images_beside, is_image, listed
from dfgs.doctor.layouts import Views, read_views, recognise, split_arguments
from dfgs.errors import DfgsError
from dfgs.images import LARGEST_FILE, image_bytes
from dfgs.packs.files import write_pack
from dfgs.packs.paths import HDF5, archive_kind


def run(arguments: tuple[str, ...]) -> str:
    """Pack what `[NAME] ROOT FILE` names and return a line that says what is in it.

    Raises `DfgsError` for a dataset whose views can't all be read, a bad image file, and a name that is no UTF-8.
    """
    if len(arguments) not in (2, 3):
        raise DfgsError(f"dfgs pack takes [NAME] ROOT FILE; got {len(arguments)} arguments")
    layout, roots = split_arguments(arguments[:-1])
    if len(roots) != 1:
        raise DfgsError(f"dfgs pack packs one ROOT; got {', '.join(map(str, roots))}")
    out = Path(arguments[-1])
    dataset = recognise(layout, roots[0])
    views = read_views(dataset)
    if not views.is_whole:
        raise DfgsError(next(iter(views.refused.values())))
    files = files_of(dataset.root, views)
    write_pack(out, _members(dataset.root, files), layout=dataset.name)
    _compare(dataset, views, out)
    size = out.stat().st_size
    left = [path.name for path in listed(dataset.root) if not any(file.is_relative_to(path) for file in files)]
    return (
        f"{out}: {len(files):,} files of {dataset.name}, {size / 1e6:,.1f} MB; left out: {', '.join(left) or 'nothing'}"
    )


def files_of(root: Path, views: Views) -> list[Path]:
    """Return what a layout may read: all images in the folders of its views, and lists there and in the folders above.

    Other files are left out from 64 MiB on, archives always.
    """
    images = images_beside(views.paths())
    folders = {above for path in images for above in path.parents if above.is_relative_to(root)}
    beside = [path for folder in sorted(folders) for path in listed(folder) if path.is_file() and not is_image(path)]
    lists = [p for p in beside if p.stat().st_size < LARGEST_FILE and archive_kind(p) in (None, HDF5)]
    return sorted({*images, *lists})


def _members(root: Path, files: Sequence[Path]) -> Iterator[tuple[str, bytes]]:
    for path in tqdm(files, desc="packing", unit=" files", disable=None):
        name = path.relative_to(root).as_posix()
        if not name.isprintable():
            raise DfgsError(f"{name!r} in {root} is no printable UTF-8 name; rename it")
        try:
            yield name, image_bytes(path) if is_image(path) else path.read_bytes()
        except OSError as error:
            raise DfgsError(f"{path} cannot be read: {error.strerror}") from error


def _compare(dataset: Dataset, views: Views, out: Path) -> None:
    """The layout must read from the pack what it reads from the folder, or the pack goes."""
    packed = open_dataset({"name": dataset.name, "layout": dataset.name, "root": str(out), "options": {}})
    found = read_views(packed)
    for view, images in views.images.items():
        if view not in found.images or found.images[view].digest(packed.root) != images.digest(dataset.root):
            out.unlink()
            reason = found.refused.get(view, "other images")
            raise DfgsError(
                f"layout {dataset.name} does not read its view {view} from a pack as from a folder: {reason}"
            )
