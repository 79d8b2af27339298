"""What SLURM says about a job; everything here answers None where SLURM is not there, is silent or does not know."""

import os
import re
import shutil
import subprocess
from datetime import datetime

from dfgs.runs.holders import Holder

PATIENCE = 10.0
"""Seconds that a controller may take to answer."""
WORST_FIRST = ("OUT_OF_MEMORY", "TIMEOUT", "NODE_FAIL", "BOOT_FAIL", "PREEMPTED", "CANCELLED", "DEADLINE", "FAILED")
OVER = frozenset({*WORST_FIRST, "COMPLETED", "REVOKED"})


def state(holder: Holder) -> str | None:
    """Return the state in which a holder's job has ended (`OVER`), or None: it runs on, or nobody knows.

    A job that is not known is not over: accounting lags behind, and a controller forgets. A job that was requeued since
    is over as far as this holder goes.
    """
    job, here = holder.get("slurm_job"), os.environ.get("SLURM_CLUSTER_NAME")
    if not job or (here and holder.get("slurm_cluster") not in (None, here)):
        return None
    shown = _fields(job)
    if shown.get("JobState") in OVER:
        return _worst([shown["JobState"], *_steps(job)])
    if int(shown.get("Restarts") or 0) > holder.get("slurm_restarts", 0):
        return "NODE_FAIL"
    if not shown:
        steps = _steps(job)
        return _worst(steps) if steps and set(steps) <= OVER else None
    return None


def queue_seconds(job: str | None) -> float | None:
    """Return how long a job has waited between submission (or requeue) and start, in seconds."""
    shown = _fields(job) if job else {}
    try:
        waited = datetime.fromisoformat(shown["StartTime"]) - datetime.fromisoformat(shown["SubmitTime"])
    except (KeyError, ValueError):
        return None
    return max(0.0, waited.total_seconds())


def _fields(job: str) -> dict[str, str]:
    answer = _ask("scontrol", "--oneliner", "show", "job", job)
    return dict(re.findall(r"(\w+)=(\S*)", answer)) if answer else {}


def _steps(job: str) -> list[str]:
    """Return the states of a job and its steps by accounting; the step alone says that memory ran out."""
    answer = _ask("sacct", "--jobs", job, "--noheader", "--parsable2", "--format", "State")
    return [line.split()[0].rstrip("+") for line in (answer or "").splitlines() if line.strip()]


def _worst(states: list[str]) -> str:
    return next((name for name in WORST_FIRST if name in states), states[0])


def _ask(*command: str) -> str | None:
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
