"""The arithmetic of the towers: float32 as it comes, or mixed precision by autocast, compiled or not."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from dfgs.errors import DfgsError

TYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """How a tower computes; weights, losses and optimiser stay float32.

    `precision`: `float32`, `bf16` or `fp16` (autocast). `compile`: training steps run through `torch.compile`.
    """

    precision: str = "float32"
    compile: bool = False

    @classmethod
    def of(cls, job: dict[str, Any], device: torch.device) -> "Arithmetic":
        """Read what a job asks for; `DfgsError` for an unknown precision, or one that `device` does not have."""
        precision = str(job.get("precision", "float32"))
        if precision not in TYPES:
            raise DfgsError(f"precision {precision!r} is not known; use {', '.join(TYPES)}")
        if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(False):
            name = torch.cuda.get_device_name(device)
            raise DfgsError(
                f"precision 'bf16': the GPU {name} does not compute in it; set precision to fp16 or float32"
            )
        return cls(precision, bool(job.get("compile", False)))

    @property
    def is_mixed(self) -> bool:
        """Tell whether a tower computes in fewer than 32 bits."""
        return self.precision != "float32"

    def on(self, device: torch.device) -> AbstractContextManager[object]:
        """Return the context in which a tower runs on `device`; what it gives back may have fewer bits."""
        if not self.is_mixed:
            return nullcontext()
        return torch.autocast(device.type, TYPES[self.precision])

    def compiled(self, run: Callable[..., Any]) -> Callable[..., Any]:
        """Return `run`, compiled for each shape of its arguments if that is asked for."""
        return torch.compile(run, dynamic=False) if self.compile else run


FLOAT32 = Arithmetic()
