"""The recipes of `config/config.yaml`, held against the paper's facts by slow re-computations in float64."""

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor, nn

from dfgs.config import Config, ModelSettings
from dfgs.losses.base import LossContext
from dfgs.models.cameras import CameraEmbedding
from dfgs.models.clip import ImageEncoder, build_clip, grid_of, set_input_size
from dfgs.models.features import Features
from dfgs.models.precision import FLOAT32
from dfgs.models.prompts import PromptLearner
from dfgs.training import prompts
from dfgs.training.checkpoints import NEVER, Checkpoint
from dfgs.training.loop import build_losses
from dfgs.training.schedules import finetune_rate, prompt_rate
from dfgs.vision import open_clip

Rows = NDArray[np.float64]
CONFIG = Path(__file__).parents[1] / "config" / "config.yaml"
WIDTHS = {"intermediate": 6, "pooled": 6, "projected": 4}
LABELS = [0, 0, 0, 2, 2, 2, 5, 5, 5]
IDENTITIES = 6


@pytest.fixture(scope="module")
def models() -> dict[str, ModelSettings]:
    return Config.parse(yaml.safe_load(CONFIG.read_text(encoding="utf-8"))).models


def cross_entropy(logits: Rows, smoothing: float) -> float:
    """Label-smoothed cross-entropy of (n, N) logits, mean over rows."""
    total = 0.0
    for row, label in zip(logits, LABELS, strict=True):
        chances = np.exp(row) / np.exp(row).sum()
        target = np.full(len(row), smoothing / len(row))
        target[label] += 1 - smoothing
        total -= float((target * np.log(chances)).sum())
    return total / len(logits)


def triplet(rows: Rows, margin: float | None) -> float:
    """Batch-hard triplet on plain Euclidean distances, mean over anchors."""
    total = 0.0
    for a, label in enumerate(LABELS):
        distances = [math.dist(rows[a], other) for other in rows]
        farthest = max(d for i, d in enumerate(distances) if LABELS[i] == label and i != a)
        nearest = min(d for i, d in enumerate(distances) if LABELS[i] != label)
        gap = farthest - nearest
        total += math.log(1 + math.exp(gap)) if margin is None else max(gap + margin, 0.0)
    return total / len(rows)


def contrast(anchors: Rows, others: Rows, labels: list[int]) -> float:
    """-mean_i 1/|P(i)| Σ_{p ∈ P(i)} log softmax_p(a_i · o_p)."""
    products = anchors @ others.T
    chances = np.log(np.exp(products) / np.exp(products).sum(1, keepdims=True))
    terms = [[chances[i, p] for p, b in enumerate(labels) if b == a] for i, a in enumerate(labels)]
    return -float(np.mean([np.mean(row) for row in terms]))


def necked(rows: Rows, classifier: nn.Linear) -> Rows:
    """A fresh BNNeck in training mode and its classifier."""
    normal = (rows - rows.mean(0)) / np.sqrt(rows.var(0) + 1e-5)
    return normal @ classifier.weight.detach().numpy().T


@pytest.mark.parametrize("recipe", ["vit-dfgs", "vit-clip-reid"])
def test_the_loss_of_stage_2_is_the_papers_sum_term_by_term(models: dict[str, ModelSettings], recipe: str) -> None:
    generator = torch.Generator().manual_seed(1)
    parts = [torch.randn(9, width, generator=generator, dtype=torch.float64) for width in WIDTHS.values()]
    text = torch.randn(IDENTITIES, WIDTHS["projected"], generator=generator, dtype=torch.float64)
    losses = build_losses(models[recipe].finetune.losses, LossContext(WIDTHS, IDENTITIES, text, generator))
    given = {name: loss.double().train()(Features(*parts), torch.tensor(LABELS)) for name, loss in losses.items()}
    found = {name: float(value.value.detach()) for name, value in given.items()}
    last, pooled, projected = (part.numpy() for part in parts)
    i2t = cross_entropy(projected @ text.numpy().T, 0.1)
    if recipe == "vit-dfgs":
        expected = {"image-to-text": i2t, "triplet": 2 * (triplet(pooled, None) + triplet(projected, None))}
    else:
        heads: Any = losses["identity"]
        identity = sum(
            cross_entropy(necked(rows, heads.classifiers[name]), 0.1)
            for name, rows in (("pooled", pooled), ("projected", projected))
        )
        hinges = sum(triplet(rows, 0.3) for rows in (last, pooled, projected))
        expected = {"identity": 0.25 * identity, "image-to-text": i2t, "triplet": hinges}
    assert found == pytest.approx(expected, rel=1e-9)


def test_the_prior_of_clip_dfgs_is_twice_the_soft_triplet_alone(models: dict[str, ModelSettings]) -> None:
    prior = models["vit-dfgs"].prior
    assert prior is not None
    assert prior.epochs == 1
    assert models["vit-clip-reid"].prior is None
    parts = [torch.randn(9, width, dtype=torch.float64) for width in WIDTHS.values()]
    losses = build_losses(prior.losses, LossContext(WIDTHS, IDENTITIES, None, torch.Generator()))
    assert list(losses) == ["triplet"]
    value = losses["triplet"](Features(*parts), torch.tensor(LABELS)).value
    assert float(value) == pytest.approx(2 * sum(triplet(part.numpy(), None) for part in parts[1:]), rel=1e-9)


class Table(nn.Module):
    """Stands for prompts: one free text feature per identity, and a list of who was asked for."""

    arithmetic = FLOAT32

    def __init__(self, text: Tensor) -> None:
        super().__init__()
        self.contexts, self.asked = nn.Parameter(text), []

    def forward(self, rows: Tensor) -> Tensor:
        self.asked.append(rows.tolist())
        return self.contexts[rows]


@pytest.mark.parametrize("recipe", ["vit-dfgs", "vit-clip-reid"])
def test_stage_1_sums_both_directions_over_the_papers_batches(
    models: dict[str, ModelSettings], caplog: pytest.LogCaptureFixture, recipe: str
) -> None:
    size = 128 if recipe == "vit-dfgs" else 64
    count = 2 * size + 10
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(count, 4, generator=generator, dtype=torch.float64) / 2
    pids = torch.randint(IDENTITIES, (count,), generator=generator)
    table = Table(torch.randn(IDENTITIES, 4, generator=generator, dtype=torch.float64))
    settings = models[recipe].prompts.model_copy(update={"epochs": 2, "learning_rate": 1e-12, "warmup_rate": 1e-12})
    caplog.set_level(logging.INFO)
    checkpoint = Checkpoint(Path("none"), {}, NEVER)
    prompts._learn(table, images, pids, settings, generator, checkpoint)  # type: ignore[arg-type]
    batches = table.asked
    in_order = [pids[:size].tolist(), pids[size : 2 * size].tolist()]
    if recipe == "vit-dfgs":  # a fixed order, and the last partial batch is skipped
        assert batches == 2 * in_order
        first, rows = images[size : 2 * size], pids[size : 2 * size]
        text = table.contexts.detach()[rows].numpy()
        both = contrast(first.numpy(), text, rows.tolist()) + contrast(text, first.numpy(), rows.tolist())
        assert f"loss {both:.4f}" in caplog.messages[0]
    else:  # a permutation each epoch, the rest is kept
        assert [len(batch) for batch in batches] == 2 * [64, 64, 10]
        assert sorted(pid for batch in batches[:3] for pid in batch) == sorted(pids.tolist())
        assert batches[:3] != batches[3:]
        assert batches[:2] != in_order


class Scheduler:
    """The released warm-up scheduler: a rate for each number of steps since it was made."""

    def __init__(self) -> None:
        self.steps = 0

    def step(self) -> float:
        self.steps += 1
        factor = 1.0
        if self.steps < 10:
            alpha = self.steps / 10
            factor = 0.1 * (1 - alpha) + alpha
        return 5e-6 * factor * 0.1 ** ((self.steps >= 30) + (self.steps >= 50))


@pytest.mark.parametrize("recipe", ["vit-dfgs", "vit-clip-reid"])
def test_every_epochs_rate_is_that_of_the_released_schedulers(models: dict[str, ModelSettings], recipe: str) -> None:
    model = models[recipe]
    settings, scheduler = model.finetune, Scheduler()
    shared = 1 if recipe == "vit-dfgs" else 0
    assert settings.shared_schedule == bool(shared)
    assert settings.epochs == 60
    rates = [scheduler.step() for _ in range(60 + shared)]
    assert [finetune_rate(settings, epoch) for epoch in range(1, 61 + shared)] == pytest.approx(rates, rel=1e-12)
    for epoch in range(1, 121):
        wave = 1e-6 + 0.5 * (3.5e-4 - 1e-6) * (1 + math.cos(math.pi * epoch / 120))
        expected = 1e-5 + epoch * (3.5e-4 - 1e-5) / 5 if epoch < 5 else wave
        assert prompt_rate(model.prompts, epoch) == pytest.approx(expected, rel=1e-12)


# The image tower


def conv(images: Rows, weight: Rows, stride: int) -> Rows:
    """Patches (n, cells, d), row by row."""
    size = weight.shape[2]
    rows = range(0, images.shape[2] - size + 1, stride)
    columns = range(0, images.shape[3] - size + 1, stride)
    patches = [images[:, :, y : y + size, x : x + size].reshape(len(images), -1) for y in rows for x in columns]
    return np.stack(patches, 1) @ weight.reshape(len(weight), -1).T


def layer_norm(x: Rows, module: nn.Module) -> Rows:
    weight, bias = (p.detach().double().numpy() for p in (module.weight, module.bias))
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * weight + bias


def block(x: Rows, module: Any, heads: int, quick: bool) -> Rows:
    """A pre-norm transformer block, head by head."""
    state = {name: p.detach().double().numpy() for name, p in module.state_dict().items()}
    normal = layer_norm(x, module.ln_1)
    three = normal @ state["attn.in_proj_weight"].T + state["attn.in_proj_bias"]
    query, key, value = np.split(three, 3, axis=-1)
    width = query.shape[-1] // heads
    mixed = []
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        scores = query[..., part] @ key[..., part].transpose(0, 2, 1) / math.sqrt(width)
        shares = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        mixed.append(shares @ value[..., part])
    x = x + np.concatenate(mixed, -1) @ state["attn.out_proj.weight"].T + state["attn.out_proj.bias"]
    hidden = layer_norm(x, module.ln_2) @ state["mlp.c_fc.weight"].T + state["mlp.c_fc.bias"]
    normal_cdf = np.vectorize(lambda v: 0.5 * (1 + math.erf(v / math.sqrt(2))))
    gated = hidden / (1 + np.exp(-1.702 * hidden)) if quick else hidden * normal_cdf(hidden)
    return x + gated @ state["mlp.c_proj.weight"].T + state["mlp.c_proj.bias"]


def tiny(quick: bool) -> Any:
    torch.manual_seed(4)
    return open_clip.model.CLIP(
        embed_dim=4,
        vision_cfg={"image_size": 32, "layers": 3, "width": 8, "head_width": 4, "patch_size": 8},
        text_cfg={"context_length": 8, "vocab_size": 10, "width": 8, "heads": 2, "layers": 1},
        quick_gelu=quick,
    ).visual.double()


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("coefficient", [None, 1.0, 3.0])
@torch.no_grad()
def test_a_transformers_features_are_those_of_a_slow_one_camera_embedding_included(
    quick: bool, coefficient: float | None
) -> None:
    visual = tiny(quick)
    set_input_size(visual, (24, 16), 4)
    cameras = None
    if coefficient is not None:
        named = [("a", 1), ("a", 5), ("b", 1)]
        cameras = CameraEmbedding(named, 8, coefficient, torch.Generator().manual_seed(0)).double()
        cameras.table.mul_(50)
    images = torch.randn(4, 3, 24, 16, dtype=torch.float64)
    rows = torch.tensor([2, -1, 0, 1])
    found = ImageEncoder(visual, False, cameras)(images, rows)
    state = {name: p.numpy() for name, p in visual.state_dict().items()}
    patches = conv(images.numpy(), state["conv1.weight"], 4)
    assert patches.shape[1] == 5 * 3
    first = np.tile(state["class_embedding"], (4, 1, 1))
    if cameras is not None and coefficient is not None:
        table = cameras.table.numpy()
        for i, row in enumerate(rows.tolist()):
            first[i, 0] += 0 if row < 0 else coefficient * table[row]
    x = layer_norm(np.concatenate([first, patches], 1) + state["positional_embedding"], visual.ln_pre)
    seen = []
    for module in visual.transformer.resblocks:
        x = block(x, module, 2, quick)
        seen.append(x[:, 0])
    pooled = layer_norm(seen[-1], visual.ln_post)
    np.testing.assert_allclose(found.intermediate.numpy(), seen[-2], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.pooled.numpy(), pooled, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.projected.numpy(), pooled @ state["proj"], rtol=1e-9, atol=1e-9)


def test_camera_embeddings_start_small_and_know_cameras_by_dataset() -> None:
    cameras = CameraEmbedding([("a", 1), ("a", 5), ("b", 1)], 500, 1.0, torch.Generator().manual_seed(0))
    assert float(cameras.table.detach().std()) == pytest.approx(0.02, rel=0.1)
    assert cameras.rows("a", [5, 1, 2]).tolist() == [1, 0, -1]
    assert cameras.rows("b", [1, 5]).tolist() == [2, -1]
    assert cameras.rows("c", [1]).tolist() == [-1]


# OpenAI's models, by shape


def blocks(prefix: str, width: int, layers: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for i in range(layers):
        name = f"{prefix}resblocks.{i}."
        shapes |= {f"{name}attn.in_proj_weight": (3 * width, width), f"{name}attn.in_proj_bias": (3 * width,)}
        shapes |= linear(f"{name}attn.out_proj", width, width)
        shapes |= linear(f"{name}mlp.c_fc", width, 4 * width) | linear(f"{name}mlp.c_proj", 4 * width, width)
        shapes |= pair(f"{name}ln_1", width) | pair(f"{name}ln_2", width)
    return shapes


def linear(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def pair(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    running = {f"{name}.running_mean": (width,), f"{name}.running_var": (width,)}
    return {**pair(name, width), **running, f"{name}.num_batches_tracked": ()}


def text(joint: int) -> dict[str, tuple[int, ...]]:
    """OpenAI's text tower: 12 blocks of width 512."""
    shapes = {"positional_embedding": (77, 512), "text_projection": (512, joint), "logit_scale": ()}
    return shapes | {"token_embedding.weight": (49408, 512)} | pair("ln_final", 512) | blocks("transformer.", 512, 12)


def vit_b_16() -> dict[str, tuple[int, ...]]:
    shapes = {"visual.class_embedding": (768,), "visual.positional_embedding": (197, 768), "visual.proj": (768, 512)}
    shapes |= {"visual.conv1.weight": (768, 3, 16, 16)} | pair("visual.ln_pre", 768) | pair("visual.ln_post", 768)
    return shapes | blocks("visual.transformer.", 768, 12) | text(512)


def rn50() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for i, (inputs, outputs) in enumerate(((3, 32), (32, 32), (32, 64)), start=1):
        shapes |= {f"visual.conv{i}.weight": (outputs, inputs, 3, 3)} | norm(f"visual.bn{i}", outputs)
    inputs = 64
    for stage, count in enumerate((3, 4, 6, 3)):
        width = 64 * 2**stage
        for i in range(count):
            name = f"visual.layer{stage + 1}.{i}."
            kernels = ((inputs, width, 1), (width, width, 3), (width, 4 * width, 1))
            for k, (before, after, size) in enumerate(kernels, start=1):
                shapes |= {f"{name}conv{k}.weight": (after, before, size, size)} | norm(f"{name}bn{k}", after)
            if i == 0:
                shapes |= {f"{name}downsample.0.weight": (4 * width, inputs, 1, 1)}
                shapes |= norm(f"{name}downsample.1", 4 * width)
            inputs = 4 * width
    shapes |= {"visual.attnpool.positional_embedding": (50, 2048)}
    for name in "qkv":
        shapes |= linear(f"visual.attnpool.{name}_proj", 2048, 2048)
    return shapes | linear("visual.attnpool.c_proj", 2048, 1024) | text(1024)


def without_memory(architecture: str) -> Any:
    """An open_clip model that has shapes and no numbers."""
    with torch.device("meta"):
        return open_clip.model.CLIP(**open_clip.get_model_config(architecture))


@pytest.mark.parametrize(("architecture", "expected"), [("ViT-B-16-quickgelu", vit_b_16), ("RN50-quickgelu", rn50)])
def test_openais_state_dict_fits_key_for_key(architecture: str, expected: Any) -> None:
    found = {name: tuple(tensor.shape) for name, tensor in without_memory(architecture).state_dict().items()}
    assert found == expected()


@pytest.mark.parametrize(
    ("architecture", "size", "stride", "grid"),
    [
        ("ViT-B-16-quickgelu", (256, 128), 16, (16, 8)),
        ("ViT-B-16-quickgelu", (256, 128), 12, (21, 10)),
        ("ViT-B-16-quickgelu", (224, 224), 16, (14, 14)),
        ("ViT-B-16-quickgelu", (224, 224), 12, (18, 18)),
        ("RN50-quickgelu", (256, 128), 1, (16, 8)),
        ("RN50-quickgelu", (224, 224), 2, (7, 7)),
    ],
)
def test_the_papers_backbones_have_their_grids_and_1280_test_features(
    models: dict[str, ModelSettings], architecture: str, size: tuple[int, int], stride: int, grid: tuple[int, int]
) -> None:
    visual = without_memory(architecture).visual
    set_input_size(visual, size, stride)
    assert grid_of(visual) == grid
    features = ImageEncoder(visual, False)(torch.empty(2, 3, *size, device="meta"))
    is_vit = architecture.startswith("ViT")
    shapes = {name: features.named(name).shape[1] for name in ("intermediate", "pooled", "projected")}
    expected = (768, 768, 512) if is_vit else (1024, 2048, 1024)
    assert tuple(shapes.values()) == expected
    for recipe in ("vit-dfgs", "vit-clip-reid"):
        assert sum(shapes[name] for name in models[recipe].test.features) == (1280 if is_vit else 3072)


def test_the_recipes_are_at_the_papers_sizes(models: dict[str, ModelSettings]) -> None:
    config = Config.parse(yaml.safe_load(CONFIG.read_text(encoding="utf-8")))
    for recipe, size, batch, how, scaled in (
        ("vit-dfgs", (224, 224), 128, "instance", False),
        ("vit-clip-reid", (256, 128), 64, "half", True),
    ):
        model = models[recipe]
        backbone = config.backbones[model.backbone]
        assert (backbone.architecture, backbone.pretrained) == ("ViT-B-16-quickgelu", "openai")
        assert (backbone.input_size, backbone.stride) == (size, None)
        assert (model.batch.size, model.batch.instances) == (batch, 4)
        assert (model.input.normalise, model.test.normalise, model.test.distance) == (how, scaled, "euclidean")
        assert (model.prompts.context, model.prompts.epochs, model.prompts.batch_size) == (4, 120, batch)


def test_the_prompt_of_openais_vit_has_its_contexts_at_positions_5_to_8() -> None:
    ids = open_clip.tokenize(["A photo of a X X X X person."])[0]
    placeholder = open_clip.tokenize(["X"])[0, 1]
    assert (ids == placeholder).nonzero().ravel().tolist() == [5, 6, 7, 8]
    small = Config.parse(yaml.safe_load(CONFIG.read_text(encoding="utf-8"))).backbones["small"]
    learner = PromptLearner(build_clip(small, None), small, 2, 4, torch.Generator())
    assert learner.start == 5
    assert learner.ids[0].tolist() == ids[: int(ids.argmax()) + 1].tolist()
