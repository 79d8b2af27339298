"""The command line: one command per stage, called by the workflow's rules; heavy imports stay inside the commands."""

import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import click

from dfgs.errors import DfgsError

FILE = click.Path(path_type=Path)
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class _Job(click.ParamType[Any]):
    """A job: JSON on the command line."""

    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return json.loads(value)
        except ValueError as error:
            self.fail(f"not JSON: {error}", param, ctx)


job_option = click.option("--job", type=_Job(), required=True, help="The resolved job, as the workflow prints it.")
workers_option = click.option("--workers", default=0, show_default=True, help="Processes that load images.")
device_option = click.option(
    "--device", default="auto", show_default=True, help="cpu, cuda, or auto: cuda where there is one."
)


@click.group()
@click.version_option(package_name="dfgs")
def cli() -> None:
    """Does this batch sampler really help? Stages of the workflow; `snakemake all` calls them."""


@cli.command()
@job_option
@click.argument("folder", type=FILE)
@click.argument("manifest", type=FILE)
def draw(job: dict[str, Any], folder: Path, manifest: Path) -> None:
    """Draw a dataset of the drawn world into FOLDER and describe it in MANIFEST."""
    from dfgs.drawn.world import DomainSpec, publish_domain

    publish_domain(DomainSpec(**job), folder, manifest)


@cli.command()
@job_option
@device_option
@click.argument("weights", type=FILE)
@click.argument("report", type=FILE)
def pretrain(job: dict[str, Any], device: str, weights: Path, report: Path) -> None:
    """Train a small CLIP on drawn captioned people."""
    from dfgs.training.pretrain import pretrain as run

    run(job, weights, report, _device(device))


@cli.command("learn-prompts")
@job_option
@workers_option
@device_option
@click.option("--backbone", type=FILE, help="Weights of a backbone that was trained here.")
@click.argument("output", type=FILE)
def learn_prompts(job: dict[str, Any], workers: int, device: str, backbone: Path | None, output: Path) -> None:
    """Stage 1: learn one prompt per training identity."""
    from dfgs.training.prompts import learn_prompts as run

    run(job, backbone, output, workers, _device(device))


@cli.command()
@job_option
@workers_option
@device_option
@click.argument("prompts", type=FILE)
@click.argument("weights", type=FILE)
@click.argument("curve", type=FILE)
@click.argument("record", type=FILE)
def finetune(
    job: dict[str, Any], workers: int, device: str, prompts: Path, weights: Path, curve: Path, record: Path
) -> None:
    """Stage 2: fine-tune the image encoder on a sampler's batches."""
    from dfgs.training.finetune import finetune as run

    run(job, prompts, {"weights": weights, "curve": curve, "record": record}, workers, _device(device))


@cli.command()
@job_option
@workers_option
@device_option
@click.option("--backbone", type=FILE, help="Weights of a backbone that was trained here.")
@click.option("--trained", type=FILE, help="Image tower of stage 2; without it the untuned backbone is embedded.")
@click.argument("output", type=FILE)
def embed(
    job: dict[str, Any], workers: int, device: str, backbone: Path | None, trained: Path | None, output: Path
) -> None:
    """Embed all targets of one model."""
    from dfgs.extraction import embed_targets

    weights = {"backbone": backbone, "trained": trained}
    given = {name: path for name, path in weights.items() if path is not None}
    embed_targets(job, given, output, workers, _device(device))


@cli.command("score-trial")
@job_option
@click.option("--record", type=FILE, help="Record of the training; none for the untuned backbone.")
@click.argument("index", type=FILE)
@click.argument("metrics", type=FILE)
@click.argument("per_query", type=FILE)
def score_trial(job: dict[str, Any], record: Path | None, index: Path, metrics: Path, per_query: Path) -> None:
    """Score the embedded targets of one model; the only stage that reads a target's labels."""
    from dfgs.scoring import score_trial as run

    run(job, index, record, metrics, per_query)


@cli.command()
@click.option("--experiment", required=True)
@click.argument("output", type=FILE)
@click.argument("parts", type=FILE, nargs=-1, required=True)
def aggregate(experiment: str, output: Path, parts: tuple[Path, ...]) -> None:
    """Collect the metrics of an experiment's trials."""
    from dfgs.results import merge, write_metrics

    write_metrics(merge(parts).assign(experiment=experiment), output)


@cli.command()
@click.argument("output", type=FILE)
@click.argument("parts", type=FILE, nargs=-1, required=True)
def collect(output: Path, parts: tuple[Path, ...]) -> None:
    """Join the metrics of several experiments into one file."""
    from dfgs.results import merge, write_metrics

    write_metrics(merge(parts), output)


@cli.command()
@job_option
@click.option("--metric", required=True)
@click.argument("metrics", type=FILE)
@click.argument("stem", type=FILE)
def tabulate(job: dict[str, Any], metric: str, metrics: Path, stem: Path) -> None:
    """Compare an experiment's samplers in STEM.csv, STEM.md and STEM.tex."""
    from dfgs.report import write_table

    write_table(job, metric, metrics, stem)


@cli.command("tabulate-backbone")
@click.argument("metrics", type=FILE)
@click.argument("stem", type=FILE)
def tabulate_backbone(metrics: Path, stem: Path) -> None:
    """Show the untuned backbone beside chance in STEM.csv, STEM.md and STEM.tex."""
    from dfgs.report import write_backbone_table

    write_backbone_table(metrics, stem)


@cli.command("draw-figure")
@job_option
@click.option("--figure", required=True)
@click.argument("metrics", type=FILE)
@click.argument("stem", type=FILE)
@click.argument("curves", type=FILE, nargs=-1)
def draw_figure(job: dict[str, Any], figure: str, metrics: Path, stem: Path, curves: tuple[Path, ...]) -> None:
    """Draw one figure of an experiment to STEM.png and STEM.pdf."""
    from dfgs.report import write_figure

    write_figure(job, figure, metrics, curves, stem)


def _device(name: str) -> Any:
    """Return the torch device called `name`; `DfgsError` where it is not to be had."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "cuda"):
        raise DfgsError(f"--device {name!r} is not known; use cpu, cuda or auto")
    if name == "cuda" and not torch.cuda.is_available():
        raise DfgsError(f"--device cuda: torch {torch.__version__} finds no CUDA device here; use --device cpu")
    return torch.device(name)


def main() -> None:
    """Run the command line; a `DfgsError` prints one line and exits with 2."""
    for variable in THREAD_VARIABLES:
        # Another number of threads adds in another order: digests would depend on the cores of the machine.
        os.environ[variable] = "1"
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("dfgs").setLevel(logging.INFO)
    try:
        cli(prog_name="dfgs")
    except DfgsError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
