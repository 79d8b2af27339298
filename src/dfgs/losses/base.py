"""What a training loss is: a module called with image features and labels, built from the facts of the run."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class LossContext:
    """Facts of the run that a loss may need.

    `widths` size of each feature; `identities` number of training identities N; `text` features of the learned
    prompts, float (N, d), or None before there are any; `generator` seeds initial weights.
    """

    widths: dict[str, int]
    identities: int
    text: Tensor | None
    generator: torch.Generator


@dataclass(frozen=True, slots=True)
class LossValue:
    """A loss, scalar, already weighted, and figures for the log."""

    value: Tensor
    log: dict[str, float]


class Loss(nn.Module):
    """A training loss; a subclass takes its settings as named arguments and the context, and writes `forward`."""

    def __init__(self, context: LossContext, *, weight: float) -> None:
        super().__init__()
        self.context, self.weight = context, weight
