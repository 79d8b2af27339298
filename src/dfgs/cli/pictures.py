"""Pictures of what features do."""

from pathlib import Path
from typing import Any

import click

from dfgs.cli.options import FILE, distance_option, of_option, protocol_option, stem_option


@click.group()
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


COMMANDS = (show,)
