"""Augmentation on a batch: the image-wise transform's results, step by step and together, from the same seeds."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dfgs import augmix, data
from dfgs.config import AugmentSettings, InputSettings
from dfgs.data import ImageStore, Loader, TrainTransform
from dfgs.device.augment import BatchTransform
from dfgs.device.augmix import _operated, describe, mixed
from dfgs.device.feed import Batch, feed, is_fed

DRAWN = ("kinds", "values", "matrices")
NOTHING = {"grey": 0, "pad": 0, "flip": 0, "jitter": 0, "augmix": 0, "erase": 0}
SIZE = (40, 24)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Smooth pictures with an edge, one dark, one of a single colour; uint8 (24, 3, 40, 24)."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.uniform(0, 255, (24, 3, 5, 3))).float()
    smooth = torch.nn.functional.interpolate(coarse, size=SIZE, mode="bilinear").round().to(torch.uint8)
    smooth[:, :, 20:, 12:] = 255 - smooth[:, :, 20:, 12:]
    smooth[0] //= 8
    smooth[1] = torch.tensor([200, 30, 90], dtype=torch.uint8)[:, None, None]
    return smooth


def both_ways(images: Tensor, **steps: float) -> tuple[Tensor, Tensor]:
    """Augment image by image, and as a batch, with the same seeds."""
    settings = AugmentSettings.model_validate(NOTHING | steps)
    single, batched = TrainTransform(settings, SIZE), BatchTransform(settings, SIZE)
    seeds = range(100, 100 + len(images))
    expected = single(images, seeds)
    drawn = torch.utils.data.default_collate([batched.draw(seed) for seed in seeds])
    return expected, batched(images, drawn)


@pytest.mark.parametrize(
    "steps",
    [{"grey": 0.5}, {"pad": 5}, {"flip": 0.5}, {"augmix": 0.7}, {"erase": 0.6}, {"pad": 4, "augmix": 0.6, "erase": 1}],
)
def test_a_batch_is_augmented_exactly_as_its_images_are_one_by_one(images: Tensor, steps: dict[str, float]) -> None:
    expected, found = both_ways(images, **steps)
    assert not torch.equal(expected.float(), images.float())
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("steps", [{"jitter": 1}, {"grey": 0.1, "pad": 4, "flip": 0.4, "jitter": 0.5, "augmix": 0}])
def test_colour_jitter_differs_by_rounding_alone(images: Tensor, steps: dict[str, float]) -> None:
    expected, found = both_ways(images, **steps)
    distance = (found.int() - expected.int()).abs()
    assert (expected.int() - images.int()).abs().float().mean() > 3
    assert int(distance.max()) <= 2
    assert float((distance > 0).float().mean()) < 0.01


@pytest.mark.parametrize("operation", range(len(augmix.OPERATIONS)))
def test_each_operation_of_augmix_is_pils_pixel_for_pixel_at_any_strength(images: Tensor, operation: int) -> None:
    for level, sign in ((0.03, 1), (0.1, -1), (0.5, 1), (0.9, -1)):
        drawn = describe(augmix.Mix(torch.ones(1), 1.0, (((operation, level, sign),),)), SIZE)
        kinds, values, matrices = (drawn[name][0].expand(len(images), *drawn[name].shape[2:]) for name in DRAWN)
        found = _operated(images, kinds, values, matrices)
        for image, result in zip(images, found, strict=True):
            picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
            expected = np.asarray(augmix.OPERATIONS[operation](picture, level, sign))
            np.testing.assert_array_equal(result.permute(1, 2, 0).numpy(), expected)


def test_an_image_that_is_not_mixed_stays_as_it_is(images: Tensor) -> None:
    drawn = {name: tensor[None] for name, tensor in describe(augmix.AugMix().nothing, SIZE).items()}
    assert torch.equal(mixed(images[:1], drawn), images[:1])


@pytest.fixture
def store(images: Tensor, tmp_path: Path) -> ImageStore:
    paths = [tmp_path / f"{number}.png" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()).save(path)
    return ImageStore(paths, SIZE)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_for_a_device_gives_the_batches_of_the_loader_for_the_cpu(
    store: ImageStore, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    augment = NOTHING | {"grey": 0.2, "pad": 4, "flip": 0.5, "augmix": 0.5, "erase": 0.5}
    settings = InputSettings.model_validate({"normalise": "instance", "augment": augment})
    batches = [[0, 3, 5, 1], [7, 7, 2, 4], [9, 10, 11, 12]]
    plain = list(Loader(store, settings, augment=True, workers=0, seed=3).load(batches))
    monkeypatch.setattr(data, "is_fed", lambda device: device is not None)  # as if the CPU were a GPU
    loader = Loader(store, settings, augment=True, workers=workers, seed=3, device=CPU)
    fed = list(loader.load(batches))
    assert loader.device == CPU
    for (expected, rows), (found, same_rows) in zip(plain, fed, strict=True):
        assert torch.equal(rows, same_rows)
        assert torch.equal(found, expected)
        assert found.is_contiguous(memory_format=torch.channels_last)


def test_a_store_that_keeps_nothing_gives_the_same_images(store: ImageStore) -> None:
    unkept = ImageStore(store.paths, store.size, keep=False)
    store.paths[0].write_bytes(store.paths[1].read_bytes())
    assert torch.equal(unkept[2], store[2])
    assert torch.equal(unkept[0], store[1])  # read when it is asked for
    assert not torch.equal(store[0], store[1])  # read at the start


def test_the_next_batch_is_under_way_while_one_trains() -> None:
    seen: list[str] = []

    def batches() -> Iterator[Batch]:
        for number in range(3):
            seen.append(f"load {number}")
            yield torch.tensor([number]), torch.tensor([number]), {}

    for image, index in feed(batches(), CPU, lambda images, drawn: images * 10):
        seen.append(f"train {int(index)}")
        assert int(image) == 10 * int(index)
    assert seen == ["load 0", "load 1", "train 0", "load 2", "train 1", "train 2"]


def test_batches_for_the_cpu_are_prepared_where_they_load() -> None:
    assert not is_fed(None)
    assert not is_fed(CPU)
    assert is_fed(torch.device("cuda"))
