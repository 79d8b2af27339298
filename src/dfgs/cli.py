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
products_option = click.option(
    "--device",
    default="cpu",
    show_default=True,
    help="Where blocks are multiplied: cpu (NumPy), cuda, or auto: cuda where there is one.",
)
of_option = click.option("--of", "view", help="DATASET/SPLIT of an index.json that holds several.")
protocol_option = click.option(
    "--protocol",
    default="market1501",
    show_default=True,
    help="market1501, cuhk03-new, single-gallery-shot or plain.",
)
distance_option = click.option(
    "--distance",
    type=click.Choice(["cosine", "euclidean", "dot"]),
    help="Default: cosine for a file, for an index.json what its model is tested with.",
)
stem_option = click.option(
    "--out", "stem", type=FILE, required=True, help="The figure is written to OUT.png and OUT.pdf."
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


@cli.command("convert-weights")
@click.argument("source", metavar="IN", type=FILE)
@click.argument("output", metavar="OUT", type=FILE)
@click.option("--architecture", help="open_clip's name; by default it is recognised.")
@click.option("--activation", type=click.Choice(["quickgelu", "gelu"]), help="Where the file does not tell it.")
@click.option("--input-size", type=(int, int), help="Height and width, where they are not the architecture's own.")
@click.option("--stride", type=int, help="Between patches (of a ResNet: of its last stage), where not its own.")
def convert_weights(source: Path, output: Path, activation: str | None, **known: Any) -> None:
    """Convert OpenAI's TorchScript archive, or a .pt state dict, into OUT.safetensors and OUT.json.

    IN is read in a process of its own that has no network, and no code in it is run.
    """
    from dfgs.models.conversion import convert_weights as run

    known["quick_gelu"] = None if activation is None else activation == "quickgelu"
    run(source, output, {name: value for name, value in known.items() if value is not None})


@cli.command("fetch-weights")
@click.argument("architecture")
@click.argument("tag")
def fetch_weights(architecture: str, tag: str) -> None:
    """Download open_clip's weights TAG of ARCHITECTURE once; jobs look for them there and never use the network.

    They are kept in $DFGS_WEIGHTS, or in ~/.cache/dfgs/weights.
    """
    from dfgs.models.conversion import fetch_weights as run

    click.echo(run(architecture, tag))


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
@click.argument("audit", type=FILE)
@click.argument("record", type=FILE)
def finetune(job: dict[str, Any], workers: int, device: str, prompts: Path, **output: Path) -> None:
    """Stage 2: fine-tune the image encoder on a sampler's batches."""
    from dfgs.training.finetune import finetune as run

    run(job, prompts, output, workers, _device(device))


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


@cli.command("embed-source")
@workers_option
@device_option
@click.argument("record", type=FILE)
@click.argument("output", type=FILE)
def embed_source(workers: int, device: str, record: Path, output: Path) -> None:
    """Embed the training images of a trained run: from its RECORD, record.json, to OUTPUT, a .npz."""
    from dfgs.training.source_features import embed_source as run

    run(record, output, workers, _device(device))


@cli.command("score-trial")
@job_option
@products_option
@click.option("--record", type=FILE, help="Record of the training; none for the untuned backbone.")
@click.argument("index", type=FILE)
@click.argument("metrics", type=FILE)
@click.argument("per_query", type=FILE)
def score_trial(
    job: dict[str, Any], device: str, record: Path | None, index: Path, metrics: Path, per_query: Path
) -> None:
    """Score the embedded targets of one model; the only stage that reads a target's labels."""
    from dfgs.scoring import score_trial as run

    run(job, index, record, {"metrics": metrics, "per_query": per_query}, _products(device))


@cli.command()
@click.option("--experiment", required=True)
@click.option("--target", "targets", multiple=True, required=True, help="A target of the experiment; can be repeated.")
@click.argument("output", type=FILE)
@click.argument("parts", type=FILE, nargs=-1, required=True)
def aggregate(experiment: str, targets: tuple[str, ...], output: Path, parts: tuple[Path, ...]) -> None:
    """Collect the metrics of an experiment's trials on its own targets; a shared trial may have more."""
    from dfgs.results import merge, write_metrics

    rows = merge(parts).assign(experiment=experiment)
    write_metrics(rows[rows["target"].isin(targets)], output)


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


@cli.command("tabulate-audit")
@job_option
@click.argument("stem", type=FILE)
@click.argument("audits", type=FILE, nargs=-1, required=True)
def tabulate_audit(job: dict[str, Any], stem: Path, audits: tuple[Path, ...]) -> None:
    """Show what an experiment's batches held in STEM.csv, STEM.md and STEM.tex."""
    from dfgs.report import write_audit_table

    write_audit_table(job, audits, stem)


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


@cli.command()
@click.argument("features", type=FILE)
@of_option
@protocol_option
@distance_option
@click.option("--ranks", default="1,5,10", show_default=True, help="Ranks of the CMC.")
@click.option("--tpr", is_flag=True, help="Also the true positive rate at false positive rates of 1, 0.1 and 0.01 %.")
@click.option("--rerank", is_flag=True, help="Also by k-reciprocal re-ranking (Zhong et al.), a table of its own.")
@click.option("--k1", type=int, show_default="20", help="Re-ranking: neighbours that must find each other.")
@click.option("--k2", type=int, show_default="6", help="Re-ranking: nearest images whose codes are averaged.")
@click.option("--lambda", "lambda_", type=float, show_default="0.3", help="Re-ranking: share of the plain distance.")
@products_option
@click.option("--out", type=FILE, help="One row per query goes to this CSV file, compressed if it ends with .gz.")
def score(
    features: Path,
    view: str | None,
    protocol: str,
    distance: Any,
    ranks: str,
    tpr: bool,
    device: str,
    out: Path | None,
    **reranking: Any,
) -> None:
    """Score anybody's FEATURES: a table of metrics, with the bounds that equal scores leave open.

    FEATURES is one of

    \b
    .npz   query_features (q, d), query_pids (q,), query_camids (q,),
           gallery_features (g, d), gallery_pids (g,), gallery_camids (g,);
           or features, pids, camids, all against all;
           query_paths and gallery_paths (or paths) may name the images
    .mat   query_f, query_label, query_cam, gallery_f, gallery_label,
           gallery_cam (Market-1501 style, version 7 or older)
    .json  the index.json of `dfgs embed`

    float16, float64, int8 and uint8 become float32, which is said. Pickled arrays are refused.
    """
    from dfgs.feature_sets import read_feature_set
    from dfgs.per_query import write_queries
    from dfgs.score_files import Extras, as_table, find_protocol, parse_ranks, query_table
    from dfgs.score_files import score as run

    rule, asked = find_protocol(protocol), parse_ranks(ranks)
    ways = [Extras(tpr, products=_products(device)), *_reranking(**reranking)]
    images = read_feature_set(features, view)
    scores = [run(images, rule, distance or images.distance, asked, way) for way in ways]
    if out is not None:
        write_queries(query_table(scores), out)
    click.echo("\n\n".join(map(as_table, scores)))


@cli.command("audit")
@click.argument("source", type=FILE)
@of_option
@click.option(
    "--sampler", "-s", "samplers", multiple=True, help="A sampler; can be repeated. Default: all of --config."
)
@click.option("--config", type=FILE, help="A configuration whose samplers can be named.")
@click.option("--batch-size", default=64, show_default=True)
@click.option("--instances", default=4, show_default=True, help="K, images per identity in a batch.")
@click.option("--seed", default=0, show_default=True)
@click.option("--passes", default=1, show_default=True, help="Passes of each sampler; the table shows their means.")
@click.option("--neighbours", default=10, show_default=True, help="How many nearest identities count as look-alikes.")
@click.option(
    "--out", "stem", type=FILE, required=True, help="Written to OUT.csv, OUT.md, OUT.tex, OUT.png and OUT.pdf."
)
def audit_command(
    source: Path, view: str | None, samplers: tuple[str, ...], config: Path | None, stem: Path, **options: int
) -> None:
    """Look into the batches of samplers: how hard they are, whom they serve, whether a graph joins look-alikes.

    SOURCE is a file that `dfgs score` reads, or the index.json of a trained model; its images are taken as training
    images. A .npz with features, pids and camids may have domains (n,) and text (N, e), text features of the
    identities in the order of their pids.

    SAMPLER is a class, as in pk, a class with arguments, as in dfgs:graph=text,neighbours=5, or a name in the samplers
    of --config. Exits with 1 and names the sampler where a graph is at chance: its edges lead to true neighbours no
    more often than random edges would.
    """
    from dfgs.audit.command import Options, audit_samplers, failures, report
    from dfgs.audit.sources import read_settings, read_training_set

    settings, images = read_settings(samplers, config), read_training_set(source, view)
    rows = audit_samplers(images, settings, Options(**options))
    click.echo(report(rows, images, stem))
    for line in (failed := failures(rows)):
        click.echo(f"error: {line}", err=True)
    sys.exit(1 if failed else 0)


@cli.command("calibrate")
@click.option("--sources", default=2, show_default=True, type=click.IntRange(1))
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1))
@click.option("--contrasts", default=1, show_default=True, type=click.IntRange(1), help="Planned comparisons.")
@click.option("--deviation", default=1.0, show_default=True, help="How far one training's mAP scatters, in points.")
@click.option("--effect", default=2.0, show_default=True, help="The difference that is planted, in points.")
@click.option("--grids", default=2000, show_default=True, type=click.IntRange(1), help="How many are simulated.")
def calibrate_command(sources: int, seeds: int, contrasts: int, deviation: float, effect: float, grids: int) -> None:
    """Simulate grids of this shape and tell how often their verdicts are right; exit status 1 if they are not."""
    from dfgs.stats.calibration import Shape, calibrate
    from dfgs.stats.verdict import resolvable

    found = calibrate(Shape(sources, seeds, contrasts, deviation), grids, effect)
    click.echo(resolvable(found.shape.pairs, contrasts))
    click.echo(f"grids without a difference, in which any is found: {found.false_positives:.1%}")
    click.echo(f"intervals that hold the truth: {found.coverage:.1%}")
    click.echo(f"grids that find a difference of {effect:+g} points: {found.power:.1%}")
    for fault in found.faults:
        click.echo(f"not as promised: {fault}", err=True)
    if found.faults:
        sys.exit(1)


@cli.command("drop-features")
@click.argument("indices", type=FILE, nargs=-1, required=True)
def drop_features(indices: tuple[Path, ...]) -> None:
    """Delete the stored features that each index.json names, once they are scored, and the index.

    Nothing runs again because of it. What needs them later, such as another target, embeds that model's images anew.
    """
    from dfgs.feature_store import drop_features as drop

    for index in indices:
        click.echo(f"{index}: {drop(index) / 1e6:.1f} MB freed")


@cli.command()
@click.argument("arguments", metavar="[NAME] ROOT...", nargs=-1, required=True)
@click.option("--workers", type=click.IntRange(1), help="Processes that open images; default: one for each core.")
@click.option("--report", type=FILE, help="Every finding goes to this CSV file.")
def doctor(arguments: tuple[str, ...], workers: int | None, report: Path | None) -> None:
    """Examine the dataset in ROOT, a folder or pack, in one pass: is it whole, and what is odd about it?

    NAME is a layout; without it the layout is recognised. Counts are held against the published ones, every image is
    opened, and pictures that are there twice are found, between several ROOTs too. Exit status: 0, or 1 if something is
    wrong that would stop training or spoil a number.
    """
    from dfgs.doctor.examine import run
    from dfgs.doctor.images import default_workers

    if run(arguments, workers or default_workers(), report, click.echo):
        sys.exit(1)


@cli.command()
@click.argument("arguments", metavar="[NAME] ROOT FILE", nargs=-1, required=True)
def pack(arguments: tuple[str, ...]) -> None:
    """Pack the dataset in ROOT into FILE, one file that stands for the folder wherever a root is asked for.

    For parallel file systems, which are slow with many small files. FILE is an uncompressed zip with the original image
    files (docs/pack-format.md); digests and results are those of the folder.
    """
    from dfgs.doctor.packing import run

    click.echo(run(arguments))


@cli.command()
@click.argument("archive", metavar="CUHK-03.MAT", type=FILE)
@click.argument("folder", type=FILE)
def extract(archive: Path, folder: Path) -> None:
    """Turn CUHK03's MATLAB file into FOLDER/images_labeled and FOLDER/images_detected (extra `cuhk03`).

    An extraction that was interrupted goes on where it stopped.
    """
    from dfgs.cuhk03_mat import extract as run

    for line in run(archive, folder):
        click.echo(line)


@cli.group()
def show() -> None:
    """Draw what features do: FEATURES is a file that `dfgs score` reads, or the index.json of a trained model."""


@show.command("ranked-lists")
@click.argument("features", type=FILE)
@of_option
@protocol_option
@distance_option
@click.option(
    "--queries",
    default=8,
    show_default=True,
    type=click.IntRange(1),
    help="How many, from the lowest to the highest AP.",
)
@click.option("--row", "rows", type=int, multiple=True, help="A query by its number, from 0; in place of --queries.")
@click.option("--length", default=10, show_default=True, type=click.IntRange(1), help="Gallery images per query.")
@click.option("--allow-real-people", is_flag=True, help="Draw images of real people too, heads blurred.")
@stem_option
def ranked_lists(
    features: Path, view: str | None, protocol: str, distance: Any, stem: Path, allow_real_people: bool, **chosen: Any
) -> None:
    """Draw queries with their nearest gallery images, right and wrong ones framed apart."""
    from dfgs.evaluation_figures.ranked_lists import Shown, draw_ranked_lists
    from dfgs.feature_sets import read_feature_set
    from dfgs.figures.base import save
    from dfgs.score_files import find_protocol

    shown, rule = Shown(**chosen, allows_real_people=allow_real_people), find_protocol(protocol)
    images = read_feature_set(features, view)
    save(draw_ranked_lists(images, rule, distance or images.distance, shown), stem)


@show.command()
@click.argument("features", type=FILE)
@of_option
@protocol_option
@distance_option
@stem_option
def similarities(features: Path, view: str | None, protocol: str, distance: Any, stem: Path) -> None:
    """Draw histograms of the scores of pairs of one person and of two."""
    from dfgs.evaluation_figures.similarities import draw_similarities
    from dfgs.feature_sets import read_feature_set
    from dfgs.figures.base import save
    from dfgs.score_files import find_protocol

    rule, images = find_protocol(protocol), read_feature_set(features, view)
    save(draw_similarities(images, rule, distance or images.distance), stem)


@show.command()
@click.argument("features", type=FILE, nargs=-1, required=True)
@of_option
@protocol_option
@distance_option
@click.option("--label", "labels", multiple=True, help="A curve's name; give one for each FEATURES, in their order.")
@click.option("--ranks", default=20, show_default=True, type=click.IntRange(1), help="The last rank.")
@stem_option
def cmc(
    features: tuple[Path, ...],
    view: str | None,
    protocol: str,
    distance: Any,
    labels: tuple[str, ...],
    ranks: int,
    stem: Path,
) -> None:
    """Draw the CMC curves of several FEATURES that share one protocol."""
    from dfgs.evaluation_figures.cmc import draw_cmc
    from dfgs.feature_sets import read_feature_set
    from dfgs.figures.base import save
    from dfgs.score_files import find_protocol
    from dfgs.score_files import score as run

    rule = find_protocol(protocol)
    sets = [read_feature_set(path, view) for path in features]
    scores = [run(images, rule, distance or images.distance, range(1, ranks + 1)) for images in sets]
    save(draw_cmc(scores, labels or [images.name for images in sets]), stem)


@show.command()
@click.argument("features", type=FILE)
@of_option
@protocol_option
@distance_option
@click.option("--identities", default=12, show_default=True, type=click.IntRange(1), help="Those with the most images.")
@click.option("--seed", default=0, show_default=True, help="Of t-SNE.")
@stem_option
def embedding(
    features: Path, view: str | None, protocol: str, distance: Any, identities: int, seed: int, stem: Path
) -> None:
    """Draw a two-dimensional map of the features (t-SNE; needs the extra `embedding`)."""
    from dfgs.evaluation_figures.embedding import draw_embedding
    from dfgs.feature_sets import read_feature_set
    from dfgs.figures.base import save
    from dfgs.score_files import find_protocol

    rule, images = find_protocol(protocol), read_feature_set(features, view)
    save(draw_embedding(images, rule, distance or images.distance, identities, seed), stem)


def _reranking(rerank: bool, **settings: Any) -> list[Any]:
    """Return the further way of scoring that `--rerank` asks for."""
    from dfgs.metrics import KReciprocal
    from dfgs.score_files import Extras

    given = {name: value for name, value in settings.items() if value is not None}
    if given and not rerank:
        raise DfgsError(f"--{next(iter(given)).rstrip('_')} is set without --rerank, which it belongs to; add --rerank")
    return [Extras(reranking=KReciprocal(**given))] if rerank else []


def _products(name: str) -> Any:
    """Return what makes blocks of products on the device called `name`; None for the CPU, where NumPy does it."""
    if name == "cpu":
        return None
    device = _device(name)
    from dfgs.products import DeviceProducts

    return None if device.type == "cpu" else DeviceProducts(device)


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
