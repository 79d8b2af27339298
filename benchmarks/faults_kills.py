"""Faults on purpose: `python benchmarks/faults.py kills` ends trainings at random moments and looks how they go on.

60 SIGKILLs and 40 SIGTERMs over pre-training, prior and prompts, and fine-tuning of `config/smoke.yaml`, half of each
with four loader processes (or as many as there are cores); every run must end with the digests of an undisturbed one.
About ten minutes of one core. `--share 0.1` is a tenth of it. Exit status 1 if a run differs.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import click

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"

SMOKE = Path(__file__).parents[1] / "config" / "smoke.yaml"
ROUNDS = (("SIGKILL", 30, 0), ("SIGKILL", 30, 4), ("SIGTERM", 20, 0), ("SIGTERM", 20, 4))
"""Signal, how many, loader processes (as many as there are cores, where those are fewer)."""


@click.command("kills")
@click.option("--share", default=1.0, show_default=True, help="Part of the campaign that runs.")
@click.option("--seed", default=0, show_default=True, help="Of the moments.")
def run(share: float, seed: int) -> None:
    """End trainings at random moments."""
    from dfgs.cli import main
    from dfgs.config.files import read_given
    from dfgs.training.proof import Outcome, Proof, Terms

    config, started, outcomes = read_given([SMOKE]), time.monotonic(), list[Outcome]()
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, wanted, many) in enumerate(ROUNDS):
            workers = min(many, len(os.sched_getaffinity(0)))
            terms = Terms(Path(folder) / str(number), (name,), steps=0, every=2, seed=seed + number, workers=workers)
            done = 0
            for outcome in Proof(main, config, None, terms).trials():
                outcomes.append(outcome)
                done += len(outcome.kills)
                click.echo(f"{workers} workers | {outcome}")
                if done >= wanted * share:
                    break
    differ, landed = sum(bool(o.differing) for o in outcomes), [name for o in outcomes for name, _ in o.kills]
    counts = ", ".join(f"{landed.count(name)} {name}" for name in sorted(set(landed)))
    click.echo(
        f"{counts} in {len(outcomes)} runs, {sum(o.attempts for o in outcomes)} attempts, "
        f"{sum(o.resumed for o in outcomes)} from a state, "
        f"{time.monotonic() - started:.0f} s; runs that differ from undisturbed ones: {differ}"
    )
    sys.exit(bool(differ))
