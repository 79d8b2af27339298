"""Decoded images of drawn datasets, kept inside them, so that the first of many processes decodes for all.

Nothing depends on them: without the files, or with damaged ones, images are decoded anew.
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import PIL
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dfgs.errors import DfgsError
from dfgs.images import DECODED, image_bytes
from dfgs.provenance import digest_bytes, digest_json, write_bytes

VERSION = 1
"""Of the pixels that `dfgs.data.decode` gives for an image; a higher one leaves aside what was kept before."""
log = logging.getLogger(__name__)


def decode_all(
    paths: Sequence[Path], size: tuple[int, int], decode: Callable[[Path, tuple[int, int]], Tensor]
) -> Tensor:
    """Decode image files, uint8 (n, 3, height, width), or take them from where an earlier process has kept them.

    Kept are images whose dataset has a folder `DECODED`, as a drawn one has, by the content of the files, their order
    and `size`; so an image that changes is decoded anew. Raises `DfgsError` naming a file that cannot be read.
    """
    folder = _folder(paths)
    if folder is None:
        return torch.stack([decode(path, size) for path in paths])
    contents = [digest_bytes(image_bytes(path)) for path in paths]
    file = folder / f"{digest_json([VERSION, PIL.__version__, size, contents])}.safetensors"
    images = _read(file)
    if images is None:
        images = torch.stack([decode(path, size) for path in paths])
        _keep(images, file)
    return images


def _folder(paths: Sequence[Path]) -> Path | None:
    """Return the folder of the first image's dataset; a plain path does not look into packs."""
    folders = [parent / DECODED for parent in paths[0].parents[:2]] if paths else []
    return next((folder for folder in folders if Path(folder).is_dir()), None)


def _read(file: Path) -> Tensor | None:
    """Read images; None where they are not there, or not as they were written."""
    if not file.is_file():
        return None
    try:
        with safe_open(file, framework="pt") as kept:
            images: Tensor = kept.get_tensor("images")
            if digest_bytes(images.numpy().tobytes()) == (kept.metadata() or {}).get("digest"):
                return images
    except (OSError, SafetensorError) as error:
        log.info("decoded images %s: %s", file, error)
    log.info("decoded images %s are damaged and made anew", file)
    return None


def _keep(images: Tensor, file: Path) -> None:
    """Write images for other processes; where that cannot be, they decode for themselves."""
    try:
        write_bytes(file, save({"images": images}, metadata={"digest": digest_bytes(images.numpy().tobytes())}))
    except DfgsError as error:
        log.info("decoded images are not kept: %s", error)
