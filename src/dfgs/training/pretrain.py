"""Pre-train the small CLIP on drawn captioned people with open_clip's own contrastive loss."""

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional

from dfgs.compiler import compiler_aside
from dfgs.config import BackboneSettings, PretrainSettings
from dfgs.data import normalise
from dfgs.drawn.world import Corpus, draw_corpus
from dfgs.errors import DfgsError, DivergedError
from dfgs.models.clip import PromptEncoder, build_clip
from dfgs.provenance import commit, versions, write_bytes, write_json
from dfgs.training.checkpoints import NEVER, Checkpoint, Rhythm
from dfgs.vision import open_clip

HELD_OUT_DOMAINS = 20
log = logging.getLogger(__name__)


def pretrain(job: dict[str, Any], weights: Path, report: Path, device: torch.device, rhythm: Rhythm = NEVER) -> None:
    """Train a CLIP model from random weights and write it with its held-out caption retrieval.

    The caption corpus shows people and domains that no dataset holds. Token embeddings stay as initialised. Afterwards
    both projections are scaled so that un-normalised products have the temperature that the loss has learned, since the
    losses of CLIP-ReID use temperature 1. `report` gets Recall@1 of `held_out` pairs with distinct captions, and
    chance. A state is kept beside `weights` in the `rhythm` that is asked for, and gone on from.
    """
    backbone = BackboneSettings.model_validate(job)
    settings = backbone.pretrain
    if settings is None:
        raise DfgsError("pretrain: the backbone has no pretrain recipe; set pretrained: drawn and pretrain: …")
    untrained = backbone.model_copy(update={"pretrained": None})
    clip = build_clip(untrained, None, settings.seed).to(device, memory_format=torch.channels_last)
    tokenizer = open_clip.get_tokenizer(backbone.architecture)
    corpus = draw_corpus(settings.seed, settings.domains, settings.pictures, settings.gap)
    checkpoint = Checkpoint(weights, {"job": job, "device": device.type}, rhythm)
    with compiler_aside():
        losses = _train(clip, _Pairs(corpus, tokenizer, device), settings, checkpoint)
    held_out = draw_corpus(settings.seed + 1, HELD_OUT_DOMAINS, 3 * settings.held_out, settings.gap)
    pairs = _Pairs(_distinct(held_out, settings.held_out), tokenizer, device)
    image_features, text_features = _encode(clip, pairs)
    recall = _recall_at_1(image_features, text_features)
    _set_temperature(clip, image_features, text_features)
    write_bytes(weights, save({name: tensor.contiguous().cpu() for name, tensor in clip.state_dict().items()}))
    chance = 100 / settings.held_out
    figures = {"caption_recall_at_1": recall, "caption_chance": chance, "pairs": settings.held_out, "loss": losses}
    write_json(report, {**figures, "job": job, "commit": commit(), "versions": versions()})
    checkpoint.clear()
    log.info(
        "caption→image Recall@1 %.1f %% of %d pairs, %.0f times chance", recall, settings.held_out, recall / chance
    )


class _Pairs:
    """Pictures and token ids of a corpus, ids cut to the longest caption."""

    def __init__(self, corpus: Corpus, tokenizer: Any, device: torch.device) -> None:
        ids = tokenizer(corpus.captions)
        self.ids = ids[:, : int((ids != 0).sum(1).max())].to(device)
        self.pixels = torch.from_numpy(corpus.pixels).permute(0, 3, 1, 2)
        self.device = device

    def __len__(self) -> int:
        return len(self.ids)

    def images(self, rows: Tensor, flip: bool = False) -> Tensor:
        """Return normalised pictures (n, 3, h, w), mirrored if asked."""
        pixels = self.pixels[rows]
        images = normalise(pixels.flip(3) if flip else pixels, "clip").to(self.device)
        return images.contiguous(memory_format=torch.channels_last)


class _Course:
    """Steps done, the losses told of them, and the generator that draws the batches."""

    def __init__(self, seed: int) -> None:
        self.step, self.losses, self.rng = 0, list[float](), np.random.default_rng(seed)

    def state(self) -> dict[str, Any]:
        """Return all of it."""
        return {"step": self.step, "losses": self.losses, "rng": self.rng.bit_generator.state}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.step, self.losses = state["step"], state["losses"]
        self.rng.bit_generator.state = state["rng"]


def _train(clip: nn.Module, pairs: _Pairs, settings: PretrainSettings, checkpoint: Checkpoint) -> list[float]:
    model: Any = clip
    model.token_embedding.weight.requires_grad_(False)
    text = PromptEncoder(clip)
    parameters = [p for p in clip.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, betas=(0.9, 0.98), eps=1e-6, weight_decay=settings.weight_decay)
    contrast = open_clip.ClipLoss()
    course = _Course(settings.seed)
    clip.train()
    with checkpoint.keeping(clip=clip, optimiser=optimiser, course=course):
        for step in range(course.step, settings.steps):
            for group in optimiser.param_groups:
                group["lr"] = _rate(settings, step)
            rows = torch.from_numpy(course.rng.choice(len(pairs), settings.batch_size, replace=False))
            ids = pairs.ids[rows]
            flip = bool(course.rng.random() < 0.5)
            images = functional.normalize(model.visual(pairs.images(rows, flip=flip)), dim=1)
            texts = functional.normalize(text(model.token_embedding(ids), ids), dim=1)
            loss = contrast(images, texts, model.logit_scale.exp())
            if not bool(loss.isfinite()):
                raise DivergedError(
                    f"pretrain: the loss is {float(loss)} at step {step + 1}; lower pretrain.learning_rate"
                )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            with torch.no_grad():
                model.logit_scale.clamp_(0, math.log(100))
            if step % 25 == 0 or step == settings.steps - 1:
                course.losses.append(float(loss.detach()))
                log.info("pretrain step %d/%d: loss %.3f", step + 1, settings.steps, course.losses[-1])
            course.step = step + 1
            checkpoint.tick(f"step {course.step} of {settings.steps}")
    clip.eval()
    return course.losses


def _rate(settings: PretrainSettings, step: int) -> float:
    warmup = min(1.0, (step + 1) / settings.warmup_steps)
    return settings.learning_rate * warmup * 0.5 * (1 + math.cos(math.pi * step / settings.steps))


def _distinct(corpus: Corpus, count: int) -> Corpus:
    """Keep the first `count` pairs whose looks differ, so that every caption has one right picture."""
    _, first = np.unique(np.array(corpus.looks), return_index=True)
    keep = np.sort(first)[:count]
    if len(keep) < count:
        raise DfgsError(f"pretrain: only {len(keep)} distinct captions for held_out={count}; lower held_out")
    return Corpus(corpus.pixels[keep], [corpus.captions[i] for i in keep], [corpus.looks[i] for i in keep])


@torch.inference_mode()
def _encode(clip: nn.Module, pairs: _Pairs) -> tuple[Tensor, Tensor]:
    model: Any = clip
    text = PromptEncoder(clip)
    images, texts = [], []
    for rows in torch.arange(len(pairs)).split(250):
        images.append(model.visual(pairs.images(rows)))
        texts.append(text(model.token_embedding(pairs.ids[rows]), pairs.ids[rows]))
    return torch.cat(images), torch.cat(texts)


def _recall_at_1(images: Tensor, texts: Tensor) -> float:
    """Percent of captions whose own picture is the nearest."""
    nearest = (functional.normalize(texts, dim=1) @ functional.normalize(images, dim=1).T).argmax(1)
    return 100 * float((nearest == torch.arange(len(texts), device=nearest.device)).float().mean())


@torch.no_grad()
def _set_temperature(clip: nn.Module, images: Tensor, texts: Tensor) -> None:
    """Scale both projections so that mean norms are √(logit scale) each."""
    model: Any = clip
    norm = float(model.logit_scale.exp()) ** 0.5
    image_factor, text_factor = norm / float(images.norm(dim=1).mean()), norm / float(texts.norm(dim=1).mean())
    model.visual.attnpool.c_proj.weight.mul_(image_factor)
    model.visual.attnpool.c_proj.bias.mul_(image_factor)
    model.text_projection.mul_(text_factor)
