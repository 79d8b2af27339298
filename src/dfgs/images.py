"""The one place that turns an image file into pixels; training, figures and `dfgs doctor` refuse the same files."""

import io
import stat
from pathlib import Path

from PIL import Image, ImageFilter, UnidentifiedImageError

from dfgs.errors import BadDataError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
"""What may be decoded, whatever a file is called; others of PIL's formats start programs (EPS) or read other files."""
DECODED = ".decoded"
"""A folder of this name in a dataset's invites processes to keep its decoded images there; drawn datasets have it."""
LARGEST_FILE = 64 * 2**20
LARGEST_IMAGE = 2**26
"""Pixels; a small file may claim far more than memory holds."""
HEAD = 0.3
"""Upper part of a box that is made unrecognisable for real people: head and shoulders, with room for loose boxes."""
JPEG_SCAN, JPEG_END = b"\xff\xda", b"\xff\xd9"
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnreadableError(BadDataError):
    """Why a file is no image that can be trained on, in one line without its path."""


def read_rgb(path: Path) -> Image.Image:
    """Read an image file: RGB, turned upright by its EXIF orientation, the first frame of several, alpha dropped.

    Raises `BadDataError` naming a file that is missing, empty, no regular file, no image, cut, larger than 64 MiB or 64
    Mpixel, or of more than 8 bits per grey value.
    """
    try:
        return to_rgb(read_bytes(path))
    except UnreadableError as error:
        raise _named(path, error) from error


def blur_head(picture: Image.Image) -> Image.Image:
    """Return the picture with its upper `HEAD` part reduced to a few blots."""
    width, height = picture.size
    box = (0, 0, width, max(1, round(HEAD * height)))
    head = picture.crop(box)
    blots = head.resize((3, 3), Image.Resampling.BOX).resize(head.size, Image.Resampling.BILINEAR)
    result = picture.copy()
    result.paste(blots.filter(ImageFilter.GaussianBlur(width / 12)), box)
    return result


def image_bytes(path: Path) -> bytes:
    """Return an image file's bytes, undecoded; raises `BadDataError` naming one that is missing, empty or no file."""
    try:
        return read_bytes(path)
    except UnreadableError as error:
        raise _named(path, error) from error


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a regular, non-empty file; never waits for a pipe. Raises `UnreadableError`."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise UnreadableError(
                f"it is a {'folder' if stat.S_ISDIR(found.st_mode) else 'pipe or device'}, not a file"
            )
        if found.st_size == 0:
            raise UnreadableError("the file is empty")
        if found.st_size > LARGEST_FILE:
            raise UnreadableError(f"{found.st_size} bytes are more than the {LARGEST_FILE} that a picture may have")
        return path.read_bytes()
    except OSError as error:
        is_dangling = isinstance(error, FileNotFoundError) and path.is_symlink()
        raise UnreadableError("it is a link to nothing" if is_dangling else error.strerror or str(error)) from error


def to_rgb(data: bytes) -> Image.Image:
    """Decode the bytes of an image file as `read_rgb` does. Raises `UnreadableError`."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_header(image)
            image.load()  # before its EXIF is asked for, which would hide that the pixels are cut
            turn = UPRIGHT.get(orientation(image))
            rgb = image.convert("RGB")
            is_jpeg = image.format in ("JPEG", "MPO")
    except UnreadableError:
        raise
    except Exception as error:  # PIL's parsers let out whatever foreign bytes lead them to
        raise UnreadableError(_reason(data, error)) from error
    if is_jpeg and data.rfind(JPEG_END) < data.rfind(JPEG_SCAN):
        raise UnreadableError("the JPEG has no end marker, so its last part was cut or overwritten")
    return rgb if turn is None else rgb.transpose(turn)


def orientation(image: Image.Image) -> int:
    """EXIF orientation 1 … 8 of an opened image; 0 where EXIF is damaged, which leaves the image as it is stored."""
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # see `to_rgb`; the pixels are whole all the same
        return 0


def _named(path: Path, error: UnreadableError) -> BadDataError:
    return BadDataError(f"image {path} cannot be read: {error}; replace or remove it")


def _check_header(image: Image.Image) -> None:
    width, height = image.size
    if width * height > LARGEST_IMAGE:
        raise UnreadableError(f"it claims {width}×{height} pixels, more than the {LARGEST_IMAGE} a picture may have")
    if image.mode[0] in "IF":
        raise UnreadableError(f"grey values of more than 8 bits (mode {image.mode}) would be cut to white")


def _reason(data: bytes, error: Exception) -> str:
    if not isinstance(error, UnidentifiedImageError):
        said = str(error).split("\n")[0]
        return said if isinstance(error, OSError | SyntaxError) else f"{said} ({type(error).__name__})"
    if data.lstrip()[:1] == b"<":
        return "it holds HTML or XML text, no image"
    return f"it is no image, it starts with {data[:12]!r}"
