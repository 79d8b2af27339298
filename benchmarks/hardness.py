"""How hard the batches of each sampler are on real features, as ratios to PK: mean over passes of several seeds.

    dfgs embed-source results/runs/market1501/MODEL/pk/s0/record.json market_train.npz
    python benchmarks/hardness.py market_train.npz

FEATURES is whatever `dfgs score` reads; all its images are taken as training images, without junk and distractors.
Rows are scaled to length 1. "image" is the mean distance from an image to the nearest one of another identity in its
batch, "mean" that to the nearest mean of another identity in its batch; lower is harder. "served" and "images" are the
shares of identities and of images in at least one batch of a pass.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfgs.audit.batches import batch_figures
from dfgs.errors import DfgsError
from dfgs.feature_sets import read_feature_set
from dfgs.samplers import REGISTRY
from dfgs.samplers.base import BatchSampler, Labels

Floats = NDArray[np.float32]

MEANS = {"neighbours": 15, "skip": 0, "representation": "mean"}
RANKS = {"neighbours": 10, "skip": 0}
SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "pk": ("pk", {}),
    "dfgs, k 15, m 0, id means": ("dfgs", MEANS),
    "dfgs, k 15, m 0, one image": ("dfgs", MEANS | {"representation": "one"}),
    "dfgs, k 10, m 2, one image (default)": ("dfgs", {}),
    "dfgs, k 10, m 0, one image": ("dfgs", RANKS),
    "dfgs, the same, no restart": ("dfgs", RANKS | {"restart": False}),
    "dfgs-released, image": ("dfgs-released", {}),
    "dfgs-permuted": ("dfgs-permuted", {}),
    "gs": ("gs", {}),
    "gs-released": ("gs-released", {}),
    "proximity-walk": ("proximity-walk", {}),
}


def read(path: Path) -> tuple[Labels, Floats]:
    """Read labels and features (n, d), scaled to length 1."""
    found = read_feature_set(path)
    parts = (found.gallery,) if found.is_all_against_all else (found.query, found.gallery)
    features, pids, camids = (np.concatenate([getattr(p, n) for p in parts]) for n in ("features", "pids", "camids"))
    if not found.is_all_against_all:
        features, pids, camids = (column[pids > 0] for column in (features, pids, camids))
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return Labels(pids, camids, np.zeros_like(pids)), (features / np.maximum(lengths, 1e-12)).astype(np.float32)


def give_features(sampler: BatchSampler, features: Floats) -> None:
    """Give a graph sampler what it asks for out of the features of all images."""
    request = sampler.feature_request(0)
    if request is not None and request.images is not None:
        sampler.set_features(identities=sampler.labels.identities, image=request.pool(features[request.images]))


def hardness(labels: Labels, features: Floats, images: NDArray[np.int64]) -> tuple[float, float]:
    """Mean distances to the nearest image and to the nearest identity mean of another identity, over all batches."""
    found = batch_figures(labels, features, images, np.empty((len(labels.identities), 0), np.int32))
    return found["image_distance"], found["mean_distance"]


def measure(labels: Labels, features: Floats, options: argparse.Namespace) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Yield the name and figures (seeds, columns) of each setting that the identities allow."""
    for name, (kind, arguments) in SETTINGS.items():
        figures = []
        for seed in range(options.seeds):
            common = {"batch_size": options.identities * options.instances, "instances": options.instances}
            sampler = REGISTRY.load(kind)(labels, **common, seed=seed, **arguments)
            give_features(sampler, features)
            counts = sampler.statistics
            share = counts.identities_served / counts.identities, counts.images_served / counts.images
            figures.append([*hardness(labels, features, sampler.current_pass().images), *share])
        yield name, np.array(figures)


def main() -> None:
    """Print one row per setting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("features", type=Path)
    parser.add_argument("--identities", type=int, default=16, help="P")
    parser.add_argument("--instances", type=int, default=4, help="K")
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    labels, features = read(options.features)
    print(f"{len(labels)} images, {len(labels.identities)} identities, {features.shape[1]} dimensions")
    print("| setting | image ± sd over seeds | × PK | mean | × PK | served | images |\n|---|---|---|---|---|---|---|")
    base = None
    for name, figures in measure(labels, features, options):
        image, mean, served, seen = figures.mean(axis=0)
        base = (image, mean) if base is None else base
        spread = figures[:, 0].std(ddof=1) if options.seeds > 1 else 0.0
        print(
            f"| {name} | {image:.4f} ± {spread:.4f} | {image / base[0]:.3f} | {mean:.4f} | {mean / base[1]:.3f} "
            f"| {served:.1%} | {seen:.1%} |",
            flush=True,
        )


if __name__ == "__main__":
    try:
        main()
    except DfgsError as error:
        raise SystemExit(f"error: {error}") from None
