"""Reading image files: the doctor and training agree on every odd one, and no content does worse than an error."""

import io
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from dfgs.doctor.images import look_at, look_at_all, visual_hash
from dfgs.errors import DfgsError
from dfgs.images import image_bytes, read_rgb
from odd_images import ERRORS, NOTES, encoded, picture, rotated

TOO_SMALL = {"1×1", "3 pixels wide"}


@pytest.fixture(autouse=True)
def _no_hang() -> Iterator[None]:
    """A read that waits for ever fails after a minute."""
    signal.alarm(60)
    yield
    signal.alarm(0)


@pytest.mark.parametrize("odd", sorted(ERRORS))
def test_what_the_doctor_calls_an_error_stops_reading_in_the_same_words(tmp_path: Path, odd: str) -> None:
    path = tmp_path / "0900_c1s1_000001_00.jpg"
    make, words = ERRORS[odd]
    make(path)
    error = look_at(path).error
    assert error is not None
    assert any(word in error for word in words.split("|")), error
    assert "\n" not in error
    if odd in TOO_SMALL:
        assert min(read_rgb(path).size) < 8
    else:
        with pytest.raises(DfgsError) as caught:
            read_rgb(path)
        assert str(caught.value) == f"image {path} cannot be read: {error}; replace or remove it"


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("odd", sorted(NOTES))
def test_what_the_doctor_only_notes_is_read(tmp_path: Path, odd: str) -> None:
    path = tmp_path / "0900_c1s1_000001_00.jpg"
    make, words = NOTES[odd]
    make(path)
    look = look_at(path)
    assert look.error is None
    assert words in look.notes
    rgb = read_rgb(path)
    assert rgb.mode == "RGB"
    assert rgb.size == look.size


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP", "TIFF"])
def test_nothing_is_noted_of_a_plain_picture(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind.lower()}"
    path.write_bytes(encoded(kind=kind))
    assert look_at(path).error is None
    assert look_at(path).notes == ()


@pytest.mark.parametrize("value", range(1, 9))
def test_a_picture_is_read_as_a_viewer_shows_it(tmp_path: Path, value: int) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(rotated(value))
    with Image.open(path) as stored:
        expected = ImageOps.exif_transpose(stored).convert("RGB")
    assert np.array_equal(np.asarray(read_rgb(path)), np.asarray(expected))


def test_random_damage_never_ends_in_anything_but_a_look(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "a.jpg"
    kinds = [encoded(kind=kind) for kind in ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")]
    refused = 0
    for _ in range(300):
        data = bytearray(kinds[rng.integers(len(kinds))])
        for at in rng.integers(0, min(len(data), 400), rng.integers(1, 12)):
            data[at] = rng.integers(256)
        path.write_bytes(data[: rng.integers(len(data) // 2, len(data))] if rng.random() < 0.5 else data)
        refused += look_at(path).error is not None
    assert 150 < refused < 290


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded())

    def refuse(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert look_at(path).error == "Permission denied"
    with pytest.raises(DfgsError, match=r"^image .*a\.jpg cannot be read: Permission denied; replace or remove it$"):
        image_bytes(path)


def test_any_number_of_processes_gives_the_same_looks_in_the_same_order(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i:03d}.jpg" for i in range(70)]
    for i, path in enumerate(paths):
        path.write_bytes(encoded(picture(i, (16, 32))) if i % 9 else b"")
    alone = list(look_at_all(paths, 1))
    assert [look.path for look in alone] == paths
    assert [look.error for look in alone] == [None if i % 9 else "the file is empty" for i in range(70)]
    assert list(look_at_all(paths, 3)) == alone


def test_a_process_that_is_ended_is_one_line_and_no_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dfgs.doctor.images._look_at_each", _die)
    with pytest.raises(DfgsError, match=r"a process that opened images was ended .*a\.jpg.*; try --workers 1"):
        list(look_at_all([tmp_path / "a.jpg"], 2))


def _die(_: object) -> None:
    signal.raise_signal(signal.SIGKILL)


def _saved(**options: object) -> Callable[[Image.Image], Image.Image]:
    return lambda image: Image.open(io.BytesIO(encoded(image, **options)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "most"),
    [
        (_saved(kind="PNG"), 0),
        (_saved(quality=60), 32),
        (lambda image: image.resize((96, 192), Image.Resampling.BICUBIC), 32),
        (lambda image: image.point(lambda value: min(255, int(value * 1.15))), 32),
    ],
    ids=["png", "jpeg", "twice the size", "brighter"],
)
def test_the_visual_hash_keeps_to_a_picture_that_was_saved_anew(
    change: Callable[[Image.Image], Image.Image], most: int
) -> None:
    for seed in range(20):
        hashes = [
            np.frombuffer(visual_hash(im.convert("L")), np.uint8) for im in (picture(seed), change(picture(seed)))
        ]
        assert np.bitwise_count(hashes[0] ^ hashes[1]).sum() <= most


def test_the_visual_hash_tells_pictures_apart_and_is_the_slow_obvious_one() -> None:
    for seed in range(20):
        other = np.frombuffer(visual_hash(picture(seed + 100).convert("L")), np.uint8)
        grey = picture(seed).convert("L")
        mine = np.frombuffer(visual_hash(grey), np.uint8)
        assert np.bitwise_count(mine ^ other).sum() > 50
        fields = np.asarray(grey.resize((17, 16), Image.Resampling.BOX)).astype(int).tolist()
        bits = [int(row[i + 1] > row[i]) for row in fields for i in range(16)]
        assert np.unpackbits(mine).tolist() == bits
