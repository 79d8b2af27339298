"""The loss scale of mixed precision: small gradients survive, and a step whose gradients overflow is left out."""

from typing import Any

import torch
from torch import Tensor

from dfgs.models.precision import FLOAT32, Arithmetic

FIRST = {"fp16": 65536.0, "bf16": 1.0}
"""Factor on the loss at the start; bf16 has float32's range and needs none."""
GROWS_AFTER = 2000
NEVER = 2**31 - 1


class LossScale:
    """Takes optimiser steps, with a loss scale where precision is mixed; its `state` belongs to a checkpoint.

    A step with gradients that are not finite is left out, counted and halves the scale. Below 1 the scale has nothing
    left to give: the training `is_lost`. In float32 it is a plain step. `scale` is the factor on the loss now.
    """

    def __init__(self, arithmetic: Arithmetic = FLOAT32, device: torch.device | None = None) -> None:
        self.is_on, self.skipped = arithmetic.is_mixed, 0
        grows = GROWS_AFTER if arithmetic.precision == "fp16" else NEVER
        first = FIRST.get(arithmetic.precision, 1.0)
        self._scaler = torch.amp.GradScaler(
            device.type if device else "cpu", init_scale=first, growth_interval=grows, enabled=self.is_on
        )
        self.scale = first

    @property
    def is_lost(self) -> bool:
        """Tell whether gradients overflow at any scale."""
        return self.scale < 1

    @property
    def failure(self) -> str:
        """What happened when a training `is_lost`."""
        return f"gradients are not finite at any loss scale ({self.skipped} steps left out in this epoch)"

    def step(self, loss: Tensor, optimiser: torch.optim.Optimizer) -> None:
        """Take one step down the gradient of `loss`, unless that is not finite."""
        optimiser.zero_grad()
        self._scaler.scale(loss).backward()
        self._scaler.step(optimiser)
        self._scaler.update()
        before, self.scale = self.scale, self._scaler.get_scale()
        self.skipped += self.scale < before

    def figures(self) -> dict[str, float]:
        """Return scale and steps left out since the last call; empty in float32."""
        if not self.is_on:
            return {}
        skipped, self.skipped = self.skipped, 0
        return {"loss_scale": self.scale, "skipped_steps": skipped}

    @staticmethod
    def told(figures: dict[str, float]) -> str:
        """Put the figures of an epoch into words for the log; nothing in float32."""
        return "; loss scale {loss_scale:g}, {skipped_steps} steps left out".format(**figures) if figures else ""

    def state(self) -> dict[str, Any]:
        """Return what a resumed training needs; empty in float32."""
        return {**self._scaler.state_dict(), "skipped": self.skipped} if self.is_on else {}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        if state:
            self.skipped = int(state["skipped"])
            self.scale = float(state["scale"])
            self._scaler.load_state_dict({name: value for name, value in state.items() if name != "skipped"})
