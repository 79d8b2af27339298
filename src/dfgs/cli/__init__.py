"""The command line: one command per stage, called by the workflow's rules; heavy imports stay inside the commands."""

import logging
import os
import sys

import click

from dfgs.cli import disk, features, pictures, stages, statistics, tables, weights
from dfgs.errors import EXIT_PREEMPTED, DfgsError, Preempted

ROOMS = (stages, tables, weights, features, pictures, disk, statistics)
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@click.group()
@click.version_option(package_name="dfgs")
def cli() -> None:
    """Does this batch sampler really help? Stages of the workflow; `snakemake all` calls them."""


for room in ROOMS:
    for command in room.COMMANDS:
        cli.add_command(command)


def main() -> None:
    """Run the command line; a `DfgsError` prints one line and exits with 2; a preempted job with `EXIT_PREEMPTED`."""
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
    except Preempted as left:
        click.echo(f"preempted: {left}", err=True)
        sys.exit(EXIT_PREEMPTED)
