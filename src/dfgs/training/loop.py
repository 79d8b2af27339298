"""The loop that trains an image encoder on a sampler's batches; the prior and stage 2 share it."""

import logging
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol

import torch
from torch import Tensor, nn

from dfgs.compiler import compiler_aside
from dfgs.config import FinetuneSettings
from dfgs.data import Loader
from dfgs.errors import DfgsError, DivergedError
from dfgs.losses import REGISTRY
from dfgs.losses.base import Loss, LossContext
from dfgs.losses.triplet import euclidean
from dfgs.models.clip import ImageEncoder
from dfgs.models.features import Features
from dfgs.models.memory import memory_named
from dfgs.samplers._continued import ContinuedPasses
from dfgs.training.checkpoints import Checkpoint
from dfgs.training.loss_scale import LossScale
from dfgs.training.progress import Progress
from dfgs.training.schedules import finetune_rate

log = logging.getLogger(__name__)
TIMES = ("epoch_seconds", "sampler_seconds")
"""What an epoch took, and the sampler's part of it: features, graph, batches, bank. Equal runs differ in them."""


class Watcher(Protocol):
    """Looks on at the start and the end of each epoch, counted from 1, and changes nothing."""

    def begin(self, epoch: int) -> None:
        """See the model before the epoch."""

    def end(self, epoch: int, passes: ContinuedPasses) -> None:
        """See what the epoch served."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What one stage trains with; `name` and `sampler` appear in messages, `first_epoch` places it in the schedule.

    `observe(features, labels)` is shown every step's features, detached, as the step has computed them.
    """

    name: str
    sampler: str
    encoder: ImageEncoder
    losses: dict[str, Loss]
    passes: ContinuedPasses
    loader: Loader
    pids: Tensor
    settings: FinetuneSettings
    epochs: int
    first_epoch: int
    observe: Callable[[Features, Tensor], None] | None = None
    watchers: tuple[Watcher, ...] = ()
    scale: LossScale = field(default_factory=LossScale)


def build_losses(settings: dict[str, dict[str, Any]], context: LossContext) -> dict[str, Loss]:
    """Build the losses named in `settings`, each with its arguments; `DfgsError` names an argument that is unknown."""
    losses: dict[str, Loss] = {}
    for name, arguments in settings.items():
        try:
            losses[name] = REGISTRY.load(name)(context, **arguments)
        except TypeError as error:
            raise DfgsError(f"loss {name!r} refuses its settings {arguments}: {error}") from error
    return losses


def train(stage: Stage, device: torch.device, checkpoint: Checkpoint) -> list[dict[str, float]]:
    """Train `stage.encoder` in place and return one row of figures per epoch, its `TIMES` in seconds among them.

    Adam, weight decay as in CLIP-ReID, biases at `bias_factor` times the rate. Goes on from `checkpoint` as if it had
    not been cut off, bit for bit. Raises `DivergedError` naming stage, sampler and step when a loss is not
    finite, or gradients are not at any loss scale, and `Preempted` when the job is asked to leave.
    """
    with compiler_aside(stage.encoder.arithmetic.compile):
        return _train(stage, checkpoint)


def _train(stage: Stage, checkpoint: Checkpoint) -> list[dict[str, float]]:
    optimiser, progress = _optimiser(stage), Progress(stage.passes, stage.loader, _Means(first_step=1))
    parts = {
        "encoder": stage.encoder,
        "losses": nn.ModuleDict(stage.losses),
        "optimiser": optimiser,
        "scale": stage.scale,
    }
    with checkpoint.keeping(**parts, progress=progress):
        for epoch in range(len(progress.curve) + 1, stage.epochs + 1):
            if not stage.passes.is_inside:
                for watcher in stage.watchers:
                    watcher.begin(epoch)
                progress.begin_epoch(_Means(first_step=(epoch - 1) * len(stage.passes) + 1))
            rate = finetune_rate(stage.settings, stage.first_epoch + epoch - 1)
            for group in optimiser.param_groups:
                group["lr"] = rate * group["factor"]
            _train_epoch(stage, optimiser, progress, checkpoint)
            row = {"epoch": epoch, "step": epoch * len(stage.passes), "learning_rate": rate}
            scaled = stage.scale.figures()
            progress.curve.append(row | _figures(progress) | scaled)
            told = progress.curve[-1]["loss"], rate, _restarts(stage.passes) + stage.scale.told(scaled)
            log.info("%s epoch %d/%d: loss %.4f, rate %.2e%s", stage.name, epoch, stage.epochs, *told)
            for watcher in stage.watchers:
                watcher.end(epoch, stage.passes)
            checkpoint.tick(f"epoch {epoch} of {stage.name}")
    return progress.curve


def _train_epoch(stage: Stage, optimiser: torch.optim.Adam, progress: Progress, checkpoint: Checkpoint) -> None:
    """Train on the epoch's batches, of a resumed epoch on those that it lacks."""
    for segment in stage.passes.segments():
        stage.encoder.train()
        progress.pending = len(segment)
        for images, indices in stage.loader.load(segment):
            _step(stage, optimiser, images, indices, progress.figures)
            progress.pending -= 1
            # A state between epochs is taken when the epoch's row is there.
            if stage.passes.missing(progress.pending):
                checkpoint.tick(f"step {progress.figures.next_step - 1} of {stage.name}")


def _figures(progress: Progress) -> dict[str, float]:
    """Figures of the epoch that has ended: means over its steps, what its batches held, its times."""
    passes, served = progress.passes, progress.passes.statistics
    row: dict[str, float] = progress.figures.values() | {"passes": passes.passes, "restarts": served.restarts}
    row |= {"identities_served": served.identities_served}
    row |= {"images_served": served.images_served, "images_repeated": served.images_repeated}
    row["graph_recall"] = served.graph_recall
    times = progress.clock.seconds, passes.seconds + progress.figures.observing
    return row | dict(zip(TIMES, times, strict=True))


def _restarts(passes: ContinuedPasses) -> str:
    """Tell of an epoch in whose graph the walk had to restart; empty for the others."""
    served = passes.statistics
    if not served.restarts:
        return ""
    return (
        f"; the walk was stuck: {served.restarts} restarts in {passes.passes} passes, "
        f"{served.identities_served} of {served.identities} identities served"
    )


def _optimiser(stage: Stage) -> torch.optim.Adam:
    modules: Iterable[nn.Module] = (stage.encoder, *stage.losses.values())
    named = [(name, p) for module in modules for name, p in module.named_parameters() if p.requires_grad]
    biases = [p for name, p in named if name.endswith("bias")]
    weights = [p for name, p in named if not name.endswith("bias")]
    groups = [{"params": weights, "factor": 1.0}, {"params": biases, "factor": stage.settings.bias_factor}]
    settings, is_cuda = stage.settings, stage.encoder.device.type == "cuda"
    # On the CPU over lists: the same operations, without Python's own time for each parameter.
    return torch.optim.Adam(
        groups, settings.learning_rate, weight_decay=settings.weight_decay, fused=is_cuda or None, foreach=not is_cuda
    )


def _step(stage: Stage, optimiser: torch.optim.Adam, images: Tensor, indices: Tensor, figures: "_Means") -> None:
    remedy = "set batch.size or the backbone's input_size lower, precision: bf16, or take a larger GPU"
    with memory_named(f"{stage.name} with sampler {stage.sampler!r}", images.shape, remedy):
        device = stage.encoder.device
        labels, cameras = stage.pids[indices].to(device), stage.loader.camera_rows(indices)
        features = stage.encoder(images.to(device), cameras)
        values = {name: loss(features, labels) for name, loss in stage.losses.items()}
        total = torch.stack([value.value for value in values.values()]).sum()
        row = {f"loss_{name}": float(value.value.detach()) for name, value in values.items()}
        for value in values.values():
            row |= value.log
        row |= {"loss": float(total.detach()), **hardness(features, labels)}
        _check(stage, row, figures.next_step)
        # Here, where the figures have waited for the device already: a later look would wait for the step as well.
        figures.observing += _observe(stage, features, labels)
        stage.scale.step(total, optimiser)
    if stage.scale.is_lost:
        _diverged(stage, f"{stage.scale.failure} at step {figures.next_step}", "set precision: float32")
    figures.add(row)


def _check(stage: Stage, row: dict[str, float], step: int) -> None:
    if not math.isfinite(row["loss"]):
        parts = ", ".join(f"{name} {row[f'loss_{name}']}" for name in stage.losses)
        _diverged(stage, f"the loss is {row['loss']} at step {step} ({parts})", "look at the images")


def _diverged(stage: Stage, what: str, remedy: str) -> NoReturn:
    raise DivergedError(f"{stage.name} with sampler {stage.sampler!r}: {what}; lower the learning rate or {remedy}")


def _observe(stage: Stage, features: Features, labels: Tensor) -> float:
    """Show a step's features to who wants to see them; the seconds that it takes."""
    if stage.observe is None:
        return 0.0
    started = time.perf_counter()
    stage.observe(features.detach(), labels)
    return time.perf_counter() - started


@torch.no_grad()
def hardness(features: Features, labels: Tensor) -> dict[str, float]:
    """In-batch hardness on L2-normalised projected features.

    `hardest_negative`: mean distance from an image to the nearest one of another identity (lower is harder);
    `hardest_positive`: mean distance to the farthest other image of its own identity. An image without one is left out.
    """
    rows = torch.nn.functional.normalize(features.projected, dim=1)
    distances = euclidean(rows, rows)
    same = labels[:, None] == labels[None]
    negative = distances.masked_fill(same, torch.inf).amin(1)
    positive = distances.masked_fill(
        ~same | torch.eye(len(labels), dtype=torch.bool, device=labels.device), -torch.inf
    ).amax(1)
    figures = {"hardest_negative": negative, "hardest_positive": positive}
    return {name: float(v[v.isfinite()].mean()) for name, v in figures.items() if bool(v.isfinite().any())}


class _Means:
    """Running means of figures by name; a figure that a step lacks does not count there."""

    def __init__(self, first_step: int) -> None:
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        self.next_step = first_step
        self.observing = 0.0

    def add(self, row: dict[str, float]) -> None:
        self.next_step += 1
        for name, value in row.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def values(self) -> dict[str, float]:
        return {name: total / self.counts[name] for name, total in self.sums.items()}
