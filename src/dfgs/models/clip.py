"""CLIP models by open_clip name, at any input size: image features as re-ID uses them, prompts fed as embeddings."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from dfgs.config import BackboneSettings
from dfgs.errors import DfgsError, did_you_mean
from dfgs.models.features import Features
from dfgs.vision import open_clip

ModifiedResNet: Any = open_clip.modified_resnet.ModifiedResNet
VisionTransformer: Any = open_clip.transformer.VisionTransformer

ARCHITECTURES = Path(__file__).parent / "architectures"


def build_clip(settings: BackboneSettings, weights: Path | None, seed: int = 0) -> Any:
    """Build the CLIP model called `settings.architecture` at `settings.input_size`, float32, in eval mode.

    `weights` is a safetensors file of this very model (as the `pretrain` stage writes it); None takes
    `settings.pretrained`: an open_clip tag or file, or random weights (from `seed`) where that is null.
    Raises `DfgsError` for an unknown architecture or weights of another shape.
    """
    open_clip.add_model_config(ARCHITECTURES)
    if settings.architecture not in open_clip.list_models():
        near = did_you_mean(settings.architecture, open_clip.list_models())
        raise DfgsError(f"backbone: open_clip has no architecture {settings.architecture!r}{near.split(' (known')[0]}")
    tag = settings.pretrained if weights is None and settings.pretrained != "drawn" else None
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            clip = open_clip.create_model(settings.architecture, pretrained=tag, precision="fp32")
    except (RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DfgsError(f"backbone: cannot load pretrained={tag!r} into {settings.architecture}: {reason}") from error
    set_input_size(clip.visual, settings.input_size, settings.stride, settings.last_stride)
    if weights is not None:
        load_weights(clip, weights)
    return clip.eval()


def load_weights(module: nn.Module, path: Path) -> None:
    """Load a safetensors file that holds exactly the state of `module`; `DfgsError` names what disagrees."""
    try:
        module.load_state_dict(read_tensors(path))
    except RuntimeError as error:
        raise DfgsError(f"cannot load weights {path}: {str(error).splitlines()[0]}") from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file; `DfgsError` names one that is missing or damaged."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise DfgsError(f"cannot load weights {path}: {str(error).splitlines()[0]}") from error


def set_input_size(visual: nn.Module, size: tuple[int, int], stride: int | None, last_stride: int) -> None:
    """Fit the image tower to `size` (height, width) pixels, resizing its position embedding bilinearly.

    As CLIP-ReID (AAAI 2023): the class position is kept, the grid is interpolated. `stride` (Vision Transformer
    only) below the patch size gives overlapping patches; `last_stride` 1 (ResNet only) keeps the last stage's
    resolution.
    """
    if isinstance(visual, VisionTransformer):
        patch = int(visual.patch_size[0])
        step = stride or patch
        visual.conv1.stride = (step, step)
        grid = ((size[0] - patch) // step + 1, (size[1] - patch) // step + 1)
        visual.positional_embedding = _resized(visual.positional_embedding, grid)
        visual.grid_size, visual.image_size = grid, size
    elif isinstance(visual, ModifiedResNet):
        if last_stride == 1:
            block = visual.layer4[0]
            block.avgpool = nn.Identity()
            block.downsample[0] = nn.Identity()
        reduction = 32 if last_stride == 2 else 16
        grid = (size[0] // reduction, size[1] // reduction)
        visual.attnpool.positional_embedding = _resized(visual.attnpool.positional_embedding, grid)
        visual.image_size = size
    else:
        raise DfgsError(
            f"backbone: image tower {type(visual).__name__} is neither a Vision Transformer nor CLIP's ResNet"
        )


def _resized(embedding: nn.Parameter, grid: tuple[int, int]) -> nn.Parameter:
    """Position embedding (1 + h·w, d) of a square grid, interpolated to `grid`."""
    cells = embedding.shape[0] - 1
    side = round(cells**0.5)
    if (side, side) == grid:
        return embedding
    square = embedding[1:].detach().reshape(1, side, side, -1).permute(0, 3, 1, 2)
    resized = functional.interpolate(square, size=grid, mode="bilinear", align_corners=False)
    flat = resized.permute(0, 2, 3, 1).reshape(grid[0] * grid[1], -1)
    return nn.Parameter(torch.cat([embedding[:1].detach(), flat]))


class ImageEncoder(nn.Module):
    """The image tower of a CLIP model; `widths` tells the size of each feature.

    With `freeze_statistics` BatchNorm keeps its pre-trained statistics, so that a batch acts through the loss alone.
    """

    def __init__(self, visual: nn.Module, freeze_statistics: bool) -> None:
        super().__init__()
        self.visual, self.freeze_statistics = visual, freeze_statistics
        if isinstance(visual, VisionTransformer):
            width = int(visual.conv1.out_channels)
            sizes = (width, width, int(visual.proj.shape[1]))
        else:
            tower: Any = visual
            width = int(tower.layer4[-1].conv3.out_channels)
            sizes = (width // 2, width, int(tower.output_dim))
        self.widths = dict(zip(("intermediate", "pooled", "projected"), sizes, strict=True))

    def train(self, mode: bool = True) -> "ImageEncoder":
        """Set training mode; BatchNorm layers stay in eval mode where statistics are frozen."""
        super().train(mode)
        if self.freeze_statistics:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def forward(self, images: Tensor) -> Features:
        """Encode images (n, 3, height, width)."""
        if isinstance(self.visual, VisionTransformer):
            return self._transformer(images)
        return self._resnet(images)

    def _transformer(self, images: Tensor) -> Features:
        visual: Any = self.visual
        depth = len(visual.transformer.resblocks)
        tokens = visual.forward_intermediates(
            images, indices=[depth - 2, depth - 1], output_fmt="NLC", output_extra_tokens=True, intermediates_only=True
        )["image_intermediates_prefix"]
        pooled = visual.ln_post(tokens[1][:, 0])
        return Features(tokens[0][:, 0], pooled, pooled @ visual.proj)

    def _resnet(self, images: Tensor) -> Features:
        visual: Any = self.visual
        third = visual.layer3(visual.layer2(visual.layer1(visual.stem(images))))
        fourth = visual.layer4(third)
        return Features(third.mean((2, 3)), fourth.mean((2, 3)), visual.attnpool(fourth))


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
