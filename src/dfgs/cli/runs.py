"""What is planned, what runs, and what every attempt cost."""

import sys
from pathlib import Path

import click

from dfgs.cli.options import FILE

files_argument = click.argument("files", metavar="CONFIG…", type=FILE, nargs=-1)
settings_option = click.option("--config", "settings", metavar="KEY=VALUE", multiple=True, help="As Snakemake's.")
results_option = click.option("--results", type=FILE, default=Path("results"), show_default=True, help="Their folder.")


@click.command()
@files_argument
@settings_option
@results_option
@click.option("--slots", type=click.IntRange(1), multiple=True, help="Jobs at a time; may be given several times.")
@click.option("--rates", default="ledger", show_default=True, help="A ledger.csv, or `ledger`: that of these results.")
def plan(files: tuple[Path, ...], settings: tuple[str, ...], results: Path, slots: tuple[int, ...], rates: str) -> None:
    """Tell what a grid will take: jobs by rule, hours, GPU-hours, disk, finish time, and what it can resolve.

    CONFIG files are laid over config/config.yaml as by `--configfile`. Hours come from a ledger of the same kind of
    jobs, else from the package's own figures, else they are not known.
    """
    from dfgs.config.files import read_given
    from dfgs.runs.attempts import terms_of_environment
    from dfgs.runs.ledger import read_attempts
    from dfgs.runs.plan import make_plan, told
    from dfgs.runs.rates import Rates

    config = read_given(files, settings)
    if rates == "ledger":
        known = Rates(read_attempts(results, terms_of_environment()), f"the attempts in {results}")
    else:
        known = Rates.read(Path(rates))
    for line in told(make_plan(config, results, known), config, slots or (1, 4, 16)):
        click.echo(line)


@click.command()
@files_argument
@settings_option
@results_option
def status(files: tuple[Path, ...], settings: tuple[str, ...], results: Path) -> None:
    """Tell how far a grid is, from its files alone: done, running, failed and to do; needs no SLURM."""
    from dfgs.config.files import read_given
    from dfgs.runs.attempts import terms_of_environment
    from dfgs.runs.status import told

    for line in told(read_given(files, settings), results, terms_of_environment()):
        click.echo(line)


@click.command()
@files_argument
@settings_option
@results_option
@click.option("--no-audit", is_flag=True, help="Write the ledger alone, of whatever grids these results are.")
def ledger(files: tuple[Path, ...], settings: tuple[str, ...], results: Path, no_audit: bool) -> None:
    """Write every attempt to RESULTS/ledger.csv and hold the grid against it; exit status 1 if it does not add up.

    planned = done + failed + running + to do, each failure with its reason.
    """
    from dfgs.config.files import read_given
    from dfgs.grid import Grid
    from dfgs.runs.attempts import terms_of_environment
    from dfgs.runs.cells import cells_of
    from dfgs.runs.ledger import audit, read_attempts, write_ledger

    terms = terms_of_environment()
    write_ledger(read_attempts(results, terms), results / "ledger.csv")
    if no_audit:
        return
    found = audit(cells_of(Grid(read_given(files, settings))), results, terms)
    for (rule, name), reason in found.reasons.items():
        click.echo(f"failed: {rule} {name}: {reason}")
    click.echo(found.line)
    for fault in found.faults:
        click.echo(f"does not add up: {fault}", err=True)
    if found.faults:
        sys.exit(1)


COMMANDS = (plan, status, ledger)
