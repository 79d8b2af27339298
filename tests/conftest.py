"""A tiny drawn dataset and a tiny configuration that the tests of several rooms share."""

import copy
import os
import shutil
from pathlib import Path
from typing import Any

# Before NumPy and torch come: threads that wait for each other make tiny models slow, most of all on a busy machine.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import pytest
import yaml

from dfgs.config import Config
from dfgs.drawn.world import DomainSpec, publish_domain
from dfgs.provenance import write_json
from page_results import write_results

TINY_WORLD = DomainSpec(
    seed=5,
    gap=0.2,
    cameras=3,
    train_identities=10,
    test_identities=5,
    images_per_camera=2,
    family=2,
    distractors=3,
    junk=2,
)
TINY_CONFIG = """
run: [main]
experiments:
  main:
    title: Main
    sources: [a, ab]
    targets: [a, b]
    models: [tiny]
    samplers: [pk, random]
    seeds: [0, 1]
    metrics: [mAP]
    figures: [comparison]
sources:
  a: [drawn-a]
  b: [drawn-b]
  ab: [drawn-a, drawn-b]
targets:
  a: {dataset: drawn-a, splits: [test]}
  b: {dataset: drawn-b, splits: [half-0, half-1]}
  c: {dataset: drawn-c, splits: [test]}
datasets:
  drawn-a: {layout: market1501, draw: &draw {
    seed: 1, gap: 0.2, cameras: 3, train_identities: 8, test_identities: 4,
    images_per_camera: 1, family: 2, distractors: 2, junk: 2}}
  drawn-b: {layout: market1501, draw: {<<: *draw, seed: 2}}
  drawn-c: {layout: market1501, options: {validation: 2}, draw: {<<: *draw, seed: 3}}
  real: {layout: market1501, root: null}
samplers:
  pk: {}
  random: {}
  gs: {}
  dfgs-k3: {class: dfgs, graph: image, neighbours: 3, skip: 1}
backbones:
  small:
    architecture: dfgs-small
    pretrained: drawn
    input_size: [64, 32]
    stride: null
    last_stride: 2
    pretrain:
      seed: 7
      domains: 2
      pictures: 60
      held_out: 10
      gap: 0.5
      steps: 3
      batch_size: 16
      learning_rate: 1.0e-3
      warmup_steps: 2
      weight_decay: 0.05
models:
  tiny:
    backbone: small
    freeze_statistics: true
    input:
      normalise: clip
      augment: {grey: 0.2, pad: 3, flip: 0.5, jitter: 0.5, augmix: 0.5, erase: 0.5}
    batch: {size: 8, instances: 2}
    prior:
      epochs: 1
      losses: {triplet: {weight: 2.0, margin: null, features: [pooled, projected]}}
    prompts:
      context: 2
      epochs: 2
      batch_size: 16
      learning_rate: 1.0e-2
      warmup_epochs: 1
      warmup_rate: 1.0e-3
      final_rate: 1.0e-4
      weight_decay: 1.0e-4
      shuffle: true
      drop_last: false
    finetune:
      epochs: 2
      iterations: 4
      learning_rate: 1.0e-3
      bias_factor: 2.0
      weight_decay: 1.0e-4
      warmup_epochs: 3
      warmup_factor: 0.1
      milestones: [3]
      decay: 0.1
      shared_schedule: true
      losses:
        image-to-text: {weight: 1.0, smoothing: 0.1}
        triplet: {weight: 2.0, margin: null, features: [pooled, projected]}
    test: {features: [pooled, projected], normalise: false, distance: euclidean}
"""


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a drawn dataset in Market-1501's layout: 10 training and 5 test identities; not to be changed."""
    root = tmp_path_factory.mktemp("worlds") / "tiny"
    publish_domain(TINY_WORLD, root, root.with_name("tiny.json"))
    return root


@pytest.fixture
def values() -> dict[str, Any]:
    """A complete, valid configuration as a plain dictionary; every test gets its own."""
    return copy.deepcopy(yaml.safe_load(TINY_CONFIG))


@pytest.fixture
def on_disk(values: dict[str, Any], world: Path) -> dict[str, Any]:
    """The same configuration on the drawn dataset `world` and with random weights, ready for jobs that run."""
    for name in ("drawn-a", "drawn-b", "drawn-c"):
        values["datasets"][name] = {"layout": "market1501", "root": str(world)}
    values["backbones"]["small"] |= {"pretrained": None, "pretrain": None}
    return values


def write_index(
    path: Path, features: dict[str, str], datasets: list[dict[str, Any]], test: dict[str, Any], images: str = "pixels"
) -> None:
    """Write the index that `dfgs embed` would leave; `images` stands for what the image files hold."""
    digests = {view: f"{images}-{view}" for view in features}
    described = {"distance": test["distance"], "normalise": test["normalise"]}
    settings = {"features": test["features"], "input": [64, 32]}
    write_json(path, {"features": features, "images": digests, "datasets": datasets, **described, "settings": settings})


def _with_two_metrics() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(TINY_CONFIG)
    found["experiments"]["main"]["metrics"] = ["mAP", "rank1"]
    return found


@pytest.fixture(scope="session")
def finished_config() -> Config:
    """The configuration of `finished_results`."""
    return Config.parse(_with_two_metrics())


@pytest.fixture
def page_values() -> dict[str, Any]:
    """The tiny configuration with two metrics; every test gets its own."""
    return _with_two_metrics()


@pytest.fixture(scope="session")
def finished_results(finished_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of the whole tiny grid that nobody trained; not to be changed."""
    results = tmp_path_factory.mktemp("page") / "results"
    write_results(finished_config, results)
    return results


@pytest.fixture
def results(finished_results: Path, tmp_path: Path) -> Path:
    """A copy of these results that a test may change."""
    return Path(shutil.copytree(finished_results, tmp_path / "results"))
