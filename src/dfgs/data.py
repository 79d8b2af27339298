"""From image files to tensors: decoding, resizing, augmentation with a seed per image, and loaders."""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from dfgs import augmentation, vision
from dfgs.augmix import AugMix
from dfgs.config import AugmentSettings, InputSettings
from dfgs.decoded import decode_all
from dfgs.device.augment import BatchTransform
from dfgs.device.feed import feed, is_fed
from dfgs.errors import DfgsError
from dfgs.images import read_rgb
from dfgs.runs.signals import outlive
from dfgs.seeding import seeding

CLIP_MEAN, CLIP_DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
BEFORE_A_WORKERS_LINE = re.compile(r"(?:^|\\n)dfgs\.[\w.]*Error: ")
"""A worker's error comes with its traceback first, whose line breaks are escaped in a `DfgsError`."""
CACHE_LIMIT = 2 * 2**30
"""Bytes of resized images that are kept in memory; a larger set is decoded anew each time."""


def decode(path: Path, size: tuple[int, int]) -> Tensor:
    """Decode an image file and resize it bicubically to `size`; uint8 (3, height, width).

    Raises `DfgsError` naming a file that `read_rgb` refuses.
    """
    rgb = read_rgb(path)
    if rgb.size != (size[1], size[0]):
        rgb = rgb.resize((size[1], size[0]), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(rgb)).permute(2, 0, 1)


class ImageStore:
    """Resized images of a list of files, uint8 (3, height, width) each, decoded once where they fit into memory.

    Without `keep` they are decoded when they are asked for: by the processes that load, if each is needed once.
    `cameras` int64 (n,) may hold the row of each image's camera in a camera embedding.
    """

    def __init__(
        self, paths: Sequence[Path], size: tuple[int, int], cameras: Tensor | None = None, keep: bool = True
    ) -> None:
        self.paths, self.size, self.cameras = tuple(paths), size, cameras
        self._cache: Tensor | None = None
        if keep and len(self.paths) * 3 * size[0] * size[1] <= CACHE_LIMIT:
            self._cache = decode_all(self.paths, size, decode)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        return self._cache[index] if self._cache is not None else decode(self.paths[index], self.size)

    def batch(self, indices: Sequence[int]) -> Tensor:
        """Return several images, (n, 3, height, width)."""
        if self._cache is not None:
            return self._cache[torch.tensor(indices)]
        return torch.stack([self[index] for index in indices])


class TrainTransform:
    """Augmentation of uint8 images (n, 3, h, w) one by one, in the order of the configuration's keys.

    Grey, pad and crop, flip, colour jitter, AugMix and random erasing with noise, as in the code of CLIP-ReID and
    CLIP-DFGS. Randomness comes from torch's state. With erasing the result is float, since the noise, standard normal
    on the scale -1 … 1, goes beyond black and white.
    """

    def __init__(self, settings: AugmentSettings, size: tuple[int, int]) -> None:
        self.steps: list[Callable[[Tensor], Tensor]] = []
        if settings.grey:
            self.steps.append(_Perhaps(settings.grey, _grey))
        if settings.pad:
            self.steps.append(_Crop(size, settings.pad))
        if settings.flip:
            self.steps.append(_Perhaps(settings.flip, _mirror))
        if settings.jitter:
            self.steps.append(_Perhaps(settings.jitter, augmentation.jitter()))
        if settings.augmix:
            self.steps.append(_Perhaps(settings.augmix, AugMix()))
        self.erase = augmentation.erasing(settings.erase) if settings.erase else None

    def __call__(self, images: Tensor, seeds: Sequence[int]) -> Tensor:
        """Augment images (n, 3, h, w), each by its seed; the same seed gives an image the same result in any batch."""
        augmented = []
        with seeding() as seed_with:
            for image, seed in zip(images, seeds, strict=True):
                seed_with(seed)
                augmented.append(self._augmented(image))
        return torch.stack(augmented)

    def _augmented(self, image: Tensor) -> Tensor:
        for step in self.steps:
            image = step(image)
        return image if self.erase is None else (self.erase(image / 127.5 - 1) + 1) * 127.5


class _Perhaps:
    """A step that is taken with probability `chance`; it draws what torchvision's random transforms draw."""

    def __init__(self, chance: float, step: Callable[[Tensor], Tensor]) -> None:
        # As float32, which the draw is: torch would compare them so.
        self.chance, self.step = float(np.float32(chance)), step

    def __call__(self, image: Tensor) -> Tensor:
        return image if torch.rand(1).item() >= self.chance else self.step(image)


class _Crop:
    """`v2.RandomCrop(size, padding=pad)` of an image of that size, a tenth of its time for small images."""

    def __init__(self, size: tuple[int, int], pad: int) -> None:
        self.size, self.pad = size, pad

    def __call__(self, image: Tensor) -> Tensor:
        (height, width), pad = self.size, self.pad
        top, left = torch.randint(0, 2 * pad + 1, (2,)).tolist()
        padded = image.new_zeros((len(image), height + 2 * pad, width + 2 * pad))
        padded[:, pad : pad + height, pad : pad + width] = image
        return padded[:, top : top + height, left : left + width]


def _mirror(image: Tensor) -> Tensor:
    return image.flip(-1)


def _grey(image: Tensor) -> Tensor:
    grey: Tensor = vision.v2.functional.rgb_to_grayscale(image, num_output_channels=3)
    return grey


def normalise(images: Tensor, how: str) -> Tensor:
    """Turn images (n, 3, h, w) of 0 … 255 into floats: `clip` or `half` mean and deviation, or `instance`.

    `instance` gives each channel of each image zero mean and unit variance (`InstanceNorm2d` of 0 … 255, as in
    CLIP-DFGS's code).
    """
    if how == "instance":
        return torch.nn.functional.instance_norm(images.float())
    scaled = images.to(torch.float32, copy=True).div_(255)
    mean, deviation = (CLIP_MEAN, CLIP_DEVIATION) if how == "clip" else ((0.5,) * 3, (0.5,) * 3)
    return scaled.sub_(scaled.new_tensor(mean)[:, None, None]).div_(scaled.new_tensor(deviation)[:, None, None])


Item = tuple[int, int]


Draw = Callable[[int], dict[str, Tensor]]


Loaded = tuple[Tensor, Tensor, dict[str, Tensor]]


class _Items(Dataset[Loaded]):
    """Batches of images by (index, seed), augmented by `transform`, and what `draw` draws for a later augmentation."""

    def __init__(self, store: ImageStore, transform: TrainTransform | None, draw: Draw | None) -> None:
        self.store, self.transform, self.draw = store, transform, draw

    def __getitems__(self, items: list[Item]) -> Loaded:
        indices, seeds = zip(*items, strict=True)
        images = self.store.batch(indices)
        if self.transform:
            images = self.transform(images, seeds)
        drawn = default_collate([self.draw(seed) for seed in seeds]) if self.draw else {}
        return images, torch.tensor(indices), drawn


def _as_it_is(loaded: Any) -> Any:
    return loaded


class _Batches:
    """A batch sampler whose list is set before each pass of the loader, so that its workers can persist."""

    def __init__(self) -> None:
        self.batches: list[list[Item]] = []

    def __iter__(self) -> Iterator[list[Item]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class Loader:
    """Loads given batches of images, normalised, with any number of worker processes and always the same result.

    With a `device` other than the CPU they come on it, augmented and normalised there by the same draws.
    """

    def __init__(
        self,
        store: ImageStore,
        settings: InputSettings,
        *,
        augment: bool,
        workers: int,
        seed: int = 0,
        device: torch.device | None = None,
    ) -> None:
        self.how, self.seed, self.count, self.cameras = settings.normalise, seed, 0, store.cameras
        self.device = device if is_fed(device) else None
        later = BatchTransform(settings.augment, store.size) if augment and self.device else None
        now = TrainTransform(settings.augment, store.size) if augment and not self.device else None
        self._later, self._batches = later, _Batches()
        self._loader = DataLoader(
            _Items(store, now, later.draw if later else None),
            batch_sampler=self._batches,
            collate_fn=_as_it_is,  # a batch is whole already
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=self.device is not None and self.device.type == "cuda" and workers > 0,
            worker_init_fn=outlive,
            # One of its own: each run of batches draws a seed for the workers, which nothing here uses.
            generator=torch.Generator(),
        )

    def camera_rows(self, indices: Tensor) -> Tensor | None:
        """Return the camera rows of images by their indices, where the store has them."""
        return None if self.cameras is None else self.cameras[indices]

    def load(self, batches: Sequence[Sequence[int]]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (images float (b, 3, h, w), indices int64 (b,)) for each list of image indices."""
        numbered = []
        for batch in batches:
            seeds = np.random.SeedSequence([self.seed, self.count]).generate_state(len(batch), np.uint32)
            numbered.append([(int(index), int(seed)) for index, seed in zip(batch, seeds, strict=True)])
            self.count += 1
        self._batches.batches = numbered
        try:
            if self.device:
                yield from feed(self._loader, self.device, self._prepare)
            else:
                for images, indices, _ in self._loader:
                    yield self._prepare(images, {}), indices
        except DfgsError as error:
            # From a worker it comes with that worker's traceback before its own line.
            raise type(error)(BEFORE_A_WORKERS_LINE.split(str(error))[-1].removesuffix("\\n")) from error

    def _prepare(self, images: Tensor, drawn: dict[str, Tensor]) -> Tensor:
        """Augment by what was drawn, if anything, and normalise."""
        augmented = self._later(images, drawn) if self._later else images
        return normalise(augmented, self.how).contiguous(memory_format=torch.channels_last)
