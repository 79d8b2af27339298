"""One page about a grid, its numbers made again, its digests checked."""

import sys
from pathlib import Path
from typing import Any

import click

from dfgs.cli.options import FILE, JSON

results_option = click.option(
    "--results", default="results", show_default=True, type=FILE, help="The folder that the grid's results lie in."
)


@click.command()
@click.option("--partial", is_flag=True, help="Write what is known of an unfinished grid, marked as partial.")
@click.option("--job", type=JSON, help="A whole configuration, as the workflow passes it; in place of CONFIG.")
@results_option
@click.argument("configs", metavar="[CONFIG]...", type=FILE, nargs=-1)
def report(partial: bool, job: dict[str, Any] | None, results: Path, configs: tuple[Path, ...]) -> None:
    """Write results/report.html: one page, in one file, that says what the grid of CONFIG proves.

    CONFIG is laid over the default configuration, as by snakemake's --configfile. Beside the page go config.json, what
    the page is about, and ro-crate-metadata.json, the files behind it with their digests. A grid that is unfinished is
    refused, and its missing cells are named; --partial writes the page of what is there.
    """
    from dfgs.config import Config
    from dfgs.config.files import read_given
    from dfgs.page.write import write_page

    config = read_given(configs) if job is None else Config.parse(job)
    click.echo(write_page(config, results, is_partial=partial))


@click.command()
@click.argument("cell")
@click.option("--scratch", type=FILE, help="A folder for the run, kept; an earlier run in it goes on.")
@click.option("--cores", default=1, show_default=True, type=click.IntRange(1))
@results_option
@click.argument("configs", metavar="[CONFIG]...", type=FILE, nargs=-1)
def reproduce(cell: str, scratch: Path | None, cores: int, results: Path, configs: tuple[Path, ...]) -> None:
    """Make the number CELL again, from nothing, and compare it with what the results say of it.

    CELL is EXPERIMENT/SOURCE/TARGET/MODEL/SAMPLER/sSEED/METRIC, as in main/a/b/small-dfgs/pk/s0/mAP and as the page
    prints it. TARGET:SPLIT is one split; without sSEED all seeds run; average in place of SOURCE/TARGET is the mean
    over the cross-domain targets. The configuration is the one that `dfgs report` left in results/config.json, or
    CONFIG over the default one. Exit status 1 if a digest or a value is not the recorded one.
    """
    from tempfile import TemporaryDirectory

    from dfgs.page.cells import Cell
    from dfgs.page.reproduce import config_of, why_different
    from dfgs.page.reproduce import reproduce as run

    name, config = Cell.parse(cell), config_of(results, configs)
    with TemporaryDirectory(prefix="dfgs-reproduce-") as folder:
        found = list(run(name, config, results, scratch or Path(folder), cores))
    for compared in found:
        click.echo(compared)
    if not all(compared.is_same for compared in found):
        click.echo(f"not reproduced{why_different(name, config, results)}", err=True)
        sys.exit(1)


@click.command()
@click.argument("results", default="results", type=FILE)
def verify(results: Path) -> None:
    """Check every digest of RESULTS again, offline; print what was checked and each fault, exit status 1 for one.

    Weights against records, features against weights and images, drawn images against their manifests, scores against
    queries, metrics against scores, tables against metrics, files against ro-crate-metadata.json.
    """
    from dfgs.page.verify import verify as run

    has_faults = False
    for checked in run(results):
        click.echo(f"{checked.kind}: {checked.count} checked, {len(checked.faults)} wrong")
        for fault in checked.faults:
            has_faults = True
            click.echo(f"  {fault}")
    sys.exit(1 if has_faults else 0)


COMMANDS = (report, reproduce, verify)
