"""Training augmentation on a batch: the draws of `TrainTransform`, image by image, applied to all images at once."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from dfgs import augmentation, vision
from dfgs.augmix import AugMix
from dfgs.config import AugmentSettings
from dfgs.device.augmix import describe, mixed
from dfgs.device.jitter import jittered
from dfgs.seeding import seeded

Drawn = dict[str, Tensor]


class BatchTransform:
    """What `dfgs.data.TrainTransform` does with the same seeds, on the device where the batch lies.

    `draw` is for the processes that load images. Results are those of the image-wise transform but for the rounding of
    colour jitter: the same steps draw the parameters from the same random numbers.
    """

    def __init__(self, settings: AugmentSettings, size: tuple[int, int]) -> None:
        self.settings, self.size = settings, size
        self.crop = augmentation.crop(size, settings.pad)
        self.jitter, self.augmix, self.erase = augmentation.jitter(), AugMix(), augmentation.erasing(settings.erase)
        self.any_image = [torch.empty(3, *size, dtype=torch.uint8)]

    def draw(self, seed: int) -> Drawn:
        """Draw what is done to one image, as `TrainTransform` would with this seed; steps that are off draw nothing."""
        how = self.settings
        with seeded(seed):
            drawn: Drawn = {"grey": _chance(how.grey)} if how.grey else {}
            if how.pad:
                places = self.crop.make_params(self.any_image)
                drawn |= {name: torch.tensor(places[name]) for name in ("top", "left")}
            drawn |= {"flip": _chance(how.flip)} if how.flip else {}
            drawn |= self._jitter(_chance(how.jitter)) if how.jitter else {}
            drawn |= self._augmix(_chance(how.augmix)) if how.augmix else {}
            drawn |= self._erase(_chance(how.erase)) if how.erase else {}
            return drawn

    def _jitter(self, chosen: Tensor) -> Drawn:
        if not chosen:
            return {"jitter": chosen, "order": torch.arange(4), "factors": torch.ones(4, dtype=torch.float64)}
        drawn = self.jitter.make_params(self.any_image)
        factors = [drawn[f"{name}_factor"] for name in ("brightness", "contrast", "saturation", "hue")]
        return {"jitter": chosen, "order": drawn["fn_idx"], "factors": torch.tensor(factors, dtype=torch.float64)}

    def _augmix(self, chosen: Tensor) -> Drawn:
        return {"augmix": chosen, **describe(self.augmix.draw() if chosen else self.augmix.nothing, self.size)}

    def _erase(self, chosen: Tensor) -> Drawn:
        noise, inside = torch.zeros(3, *self.size), torch.zeros(1, *self.size, dtype=torch.bool)
        drawn: dict[str, Any] = self.erase.make_params(self.any_image) if chosen else {"v": None}
        if drawn["v"] is not None:
            top, left = drawn["i"], drawn["j"]
            place = (..., slice(top, top + drawn["h"]), slice(left, left + drawn["w"]))
            noise[place], inside[place] = drawn["v"], True
        return {"noise": noise, "erased": inside}

    def __call__(self, images: Tensor, drawn: Drawn) -> Tensor:
        """Augment images uint8 (n, 3, h, w) by what was drawn for each, stacked, on the CPU; float with erasing."""
        if "grey" in drawn:
            images = _changed(images, drawn, "grey", lambda some, _: vision.v2.functional.rgb_to_grayscale(some, 3))
        if "top" in drawn:
            images = _cropped(images, self.settings.pad, drawn["top"], drawn["left"])
        for name, change in (("flip", lambda some, _: some.flip(3)), ("jitter", jittered), ("augmix", mixed)):
            if name in drawn:
                images = _changed(images, drawn, name, change)
        if "noise" not in drawn:
            return images
        noise, erased = (drawn[name].to(images.device) for name in ("noise", "erased"))
        return (torch.where(erased, noise, images / 127.5 - 1) + 1) * 127.5


def _chance(chance: float) -> Tensor:
    return torch.rand(1)[0] < chance


def _changed(images: Tensor, drawn: Drawn, name: str, change: Callable[[Tensor, Drawn], Tensor]) -> Tensor:
    """Change the images for which the step `name` was drawn, each by its own draws."""
    rows = drawn[name].nonzero()[:, 0]
    if not len(rows):
        return images
    result, places = images.clone(), rows.to(images.device)
    result[places] = change(images[places], {key: tensor[rows] for key, tensor in drawn.items() if key != "noise"})
    return result


def _cropped(images: Tensor, pad: int, top: Tensor, left: Tensor) -> Tensor:
    """Cut each image (h, w) out of its padded self at its own place."""
    height, width = images.shape[2:]
    device = images.device
    rows = top.to(device)[:, None] + torch.arange(height, device=device)
    columns = left.to(device)[:, None] + torch.arange(width, device=device)
    padded = functional.pad(images, [pad] * 4)
    number = torch.arange(len(images), device=device)[:, None, None, None]
    channel = torch.arange(3, device=device)[None, :, None, None]
    return padded[number, channel, rows[:, None, :, None], columns[:, None, None, :]]
