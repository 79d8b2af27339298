"""CLIP-ReID's own way to train, restated plainly, as what `training.py` compares with; nothing else uses it.

Images go through PIL and torchvision one by one in worker processes, a batch is copied to the GPU when it is needed,
the towers run under fp16 autocast with a `GradScaler` (on a CPU in float32), Adam is torch's default, and each step
waits for the device to log its loss. Stage 1 encodes the images of each batch anew. Towers and losses are ours, so that
both sides compute the same. Source: the facts of the published code (fp16, 8 workers, transforms), in our own words.
"""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset

from dfgs.config import AugmentSettings, InputSettings
from dfgs.losses.base import Loss
from dfgs.models.clip import ImageEncoder
from dfgs.models.prompts import PromptLearner
from dfgs.training.prompts import supervised_contrast
from dfgs.vision import v2

Batches = Iterable[tuple[Tensor, Tensor]]


def transforms(settings: InputSettings, size: tuple[int, int], is_training: bool) -> v2.Transform:
    """Resize, augment and turn one PIL image into a tensor."""
    how = settings.augment if is_training else AugmentSettings(grey=0, pad=0, flip=0, jitter=0, augmix=0, erase=0)
    steps: list[Any] = [v2.Resize(size, v2.InterpolationMode.BICUBIC)]
    steps += [v2.RandomGrayscale(how.grey)] if how.grey else []
    steps += [v2.Pad(how.pad), v2.RandomCrop(size)] if how.pad else []
    steps += [v2.RandomHorizontalFlip(how.flip)] if how.flip else []
    steps += [v2.RandomApply([v2.ColorJitter(0.15, 0.1, 0.05, 0.05)], how.jitter)] if how.jitter else []
    steps += [v2.RandomApply([v2.AugMix(1, 3, 1, 0.1)], how.augmix)] if how.augmix else []
    steps += [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=settings.normalise != "instance")]
    steps += [v2.Normalize((0.5,) * 3, (0.5,) * 3)] if settings.normalise != "instance" else []
    steps += [v2.RandomErasing(how.erase, (0.02, 1 / 3), (0.3, 1 / 0.3), value="random")] if how.erase else []
    return v2.Compose(steps)


class Files(Dataset[tuple[Tensor, int]]):
    """Images decoded and augmented one by one, with their labels."""

    def __init__(self, paths: Sequence[Path], pids: Sequence[int], transform: v2.Transform) -> None:
        self.paths, self.pids, self.transform = paths, pids, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        with Image.open(self.paths[index]) as image:
            return self.transform(image.convert("RGB")), self.pids[index]


class Machine:
    """Where the loop runs: fp16 autocast and a loss scale on a GPU, float32 on a CPU."""

    def __init__(self, device: torch.device, normalise: str) -> None:
        self.device, self.normalise, self.is_half = device, normalise, device.type == "cuda"
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.is_half)

    def autocast(self) -> AbstractContextManager[object]:
        return torch.autocast("cuda", torch.float16) if self.is_half else nullcontext()

    def moved(self, images: Tensor) -> Tensor:
        """Copy a batch to the device; CLIP-DFGS normalises each image by itself, there."""
        images = images.to(self.device)
        return nn.functional.instance_norm(images) if self.normalise == "instance" else images

    def step(self, loss: Tensor, optimiser: torch.optim.Optimizer) -> None:
        optimiser.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(optimiser)
        self.scaler.update()
        if self.is_half:
            torch.cuda.synchronize()
        loss.item()


def stage_two(encoder: ImageEncoder, losses: dict[str, Loss], machine: Machine, batches: Batches) -> None:
    """Train the image tower; text features of all identities were computed once."""
    modules: list[nn.Module] = [encoder, *losses.values()]
    trained = [p for module in modules for p in module.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(trained, lr=5e-6, weight_decay=1e-4)
    encoder.train()
    for images, pids in batches:
        pids = pids.to(machine.device)
        with machine.autocast():
            features = encoder(machine.moved(images), None)
            loss = torch.stack([one(features, pids).value for one in losses.values()]).sum()
        machine.step(loss, optimiser)


def stage_one(encoder: ImageEncoder, learner: PromptLearner, machine: Machine, batches: Batches) -> None:
    """Learn prompts; images are encoded anew in every step."""
    optimiser = torch.optim.Adam([learner.contexts], lr=3.5e-4, weight_decay=1e-4)
    encoder.eval()
    for images, pids in batches:
        pids = pids.to(machine.device)
        with machine.autocast():
            with torch.no_grad():
                rows = encoder(machine.moved(images), None).projected
            text = learner(pids)
            loss = supervised_contrast(rows, text, pids) + supervised_contrast(text, rows, pids)
        machine.step(loss, optimiser)


def extract(encoder: ImageEncoder, machine: Machine, batches: Batches) -> None:
    """Embed in float32, as the published test loop does."""
    encoder.eval()
    with torch.no_grad():
        for images, _ in batches:
            encoder(machine.moved(images), None).projected.cpu()
