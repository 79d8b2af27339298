"""Faults on a real SLURM cluster, one at a time: `python benchmarks/cluster_campaign.py OUT [FAULT…]`, as root.

For every trial: jobs, cells lost (missing or with another digest than an undisturbed local run), cells published twice,
cells that two jobs held at a time, states that Snakemake had wrong. All but the first must be zero.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/cluster"))

import faults
from faults import Cluster, Launch

SMALL = ("--set-resources", "finetune:mem_mb=400*attempt**2")
REFUSING = ("--set-resources", "finetune:runtime=2000")

# What happens, Snakemake's further arguments, and the exit status that is right.
TRIALS: dict[str, tuple[Callable[[Launch], None], tuple[str, ...], int]] = {
    "nothing": (faults.no_fault, (), 0),
    "preemption signal": (faults.preempted, (), 0),
    "cancelled from outside": (faults.cancelled_outside, (), 0),
    "launcher SIGKILLed, restarted": (faults.launcher_killed, (), 0),
    "launcher Ctrl-C, restarted": (faults.interrupted, (), 0),
    "controller restarts": (faults.controller_restarts, (), 0),
    "node crashes": (faults.node_crashes, (), 0),
    "node unreachable": (faults.node_unreachable, (), 0),
    "exceeds time": (faults.time_exceeded, (), 0),
    "exceeds memory": (faults.no_fault, SMALL, 0),
    "partition refuses": (faults.no_fault, REFUSING, 1),
}


def main() -> None:
    """Run the trials and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="an empty folder, or one with the local run of an earlier campaign")
    parser.add_argument("trials", nargs="*", help=f"default: all of {', '.join(TRIALS)}")
    parser.add_argument("--accounting", action="store_true", help="with slurmdbd; the plugin asks sacct")
    parser.add_argument("--unpatched", action="store_true", help="with the plugin's own polling")
    options = parser.parse_intermixed_args()
    unknown = sorted(set(options.trials) - set(TRIALS))
    if unknown:
        parser.error(f"no fault is called {unknown[0]!r}")
    base = options.out / "local"
    expected = faults.results(base) if base.exists() else faults.run_locally(base)
    print(
        "| fault | jobs | lost | published twice | two at a time | wrong state | status | seconds |\n"
        + "|---" * 8
        + "|"
    )
    with Cluster(options.out / "slurm", ACCOUNTING=str(int(options.accounting))) as cluster:
        for name in options.trials or TRIALS:
            print(row(cluster, options, name, expected), flush=True)


def row(cluster: Cluster, options: argparse.Namespace, name: str, expected: dict[str, str]) -> str:
    """Run one trial and return its line of the table."""
    fault, arguments, right = TRIALS[name]
    mode = ("--slurm-status-command", "sacct") if options.accounting else ()
    folder = options.out / f"{name.replace(' ', '-').replace(',', '')}{'-accounting' * options.accounting}"
    began = time.monotonic()
    launch = Launch(cluster, faults.up_to_prompts(options.out / "local", folder), (*mode, *arguments))
    launch.quick = not options.unpatched
    launch.start()
    try:
        fault(launch)
    except (TimeoutError, RuntimeError) as error:
        print(f"{name}: the fault did not happen as meant: {error}", file=sys.stderr)
    code = launch.wait(900)
    found = faults.results(folder)
    lost = [cell for cell in expected if found.get(cell) != expected[cell]] if right == 0 else []
    audit = launch.state_of(cluster)
    facts = [audit.jobs, len(lost), len(audit.twice), len(audit.overlapping), len(audit.wrong)]
    status = f"{code}" if code == right else f"{code}, not {right}"
    return f"| {name} | {' | '.join(map(str, facts))} | {status} | {time.monotonic() - began:.0f} |"


if __name__ == "__main__":
    main()
