"""Proof that interrupted trainings go on exactly."""

import shutil
import sys
import time
from itertools import islice
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import click

from dfgs.cli.options import FILE, device_option, workers_option

SIGNALS = {"KILL": ("SIGKILL",), "TERM": ("SIGTERM",), "mixed": ("SIGKILL", "SIGTERM", "SIGUSR1", "SIGUSR2")}
STAGES = ("pretrain", "learn-prompts", "finetune")


@click.command("prove-resume")
@click.option("--config", "files", type=FILE, multiple=True, help="As Snakemake's --configfile; over the default one.")
@click.option("--trial", "name", help="SOURCE/MODEL/SAMPLER/sSEED; default: the first of the grid.")
@click.option("--stage", "stages", multiple=True, type=click.Choice(STAGES), help="May be repeated; default: all.")
@click.option("--trials", default=6, show_default=True, type=click.IntRange(1), help="Runs that are killed.")
@click.option("--signal", "kind", default="mixed", show_default=True, type=click.Choice(list(SIGNALS)))
@click.option("--steps", default=12, show_default=True, type=click.IntRange(0), help="Steps of an epoch; 0: all.")
@click.option("--every", default=3, show_default=True, type=click.IntRange(0), help="Steps between two states.")
@click.option("--seed", default=0, show_default=True, help="Of the moments of the kills.")
@click.option("--scratch", type=FILE, help="Folder for the runs, kept; default: a temporary one.")
@workers_option
@device_option
def prove_resume(files: tuple[Path, ...], name: str | None, scratch: Path | None, trials: int, **values: Any) -> None:
    """Kill runs of your own configuration at random moments, let them go on, and compare them with undisturbed ones.

    Stages run as they would in the grid, on this machine, two epochs of `--steps` steps each. Weights, prompts, curve,
    audit and record must have equal digests, measured seconds apart. Exit status: 0, or 1 if any differ, which stay.

    On a cluster, inside an allocation: srun --ntasks=1 dfgs prove-resume --config my.yaml
    """
    from dfgs.cli import main
    from dfgs.config.files import read_given
    from dfgs.training.proof import Proof, Terms

    folder = (scratch or Path(mkdtemp(prefix="dfgs-prove-"))).resolve()
    signals = SIGNALS[values.pop("kind")]
    proof, started = Proof(main, read_given(files), name, Terms(folder, signals, **values)), time.monotonic()
    outcomes = []
    for outcome in islice(proof.trials(), trials):
        click.echo(outcome)
        outcomes.append(outcome)
    kills, bad = sum(len(o.kills) for o in outcomes), sum(bool(o.differing) for o in outcomes)
    click.echo(
        f"{kills} signals in {trials} runs, {sum(o.attempts for o in outcomes)} attempts, "
        f"{sum(o.resumed for o in outcomes)} from a state, "
        f"{time.monotonic() - started:.0f} s: {trials - bad} runs equal to undisturbed ones, {bad} differ"
    )
    if bad:
        click.echo(f"what differs is in {folder}")
        sys.exit(1)
    if scratch is None:
        shutil.rmtree(folder)


COMMANDS = (prove_resume,)
