"""A GPU that is full, in one line."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from dfgs.errors import DfgsError

GIB = 2**30


@contextmanager
def memory_named(what: str, shape: torch.Size, remedy: str) -> Iterator[None]:
    """Turn a GPU's out-of-memory into a `DfgsError` that names `what`, the batch's `shape`, the memory and `remedy`.

    `shape` is (n, 3, height, width) of images or (n, ...) of anything else. Nothing is made smaller on its own: batch
    and identities decide the result.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        size = f" of {shape[2]}×{shape[3]} images" if len(shape) == 4 else ""
        raise DfgsError(
            f"{what}: the GPU has no memory left for a batch of {shape[0]}{size}{_left()}; {remedy}"
        ) from error


def _left() -> str:
    if not torch.cuda.is_available():
        return ""
    free, total = torch.cuda.mem_get_info()
    return f" ({free / GIB:.1f} of {total / GIB:.1f} GiB free)"
