"""The cases of `training.py`: what they are, and how both sides of one are built and timed."""

import resource
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import plain_loop
import torch
import yaml
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from dfgs.config import Config
from dfgs.data import ImageStore, Loader
from dfgs.extraction import embed_images
from dfgs.losses.base import Loss, LossContext
from dfgs.models.clip import ImageEncoder, build_clip
from dfgs.models.precision import Arithmetic
from dfgs.models.prompts import PromptLearner
from dfgs.samplers._continued import ContinuedPasses
from dfgs.samplers._labels import Labels
from dfgs.samplers.dfgs import Dfgs
from dfgs.samplers.pk import Pk
from dfgs.training.checkpoints import NEVER, Checkpoint
from dfgs.training.finetune import GraphFeatures
from dfgs.training.loop import TIMES, Stage, build_losses, train
from dfgs.training.loss_scale import LossScale
from dfgs.training.prompts import _learn
from dfgs.training.source import Source

UNKEPT = Path("no-state")
"""Where a state would be kept, if one were."""
ROOT = Path(__file__).resolve().parents[1]
IMAGES_PER_IDENTITY, EXTRACTED, GB = 8, 256, 1e9


@dataclass(frozen=True)
class Case:
    """What is measured: a stage with a recipe's losses and transforms on a backbone."""

    stage: str
    recipe: str
    backbone: str
    batch: int
    sampler: str = "pk"
    precision: str = "bf16"
    compile: bool = True
    deterministic: bool = False

    @property
    def name(self) -> str:
        """The row's first cell."""
        extra = [] if self.compile or self.precision == "float32" else ["not compiled"]
        extra += ["deterministic"] if self.deterministic else []
        extra += [f"sampler {self.sampler}"] if self.sampler != "pk" else []
        return ", ".join([self.stage, self.recipe, self.backbone, f"batch {self.batch}", *extra])

    @property
    def plain(self) -> "Case":
        """The case whose plain side is the same."""
        return Case(self.stage, self.recipe, self.backbone, self.batch)


def cases(has_gpu: bool) -> list[Case]:
    """List the cases of a machine; variants of one have the same plain side."""
    if not has_gpu:
        small = Case("stage 2", "small-dfgs", "small", 64, precision="float32", compile=False)
        others = [{"recipe": "small-clip-reid"}, {"stage": "stage 1"}, {"stage": "extraction", "batch": EXTRACTED}]
        return [small, *(replace(small, **other) for other in others)]
    found = []
    for backbone in ("vit-b-16-256x128", "vit-b-16-224"):
        for batch in (64, 128):
            found += [Case("stage 2", recipe, backbone, batch) for recipe in ("vit-dfgs", "vit-clip-reid")]
            found.append(Case("stage 1", "vit-dfgs", backbone, batch))
        found.append(Case("extraction", "vit-dfgs", backbone, EXTRACTED, compile=False))
    main = Case("stage 2", "vit-dfgs", "vit-b-16-224", 128)
    return [*found, replace(main, compile=False), replace(main, deterministic=True), replace(main, sampler="dfgs")]


@dataclass(frozen=True)
class Row:
    """What was measured of one side; seconds, but `flops` per image and `peak` per second, `memory` in GB.

    `started`: when the first step had ended.
    """

    images: int
    seconds: float
    waited: float
    sampler: float
    started: float
    flops: float
    peak: float
    memory: float


class Clock:
    """Counts images, seconds and the waiting for batches, behind the first `warm_up` steps."""

    def __init__(self, device: torch.device, warm_up: int) -> None:
        self.device, self.warm_up, self.steps = device, warm_up, 0
        self.images, self.waited, self.started = 0, 0.0, 0.0
        self.began = now(device)

    def batches(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Pass batches on, whose first part are the images."""
        iterator: Iterator[Any] | None = None
        while True:
            if self.steps == self.warm_up:
                settle(self.device)
                self.images, self.waited, self.began = 0, 0.0, now(self.device)
            asked = now(self.device)
            iterator = iterator or iter(batches)
            batch = next(iterator, None)
            self.waited += now(self.device) - asked
            if batch is None:
                return
            self.steps += 1
            yield batch
            self.images += len(batch[0])
            self.note_start()

    def note_start(self) -> None:
        """Note when the first step had ended."""
        if not self.started:
            settle(self.device)
            self.started = time.time()

    @property
    def seconds(self) -> float:
        """Seconds that were counted so far."""
        settle(self.device)
        return now(self.device) - self.began


class TimedLoader(Loader):
    """A loader that tells a clock how long its batches were waited for."""

    clock: Clock

    def load(self, batches: Sequence[Sequence[int]]) -> Iterator[tuple[Tensor, Tensor]]:
        yield from self.clock.batches(super().load(batches))


class Bench:
    """One case on one machine: models with seeded random weights, image files, labels."""

    def __init__(self, case: Case, paths: list[Path], device: torch.device, workers: int, steps: int) -> None:
        config = Config.parse(yaml.safe_load((ROOT / "config" / "config.yaml").read_text(encoding="utf-8")))
        self.case, self.device, self.workers, self.steps = case, device, workers, steps
        self.model = config.models[case.recipe]
        self.backbone = config.backbones[case.backbone].model_copy(update={"pretrained": None, "pretrain": None})
        self.paths = paths
        self.pids = np.arange(len(paths)) // IMAGES_PER_IDENTITY
        self.labels = Labels(self.pids, np.arange(len(paths)) % 4, np.zeros(len(paths), dtype=np.int64))
        self.peak = fastest_product(device)
        self.clip = build_clip(self.backbone, None).to(device, memory_format=torch.channels_last)
        self.encoder = ImageEncoder(self.clip.visual, self.model.freeze_statistics)
        self.clock = Clock(device, 0 if case.stage == "extraction" else steps)

    def row(self, side: str) -> Row:
        """Measure `ours` or `plain`."""
        stage = self.case.stage.replace(" ", "_")
        images, seconds, waited, sampler, flops = getattr(self, f"{side}_{stage}")()
        if self.device.type == "cuda":
            memory = torch.cuda.max_memory_allocated()
        else:
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return Row(images, seconds, waited, sampler, self.clock.started, flops, self.peak, memory / GB)

    def ours_stage_2(self) -> tuple[int, float, float, float, float]:
        flops = self.counted(lambda: self.encoder(self.noise(), None).joined(["pooled", "projected"]))
        self.encoder.compute_as(Arithmetic(self.case.precision, self.case.compile))
        store = ImageStore(self.paths, self.backbone.input_size)
        settings = self.model.finetune.model_copy(update={"epochs": 2, "iterations": self.steps})
        source = Source("benchmark", store, self.labels, torch.from_numpy(self.pids), ())
        loader = TimedLoader(store, self.model.input, augment=True, workers=self.workers, device=self.device)
        loader.clock = self.clock
        stage = Stage(
            name="stage 2",
            sampler=self.case.sampler,
            encoder=self.encoder,
            losses=self.losses(),
            passes=self.passes(self.steps, source),
            loader=loader,
            pids=source.pids,
            settings=settings,
            epochs=2,
            first_epoch=1,
            scale=LossScale(self.encoder.arithmetic, self.device),
        )
        curve = train(stage, self.device, Checkpoint(UNKEPT, {}, NEVER))
        seconds, sampler = (curve[-1][name] for name in TIMES)
        if self.device.type == "cpu":
            sampler, seconds = sampler / seconds * self.clock.seconds, self.clock.seconds
        return self.clock.images, seconds, self.clock.waited, sampler, flops

    def plain_stage_2(self) -> tuple[int, float, float, float, float]:
        batches = [batch for segment in self.passes(2 * self.steps).segments() for batch in segment]
        loader = self.plain_loader(batches, is_training=True)
        plain_loop.stage_two(self.encoder, self.losses(), self.machine(), self.clock.batches(loader))
        return self.clock.images, self.clock.seconds, self.clock.waited, 0.0, 0.0

    def ours_stage_1(self) -> tuple[int, float, float, float, float]:
        learner = self.learner()
        flops = self.counted(lambda: learner(torch.zeros(2, dtype=torch.long, device=self.device)))
        learner.compute_as(Arithmetic(self.case.precision, self.case.compile))
        self.encoder.compute_as(Arithmetic(self.case.precision))
        images, pids = self.embedded(self.paths).to(self.device), torch.from_numpy(self.pids).to(self.device)
        count = len(pids) // self.case.batch * self.case.batch
        epochs = max(1, self.steps * self.case.batch // count)
        settings = self.model.prompts.model_copy(update={"batch_size": self.case.batch, "epochs": epochs})
        _learn(learner, images[:count], pids[:count], settings, torch.Generator(), Checkpoint(UNKEPT, {}, NEVER))
        self.clock.note_start()
        began = now(self.device)
        _learn(learner, images[:count], pids[:count], settings, torch.Generator(), Checkpoint(UNKEPT, {}, NEVER))
        settle(self.device)
        return count * epochs, now(self.device) - began, 0.0, 0.0, flops

    def plain_stage_1(self) -> tuple[int, float, float, float, float]:
        rng = np.random.default_rng(0)
        batches = [rng.choice(len(self.paths), self.case.batch, replace=False) for _ in range(2 * self.steps)]
        loader = self.plain_loader(batches, is_training=False)
        plain_loop.stage_one(self.encoder, self.learner(), self.machine(), self.clock.batches(loader))
        return self.clock.images, self.clock.seconds, self.clock.waited, 0.0, 0.0

    def ours_extraction(self) -> tuple[int, float, float, float, float]:
        flops = self.counted(lambda: self.encoder(self.noise(), None).projected, is_training=False)
        self.encoder.compute_as(Arithmetic(self.case.precision))
        self.embedded(self.paths[:EXTRACTED])
        self.clock = Clock(self.device, 0)
        settle(self.device)
        began = now(self.device)
        self.embedded(self.paths)
        return len(self.paths), now(self.device) - began, self.clock.waited, 0.0, flops

    def plain_extraction(self) -> tuple[int, float, float, float, float]:
        batches = np.array_split(np.arange(len(self.paths)), range(EXTRACTED, len(self.paths), EXTRACTED))
        with torch.no_grad():
            self.encoder.eval()(self.noise(EXTRACTED), None)
        loader = self.plain_loader(batches, is_training=False)
        plain_loop.extract(self.encoder, self.machine(), self.clock.batches(loader))
        return self.clock.images, self.clock.seconds, self.clock.waited, 0.0, 0.0

    def embedded(self, paths: list[Path]) -> Tensor:
        """Decode and embed images as `dfgs embed` does."""
        store = ImageStore(paths, self.backbone.input_size, keep=self.workers == 0)
        loader = TimedLoader(store, self.model.input, augment=False, workers=self.workers, device=self.device)
        loader.clock = Clock(self.device, 0) if self.case.stage == "stage 1" else self.clock
        return embed_images(self.encoder, loader, range(len(paths)), ["projected"], self.device)

    def passes(self, iterations: int, source: Source | None = None) -> ContinuedPasses:
        size, instances = self.case.batch, self.model.batch.instances
        if self.case.sampler == "pk" or source is None:
            return ContinuedPasses(Pk(self.labels, batch_size=size, instances=instances, seed=0), iterations)
        job = {"test": self.model.test.model_dump(), "input": self.model.input.model_dump(), "sampler": {}}
        features = GraphFeatures(job, self.encoder, source, torch.empty(0), self.workers, self.device)
        sampler = Dfgs(self.labels, batch_size=size, instances=instances, seed=0)
        return ContinuedPasses(sampler, iterations, features.give)

    def losses(self) -> dict[str, Loss]:
        generator = torch.Generator().manual_seed(0)
        identities, widths = len(self.labels.identities), self.encoder.widths
        text = torch.randn(identities, widths["projected"], generator=generator).to(self.device)
        losses = build_losses(self.model.finetune.losses, LossContext(widths, identities, text, generator))
        return {name: loss.to(self.device) for name, loss in losses.items()}

    def learner(self) -> PromptLearner:
        count, length = len(self.labels.identities), self.model.prompts.context
        return PromptLearner(self.clip, self.backbone, count, length, torch.Generator().manual_seed(0)).to(self.device)

    def machine(self) -> plain_loop.Machine:
        return plain_loop.Machine(self.device, self.model.input.normalise)

    def plain_loader(self, batches: Sequence[Any], is_training: bool) -> DataLoader[Any]:
        transform = plain_loop.transforms(self.model.input, self.backbone.input_size, is_training)
        files = plain_loop.Files(self.paths, self.pids.tolist(), transform)
        return DataLoader(files, batch_sampler=[list(map(int, b)) for b in batches], num_workers=self.workers)

    def noise(self, count: int = 2) -> Tensor:
        return torch.randn(count, 3, *self.backbone.input_size, device=self.device)

    def counted(self, run: Callable[[], Tensor], is_training: bool = True) -> float:
        """Floating point operations per image of `run`, which takes two, and of its gradients if it trains."""
        with FlopCounterMode(display=False) as counter:
            result = run()
            if is_training:
                result.sum().backward()
        for parameter in self.clip.parameters():
            parameter.grad = None
        return counter.get_total_flops() / 2


def now(device: torch.device) -> float:
    """Seconds: of the clock on a GPU, of this process on a CPU, which others may use."""
    return time.perf_counter() if device.type == "cuda" else time.process_time()


def settle(device: torch.device) -> None:
    """Wait until the device has nothing left to do."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def fastest_product(device: torch.device) -> float:
    """Floating point operations per second of a large product: bf16 on a GPU, float32 on a CPU."""
    size, times = (8192, 40) if device.type == "cuda" else (1024, 10)
    left, right = torch.randn(2, size, size, device=device, dtype=torch.bfloat16 if size > 2000 else torch.float32)
    for _ in range(times // 4):
        left @ right
    settle(device)
    began = now(device)
    for _ in range(times):
        left @ right
    settle(device)
    return 2 * size**3 * times / (now(device) - began)
