"""Every layout on a made-up tree: recognised, counted as published, and read from a pack as from its folder."""

from collections.abc import Callable
from pathlib import Path

import pytest

import dataset_trees as trees
from dfgs.datasets import REGISTRY, open_dataset
from dfgs.datasets._published import PUBLISHED
from dfgs.doctor.checks import check_counts, check_refused
from dfgs.doctor.files import walk
from dfgs.doctor.layouts import read_views, recognise
from dfgs.packs.files import write_pack
from dfgs.provenance import read_json

WITHDRAWN = "dukemtmc-reid"
WHOLE = {"cuhk02", "grid", "prid2011", "viper"}
"""Those whose tree has the published size; the others are cut down."""
BUILD: dict[str, Callable[[Path], Path]] = {
    "cuhk-sysu": lambda root: trees.write(root, trees.cuhk_sysu(60, 20)),
    "cuhk02": lambda root: trees.write(root, trees.cuhk02()),
    "cuhk03": trees.cuhk03_extracted,
    "grid": trees.grid,
    "ilids": lambda root: trees.write(root, trees.ilids()),
    "market1501": lambda root: trees.write(root, trees.some_of_market1501()),
    "msmt17": lambda root: trees.msmt17(root, scale=100),
    "prid2011": lambda root: trees.write(root, trees.prid2011()),
    "randperson": lambda root: trees.write(root, trees.randperson()),
    "viper": lambda root: trees.write(root, trees.viper()),
}


def test_every_layout_has_a_tree_and_published_counts() -> None:
    assert set(REGISTRY.names()) == {*BUILD, WITHDRAWN}
    assert set(read_json(PUBLISHED)) == set(BUILD)


@pytest.mark.parametrize("layout", sorted(BUILD))
def test_a_layout_is_recognised_counted_as_published_and_read_from_a_pack(tmp_path: Path, layout: str) -> None:
    root = BUILD[layout](tmp_path / "data")
    dataset = recognise(None, root)
    assert dataset.name == layout
    views = read_views(dataset)
    assert views.is_whole
    assert not [finding for finding in check_refused(views) if finding.severity == "error"]
    assert bool(list(check_counts(layout, views, is_drawn=False))) == (layout not in WHOLE)
    write_pack(tmp_path / "data.zip", ((path.relative_to(root).as_posix(), path.read_bytes()) for path in walk(root)))
    pack = open_dataset({"name": layout, "layout": layout, "root": str(tmp_path / "data.zip"), "options": {}})
    packed = read_views(pack)
    assert set(packed.images) == set(views.images)
    for name, images in packed.images.items():
        assert images.digest(pack.root) == views.images[name].digest(root), name
