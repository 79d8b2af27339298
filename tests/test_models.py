"""CLIP models at re-ID sizes: features, prompts and position embeddings agree with open_clip and with slow loops."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from dfgs.config import BackboneSettings
from dfgs.errors import DfgsError
from dfgs.models.clip import ImageEncoder, build_clip, check_architecture, random_clip
from dfgs.models.prompts import PromptLearner
from dfgs.vision import open_clip

TINY_VIT = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 32, "layers": 3, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
ARCHITECTURES = ("dfgs-small", "test-tiny-vit")
TEXT = "A photo of a {} person."


@pytest.fixture(scope="module", autouse=True)
def _tiny_vit(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Make a small Vision Transformer known to open_clip."""
    path = tmp_path_factory.mktemp("architectures") / "test-tiny-vit.json"
    path.write_text(json.dumps(TINY_VIT))
    open_clip.add_model_config(path)


def backbone(architecture: str, size: tuple[int, int] = (64, 32), **changes: Any) -> BackboneSettings:
    values = {"architecture": architecture, "pretrained": None, "input_size": size, "stride": None, "last_stride": 2}
    return BackboneSettings.model_validate({**values, "pretrain": None, **changes})


def build(architecture: str, size: tuple[int, int] = (64, 32), **changes: Any) -> Any:
    """A model with the same random weights each time."""
    torch.manual_seed(1)
    return build_clip(backbone(architecture, size, **changes), None)


def images(size: tuple[int, int] = (64, 32), count: int = 3) -> Tensor:
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(2))


def outputs(module: nn.Module) -> list[Tensor]:
    """Collect what a module returns from now on."""
    seen: list[Tensor] = []
    module.register_forward_hook(lambda _module, _given, result: seen.append(result))
    return seen


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("length", [1, 4])
@torch.no_grad()
def test_a_prompt_with_the_words_own_embeddings_is_open_clips_text_feature(architecture: str, length: int) -> None:
    clip = build(architecture)
    learner = PromptLearner(clip, backbone(architecture), 3, length, torch.Generator())
    tokenizer = open_clip.get_tokenizer(architecture)
    words = ["X", "red", "blue"]
    ids = tokenizer([TEXT.format(" ".join([word] * length)) for word in words])
    learner.contexts.copy_(clip.token_embedding(ids)[:, learner.start : learner.start + length])
    expected = clip.encode_text(ids)
    torch.testing.assert_close(learner.all_features(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(learner(torch.tensor([2, 0, 2])), expected[[2, 0, 2]], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(expected[0], expected[1], atol=1e-3)


def test_only_the_contexts_of_a_prompt_are_learned() -> None:
    clip = build("test-tiny-vit")
    learner = PromptLearner(clip, backbone("test-tiny-vit"), 40, 4, torch.Generator().manual_seed(0))
    assert [name for name, p in learner.named_parameters() if p.requires_grad] == ["contexts"]
    assert learner.contexts.shape == (40, 4, 32)
    assert float(learner.contexts.detach().std()) == pytest.approx(0.02, rel=0.05)
    learner(torch.tensor([3, 5])).sum().backward()
    assert learner.contexts.grad is not None
    assert learner.contexts.grad.flatten(1).any(1).nonzero().ravel().tolist() == [3, 5]


def test_the_seed_decides_the_first_contexts() -> None:
    clip = build("test-tiny-vit")
    made = [
        PromptLearner(clip, backbone("test-tiny-vit"), 4, 2, torch.Generator().manual_seed(seed)).contexts.detach()
        for seed in (0, 0, 1)
    ]
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


@pytest.mark.parametrize("size", [(32, 32), (64, 32), (48, 24)])
@torch.no_grad()
def test_projected_features_of_a_transformer_are_open_clips_image_features(size: tuple[int, int]) -> None:
    clip = build("test-tiny-vit", size)
    encoder = ImageEncoder(clip.visual, freeze_statistics=True).eval()
    blocks, normed = outputs(clip.visual.transformer.resblocks[1]), outputs(clip.visual.ln_post)
    features = encoder(images(size))
    torch.testing.assert_close(features.intermediate, blocks[0][:, 0])
    expected = clip.encode_image(images(size))
    torch.testing.assert_close(features.projected, expected, rtol=1e-4, atol=1e-5)
    pooled = normed[-1] if normed[-1].ndim == 2 else normed[-1][:, 0]
    torch.testing.assert_close(features.pooled, pooled, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("last_stride", [1, 2])
@pytest.mark.parametrize("size", [(64, 64), (64, 32), (96, 64)])
@torch.no_grad()
def test_projected_features_of_a_resnet_are_open_clips_image_features(size: tuple[int, int], last_stride: int) -> None:
    clip = build("dfgs-small", size, last_stride=last_stride)
    encoder = ImageEncoder(clip.visual, freeze_statistics=True).eval()
    third, fourth = outputs(clip.visual.layer3), outputs(clip.visual.layer4)
    features = encoder(images(size))
    torch.testing.assert_close(features.projected, clip.encode_image(images(size)))
    torch.testing.assert_close(features.intermediate, third[0].flatten(2).mean(2))
    torch.testing.assert_close(features.pooled, fourth[0].flatten(2).mean(2))


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 64])
def test_attention_pooling_of_the_mean_alone_is_open_clips_bit_for_bit_with_its_gradients(count: int) -> None:
    clip, weights = build("dfgs-small"), torch.randn(count, 128, generator=torch.Generator().manual_seed(1))
    encoder, batch = ImageEncoder(clip.visual, freeze_statistics=True), images(count=count)

    def gradients(projected: Tensor) -> list[Tensor]:
        encoder.zero_grad()
        (projected * weights).sum().backward()
        return [projected.detach(), *(p.grad.clone() for p in encoder.parameters() if p.grad is not None)]

    pairs = list(zip(gradients(encoder(batch).projected), gradients(clip.visual(batch)), strict=True))
    assert len(pairs) > 60
    for found, expected in pairs:
        assert torch.equal(found, expected)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_widths_are_those_of_the_features(architecture: str) -> None:
    encoder = ImageEncoder(build(architecture).visual, freeze_statistics=True)
    features = encoder(images())
    assert encoder.widths == {name: features.named(name).shape[1] for name in ("intermediate", "pooled", "projected")}


def test_last_stride_one_keeps_the_resolution_of_the_last_stage_and_all_weights() -> None:
    shapes = {}
    for last_stride in (1, 2):
        clip = build("dfgs-small", last_stride=last_stride)
        third, fourth = outputs(clip.visual.layer3), outputs(clip.visual.layer4)
        clip.encode_image(images())
        shapes[last_stride] = tuple(third[0].shape[2:]), tuple(fourth[0].shape[2:])
    assert shapes == {1: ((4, 2), (4, 2)), 2: ((4, 2), (2, 1))}
    one, two = (build("dfgs-small", last_stride=s).visual.state_dict() for s in (1, 2))
    assert list(one) == list(two)
    differing = [name for name in one if one[name].shape != two[name].shape]
    assert differing == ["attnpool.positional_embedding"]


def bilinear(grid: np.ndarray, height: int, width: int) -> np.ndarray:
    """Slow bilinear interpolation of (h, w, d), corners not aligned, borders repeated."""
    h, w = grid.shape[:2]
    result = np.zeros((height, width, grid.shape[2]))
    for y in range(height):
        for x in range(width):
            v, u = max((y + 0.5) * h / height - 0.5, 0), max((x + 0.5) * w / width - 0.5, 0)
            top, left = int(v), int(u)
            bottom, right = min(top + 1, h - 1), min(left + 1, w - 1)
            a, b = v - top, u - left
            upper = (1 - b) * grid[top, left] + b * grid[top, right]
            lower = (1 - b) * grid[bottom, left] + b * grid[bottom, right]
            result[y, x] = (1 - a) * upper + a * lower
    return result


@pytest.mark.parametrize(
    ("architecture", "size", "changes", "grid"),
    [
        ("test-tiny-vit", (64, 32), {}, (8, 4)),
        ("test-tiny-vit", (24, 40), {}, (3, 5)),
        ("test-tiny-vit", (32, 32), {"stride": 6}, (5, 5)),
        ("dfgs-small", (64, 32), {}, (2, 1)),
        ("dfgs-small", (64, 32), {"last_stride": 1}, (4, 2)),
        ("dfgs-small", (128, 96), {}, (4, 3)),
    ],
)
def test_the_position_embedding_is_interpolated_bilinearly_and_keeps_the_class(
    architecture: str, size: tuple[int, int], changes: dict[str, Any], grid: tuple[int, int]
) -> None:
    square = 32 if architecture == "test-tiny-vit" else 64
    before, after = build(architecture, (square, square)).visual, build(architecture, size, **changes).visual
    old, new = (
        (v.positional_embedding if architecture == "test-tiny-vit" else v.attnpool.positional_embedding)
        .detach()
        .numpy()
        for v in (before, after)
    )
    side = round((len(old) - 1) ** 0.5)
    expected = bilinear(old[1:].reshape(side, side, -1).astype(np.float64), *grid)
    np.testing.assert_array_equal(new[0], old[0])
    np.testing.assert_allclose(new[1:].reshape(*grid, -1), expected, atol=1e-6)


def test_overlapping_patches_make_more_tokens() -> None:
    visual = build("test-tiny-vit", (32, 32), stride=6).visual
    last = outputs(visual.transformer)
    visual(images((32, 32)))
    assert last[0].shape[1] == 1 + 5 * 5


def statistics(encoder: nn.Module) -> list[Tensor]:
    """Running means and variances."""
    return [buffer.clone() for name, buffer in encoder.named_buffers() if "running" in name]


@pytest.mark.parametrize("frozen", [True, False])
def test_batch_statistics_move_in_training_only_where_they_are_not_frozen(frozen: bool) -> None:
    encoder = ImageEncoder(build("dfgs-small").visual, freeze_statistics=frozen)
    before = statistics(encoder)
    assert before
    encoder.train()
    encoder(images())
    moved = [not torch.equal(x, y) for x, y in zip(before, statistics(encoder), strict=True)]
    assert not any(moved) if frozen else all(moved)
    settled = statistics(encoder)
    encoder.eval()
    encoder(images())
    assert all(torch.equal(x, y) for x, y in zip(settled, statistics(encoder), strict=True))


def test_frozen_statistics_make_an_image_independent_of_its_batch_and_stay_trainable() -> None:
    encoder = ImageEncoder(build("dfgs-small").visual, freeze_statistics=True).train()
    batch = encoder(images(count=4)).projected
    alone = encoder(images(count=4)[2:3]).projected
    torch.testing.assert_close(batch[2:3], alone, rtol=1e-4, atol=1e-5)
    batch.square().sum().backward()
    norm = encoder.visual.layer1[0].bn1  # type: ignore[union-attr, index]
    assert norm.weight.grad is not None


def test_an_unknown_architecture_is_refused_with_a_near_one() -> None:
    with pytest.raises(DfgsError, match=r"no architecture 'ViT-B16' \(did you mean 'ViT-B-16'\?\)"):
        build_clip(backbone("ViT-B16"), None)
    with pytest.raises(DfgsError, match=r"no architecture 'zzzzzzzz'$"):
        build_clip(backbone("zzzzzzzz"), None)


@pytest.mark.parametrize("name", ["ViT-B-16-SigLIP", "convnext_base", "roberta-ViT-B-32"])
def test_an_architecture_of_another_librarys_towers_is_refused(name: str) -> None:
    with pytest.raises(DfgsError, match=f"^backbone: '{name}' has a tower of timm or transformers; choose "):
        build_clip(backbone(name), None)


@pytest.mark.parametrize("name", ["dfgs-small", "ViT-S-32", "RN50-quickgelu"])
def test_an_architecture_is_built_as_open_clip_builds_it(name: str) -> None:
    check_architecture(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        theirs = open_clip.create_model(name, precision="fp32")
    ours = random_clip(name, seed=3)
    assert str(ours) == str(theirs)
    assert all(torch.equal(tensor, ours.state_dict()[key]) for key, tensor in theirs.state_dict().items())


def test_weights_read_back_as_they_were_written(tmp_path: Path) -> None:
    clip = build("dfgs-small")
    path = tmp_path / "weights.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in clip.state_dict().items()}, path)
    again = build_clip(backbone("dfgs-small", pretrained=None), path)
    for name, tensor in clip.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    assert not again.training


def test_weights_of_another_size_a_damaged_and_a_missing_file_are_named(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    clip = build("dfgs-small")
    save_file({name: tensor.contiguous() for name, tensor in clip.state_dict().items()}, path)
    expected = r"^cannot load weights .*weights\.safetensors: [^\n]+$"
    another = (
        r"weights\.safetensors into CLIP: 1 of another shape: visual\.attnpool\.positional_embedding \(file \(3, 512\)"
    )
    with pytest.raises(DfgsError, match=another):
        build_clip(backbone("dfgs-small", (64, 64)), path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DfgsError, match=expected):
        build_clip(backbone("dfgs-small"), path)
    path.unlink()
    with pytest.raises(DfgsError, match=expected):
        build_clip(backbone("dfgs-small"), path)


def test_a_release_whose_towers_need_more_of_open_clip_is_imported_whole() -> None:
    code = (
        "import sys\n"
        "class Timm:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'open_clip.model' and sys.modules.get('timm', 0) is None:\n"
        "            raise ImportError('needs timm')\n"
        "sys.meta_path.insert(0, Timm())\n"
        "from dfgs.models.clip import random_clip\n"
        "from dfgs.vision import open_clip\n"
        "print(type(open_clip).__name__, 'open_clip.factory' in sys.modules, type(random_clip('dfgs-small')).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["module", "True", "CLIP"]
