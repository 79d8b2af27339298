"""CLIP models by open_clip name, at any input size: image features as re-ID uses them, prompts fed as embeddings."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dfgs.config import BackboneSettings
from dfgs.errors import DfgsError, did_you_mean
from dfgs.models.cameras import CameraEmbedding
from dfgs.models.features import Features
from dfgs.models.precision import FLOAT32, Arithmetic
from dfgs.models.weights import check_activation, find_weights, load_weights, read_facts, read_weights, take_state
from dfgs.provenance import read_json
from dfgs.seeding import seeded
from dfgs.vision import ARCHITECTURES, open_clip

ModifiedResNet: Any = open_clip.modified_resnet.ModifiedResNet
VisionTransformer: Any = open_clip.transformer.VisionTransformer
FEW_ROWS = 8
"""Rows below which a BLAS may multiply by a routine of its own."""


def build_clip(settings: BackboneSettings, weights: Path | None, seed: int = 0) -> Any:
    """Build the CLIP model called `settings.architecture` at `settings.input_size`, float32, in eval mode.

    `weights` is a safetensors file of this very model (as the `pretrain` stage writes it); None takes
    `settings.pretrained`: a file, a tag that `dfgs fetch-weights` has fetched, or random weights (from `seed`) where
    that is null. Raises `DfgsError` for an unknown architecture and for weights of another model, activation, input
    size or stride.
    """
    clip = random_clip(settings.architecture, seed)
    if weights is None and settings.pretrained not in (None, "drawn"):
        _take_pretrained(clip, settings)
    set_input_size(clip.visual, settings.input_size, _step(clip.visual, settings))
    if weights is not None:
        load_weights(clip, weights)
    return clip.eval()


def architectures() -> list[str]:
    """List open_clip's architectures and ours."""
    names: list[str] = open_clip.list_models()
    return names


def check_architecture(name: str) -> None:
    """Raise `DfgsError` if there is no architecture of this name."""
    if name not in architectures():
        near = did_you_mean(name, architectures())
        raise DfgsError(f"backbone: open_clip has no architecture {name!r}{near.split(' (known')[0]}")
    config = open_clip.get_model_config(name)
    if "timm_model_name" in config["vision_cfg"] or "hf_model_name" in config["text_cfg"]:
        raise DfgsError(
            f"backbone: {name!r} has a tower of timm or transformers; choose a Vision Transformer of open_clip's own, "
            "such as 'ViT-B-16', or CLIP's ResNet"
        )


def random_clip(architecture: str, seed: int = 0) -> Any:
    """Build an architecture at its own input size, float32, with weights drawn from `seed`."""
    config = _plain_config(architecture)
    with seeded(seed):
        if config is not None:
            return open_clip.model.CLIP(**config)
        check_architecture(architecture)
        return open_clip.create_model(architecture, precision="fp32")


def _plain_config(architecture: str) -> dict[str, Any] | None:
    """Read an architecture that open_clip's `create_model` makes a plain CLIP of; None for others.

    `create_model` needs the whole of open_clip, whose import costs more than torch's.
    """
    folders = (*(Path(path) / "model_configs" for path in open_clip.__path__), ARCHITECTURES)
    files = {path.stem: path for folder in folders for path in folder.glob("*.json")}
    if architecture not in files:
        return None
    config: dict[str, Any] = read_json(files[architecture])
    is_plain = set(config) <= {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu"}
    of_others = {"timm_model_name", "hf_model_name"} & {*config["vision_cfg"], *config["text_cfg"]}
    return config if is_plain and not of_others else None


def _take_pretrained(clip: Any, settings: BackboneSettings) -> None:
    """Load a stranger's weights: those of the architecture's own input size, or those of the configuration's.

    The former are resized afterwards, as CLIP-ReID does; weights of any third size or stride are refused.
    """
    path = find_weights(settings)
    state, facts = read_weights(path), read_facts(path)
    visual, found = clip.visual, state.get("visual." + positions_of(clip.visual)[0])
    own = geometry(visual)
    made = own if facts is None else (facts.input_size, facts.stride)
    if facts is not None:
        check_activation(f"weights {path}", facts.quick_gelu, settings.architecture)
    if made != own or (found is not None and len(found) != len(positions_of(visual)[1])):
        set_input_size(visual, settings.input_size, _step(visual, settings))
        asked = geometry(visual)
        if facts is not None and made != asked:
            raise DfgsError(
                f"backbone: weights {path} were made {_at(made)}, the configuration asks {_at(asked, 'for')}"
            )
        if found is not None and len(found) != len(positions_of(visual)[1]):
            raise DfgsError(
                f"backbone: weights {path} hold {len(found) - 1} positions, the configuration has "
                f"{len(positions_of(visual)[1]) - 1} {_at(asked)}; weights of another size than the architecture's own "
                f"({_at(own)[3:]}) must agree with it"
            )
    take_state(clip, state, path)


def _at(made: tuple[tuple[int, int], int], word: str = "at") -> str:
    (height, width), stride = made
    return f"{word} {height}×{width} pixels and stride {stride}"


def _step(visual: nn.Module, settings: BackboneSettings) -> int:
    """Return the step between patches, of a ResNet the stride of its last stage."""
    if isinstance(visual, VisionTransformer):
        return settings.stride or int(visual.patch_size[0])
    return settings.last_stride


def geometry(visual: Any) -> tuple[tuple[int, int], int]:
    """Return an image tower's input size (height, width) and stride: between patches, of a ResNet's last stage."""
    size = visual.image_size
    height, width = size if isinstance(size, list | tuple) else (size, size)
    if isinstance(visual, VisionTransformer):
        return (height, width), int(visual.conv1.stride[0])
    return (height, width), 1 if isinstance(visual.layer4[0].avgpool, nn.Identity) else 2


def positions_of(visual: Any) -> tuple[str, nn.Parameter]:
    """Return the name of an image tower's position embedding and itself: (1 + cells, d)."""
    if isinstance(visual, VisionTransformer):
        return "positional_embedding", visual.positional_embedding
    if isinstance(visual, ModifiedResNet):
        return "attnpool.positional_embedding", visual.attnpool.positional_embedding
    raise DfgsError(f"backbone: image tower {type(visual).__name__} is neither a Vision Transformer nor CLIP's ResNet")


def grid_of(visual: Any) -> tuple[int, int]:
    """Return rows and columns of the cells that an image tower attends to."""
    (height, width), stride = geometry(visual)
    if isinstance(visual, VisionTransformer):
        patch = int(visual.patch_size[0])
        return (height - patch) // stride + 1, (width - patch) // stride + 1
    return height // (16 * stride), width // (16 * stride)


def set_input_size(visual: Any, size: tuple[int, int], stride: int) -> None:
    """Fit the image tower to `size` (height, width) pixels, resizing its position embedding bilinearly.

    As CLIP-ReID (AAAI 2023): the class position is kept, the grid is interpolated. A `stride` below a Vision
    Transformer's patch size gives overlapping patches; 1 keeps the resolution of a ResNet's last stage (2 halves it).
    """
    name, positions = positions_of(visual)
    before = grid_of(visual)
    if isinstance(visual, VisionTransformer):
        visual.conv1.stride = (stride, stride)
    elif stride == 1:
        block = visual.layer4[0]
        block.avgpool = nn.Identity()
        block.downsample[0] = nn.Identity()
    visual.image_size = size
    grid = grid_of(visual)
    if isinstance(visual, VisionTransformer):
        visual.grid_size = grid
    owner, _, attribute = name.rpartition(".")
    setattr(visual.get_submodule(owner), attribute, _resized(positions, before, grid))


def _resized(embedding: nn.Parameter, before: tuple[int, int], grid: tuple[int, int]) -> nn.Parameter:
    """Position embedding (1 + h·w, d) of the grid `before`, interpolated to `grid`."""
    if before == grid:
        return embedding
    cells = embedding[1:].detach().reshape(1, *before, -1).permute(0, 3, 1, 2)
    resized = functional.interpolate(cells, size=grid, mode="bilinear", align_corners=False)
    flat = resized.permute(0, 2, 3, 1).reshape(grid[0] * grid[1], -1)
    return nn.Parameter(torch.cat([embedding[:1].detach(), flat]))


class ImageEncoder(nn.Module):
    """The image tower of a CLIP model; `widths` tells the size of each feature.

    With `freeze_statistics` BatchNorm keeps its pre-trained statistics, so that a batch acts through the loss alone.
    `cameras` may be a `CameraEmbedding`, for a Vision Transformer.
    """

    def __init__(self, visual: nn.Module, freeze_statistics: bool, cameras: CameraEmbedding | None = None) -> None:
        super().__init__()
        self.visual, self.freeze_statistics, self.cameras = visual, freeze_statistics, cameras
        self.compute_as(FLOAT32)
        if isinstance(visual, VisionTransformer):
            width = int(visual.conv1.out_channels)
            sizes = (width, width, int(visual.proj.shape[1]))
        else:
            tower: Any = visual
            width = int(tower.layer4[-1].conv3.out_channels)
            sizes = (width // 2, width, int(tower.output_dim))
            if cameras is not None:
                raise DfgsError(
                    "model: camera_embedding needs a Vision Transformer, the backbone is a ResNet; set null"
                )
        self.widths = dict(zip(("intermediate", "pooled", "projected"), sizes, strict=True))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def compute_as(self, arithmetic: Arithmetic) -> "ImageEncoder":
        """Choose the tower's arithmetic; features are float32 whatever it is. Returns the encoder itself."""
        self.arithmetic, self._encode_in_training = arithmetic, arithmetic.compiled(self._encode)
        return self

    def train(self, mode: bool = True) -> "ImageEncoder":
        """Set training mode; BatchNorm layers stay in eval mode where statistics are frozen."""
        super().train(mode)
        if self.freeze_statistics:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def forward(self, images: Tensor, rows: Tensor | None = None) -> Features:
        """Encode images (n, 3, height, width); `rows` int64 (n,) are their rows in the camera embedding."""
        with self.arithmetic.on(images.device):
            encode = self._encode_in_training if self.training else self._encode
            features = encode(images, rows)
        return Features(*(part.float() if self.arithmetic.is_mixed else part for part in features))

    def _encode(self, images: Tensor, rows: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        if isinstance(self.visual, VisionTransformer):
            return self._transformer(images, rows)
        return self._resnet(images)

    def _transformer(self, images: Tensor, rows: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        visual: Any = self.visual
        first = visual.class_embedding.expand(len(images), 1, -1)
        if self.cameras is not None and rows is not None:
            first = first + self.cameras(rows.to(images.device))[:, None]
        patches = visual.conv1(images).flatten(2).transpose(1, 2)
        embedded = torch.cat([first, patches], dim=1) + visual.positional_embedding
        depth = len(visual.transformer.resblocks)
        _, tokens = visual.transformer.forward_intermediates(
            visual.ln_pre(visual.patch_dropout(embedded)), indices=[depth - 2, depth - 1]
        )
        pooled = visual.ln_post(tokens[1][:, 0])
        return tokens[0][:, 0], pooled, pooled @ visual.proj

    def _resnet(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        visual: Any = self.visual
        third = visual.layer3(visual.layer2(visual.layer1(visual.stem(images))))
        fourth = visual.layer4(third)
        return third.mean((2, 3)), fourth.mean((2, 3)), _attended(visual.attnpool, fourth)


def _attended(pool: Any, cells: Tensor) -> Tensor:
    """What open_clip's `AttentionPool2d` makes of cells (n, d, h, w), bit for bit: only the mean's answer is used.

    It projects queries and answers of all cells. Here the others' queries are zeros, which the kernel of the attention
    still goes through, since one of another shape would add in another order; so would a product of very few rows.
    """
    if len(cells) < FEW_ROWS:
        whole: Tensor = pool(cells)
        return whole
    flat = cells.flatten(2).permute(2, 0, 1)
    tokens = torch.cat([flat.mean(dim=0, keepdim=True), flat]) + pool.positional_embedding[:, None, :].to(flat.dtype)
    length, images, width = tokens.shape
    query = functional.pad(pool.q_proj(tokens[:1]), (0, 0, 0, 0, 0, length - 1))
    asked, known, told = (
        part.view(length, images * pool.num_heads, -1).transpose(0, 1).view(images, pool.num_heads, length, -1)
        for part in (query, pool.k_proj(tokens), pool.v_proj(tokens))
    )
    answer = functional.scaled_dot_product_attention(asked, known, told)[:, :, 0]
    pooled: Tensor = pool.c_proj(answer.reshape(images, width))
    return pooled


class PromptEncoder(nn.Module):
    """The text tower of a CLIP model, fed with token embeddings instead of token ids (Zhou et al., CoOp, 2022)."""

    mask: Tensor

    def __init__(self, clip: nn.Module) -> None:
        super().__init__()
        text: Any = getattr(clip, "text", clip)
        self.transformer, self.norm, self.projection = text.transformer, text.ln_final, text.text_projection
        self.positions = text.positional_embedding
        self.register_buffer("mask", text.attn_mask, persistent=False)
        self.pool = getattr(text, "text_pool_type", None) or text.pool_type
        self.end = getattr(text, "text_eos_id", None) or getattr(text, "eos_id", None)

    def forward(self, embeddings: Tensor, ids: Tensor) -> Tensor:
        """Encode embeddings (n, length, width) of the token ids (n, length) to text features (n, d), not normalised."""
        length = embeddings.shape[1]
        hidden = self.transformer(embeddings + self.positions[:length], attn_mask=self.mask[:length, :length])
        pooled = open_clip.transformer.text_global_pool(self.norm(hidden), ids, self.pool, eos_token_id=self.end)
        if isinstance(self.projection, nn.Linear):
            return self.projection(pooled)  # type: ignore[no-any-return]
        projected: Tensor = pooled @ self.projection
        return projected
