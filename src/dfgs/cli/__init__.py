"""The command line: one command per stage, called by the workflow's rules; heavy imports stay inside the commands."""

import ctypes
import gc
import logging
import os
import sys

import click

from dfgs.cli import cluster, disk, features, page, pictures, resume, runs, stages, statistics, tables, weights
from dfgs.errors import EXIT_PREEMPTED, EXIT_SUPERSEDED, DfgsError, Preempted, SupersededError

ROOMS = (stages, tables, weights, features, page, pictures, disk, statistics, runs, resume, page, cluster)
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Numbers of malloc.h. What is larger than the second is mapped on its own and goes back at once, as ever."""


LIVING = 20_000
"""New objects after which Python looks for unreachable ones: more than its 700, since imports leave none behind."""


@click.group()
@click.version_option(package_name="dfgs")
def cli() -> None:
    """Does this batch sampler really help? Stages of the workflow; `snakemake all` calls them."""


for room in ROOMS:
    for command in room.COMMANDS:
        cli.add_command(command)


def keep_memory() -> None:
    """Let glibc keep up to 512 MB of freed memory for the next step of a training; elsewhere nothing happens.

    By default it hands them back, and a seventh of a small model's step goes into fetching them again.
    """
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        mallopt(M_TRIM_THRESHOLD, 512 * 2**20)
        mallopt(M_MMAP_THRESHOLD, 32 * 2**20)


def main() -> None:
    """Run the command line; a `DfgsError` prints one line and exits with 2; a preempted job with `EXIT_PREEMPTED`."""
    for variable in THREAD_VARIABLES:
        # Another number of threads adds in another order: digests would depend on the cores of the machine.
        os.environ[variable] = "1"
    gc.set_threshold(LIVING)
    keep_memory()
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
    except SupersededError as lost:
        click.echo(f"superseded: {lost}", err=True)
        sys.exit(EXIT_SUPERSEDED)
