"""Learnable prompts: "A photo of a X X X X person." with one context per identity."""

from typing import Any

import torch
from torch import Tensor, nn

from dfgs.config import BackboneSettings
from dfgs.models.clip import PromptEncoder
from dfgs.models.precision import FLOAT32, Arithmetic
from dfgs.vision import open_clip

PREFIX, SUFFIX = "A photo of a", "person."
PLACEHOLDER = "X"


class PromptLearner(nn.Module):
    """Contexts of N identities, float (N, length, width), initial deviation 0.02, and the frozen text tower.

    Source: CLIP-ReID (AAAI 2023), stage 1: `A photo of a [X]1 … [X]M person.`; all other tokens are fixed.
    """

    ids: Tensor
    tokens: Tensor

    def __init__(
        self, clip: Any, backbone: BackboneSettings, identities: int, length: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        ids = _template(backbone.architecture, length)
        with torch.no_grad():
            tokens = clip.token_embedding(ids)
        self.register_buffer("ids", ids, persistent=False)
        self.register_buffer("tokens", tokens.detach().clone(), persistent=False)
        self.encoder = PromptEncoder(clip).requires_grad_(False)
        self.start = 1 + len(PREFIX.split())
        self.contexts = nn.Parameter(
            torch.empty(identities, length, tokens.shape[2]).normal_(0, 0.02, generator=generator)
        )
        self.compute_as(FLOAT32)

    def compute_as(self, arithmetic: Arithmetic) -> "PromptLearner":
        """Choose the text tower's arithmetic; features are float32 whatever it is. Returns the learner itself."""
        self.arithmetic, self._encode_in_training = arithmetic, arithmetic.compiled(self.encoder.forward)
        return self

    def forward(self, rows: Tensor) -> Tensor:
        """Text features (n, d), not normalised, of the identities `rows`, int64 (n,)."""
        contexts = self.contexts[rows]
        fixed = self.tokens.expand(len(rows), -1, -1)
        end = self.start + contexts.shape[1]
        embeddings = torch.cat([fixed[:, : self.start], contexts, fixed[:, end:]], dim=1)
        encode = self._encode_in_training if torch.is_grad_enabled() else self.encoder
        with self.arithmetic.on(embeddings.device):
            features: Tensor = encode(embeddings, self.ids.expand(len(rows), -1))
        return features.float()

    @torch.no_grad()
    def all_features(self) -> Tensor:
        """Text features (N, d) of all identities."""
        rows = torch.arange(len(self.contexts), device=self.contexts.device)
        return torch.cat([self(part) for part in rows.split(256)])


def _template(architecture: str, length: int) -> Tensor:
    """Token ids (1, used length) of the prompt with placeholders; padding behind the end is cut off.

    Text attention is causal and the end token is the feature, so what follows it changes nothing.
    """
    text = f"{PREFIX} {' '.join([PLACEHOLDER] * length)} {SUFFIX}"
    ids: Tensor = open_clip.get_tokenizer(architecture)([text])
    return ids[:, : int(ids[0].argmax()) + 1]
