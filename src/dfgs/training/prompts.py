"""Stage 1: prompts, learned once per source, model and seed; before it the prior (step 0) where the recipe has one."""

import logging
import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from dfgs.compiler import compiler_aside
from dfgs.config import BackboneSettings, BatchSettings, FinetuneSettings, InputSettings, PriorSettings, PromptSettings
from dfgs.data import Loader
from dfgs.errors import DivergedError
from dfgs.extraction import embed_images
from dfgs.losses.base import LossContext
from dfgs.models.clip import ImageEncoder, build_clip
from dfgs.models.memory import memory_named
from dfgs.models.precision import Arithmetic
from dfgs.models.prompts import PromptLearner
from dfgs.provenance import digest_file, write_bytes
from dfgs.samplers._continued import ContinuedPasses
from dfgs.samplers.pk import Pk
from dfgs.training.checkpoints import NEVER, Checkpoint, Rhythm
from dfgs.training.loop import Stage, build_losses, train
from dfgs.training.loss_scale import LossScale
from dfgs.training.schedules import prompt_rate
from dfgs.training.source import Source, load_source

log = logging.getLogger(__name__)


def learn_prompts(
    job: dict[str, Any],
    weights: Path | None,
    output: Path,
    workers: int,
    device: torch.device,
    rhythm: Rhythm = NEVER,
) -> None:
    """Learn one prompt per training identity and write contexts, text features and the image tower they belong to.

    `output` is a safetensors file: `contexts` (N, length, width), `text` (N, d), not normalised, and `visual.*`, the
    image tower after the prior (without a prior: as it came). Its metadata tell the source's digest. A state is kept
    beside it in the `rhythm` that is asked for, and gone on from.
    """
    backbone = BackboneSettings.model_validate(job["backbone"])
    settings = PromptSettings.model_validate(job["prompts"])
    source = load_source(job["source"], backbone)
    generator = torch.Generator().manual_seed(job["seed"])
    clip = build_clip(backbone, weights).to(device, memory_format=torch.channels_last)
    arithmetic = Arithmetic.of(job, device)
    encoder = ImageEncoder(clip.visual, job["freeze_statistics"]).compute_as(arithmetic)
    given = None if weights is None else digest_file(weights)
    belongs = {"job": job, "backbone": given, "images": source.pixels_digest(), "device": device.type}
    checkpoint = Checkpoint(output, belongs, rhythm)
    if job["prior"] is not None and "prompts" not in checkpoint:
        prior = _prior(job, encoder, source, generator, workers)
        with checkpoint.keeping(generator=generator):
            train(prior, device, checkpoint)
    with checkpoint.keeping(tower=clip.visual), compiler_aside(arithmetic.compile):
        loader = Loader(
            source.store, InputSettings.model_validate(job["input"]), augment=False, workers=workers, device=device
        )
        images = embed_images(encoder, loader, range(len(source.store)), ["projected"], device)
        learner = PromptLearner(clip, backbone, source.identities, settings.context, generator).to(device)
        learner.compute_as(arithmetic)
        _learn(learner, images.to(device), source.pids.to(device), settings, generator, checkpoint)
    tensors = {"contexts": learner.contexts.detach(), "text": learner.all_features()}
    tensors |= {f"visual.{name}": tensor for name, tensor in encoder.visual.state_dict().items()}
    stored = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
    write_bytes(output, save(stored, metadata={"source": source.digest}))
    checkpoint.clear()


def _prior(
    job: dict[str, Any], encoder: ImageEncoder, source: Source, generator: torch.Generator, workers: int
) -> Stage:
    """Step 0 of CLIP-DFGS: a few epochs on PK batches at the start of stage 2's schedule."""
    prior, finetune = PriorSettings.model_validate(job["prior"]), FinetuneSettings.model_validate(job["finetune"])
    batch = BatchSettings.model_validate(job["batch"])
    sampler = Pk(source.labels, batch_size=batch.size, instances=batch.instances, seed=job["seed"])
    context = LossContext(encoder.widths, source.identities, None, generator)
    return Stage(
        name="prior",
        sampler="pk",
        encoder=encoder,
        losses=build_losses(prior.losses, context),
        passes=ContinuedPasses(sampler, source.iterations(finetune, batch)),
        loader=Loader(
            source.store,
            InputSettings.model_validate(job["input"]),
            augment=True,
            workers=workers,
            seed=job["seed"],
            device=encoder.device,
        ),
        pids=source.pids,
        settings=finetune,
        epochs=prior.epochs,
        first_epoch=1,
        scale=LossScale(encoder.arithmetic, encoder.device),
    )


class _Place:
    """Where stage 1 stands: contexts, the running epoch, its order of images, the batches done and the last loss."""

    def __init__(self, contexts: Tensor) -> None:
        self.contexts = contexts
        self.epoch, self.done = 0, 0
        self.order = torch.empty(0, dtype=torch.int64)
        self.loss: Tensor | None = None

    def begin_epoch(self, epoch: int, order: Tensor) -> None:
        """Start an epoch with the images in `order`, int64 (n,)."""
        self.epoch, self.order, self.done, self.loss = epoch, order, 0, None

    def state(self) -> dict[str, Any]:
        """Return all of it."""
        return {**vars(self), "contexts": self.contexts.detach()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken; the contexts are filled in place."""
        with torch.no_grad():
            self.contexts.copy_(state["contexts"])
        vars(self).update(state | {"contexts": self.contexts})


def _learn(
    learner: PromptLearner,
    images: Tensor,
    pids: Tensor,
    settings: PromptSettings,
    generator: torch.Generator,
    checkpoint: Checkpoint,
) -> None:
    scale = LossScale(learner.arithmetic, images.device)
    optimiser = torch.optim.Adam([learner.contexts], weight_decay=settings.weight_decay, fused=images.is_cuda or None)
    size = min(settings.batch_size, len(pids))
    place = _Place(learner.contexts)
    with checkpoint.keeping(generator=generator, prompts=place, optimiser=optimiser, scale=scale):
        for epoch in range(max(1, place.epoch), settings.epochs + 1):
            for group in optimiser.param_groups:
                group["lr"] = prompt_rate(settings, epoch)
            if epoch != place.epoch:
                shuffled = (
                    torch.randperm(len(pids), generator=generator) if settings.shuffle else torch.arange(len(pids))
                )
                place.begin_epoch(epoch, shuffled)
            for rows in place.order.to(pids.device).split(size)[place.done :]:
                if settings.drop_last and len(rows) < size:
                    continue
                place.loss = _step(learner, images, pids, rows, optimiser, scale)
                place.done += 1
                checkpoint.tick(f"batch {place.done} of epoch {epoch} of stage 1")
            _check(place.loss, epoch, scale)
            loss = 0.0 if place.loss is None else float(place.loss)
            log.info("prompts epoch %d/%d: loss %.4f%s", epoch, settings.epochs, loss, scale.told(scale.figures()))


def _step(
    learner: PromptLearner,
    images: Tensor,
    pids: Tensor,
    rows: Tensor,
    optimiser: torch.optim.Optimizer,
    scale: LossScale,
) -> Tensor:
    """Take one step on the images in `rows`; the loss before it, detached."""
    with memory_named("prompts (stage 1)", rows.shape, "lower prompts.batch_size or set precision: bf16"):
        text = learner(pids[rows])
        loss = supervised_contrast(images[rows], text, pids[rows]) + supervised_contrast(text, images[rows], pids[rows])
        scale.step(loss, optimiser)
    return loss.detach()


def _check(loss: Tensor | None, epoch: int, scale: LossScale) -> None:
    if loss is not None and not math.isfinite(float(loss)):
        raise DivergedError(
            f"prompts (stage 1): the loss is {float(loss)} in epoch {epoch}; lower prompts.learning_rate"
        )
    if scale.is_lost:
        raise DivergedError(f"prompts (stage 1): {scale.failure} in epoch {epoch}; set precision: float32")


def supervised_contrast(anchors: Tensor, others: Tensor, labels: Tensor) -> Tensor:
    """Supervised contrastive loss from `anchors` (n, d) to `others` (n, d) with labels (n,); temperature 1, scalar.

    -mean_i 1/|P(i)| Σ_{p ∈ P(i)} log softmax_p(a_i · o_p), P(i) the entries of the same label (CLIP-ReID: L_i2t and
    L_t2i).
    """
    same = (labels[:, None] == labels[None]).float()
    chances = torch.log_softmax(anchors @ others.T, dim=1)
    return -((same * chances).sum(1) / same.sum(1)).mean()
