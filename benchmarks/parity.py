"""How far a GPU is from the CPU: features, losses, augmented batches and products of the same seeded inputs.

    python benchmarks/parity.py [--device cuda] [--architectures NAME ...] [--out FILE.md]

A row that is farther off than it may be ends the command with status 1.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dfgs.config import AugmentSettings, BackboneSettings
from dfgs.device.augment import BatchTransform
from dfgs.losses.base import LossContext
from dfgs.metrics import PROTOCOLS, Embeddings, rank, summarise
from dfgs.models.clip import ImageEncoder, build_clip
from dfgs.models.features import Features
from dfgs.models.precision import Arithmetic
from dfgs.products import DeviceProducts
from dfgs.training.loop import build_losses

ARCHITECTURES = {"ViT-B-16-quickgelu": (256, 128), "RN50-quickgelu": (256, 128), "dfgs-small": (64, 32)}
PRECISIONS = {"float32": 1e-3, "bf16": 5e-2, "fp16": 1e-2}
"""What features may differ by, relative to their norm; float32 allows for another order and cuDNN's TF32."""
LOSSES = {
    "identity": {"weight": 0.25, "smoothing": 0.1, "features": ["pooled", "projected"]},
    "image-to-text": {"weight": 1.0, "smoothing": 0.1},
    "triplet": {"weight": 1.0, "margin": 0.3, "features": ["intermediate", "pooled", "projected"]},
}
AUGMENT = {"grey": 0.1, "pad": 10, "flip": 0.4, "jitter": 0.3, "augmix": 0.6, "erase": 0.5}
Row = tuple[str, float, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--architectures", nargs="*", choices=ARCHITECTURES, default=list(ARCHITECTURES))
    parser.add_argument("--out", type=Path, help="Also write the table there.")
    arguments = parser.parse_args()
    rows = list(every_row(arguments.architectures, torch.device(arguments.device)))
    lines = [f"Parity of {arguments.device} with the CPU, torch {torch.__version__}", ""]
    lines += ["| what | farthest off | may be |", "| --- | --- | --- |"]
    lines += [f"| {name} | {found:.2e} | {allowed:.0e} |" for name, found, allowed in rows]
    print("\n".join(lines))
    if arguments.out:
        arguments.out.write_text("\n".join([*lines, "", ""]), encoding="utf-8")
    if any(not found <= allowed for _, found, allowed in rows):
        sys.exit("parity: a row is farther off than it may be")


def every_row(architectures: list[str], device: torch.device) -> Iterator[Row]:
    for architecture in architectures:
        yield from features(architecture, device)
    yield from losses(device)
    yield augmented(device)
    yield from products(device)


def farthest(found: Tensor, expected: Tensor) -> float:
    """Largest distance of a row, relative to the expected row's norm."""
    distance = (found.detach().cpu() - expected.detach()).flatten(1).norm(dim=1)
    return float((distance / expected.detach().flatten(1).norm(dim=1).clamp_min(1e-12)).max())


def features(architecture: str, device: torch.device) -> Iterator[Row]:
    size = ARCHITECTURES[architecture]
    settings = {"pretrained": None, "input_size": size, "stride": None, "last_stride": 1, "pretrain": None}
    clip = build_clip(BackboneSettings.model_validate({"architecture": architecture, **settings}), None, seed=1)
    encoder = ImageEncoder(clip.visual, freeze_statistics=True).eval()
    images = torch.randn(4, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = encoder(images).joined(["pooled", "projected"])
        for precision, allowed in PRECISIONS.items():
            encoder.compute_as(Arithmetic(precision)).to(device)
            found = encoder(images.to(device)).joined(["pooled", "projected"])
            yield f"features, {architecture}, {precision}", farthest(found, expected), allowed


def losses(device: torch.device) -> Iterator[Row]:
    """Compare the losses and their gradients to the projected features."""
    widths = {"intermediate": 768, "pooled": 768, "projected": 512}
    labels = torch.arange(64) // 4
    for name, settings in LOSSES.items():
        results = []
        for where in (torch.device("cpu"), device):
            generator = torch.Generator().manual_seed(0)
            rows = [torch.randn(64, width, generator=generator).to(where).requires_grad_() for width in widths.values()]
            text = torch.randn(16, 512, generator=generator).to(where)
            loss = build_losses({name: settings}, LossContext(widths, 16, text, generator))[name].to(where)
            value = loss(Features(*rows), labels.to(where)).value
            value.backward()
            gradient = rows[2].grad
            assert gradient is not None
            results.append((value.detach().reshape(1, 1), gradient))
        (expected, gradient), (found, other) = results
        yield f"loss {name}", farthest(found, expected), 1e-4
        yield f"gradient of loss {name}", farthest(other, gradient), 1e-3


def augmented(device: torch.device) -> Row:
    """Compare augmented batches in grey levels; a pixel may fall on the other side of a rounding."""
    size = (256, 128)
    transform = BatchTransform(AugmentSettings.model_validate(AUGMENT), size)
    images = torch.randint(0, 256, (32, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    drawn = torch.utils.data.default_collate([transform.draw(seed) for seed in range(32)])
    expected, found = transform(images, drawn).float(), transform(images.to(device), drawn).float().cpu()
    share = float(((found - expected).abs() > 1.01).float().mean())
    return "share of augmented values off by more than a grey level", share, 1e-4


def products(device: torch.device) -> Iterator[Row]:
    """Compare blocks of products of unit rows, and the mAP that comes of them."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((1300, 512), dtype=np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    pids, camids = rng.integers(0, 60, 1300), rng.integers(0, 6, 1300)
    query, gallery = (Embeddings(features[part], pids[part], camids[part]) for part in (slice(300), slice(300, None)))
    blocks = DeviceProducts(device)(query, gallery)
    found = blocks(np.arange(300), np.arange(1000))
    yield "products of unit rows", float(np.abs(found - query.features @ gallery.features.T).max()), 1e-5
    rule = PROTOCOLS["market1501"]
    ranked = [summarise(rank(query, gallery, rule, "dot", given))["mAP"] for given in (None, blocks)]
    yield "mAP, points", abs(ranked[0] - ranked[1]), 1e-2


if __name__ == "__main__":
    main()
