"""Image files as they should not be, drawn or written byte by byte: how to make each, and what is to be said of it."""

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def picture(seed: int = 0, size: tuple[int, int] = (48, 96)) -> Image.Image:
    """A smooth drawn picture of `size` (width, height)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image | None = None, kind: str = "JPEG", **options: Any) -> bytes:
    """The bytes of an image file."""
    data = io.BytesIO()
    (image or picture()).save(data, kind, **options)
    return data.getvalue()


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG file with exactly this header, whatever is in it."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    chunks = (struct.pack(">I", len(d)) + kind + d + struct.pack(">I", zlib.crc32(kind + d)) for kind, d in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def colour16() -> bytes:
    """A PNG of 16 bits per colour."""
    pixels = np.random.default_rng(1).integers(0, 2**16, (40, 20, 3)).astype(">u2")
    return png(20, 40, 16, 2, b"".join(b"\0" + row.tobytes() for row in pixels))


def rotated(value: int) -> bytes:
    """A JPEG file with an EXIF orientation."""
    exif = Image.Exif()
    exif[0x0112] = value
    return encoded(exif=exif)


def with_damaged_exif() -> bytes:
    """A JPEG file whose EXIF block is cut."""
    block = b"Exif\0\0MM\0*" + bytes(3) + b"\x08\0\x09" + b"\1\x12" * 9
    return encoded()[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + encoded()[2:]


def grey16() -> bytes:
    """A PNG of 16-bit grey."""
    return encoded(Image.fromarray(np.random.default_rng(2).integers(0, 2**16, (40, 20)).astype(np.uint16)), "PNG")


def animation(kind: str) -> bytes:
    """Three frames."""
    frames = [picture(i) for i in range(3)]
    return encoded(
        frames[0].convert("P") if kind == "GIF" else frames[0], kind, save_all=True, append_images=frames[1:]
    )


def sparse(path: Path) -> None:
    """A file of 65 MiB that takes no space."""
    with path.open("wb") as handle:
        handle.truncate(65 * 2**20)


def put(data: Callable[[], bytes]) -> Callable[[Path], object]:
    """Write bytes, made when they are needed."""
    return lambda path: path.write_bytes(data())


JPEG, PNG = encoded(quality=98, subsampling=0), encoded(kind="PNG")
FLAT = Image.new("RGB", (48, 96), (90, 90, 90))
TRANSPARENT = picture().quantize(16)
TRANSPARENT.info["transparency"] = bytes([0, 128] * 8)

ERRORS: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (Path.touch, "the file is empty"),
    "cut in the header": (put(lambda: JPEG[:20]), "no image"),
    "cut in the tables": (put(lambda: JPEG[:300]), "truncated|Truncated|no image"),
    "cut in the middle": (put(lambda: JPEG[: len(JPEG) // 2]), "truncated"),
    "cut near the end": (put(lambda: JPEG[:-20]), "truncated"),
    "without its last two bytes": (put(lambda: JPEG[:-2]), "truncated"),
    "second half zeros": (put(lambda: JPEG[: len(JPEG) // 2].ljust(len(JPEG), b"\0")), "no end marker"),
    "all zeros": (put(lambda: bytes(2000)), "it is no image, it starts with"),
    "noise": (put(lambda: np.random.default_rng(3).bytes(2000)), "it is no image"),
    "HTML": (put(lambda: b"<!DOCTYPE html><html><body>404</body></html>"), "HTML or XML text"),
    "SVG": (put(lambda: b"\n<svg xmlns='http://www.w3.org/2000/svg'/>"), "HTML or XML text"),
    "JSON": (put(lambda: b'{"message": "rate limit"}'), "it is no image"),
    "PDF": (put(lambda: b"%PDF-1.7\n" + bytes(99)), "it is no image"),
    "EPS": (put(lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"), "it is no image"),
    "zip": (put(lambda: b"PK\x03\x04" + bytes(99)), "it is no image"),
    "PNG cut": (put(lambda: PNG[: len(PNG) // 2]), "truncated|Truncated|broken"),
    "PNG with a wrong checksum": (put(lambda: PNG[:60] + bytes([PNG[60] ^ 255]) + PNG[61:]), "broken|truncated|decod"),
    "GIF cut": (put(lambda: animation("GIF")[:200]), "truncated|no image"),
    "grey of 16 bits": (put(grey16), "more than 8 bits"),
    "whole numbers of 32 bits": (put(lambda: encoded(picture().convert("I"), "TIFF")), "more than 8 bits"),
    "floats": (put(lambda: encoded(picture().convert("F"), "TIFF")), "more than 8 bits"),
    "1×1": (put(lambda: encoded(picture(0, (1, 1)))), "1×1 pixels can't show a person"),
    "3 pixels wide": (put(lambda: encoded(picture(0, (3, 90)))), "3×90 pixels can't show a person"),
    "bomb": (put(lambda: png(50_000, 50_000, 8, 2, bytes(99))), "pixels"),
    "small bomb": (put(lambda: encoded(Image.new("1", (9000, 9000)), "PNG")), "it claims 9000×9000 pixels"),
    "65 MiB": (sparse, "68157440 bytes are more than"),
    "folder": (Path.mkdir, "it is a folder"),
    "pipe": (os.mkfifo, "it is a pipe or device"),
    "endless device": (lambda path: path.symlink_to("/dev/zero"), "it is a pipe or device"),
    "link to itself": (lambda path: path.symlink_to(path.name), "symbolic links"),
    "link to nothing": (lambda path: path.symlink_to("gone.jpg"), "it is a link to nothing"),
    "link to a folder": (lambda path: path.symlink_to("."), "it is a folder"),
}
NOTES: dict[str, tuple[Callable[[Path], object], str]] = {
    "CMYK": (put(lambda: encoded(picture().convert("CMYK"))), "mode CMYK, becomes RGB"),
    "grey": (put(lambda: encoded(picture().convert("L"))), "mode L, becomes RGB"),
    "palette": (put(lambda: encoded(picture().convert("P"), "PNG")), "mode P, becomes RGB"),
    "transparent palette": (put(lambda: encoded(TRANSPARENT, "PNG")), "mode P, becomes RGB without its alpha"),
    "alpha": (put(lambda: encoded(picture().convert("RGBA"), "PNG")), "mode RGBA, becomes RGB without its alpha"),
    "grey with alpha": (put(lambda: encoded(picture().convert("LA"), "PNG")), "mode LA, becomes RGB without its alpha"),
    "black and white": (put(lambda: encoded(picture().convert("1"), "PNG")), "mode 1, becomes RGB"),
    "colour of 16 bits": (put(colour16), "16 bits per colour, of which 8 are read"),
    "lying": (put(lambda: rotated(6)), "EXIF orientation 6, turned upright when read"),
    "mirrored": (put(lambda: rotated(5)), "EXIF orientation 5, turned upright when read"),
    "EXIF out of range": (put(lambda: rotated(77)), "EXIF is damaged or odd"),
    "EXIF cut": (
        put(with_damaged_exif),
        "the decoder warns: Corrupt EXIF data.  Expecting to read 12 bytes but only got 6.",
    ),
    "GIF": (put(lambda: encoded(picture(), "GIF")), "a GIF that is named .jpg"),
    "animated GIF": (put(lambda: animation("GIF")), "several frames, of which the first is read"),
    "animated PNG": (put(lambda: animation("PNG")), "several frames, of which the first is read"),
    "two JPEGs": (put(lambda: animation("MPO")), "several frames, of which the first is read"),
    "PNG": (put(lambda: PNG), "a PNG that is named .jpg"),
    "BMP": (put(lambda: encoded(kind="BMP")), "a BMP that is named .jpg"),
    "WebP": (put(lambda: encoded(kind="WEBP")), "a WEBP that is named .jpg"),
    "one colour": (put(lambda: encoded(FLAT)), "one colour all over"),
    "tall": (put(lambda: encoded(picture(0, (16, 200)))), "more than 6 times as high as wide"),
    "wide": (put(lambda: encoded(picture(0, (200, 20)))), "wider than twice its height"),
}
