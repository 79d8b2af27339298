"""Identity classification behind a batch-normalisation neck."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from dfgs.losses.base import Loss, LossContext, LossValue
from dfgs.models.features import Features


class Identity(Loss):
    """Label-smoothed cross-entropy over N identities for each of `features`, summed.

    Each feature passes a BNNeck (Luo et al., CVPRW 2019: BatchNorm with a frozen bias) and a bias-free linear
    classifier with initial deviation 0.001, as in CLIP-ReID (AAAI 2023; pooled and projected features, weight 0.25).
    """

    def __init__(
        self,
        context: LossContext,
        *,
        weight: float = 0.25,
        smoothing: float = 0.1,
        features: tuple[str, ...] = ("pooled", "projected"),
    ) -> None:
        super().__init__(context, weight=weight)
        self.smoothing, self.features = smoothing, tuple(features)
        self.necks, self.classifiers = nn.ModuleDict(), nn.ModuleDict()
        for name in self.features:
            neck = nn.BatchNorm1d(context.widths[name])
            neck.bias.requires_grad_(False)
            classifier = nn.Linear(context.widths[name], context.identities, bias=False)
            with torch.no_grad():
                classifier.weight.normal_(0, 0.001, generator=context.generator)
            self.necks[name], self.classifiers[name] = neck, classifier

    def forward(self, features: Features, labels: Tensor) -> LossValue:
        """Features of n images and labels int64 (n,) to the weighted loss."""
        logits = [self.classifiers[name](self.necks[name](features.named(name))) for name in self.features]
        total = torch.stack([functional.cross_entropy(x, labels, label_smoothing=self.smoothing) for x in logits]).sum()
        return LossValue(self.weight * total, {})
