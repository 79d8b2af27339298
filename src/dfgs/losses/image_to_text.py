"""Image-to-text cross-entropy: each image among the prompts of all identities."""

from torch import Tensor
from torch.nn import functional

from dfgs.errors import DfgsError
from dfgs.losses.base import Loss, LossContext, LossValue
from dfgs.models.features import Features


class ImageToText(Loss):
    """Cross-entropy of v·Tᵀ over all N identities with label smoothing; no temperature, no normalisation.

    Source: CLIP-ReID (AAAI 2023), L_i2tce; CLIP-DFGS keeps it as it is. Text features are frozen.
    """

    def __init__(self, context: LossContext, *, weight: float = 1.0, smoothing: float = 0.1) -> None:
        super().__init__(context, weight=weight)
        if context.text is None:
            raise DfgsError("loss image-to-text needs learned prompts; the prior (step 0) comes before them")
        self.register_buffer("text", context.text, persistent=False)
        self.smoothing = smoothing

    def forward(self, features: Features, labels: Tensor) -> LossValue:
        """Features of n images and labels int64 (n,) to the weighted loss."""
        logits = features.projected @ self.text.T  # type: ignore[operator]
        loss = functional.cross_entropy(logits, labels, label_smoothing=self.smoothing)
        return LossValue(self.weight * loss, {})
