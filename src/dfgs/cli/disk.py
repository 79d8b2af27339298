"""Datasets on disk: examine, pack, extract."""

import sys
from pathlib import Path

import click

from dfgs.cli.options import FILE


@click.command()
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


@click.command()
@click.argument("arguments", metavar="[NAME] ROOT FILE", nargs=-1, required=True)
def pack(arguments: tuple[str, ...]) -> None:
    """Pack the dataset in ROOT into FILE, one file that stands for the folder wherever a root is asked for.

    For parallel file systems, which are slow with many small files. FILE is an uncompressed zip with the original image
    files (docs/pack-format.md); digests and results are those of the folder.
    """
    from dfgs.doctor.packing import run

    click.echo(run(arguments))


@click.command()
@click.argument("archive", metavar="CUHK-03.MAT", type=FILE)
@click.argument("folder", type=FILE)
def extract(archive: Path, folder: Path) -> None:
    """Turn CUHK03's MATLAB file into FOLDER/images_labeled and FOLDER/images_detected (extra `cuhk03`).

    An extraction that was interrupted goes on where it stopped.
    """
    from dfgs.cuhk03_mat import extract as run

    for line in run(archive, folder):
        click.echo(line)


COMMANDS = (doctor, pack, extract)
