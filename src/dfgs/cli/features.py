"""What anybody's features are worth, and what samplers make of them."""

import sys
from pathlib import Path
from typing import Any

import click

from dfgs.cli.options import FILE, distance_option, find_products, of_option, products_option, protocol_option
from dfgs.errors import DfgsError


@click.command()
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
    ways = [Extras(tpr, products=find_products(device)), *_reranking(**reranking)]
    images = read_feature_set(features, view)
    scores = [run(images, rule, distance or images.distance, asked, way) for way in ways]
    if out is not None:
        write_queries(query_table(scores), out)
    click.echo("\n\n".join(map(as_table, scores)))


def _reranking(rerank: bool, **settings: Any) -> list[Any]:
    """Return the further way of scoring that `--rerank` asks for."""
    from dfgs.metrics import KReciprocal
    from dfgs.score_files import Extras

    given = {name: value for name, value in settings.items() if value is not None}
    if given and not rerank:
        raise DfgsError(f"--{next(iter(given)).rstrip('_')} is set without --rerank, which it belongs to; add --rerank")
    return [Extras(reranking=KReciprocal(**given))] if rerank else []


@click.command("audit")
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
@click.option("--out", "stem", type=FILE, required=True, help="Written to OUT.csv, .md, .tex, .png, .pdf and .svg.")
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


COMMANDS = (score, audit_command)
