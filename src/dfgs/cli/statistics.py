"""What the verdict's statistics promise."""

import sys

import click


@click.command("calibrate")
@click.option("--sources", default=2, show_default=True, type=click.IntRange(1))
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(2))
@click.option("--contrasts", default=1, show_default=True, type=click.IntRange(1), help="Planned comparisons.")
@click.option("--deviation", default=1.0, show_default=True, help="How far one training's mAP scatters, in points.")
@click.option("--effect", default=2.0, show_default=True, help="The difference that is planted, in points.")
@click.option("--grids", default=2000, show_default=True, type=click.IntRange(1), help="How many are simulated.")
def calibrate_command(sources: int, seeds: int, contrasts: int, deviation: float, effect: float, grids: int) -> None:
    """Simulate grids of this shape and tell how often their verdicts are right; exit status 1 if they are not."""
    from dfgs.stats.calibration import Shape, calibrate
    from dfgs.stats.verdict import resolvable

    found = calibrate(Shape(sources, seeds, contrasts, deviation), grids, effect)
    click.echo("; ".join(resolvable(sources, seeds, contrasts)))
    click.echo(f"grids without a difference, in which any is found: {found.false_positives:.1%}")
    click.echo(f"intervals that hold the truth: {found.coverage:.1%}")
    click.echo(f"grids that find a difference of {effect:+g} points: {found.power:.1%}")
    for fault in found.faults:
        click.echo(f"not as promised: {fault}", err=True)
    if found.faults:
        sys.exit(1)


COMMANDS = (calibrate_command,)
