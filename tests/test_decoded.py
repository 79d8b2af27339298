"""Decoded images kept inside a drawn dataset: the same pixels, never stale, never needed."""

import logging
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from dfgs import data
from dfgs.data import ImageStore, decode
from dfgs.images import DECODED

SIZE = (64, 32)


@pytest.fixture
def drawn(world: Path, tmp_path: Path) -> Path:
    """A copy of the drawn world whose images nobody has decoded yet."""
    copy = tmp_path / "world"
    shutil.copytree(world, copy, ignore=lambda folder, names: names if Path(folder).name == DECODED else [])
    return copy


def pictures(root: Path) -> list[Path]:
    return sorted((root / "bounding_box_train").glob("*.jpg"))[:12]


def images(paths: list[Path], size: tuple[int, int] = SIZE) -> torch.Tensor:
    store = ImageStore(paths, size)
    return torch.stack([store[i] for i in range(len(store))])


def afresh(paths: list[Path], size: tuple[int, int] = SIZE) -> torch.Tensor:
    return torch.stack([decode(path, size) for path in paths])


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every image that is decoded from now on."""
    seen: list[Path] = []
    read = data.read_rgb
    monkeypatch.setattr(data, "read_rgb", lambda path: (seen.append(path), read(path))[1])
    return seen


def test_the_second_process_takes_what_the_first_has_decoded(drawn: Path, decoded: list[Path]) -> None:
    paths = pictures(drawn)
    first = images(paths)
    assert decoded == paths
    assert torch.equal(images(paths), first)
    assert decoded == paths
    assert torch.equal(first, afresh(paths))


def test_other_sizes_and_orders_are_kept_apart(drawn: Path) -> None:
    paths = pictures(drawn)
    for size in (SIZE, (32, 32)):
        for order in (paths, paths[::-1], paths[:5]):
            assert torch.equal(images(order, size), afresh(order, size))
            assert torch.equal(images(order, size), afresh(order, size))


def test_an_image_that_changed_is_decoded_anew_though_its_name_and_size_are_the_same(drawn: Path) -> None:
    paths = pictures(drawn)
    before = images(paths)
    Image.new("RGB", (32, 64), (255, 0, 0)).save(paths[3])
    assert torch.equal(images(paths), afresh(paths))
    assert not torch.equal(images(paths), before)


@pytest.mark.parametrize("how", ["cut", "flipped", "empty", "text", "other tensors"])
def test_a_damaged_file_is_made_anew(drawn: Path, how: str, caplog: pytest.LogCaptureFixture) -> None:
    paths = pictures(drawn)
    images(paths)
    (kept,) = (drawn / DECODED).iterdir()
    whole = kept.read_bytes()
    damage = {
        "cut": whole[:-100],
        "flipped": whole[:-100] + bytes([whole[-100] ^ 1]) + whole[-99:],
        "empty": b"",
        "text": b"404 Not Found",
        "other tensors": whole.replace(b'"images"', b'"imagos"'),
    }
    kept.write_bytes(damage[how])
    with caplog.at_level(logging.INFO):
        assert torch.equal(images(paths), afresh(paths))
    assert "damaged and made anew" in caplog.text
    assert kept.read_bytes() == whole


def test_a_dataset_of_the_users_own_is_never_written_to(drawn: Path) -> None:
    shutil.rmtree(drawn / DECODED, ignore_errors=True)
    before = sorted(drawn.rglob("*"))
    assert torch.equal(images(pictures(drawn)), afresh(pictures(drawn)))
    assert sorted(drawn.rglob("*")) == before


def test_where_nothing_can_be_written_images_are_decoded_all_the_same(
    drawn: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    paths = pictures(drawn)
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with caplog.at_level(logging.INFO):
        assert torch.equal(images(paths), afresh(paths))
    assert "decoded images are not kept" in caplog.text
    assert list((drawn / DECODED).iterdir()) == []
