"""Weights of others, and features of trained models."""

from pathlib import Path
from typing import Any

import click

from dfgs.cli.options import FILE, device_option, find_device, workers_option


@click.command("convert-weights")
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


@click.command("fetch-weights")
@click.argument("architecture")
@click.argument("tag")
def fetch_weights(architecture: str, tag: str) -> None:
    """Download open_clip's weights TAG of ARCHITECTURE once; jobs look for them there and never use the network.

    They are kept in $DFGS_WEIGHTS, or in ~/.cache/dfgs/weights.
    """
    from dfgs.models.conversion import fetch_weights as run

    click.echo(run(architecture, tag))


@click.command("embed-source")
@workers_option
@device_option
@click.argument("record", type=FILE)
@click.argument("output", type=FILE)
def embed_source(workers: int, device: str, record: Path, output: Path) -> None:
    """Embed the training images of a trained run: from its RECORD, record.json, to OUTPUT, a .npz."""
    from dfgs.training.source_features import embed_source as run

    run(record, output, workers, find_device(device))


COMMANDS = (convert_weights, fetch_weights, embed_source)
