"""The stages that the workflow's rules call: from drawn images to scores."""

from pathlib import Path
from typing import Any

import click

from dfgs.cli.options import (
    FILE,
    attempted,
    device_option,
    find_device,
    find_products,
    job_option,
    leaves_at_once,
    products_option,
    rhythm_options,
    workers_option,
)


@click.command()
@job_option
@leaves_at_once
@click.argument("folder", type=FILE)
@click.argument("manifest", type=FILE)
@attempted("draw", "manifest", "folder")
def draw(job: dict[str, Any], folder: Path, manifest: Path) -> None:
    """Draw a dataset of the drawn world into FOLDER and describe it in MANIFEST."""
    from dfgs.drawn.world import DomainSpec, publish_domain

    publish_domain(DomainSpec(**job), folder, manifest)


@click.command()
@job_option
@device_option
@rhythm_options
@click.argument("weights", type=FILE)
@click.argument("report", type=FILE)
@attempted("pretrain", "weights", "report")
def pretrain(job: dict[str, Any], device: str, rhythm: Any, weights: Path, report: Path) -> None:
    """Train a small CLIP on drawn captioned people."""
    from dfgs.training.pretrain import pretrain as run

    run(job, weights, report, find_device(device), rhythm)


@click.command("learn-prompts")
@job_option
@workers_option
@device_option
@click.option("--backbone", type=FILE, help="Weights of a backbone that was trained here.")
@rhythm_options
@click.argument("output", type=FILE)
@attempted("learn_prompts", "output")
def learn_prompts(
    job: dict[str, Any], workers: int, device: str, rhythm: Any, backbone: Path | None, output: Path
) -> None:
    """Stage 1: learn one prompt per training identity."""
    from dfgs.training.prompts import learn_prompts as run

    run(job, backbone, output, workers, find_device(device), rhythm)


@click.command()
@job_option
@workers_option
@device_option
@rhythm_options
@click.argument("prompts", type=FILE)
@click.argument("weights", type=FILE)
@click.argument("curve", type=FILE)
@click.argument("audit", type=FILE)
@click.argument("record", type=FILE)
@attempted("finetune", "weights", "curve", "audit", "record")
def finetune(job: dict[str, Any], workers: int, device: str, rhythm: Any, prompts: Path, **output: Path) -> None:
    """Stage 2: fine-tune the image encoder on a sampler's batches."""
    from dfgs.training.finetune import finetune as run

    run(job, prompts, output, workers, find_device(device), rhythm)


@click.command()
@job_option
@workers_option
@device_option
@click.option("--backbone", type=FILE, help="Weights of a backbone that was trained here.")
@click.option("--trained", type=FILE, help="Image tower of stage 2; without it the untuned backbone is embedded.")
@leaves_at_once
@click.argument("output", type=FILE)
@attempted("embed", "output")
def embed(
    job: dict[str, Any], workers: int, device: str, backbone: Path | None, trained: Path | None, output: Path
) -> None:
    """Embed all targets of one model."""
    from dfgs.extraction import embed_targets

    weights = {"backbone": backbone, "trained": trained}
    given = {name: path for name, path in weights.items() if path is not None}
    embed_targets(job, given, output, workers, find_device(device))


@click.command("score-trial")
@job_option
@products_option
@click.option("--record", type=FILE, help="Record of the training; none for the untuned backbone.")
@leaves_at_once
@click.argument("index", type=FILE)
@click.argument("metrics", type=FILE)
@click.argument("per_query", type=FILE)
@attempted("score", "metrics", "per_query")
def score_trial(
    job: dict[str, Any], device: str, record: Path | None, index: Path, metrics: Path, per_query: Path
) -> None:
    """Score the embedded targets of one model; the only stage that reads a target's labels."""
    from dfgs.scoring import score_trial as run

    run(job, index, record, {"metrics": metrics, "per_query": per_query}, find_products(device))


@click.command("drop-features")
@click.argument("indices", type=FILE, nargs=-1, required=True)
def drop_features(indices: tuple[Path, ...]) -> None:
    """Delete the stored features that each index.json names, once they are scored, and the index.

    Nothing runs again because of it. What needs them later, such as another target, embeds that model's images anew.
    """
    from dfgs.feature_store import drop_features as drop

    for index in indices:
        click.echo(f"{index}: {drop(index) / 1e6:.1f} MB freed")


COMMANDS = (draw, pretrain, learn_prompts, finetune, embed, score_trial, drop_features)
