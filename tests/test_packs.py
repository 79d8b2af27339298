"""Packs: a dataset in one file reads as its folder does, down to the features' keys; damage and archives are named."""

import hashlib
import pickle
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dfgs import extraction
from dfgs.config import AugmentSettings, BackboneSettings, InputSettings
from dfgs.data import ImageStore, Loader
from dfgs.datasets import open_dataset
from dfgs.doctor import packing
from dfgs.doctor.layouts import read_views
from dfgs.errors import DfgsError
from dfgs.images import DECODED
from dfgs.packs.files import MARKER, SUMS, opened, write_pack
from dfgs.packs.paths import PackPath, open_root
from dfgs.provenance import read_json
from odd_images import encoded

FILES = {"lists/a.txt": b"one\ntwo\n", "lists/deep/b.bin": bytes(range(256)), "c.jpg": b"picture", "lists/c.txt": b""}


def dataset(root: Path) -> Any:
    return open_dataset({"name": "d", "layout": "market1501", "root": str(root), "options": {}})


@pytest.fixture(scope="module")
def packed(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("packs") / "tiny.zip"
    packing.run(("market1501", str(world), str(path)))
    return path


@pytest.fixture
def both(tmp_path: Path) -> tuple[Path, PackPath]:
    """The same files in a folder and in a pack."""
    folder = tmp_path / "folder"
    for name, data in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    write_pack(tmp_path / "pack.zip", FILES.items())
    return folder, PackPath(tmp_path / "pack.zip")


def test_every_view_of_a_pack_is_that_of_the_folder(world: Path, packed: Path) -> None:
    folder, pack = dataset(world), dataset(packed)
    views = read_views(folder).images
    assert len(views) > 20
    for name, view in read_views(pack).images.items():
        assert view.digest(pack.root) == views[name].digest(folder.root)
        assert [path.read_bytes() for path in view.paths] == [path.read_bytes() for path in views[name].paths]


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_from_a_pack_are_those_from_the_folder_with_any_number_of_workers(
    world: Path, packed: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr("dfgs.data.CACHE_LIMIT", 0)
    augment = AugmentSettings(grey=0.3, pad=4, flip=0.5, jitter=0.5, augmix=0, erase=0.5)
    settings, found = InputSettings(normalise="clip", augment=augment), []
    for root in (world, packed):
        store = ImageStore(dataset(root).train().paths, (64, 32))
        batches = np.random.default_rng(0).integers(0, len(store), (4, 5)).tolist()
        found.append(torch.cat([x for x, _ in Loader(store, settings, augment=True, workers=workers).load(batches)]))
    assert torch.equal(*found)


def test_features_of_a_pack_have_the_keys_of_the_folders(
    on_disk: dict[str, Any], packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "embed_images", lambda *_: torch.zeros(1, 1))
    model, index = on_disk["models"]["tiny"], []
    backbone = BackboneSettings.model_validate(on_disk["backbones"]["small"]).model_dump()
    for root in (on_disk["datasets"]["drawn-a"]["root"], str(packed)):
        parts = [{"name": "a", "layout": "market1501", "root": root, "options": {}, "splits": ["test"]}]
        job = {"backbone": backbone, "input": model["input"], "test": model["test"], "datasets": parts}
        output = tmp_path / f"{len(index)}" / "index.json"
        extraction.embed_targets({**job, "freeze_statistics": True}, {}, output, 0, torch.device("cpu"))
        index.append(read_json(output)["features"])
    assert index[0] == index[1]
    assert len(set(index[0].values())) == 2


def test_a_path_in_a_pack_answers_as_one_in_a_folder(both: tuple[Path, PackPath]) -> None:
    for name in ("", "lists", "lists/deep", "c.jpg", "lists/a.txt", "gone", "c.jpg/x", "lists/gone/x"):
        mine, theirs = (root / name for root in both)
        assert mine.is_dir() == theirs.is_dir(), name
        assert mine.is_file() == theirs.is_file(), name
        assert mine.exists() == theirs.exists(), name
        assert not theirs.is_symlink()
        if mine.is_dir():
            listed = [sorted(p.relative_to(root) for p in (root / name).iterdir()) for root in both]
            assert listed[0] == listed[1]
        if mine.is_file():
            assert mine.read_bytes() == theirs.read_bytes()
            assert mine.stat().st_size == theirs.stat().st_size
    assert (both[1] / "lists/a.txt").read_text() == "one\ntwo\n"
    with (both[1] / "lists/a.txt").open() as lines:
        assert list(lines) == ["one\n", "two\n"]


@pytest.mark.parametrize("pattern", ["*", "*.txt", "lists/*.txt", "*/*/*", "**/*.txt", "**/b.*", "gone/*"])
def test_a_pack_is_searched_as_a_folder_is(both: tuple[Path, PackPath], pattern: str) -> None:
    for search in ("glob", "rglob"):
        found = [sorted(p.relative_to(root) for p in getattr(root, search)(pattern)) for root in both]
        assert found[0] == found[1], search


def test_what_is_not_in_a_pack_raises_as_in_a_folder(both: tuple[Path, PackPath]) -> None:
    with pytest.raises(FileNotFoundError):
        (both[1] / "gone.jpg").read_bytes()
    with pytest.raises(IsADirectoryError):
        (both[1] / "lists").read_bytes()
    with pytest.raises(NotADirectoryError):
        list((both[1] / "c.jpg").iterdir())
    with pytest.raises(OSError, match="a pack can only be read"):
        (both[1] / "c.jpg").open("wb")


def test_a_path_in_a_pack_can_be_sent_to_another_process(both: tuple[Path, PackPath]) -> None:
    path = both[1] / "lists" / "a.txt"
    again = pickle.loads(pickle.dumps(path))
    opened.clear()
    assert type(again) is PackPath
    assert again == path
    assert again.read_bytes() == FILES["lists/a.txt"]


def test_a_path_beside_a_pack_is_an_ordinary_one(both: tuple[Path, PackPath]) -> None:
    beside = both[1].with_name("folder")
    assert beside.is_dir()
    assert (beside / "c.jpg").is_file()
    assert (beside / "c.jpg").read_bytes() == b"picture"
    assert sorted(p.name for p in beside.iterdir()) == ["c.jpg", "lists"]
    assert not both[1].with_name("gone").exists()


def test_any_zip_tool_reads_a_pack_and_its_digests_hold(both: tuple[Path, PackPath], tmp_path: Path) -> None:
    with zipfile.ZipFile(both[1]) as archive:
        assert archive.namelist() == [MARKER, *FILES, SUMS]
        assert archive.testzip() is None
        assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_STORED}
        archive.extractall(tmp_path / "unpacked")
    for name, data in FILES.items():
        assert (tmp_path / "unpacked" / name).read_bytes() == data
        assert f"{hashlib.sha256(data).hexdigest()}  {name}\n" in (tmp_path / "unpacked" / SUMS).read_text()
    subprocess.run(["sha256sum", "--check", "--quiet", SUMS], cwd=tmp_path / "unpacked", check=True)


def test_the_same_files_give_the_same_pack_and_a_failure_leaves_none(tmp_path: Path) -> None:
    for name in ("a.zip", "b.zip"):
        write_pack(tmp_path / name, FILES.items(), layout="market1501")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()

    def broken() -> Any:
        yield "a", b"a"
        raise DfgsError("bad")

    with pytest.raises(DfgsError, match="bad"):
        write_pack(tmp_path / "c.zip", broken())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zip", "b.zip"]


def test_damage_in_a_pack_is_found_when_the_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "pack.zip"
    write_pack(path, FILES.items())
    data = path.read_bytes()
    path.write_bytes(data.replace(b"picture", b"pictURE"))
    root = open_root(path)
    assert (root / "lists/a.txt").read_bytes() == FILES["lists/a.txt"]
    with pytest.raises(OSError, match="its checksum differs, the pack is damaged"):
        (root / "c.jpg").read_bytes()
    opened.clear()
    path.write_bytes(data[:-40])
    with pytest.raises(DfgsError, match=r"^pack .*pack\.zip cannot be read: .*; pack the folder again$"):
        open_root(path)


@pytest.mark.parametrize(
    ("marker", "compression", "words"),
    [
        (b'{"format": 2}', zipfile.ZIP_STORED, "is not of format 1"),
        (b"[1]", zipfile.ZIP_STORED, "is not of format 1"),
        (b"{", zipfile.ZIP_STORED, "cannot be read"),
        (b'{"format": 1}', zipfile.ZIP_DEFLATED, "'a' is compressed, a folder or there twice"),
    ],
)
def test_a_foreign_pack_is_refused_in_one_line(tmp_path: Path, marker: bytes, compression: int, words: str) -> None:
    path = tmp_path / "pack.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(MARKER, marker)
        archive.writestr("a", b"a" * 99, compress_type=compression)
    with pytest.raises(DfgsError) as caught:
        open_root(path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_archive_is_never_unpacked(tmp_path: Path, world: Path) -> None:
    kinds = {"zip": "a zip archive", "gztar": "a gzip archive", "bztar": "a bzip2 archive", "xztar": "an xz archive"}
    for kind, words in {**kinds, "tar": "a tar archive"}.items():
        archive = Path(shutil.make_archive(str(tmp_path / kind), kind, world, "query"))
        assert kind == "zip" or tarfile.is_tarfile(archive)
        with pytest.raises(DfgsError) as caught:
            dataset(archive)
        assert (
            str(caught.value)
            == f"{archive} is {words}, which is never unpacked here; unpack it yourself and give the folder"
        )
    mat = tmp_path / "cuhk-03.mat"
    mat.write_bytes(b"MATLAB 7.3 MAT-file".ljust(600))
    with pytest.raises(DfgsError, match=r"`dfgs extract` turns CUHK03's cuhk-03\.mat into folders$"):
        dataset(mat)


def test_only_what_a_layout_may_read_is_packed(world: Path, tmp_path: Path) -> None:
    root = tmp_path / "world"
    shutil.copytree(world, root)
    (root / "gt_bbox").mkdir()
    (root / "gt_bbox" / "0001_c1s1_000001_00.jpg").write_bytes(encoded())
    (root / "query" / "Thumbs.db").write_bytes(b"x")
    (root / "query" / ".hidden.jpg").write_bytes(b"x")
    (root / "readme.txt").write_text("a list")
    (root / "old.zip").write_bytes(b"PK\x03\x04" + bytes(40))
    said = packing.run((str(root), str(tmp_path / "w.zip")))
    inside = {path.relative_to(tmp_path / "w.zip").as_posix() for path in PackPath(tmp_path / "w.zip").rglob("*")}
    kept = world / DECODED  # pixels that processes share; a pack holds the files themselves
    files = {path.relative_to(world).as_posix() for path in world.rglob("*") if kept not in (path, *path.parents)}
    assert inside == files | {"readme.txt"}
    assert said.startswith(f"{tmp_path / 'w.zip'}: {len([f for f in files if '.' in f]) + 1} files of market1501, ")
    assert said.endswith("; left out: gt_bbox, old.zip")


def test_a_bad_image_stops_packing_and_leaves_no_file(world: Path, tmp_path: Path) -> None:
    root = tmp_path / "world"
    shutil.copytree(world, root)
    bad = root / "query" / "0011_c1s1_000099_00.jpg"
    bad.touch()
    with pytest.raises(DfgsError, match=rf"^image {bad} cannot be read: the file is empty; replace or remove it$"):
        packing.run((str(root), str(tmp_path / "w.zip")))
    assert not (tmp_path / "w.zip").exists()


def test_pack_says_how_it_is_called(tmp_path: Path) -> None:
    for arguments, words in (
        (("a",), "takes [NAME] ROOT FILE; got 1 arguments"),
        (("market1501", "a", "b", "c"), "takes [NAME] ROOT FILE; got 4 arguments"),
        ((str(tmp_path), str(tmp_path), "c"), "packs one ROOT"),
    ):
        with pytest.raises(DfgsError) as caught:
            packing.run(arguments)
        assert words in str(caught.value)
