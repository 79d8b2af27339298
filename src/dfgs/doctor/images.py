"""Every image file opened once, in parallel: can it be trained on, and what is odd about it."""

import io
import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from dfgs.errors import DfgsError
from dfgs.images import FORMATS, UPRIGHT, UnreadableError, orientation, read_bytes, to_rgb

CHUNK = 32
SMALLEST_SIDE = 8
EXTREME = 6.0
"""Height by width of a person's box is about 2; beyond this, or below 1 / 2, something else was cut out."""
SUFFIX_FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".bmp": "BMP", ".gif": "GIF", ".webp": "WEBP"}
HASH_SIDE = 16


@dataclass(frozen=True, slots=True)
class Look:
    """What one image file is: `error` (None if it can be trained on), `notes`, a digest of its bytes, a visual hash.

    The hash is 32 bytes: 16 × 16 signs of the horizontal differences of the picture in grey (dHash); `b""` for a
    picture of one colour. `size` is (width, height) in pixels after turning it upright.
    """

    path: Path
    error: str | None = None
    notes: tuple[str, ...] = ()
    digest: bytes = b""
    hash: bytes = b""
    size: tuple[int, int] = (0, 0)


def look_at(path: Path) -> Look:
    """Read one file and judge it; any content gives a `Look`, nothing is raised."""
    try:
        data = read_bytes(path)
        digest = sha256(data).digest()
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            rgb = to_rgb(data)
            notes = _notes(path, data)
            notes += [f"the decoder warns: {str(warning.message).strip()}" for warning in told]
    except UnreadableError as error:
        return Look(path, str(error))
    grey = rgb.convert("L")
    if min(rgb.size) < SMALLEST_SIDE:
        return Look(path, f"{rgb.width}×{rgb.height} pixels can't show a person", tuple(notes), digest, b"", rgb.size)
    is_flat = grey.getextrema()[0] == grey.getextrema()[1]
    notes += ["one colour all over"] if is_flat else []
    notes += _shape(rgb.height / rgb.width)
    return Look(path, None, tuple(dict.fromkeys(notes)), digest, b"" if is_flat else visual_hash(grey), rgb.size)


def visual_hash(grey: Image.Image) -> bytes:
    """Hash a grey picture to 32 bytes: is each of 16 × 16 fields brighter than its left neighbour (dHash)?

    Neither scaling, slight recompression nor brightness move many of the 256 bits.
    """
    fields = np.asarray(grey.resize((HASH_SIDE + 1, HASH_SIDE), Image.Resampling.BOX), dtype=np.int16)
    return np.packbits(fields[:, 1:] > fields[:, :-1]).tobytes()


def look_at_all(paths: Sequence[Path], workers: int) -> Iterator[Look]:
    """Look at files in `workers` processes, in the order of `paths`, with a progress bar on a terminal.

    Raises `DfgsError` if the system ends a process, which happens when memory is short.
    """
    bar = tqdm(total=len(paths), desc="opening images", unit=" images", disable=None)
    chunks = [paths[i : i + CHUNK] for i in range(0, len(paths), CHUNK)]
    with bar:
        for looks in map(_look_at_each, chunks) if workers == 1 else _in_processes(chunks, workers):
            bar.update(len(looks))
            yield from looks


def _in_processes(chunks: Sequence[Sequence[Path]], workers: int) -> Iterator[list[Look]]:
    pool = ProcessPoolExecutor(workers)
    try:
        futures = [pool.submit(_look_at_each, chunk) for chunk in chunks]
        for chunk, future in zip(chunks, futures, strict=True):
            try:
                yield future.result()
            except BrokenProcessPool as error:
                raise DfgsError(
                    f"a process that opened images was ended from outside (is memory short?), at {chunk[0]} or up to "
                    f"{workers * CHUNK} files later; try --workers 1"
                ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _look_at_each(paths: Sequence[Path]) -> list[Look]:
    return [look_at(path) for path in paths]


def _notes(path: Path, data: bytes) -> list[str]:
    """Say what is odd about a file that can be decoded, in the words of what reading makes of it."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return [*_colours(image), *_form(image, path.suffix)]  # the second one loads it
    except Exception as error:  # the picture was read; only what surrounds it is odd (see `dfgs.images.to_rgb`)
        return [f"its header is partly damaged ({type(error).__name__})"]


def _form(image: Image.Image, suffix: str) -> Iterator[str]:
    kind, expected = "JPEG" if image.format == "MPO" else image.format, SUFFIX_FORMATS.get(suffix.lower())
    if expected and kind != expected:
        yield f"a {kind} that is named {suffix}"
    if getattr(image, "is_animated", False):
        yield "several frames, of which the first is read"
    turn = orientation(image)
    if turn != 1:
        yield f"EXIF orientation {turn}, turned upright when read" if turn in UPRIGHT else "EXIF is damaged or odd"


def _colours(image: Image.Image) -> Iterator[str]:
    if image.mode != "RGB":
        yield f"mode {image.mode}, becomes RGB" + (" without its alpha" if image.has_transparency_data else "")
    if any("16" in str(tile[3]) for tile in getattr(image, "tile", [])):
        yield "16 bits per colour, of which 8 are read"


def _shape(height_by_width: float) -> list[str]:
    if 0.5 <= height_by_width <= EXTREME:
        return []
    return ["wider than twice its height" if height_by_width < 1 else f"more than {EXTREME:g} times as high as wide"]


def default_workers() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
