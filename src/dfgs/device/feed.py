"""Double buffering: the next batch is moved to the GPU and prepared there while the current one trains."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

Batch = tuple[Tensor, Tensor, dict[str, Tensor]]
"""Images uint8 (b, 3, h, w), their indices int64 (b,), and what was drawn for each of them."""
Prepare = Callable[[Tensor, dict[str, Tensor]], Tensor]


def is_fed(device: torch.device | None) -> bool:
    """Tell whether batches for this device are prepared on it; those for the CPU are prepared where they load."""
    return device is not None and device.type != "cpu"


def feed(batches: Iterable[Batch], device: torch.device, prepare: Prepare) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (prepared images on `device`, indices on the CPU); on a GPU the following batch is under way already."""
    side = Side(device)
    waiting: tuple[Tensor, Tensor] | None = None
    for images, indices, drawn in batches:
        following = side.run(prepare, images, drawn), indices
        if waiting is not None:
            yield side.handed_over(waiting[0]), waiting[1]
        waiting = following
    if waiting is not None:
        yield side.handed_over(waiting[0]), waiting[1]


class Side:
    """A stream of its own beside the training's; on a device without streams everything runs in order."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream: Any = torch.cuda.Stream(device) if device.type == "cuda" else None

    def run(self, prepare: Prepare, images: Tensor, drawn: dict[str, Tensor]) -> Tensor:
        """Start the copy to the device and the work there; out of pinned memory the copy holds nothing up."""
        if self.stream is None:
            return prepare(images.to(self.device), drawn)
        with torch.cuda.stream(self.stream):
            return prepare(images.pin_memory().to(self.device, non_blocking=True), drawn)

    def handed_over(self, tensor: Tensor) -> Tensor:
        """Let the training's stream wait for `tensor` and keep its memory until that stream has used it."""
        if self.stream is not None:
            current = torch.cuda.current_stream(self.device)
            current.wait_stream(self.stream)
            tensor.record_stream(current)
        return tensor
