"""From files to tensors: bad files are named, augmentation does not depend on workers, normalisation is exact."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dfgs import augmentation, augmix, data
from dfgs.config import AugmentSettings, InputSettings
from dfgs.data import ImageStore, Loader, TrainTransform, decode, normalise
from dfgs.errors import DfgsError
from dfgs.images import read_rgb
from dfgs.vision import open_clip, v2

SIZE = (64, 32)
PLAIN = AugmentSettings(grey=0, pad=0, flip=0, jitter=0, augmix=0, erase=0)
ALL = AugmentSettings(grey=0.3, pad=4, flip=0.5, jitter=0.5, augmix=0.6, erase=0.5)


def settings(augment: AugmentSettings = ALL, how: str = "clip") -> InputSettings:
    return InputSettings(normalise=how, augment=augment)  # type: ignore[arg-type]


def picture(seed: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A smooth drawn picture, uint8 (h, w, 3)."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 3, 3), dtype=np.uint8))
    return np.array(coarse.resize((size[1], size[0]), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def paths(world: Path) -> list[Path]:
    return sorted((world / "bounding_box_train").glob("*.jpg"))


def spoil(path: Path, how: str, good: Path) -> None:
    """Put something at `path` that is no whole image."""
    whole = good.read_bytes()
    if how == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif how == "corrupt":
        path.write_bytes(whole[:2] + bytes(200) + whole[202:])
    elif how == "empty":
        path.touch()
    elif how == "text":
        path.write_text("404 Not Found\n")
    elif how == "folder":
        path.mkdir()


@pytest.mark.parametrize("how", ["truncated", "corrupt", "empty", "text", "folder", "missing"])
def test_a_bad_image_is_named_in_one_line_and_opened_once(
    tmp_path: Path, paths: list[Path], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    bad = tmp_path / "0007_c1s1_000001_00.jpg"
    spoil(bad, how, paths[0])
    opened = []
    monkeypatch.setattr(data, "read_rgb", lambda path: (opened.append(path), read_rgb(path))[1])
    with pytest.raises(DfgsError, match=rf"^image {bad} cannot be read: [^\n]+; replace or remove it$"):
        ImageStore([bad, paths[1], paths[2]], SIZE)
    assert opened.count(bad) == 1


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_image_among_too_many_for_memory_is_named_in_one_line_by_a_worker_too(
    tmp_path: Path, paths: list[Path], monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    bad = tmp_path / "0007_c1s1_000001_00.jpg"
    spoil(bad, "truncated", paths[0])
    monkeypatch.setattr(data, "CACHE_LIMIT", 0)
    loader = Loader(ImageStore([paths[1], bad], SIZE), settings(PLAIN), augment=False, workers=workers)
    with pytest.raises(DfgsError, match=rf"^image {bad} cannot be read: [^\n]+; replace or remove it$"):
        list(loader.load([[0], [1]]))


def test_an_empty_file_is_called_empty(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    with pytest.raises(DfgsError, match="the file is empty"):
        decode(tmp_path / "a.jpg", SIZE)


@pytest.mark.parametrize("mode", ["L", "CMYK", "P", "RGBA", "LA", "1"])
def test_every_colour_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(picture()).convert(mode)
    suffix = "jpg" if mode in ("L", "CMYK") else "png"
    image.save(tmp_path / f"a.{suffix}", quality=100, subsampling=0)
    decoded = decode(tmp_path / f"a.{suffix}", SIZE)
    assert decoded.dtype == torch.uint8
    assert decoded.shape == (3, *SIZE)
    expected = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    assert np.abs(decoded.numpy().astype(int) - expected).max() <= 6  # JPEG


def test_an_image_of_the_right_size_is_not_resampled_and_another_is_bicubically(tmp_path: Path) -> None:
    pixels = picture(size=(128, 64))
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert (decode(tmp_path / "a.png", (128, 64)).permute(1, 2, 0).numpy() == pixels).all()
    expected = Image.fromarray(pixels).resize((32, 64), Image.Resampling.BICUBIC)
    assert (decode(tmp_path / "a.png", SIZE).permute(1, 2, 0).numpy() == np.asarray(expected)).all()


def test_a_store_gives_the_same_images_whether_they_fit_into_memory_or_not(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = ImageStore(paths, SIZE)
    monkeypatch.setattr(data, "CACHE_LIMIT", 0)
    decoded = ImageStore(paths, SIZE)
    assert len(kept) == len(decoded) == len(paths)
    assert all(bool((kept[i] == decoded[i]).all()) for i in range(len(paths)))


def test_clip_normalisation_is_that_of_open_clip() -> None:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 3, 8, 4), dtype=np.uint8))
    mean, deviation = np.array(open_clip.OPENAI_DATASET_MEAN), np.array(open_clip.OPENAI_DATASET_STD)
    expected = (images.numpy() / 255.0 - mean[:, None, None]) / deviation[:, None, None]
    np.testing.assert_allclose(normalise(images, "clip").numpy(), expected, rtol=0, atol=1e-6)


def test_half_normalisation_maps_black_and_white_to_minus_one_and_one() -> None:
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(1, 1, 1, 3).expand(1, 3, 1, 3)
    np.testing.assert_allclose(normalise(images, "half")[0, 0, 0].numpy(), [-1, -0.6, 1], atol=1e-6)


def test_instance_normalisation_is_that_of_each_channel_of_each_image() -> None:
    images = np.random.default_rng(1).integers(0, 256, (3, 3, 8, 4)).astype(np.uint8)
    images[0] //= 8  # a dark image
    images[1, 2] = 77  # a flat channel
    expected = np.zeros(images.shape)
    for n in range(3):
        for c in range(3):
            values = [int(value) for value in images[n, c].ravel()]
            mean = sum(values) / len(values)
            variance = sum((value - mean) ** 2 for value in values) / len(values)
            expected[n, c] = (images[n, c] - mean) / (variance + 1e-5) ** 0.5
    normalised = normalise(torch.from_numpy(images), "instance").numpy()
    np.testing.assert_allclose(normalised, expected, atol=2e-4)  # float32 rounds a flat channel of 77s


def loaded(loader: Loader, batches: list[list[int]]) -> tuple[Tensor, list[list[int]]]:
    """All images, and the indices of each batch."""
    parts = list(loader.load(batches))
    return torch.cat([images for images, _ in parts]), [indices.tolist() for _, indices in parts]


@pytest.mark.parametrize("augment", [True, False])
def test_any_number_of_workers_gives_the_same_batches_in_the_same_order(paths: list[Path], augment: bool) -> None:
    store = ImageStore(paths, SIZE)
    rng = np.random.default_rng(3)
    epochs = [rng.integers(0, len(store), (5, 4)).tolist() for _ in range(2)]
    alone = Loader(store, settings(), augment=augment, workers=0, seed=1)
    helped = Loader(store, settings(), augment=augment, workers=2, seed=1)
    for batches in epochs:
        images, indices = loaded(alone, batches)
        same_images, same_indices = loaded(helped, batches)
        assert indices == same_indices == batches
        assert torch.equal(images, same_images)


def test_each_visit_of_an_image_and_each_seed_augment_it_anew(paths: list[Path]) -> None:
    store = ImageStore(paths, SIZE)
    loader = Loader(store, settings(), augment=True, workers=0, seed=1)
    first, _ = loaded(loader, [[0] * 8])
    second, _ = loaded(loader, [[0] * 8])
    other, _ = loaded(Loader(store, settings(), augment=True, workers=0, seed=2), [[0] * 8])
    again, _ = loaded(Loader(store, settings(), augment=True, workers=0, seed=1), [[0] * 8])
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert not torch.equal(first, other)
    assert len({image.numpy().tobytes() for image in first}) > 4


def test_without_augmentation_images_come_as_they_are(paths: list[Path]) -> None:
    store = ImageStore(paths, SIZE)
    images, _ = loaded(Loader(store, settings(), augment=False, workers=0), [[2, 0, 1]])
    assert torch.equal(images, normalise(torch.stack([store[2], store[0], store[1]]), "clip"))


def one(transform: TrainTransform, image: torch.Tensor, seed: int) -> torch.Tensor:
    """Augment one image, a batch of its own."""
    return transform(image[None], [seed])[0]


def test_augmentation_leaves_the_global_random_state_alone() -> None:
    transform = TrainTransform(ALL, SIZE)
    image = torch.from_numpy(picture()).permute(2, 0, 1)
    torch.manual_seed(11)
    before = torch.get_rng_state()
    for seed in range(5):
        one(transform, image, seed)
    assert torch.equal(torch.get_rng_state(), before)


def by_torchvision(augment: AugmentSettings, image: Tensor, seed: int) -> Tensor:
    """The same augmentation by torchvision's own transforms, from torch's global state."""
    steps = [
        v2.RandomGrayscale(augment.grey),
        v2.RandomCrop(SIZE, padding=augment.pad),
        v2.RandomHorizontalFlip(augment.flip),
        v2.RandomApply([v2.ColorJitter(0.15, 0.1, 0.05, 0.05)], augment.jitter),
        v2.RandomApply([v2.Lambda(augmix.AugMix())], augment.augmix),
    ]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        moved = v2.Compose(steps)(image)
        erase = v2.RandomErasing(augment.erase, augmentation.ERASED, augmentation.ASPECT, value="random")
        return (erase(moved / 127.5 - 1) + 1) * 127.5


def test_augmented_images_equal_those_of_torchvisions_transforms_bit_by_bit() -> None:
    image = torch.from_numpy(picture(5)).permute(2, 0, 1)
    transform = TrainTransform(ALL, SIZE)
    for seed in range(60):
        assert torch.equal(one(transform, image, seed), by_torchvision(ALL, image, seed)), f"seed {seed}"


def test_an_augmented_image_keeps_type_and_size() -> None:
    image = torch.from_numpy(picture()).permute(2, 0, 1)
    for name in AugmentSettings.model_fields:
        only = PLAIN.model_copy(update={name: 4 if name == "pad" else 1})
        augmented = one(TrainTransform(only, SIZE), image, 3)
        assert augmented.shape == image.shape
        assert augmented.dtype == (torch.float32 if name == "erase" else torch.uint8)
        assert not torch.equal(augmented, image), name


def test_each_step_does_what_its_name_says() -> None:
    image = torch.from_numpy(picture()).permute(2, 0, 1)
    flipped = one(TrainTransform(PLAIN.model_copy(update={"flip": 1.0}), SIZE), image, 0)
    assert torch.equal(flipped, image.flip(2))
    grey = one(TrainTransform(PLAIN.model_copy(update={"grey": 1.0}), SIZE), image, 0)
    assert torch.equal(grey[0], grey[1])
    assert torch.equal(grey[0], grey[2])
    assert torch.equal(one(TrainTransform(PLAIN, SIZE), image, 0), image)


def test_a_padded_crop_is_the_image_moved_by_at_most_the_pad() -> None:
    image = torch.from_numpy(picture()).permute(2, 0, 1)
    padded = torch.nn.functional.pad(image, (3, 3, 3, 3))
    windows = [padded[:, y : y + 64, x : x + 32] for y in range(7) for x in range(7)]
    transform = TrainTransform(PLAIN.model_copy(update={"pad": 3}), SIZE)
    found = {next(i for i, w in enumerate(windows) if torch.equal(w, one(transform, image, s))) for s in range(60)}
    assert len(found) > 20


def test_erasing_fills_one_rectangle_with_standard_normal_noise_on_the_scale_of_half_normalisation() -> None:
    image = torch.full((3, *SIZE), 200, dtype=torch.uint8)
    transform = TrainTransform(PLAIN.model_copy(update={"erase": 1.0}), SIZE)
    values = []
    for seed in range(40):
        erased = one(transform, image, seed)
        changed = (erased != image).any(0)
        rows, columns = changed.any(1).nonzero().ravel(), changed.any(0).nonzero().ravel()
        assert 0.015 * changed.numel() < int(changed.sum()) < 0.36 * changed.numel()
        inside = erased[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert (erased == image).sum() >= image.numel() - inside.numel()
        assert 0.2 < len(inside[0]) / len(inside[0, 0]) < 4
        values.append(normalise(inside[None], "half").ravel())
    noise = torch.cat(values)
    assert abs(float(noise.mean())) < 0.02
    assert float(noise.std()) == pytest.approx(1, abs=0.02)
    assert float(noise.abs().max()) > 3  # not cut at black and white


def warped(pixels: np.ndarray, a: float, b: float, c: float, d: float, e: float, f: float) -> np.ndarray:
    """Slow bilinear sampling of (h, w, 3) at (a·x + b·y + c, d·x + e·y + f) of pixel centres, black outside."""
    height, width, _ = pixels.shape
    result = np.zeros(pixels.shape)
    for y in range(height):
        for x in range(width):
            u, v = a * (x + 0.5) + b * (y + 0.5) + c, d * (x + 0.5) + e * (y + 0.5) + f
            if not (0 <= u < width and 0 <= v < height):
                continue
            left, top = int(np.floor(u - 0.5)), int(np.floor(v - 0.5))
            right, low = u - 0.5 - left, v - 0.5 - top
            for row, share in ((top, 1 - low), (top + 1, low)):
                for column, part in ((left, 1 - right), (left + 1, right)):
                    result[y, x] += share * part * pixels[min(max(row, 0), height - 1), min(max(column, 0), width - 1)]
    return result


def turned(pixels: np.ndarray, degrees: float) -> np.ndarray:
    """Turn counter-clockwise about the centre."""
    height, width, _ = pixels.shape
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    x, y = width / 2, height / 2
    return warped(pixels, cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y)


def equalized(channel: np.ndarray) -> np.ndarray:
    """Each value's rank among all others, spread over 0 … 255 in equal steps (Pillow's rule)."""
    counts = np.bincount(channel.ravel(), minlength=256)
    step = (counts.sum() - counts[channel.max()]) // 255
    before = np.cumsum(counts) - counts
    return np.minimum((before + step // 2) // step, 255)[channel] if step else channel


def stretched(channel: np.ndarray) -> np.ndarray:
    low, high = int(channel.min()), int(channel.max())
    return np.clip((channel.astype(float) - low) * 255 / (high - low), 0, 255)


@pytest.mark.parametrize(("level", "sign"), [(0.1, 1), (0.09, -1), (0.01, 1)])
def test_augmixs_operations_are_those_of_its_paper(level: float, sign: int) -> None:
    pixels = picture(3, (24, 16))
    shift_x, shift_y = sign * int(16 / 3 * level), sign * int(24 / 3 * level)
    by_channel = [np.stack([f(pixels[..., c]) for c in range(3)], axis=2) for f in (stretched, equalized)]
    expected = [
        *by_channel,
        pixels & (0xFF << (4 + int(4 * level)) & 0xFF),
        turned(pixels, sign * int(30 * level)),
        np.where(pixels < 256 - int(256 * level), pixels, 255 - pixels),
        warped(pixels, 1, sign * 0.3 * level, 0, 0, 1, 0),
        warped(pixels, 1, 0, 0, sign * 0.3 * level, 1, 0),
        warped(pixels, 1, 0, shift_x, 0, 1, 0),
        warped(pixels, 1, 0, 0, 0, 1, shift_y),
    ]
    found = [np.asarray(f(Image.fromarray(pixels), level, sign)).astype(float) for f in augmix.OPERATIONS]
    for place, (ours, slow) in enumerate(zip(found, expected, strict=True)):
        assert np.abs(ours - slow).max() <= 1.01, place


def test_augmix_mixes_chains_by_dirichlet_and_the_image_by_beta(monkeypatch: pytest.MonkeyPatch) -> None:
    image = torch.from_numpy(picture()).permute(2, 0, 1)
    levels: list[float] = []

    def darken(factor: int) -> augmix.Operation:
        return lambda shown, level, sign: (levels.append(level), shown.point(lambda value: value // factor))[1]

    monkeypatch.setattr(augmix, "OPERATIONS", tuple(darken(factor) for factor in range(1, 10)))
    mixer = augmix.AugMix(severity=1)
    chosen = []
    for seed in range(60):
        torch.manual_seed(seed)
        mixed = mixer(image)
        torch.manual_seed(seed)
        weights, share = mixer.weights.sample(), float(mixer.share.sample())
        expected = (1 - share) * image.float()
        for weight in weights:
            operation = int(torch.randint(9, ()))
            torch.rand(2)
            chosen.append(operation)
            expected += share * weight * (image // (operation + 1))
        assert (mixed - expected).abs().max() < 1.01
        assert float(weights.sum()) == pytest.approx(1)
    assert set(chosen) == set(range(9))
    assert 0.01 <= min(levels) < 0.02
    assert 0.09 < max(levels) <= 0.1


@pytest.mark.parametrize("size", [(64, 32), (200, 90)])
def test_clips_own_preprocessing_is_that_of_open_clip(tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(picture(5, size)).save(path)
    transform = open_clip.image_transform(SIZE, is_train=False, resize_mode="squash", interpolation="bicubic")
    with Image.open(path) as image:
        expected = transform(image)
    torch.testing.assert_close(normalise(decode(path, SIZE)[None], "clip")[0], expected, rtol=0, atol=1e-6)


def test_the_released_pipeline_of_clip_dfgs_step_by_step() -> None:
    """Pad by 10 in black, crop, flip, InstanceNorm; found among all crops and flips of a slow pipeline."""
    size = (40, 20)
    image = torch.from_numpy(picture(6, size)).permute(2, 0, 1)
    padded = np.zeros((60, 40, 3))
    padded[10:50, 10:30] = image.permute(1, 2, 0)
    transform = TrainTransform(PLAIN.model_copy(update={"pad": 10, "flip": 0.4}), size)
    flips = 0
    for seed in range(30):
        found = normalise(one(transform, image, seed)[None], "instance")[0].permute(1, 2, 0).numpy()
        matches = []
        for top in range(21):
            for left in range(21):
                crop = padded[top : top + 40, left : left + 20]
                for flipped in (False, True):
                    pixels = crop[:, ::-1] if flipped else crop
                    scaled = (pixels - pixels.mean((0, 1))) / np.sqrt(pixels.var((0, 1)) + 1e-5)
                    if np.abs(scaled - found).max() < 1e-4:
                        matches.append(flipped)
        assert len(matches) == 1
        flips += matches[0]
    assert 5 <= flips <= 19
