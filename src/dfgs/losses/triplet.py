"""Batch-hard triplet loss on un-normalised Euclidean distances."""

import torch
from torch import Tensor
from torch.nn import functional

from dfgs.losses.base import Loss, LossContext, LossValue
from dfgs.models.features import Features


class Triplet(Loss):
    """Farthest own image against nearest other identity for each anchor (Hermans et al., 2017), summed over `features`.

    `margin` null is the soft margin log(1 + exp(d_ap - d_an)) (CLIP-DFGS, with weight 2), a number the hinge
    max(0, d_ap - d_an + margin) (CLIP-ReID: 0.3, three features). Anchors without a second image of their identity, or
    without another identity, in the batch are skipped; their share is logged as `anchors_without_positive`.
    """

    def __init__(
        self,
        context: LossContext,
        *,
        weight: float = 2.0,
        margin: float | None = None,
        features: tuple[str, ...] = ("pooled", "projected"),
    ) -> None:
        super().__init__(context, weight=weight)
        self.margin, self.features = margin, tuple(features)

    def forward(self, features: Features, labels: Tensor) -> LossValue:
        """Features of n images and labels int64 (n,) to the weighted loss; 0 if no anchor has a positive."""
        same = labels[:, None] == labels[None]
        positive = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        usable = positive.any(1) & (~same).any(1)
        log = {"anchors_without_positive": 1 - float(usable.float().mean())}
        terms = [self._hinge(features.named(name), positive, same, usable) for name in self.features]
        return LossValue(self.weight * torch.stack(terms).sum(), log)

    def _hinge(self, features: Tensor, positive: Tensor, same: Tensor, usable: Tensor) -> Tensor:
        if not bool(usable.any()):
            return features.sum() * 0
        distances = euclidean(features, features)
        farthest = distances.masked_fill(~positive, -torch.inf).amax(1)[usable]
        nearest = distances.masked_fill(same, torch.inf).amin(1)[usable]
        gap = farthest - nearest
        return (functional.softplus(gap) if self.margin is None else functional.relu(gap + self.margin)).mean()


def euclidean(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances (n, m) between rows (n, d) and (m, d); differentiable at 0, where the gradient is 0."""
    squared = a.square().sum(1)[:, None] + b.square().sum(1)[None] - 2 * a @ b.T
    return squared.clamp_min(1e-12).sqrt()
