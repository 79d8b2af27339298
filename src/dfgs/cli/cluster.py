"""Snakemake under supervision, on a cluster or in one long job."""

import sys

import click


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--stall", default=15.0, show_default=True, help="Minutes without any progress that count as a stall.")
@click.argument("arguments", metavar="[SNAKEMAKE'S ARGUMENTS]...", nargs=-1, type=click.UNPROCESSED)
def launch(stall: float, arguments: tuple[str, ...]) -> None:
    """Run Snakemake and see it through: `dfgs launch --workflow-profile workflow/profiles/slurm all`.

    Checks the profile against the cluster before anything is submitted. One launch per folder; what a killed one
    left is cleared away, and nothing is submitted twice. On a signal jobs keep their state and leave, then the launch.
    Also runs inside an allocation: `sbatch --signal=B:TERM@120 --wrap "exec dfgs launch --cores 8 all"`.
    """
    from dfgs.launch.command import launch as run

    sys.exit(run(list(arguments), 60 * stall))


COMMANDS = (launch,)
