"""What SLURM knows of a folder's jobs, and what it would refuse, asked before anything is submitted."""

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from dfgs.errors import DfgsError, did_you_mean
from dfgs.launch import standins
from dfgs.launch.standins import NoAnswerError

COMMANDS = ("sbatch", "squeue", "scancel", "scontrol", "sinfo")
# Reasons for which SLURM keeps a job in the queue that no waiting mends.
HOPELESS = {
    "PartitionTimeLimit",
    "PartitionNodeLimit",
    "PartitionConfig",
    "BadConstraints",
    "AccountNotAllowed",
    "InvalidAccount",
}
HOPELESS |= {"InvalidQOS", "QOSNotAllowed", "DependencyNeverSatisfied", "NodesNotAvailable"}
# Where jobs go and on what; a grid has few different places, and each is tried once.
PLACE = {
    "slurm_partition": "--partition",
    "slurm_account": "--account",
    "qos": "--qos",
    "gpu": "--gpus",
    "threads": "--cpus-per-task",
}


def active_jobs(folder: Path) -> dict[str, str]:
    """State of the jobs of `folder` that are queued or running, by job id; raises `NoAnswerError`."""
    rows = standins.listed(standins.token(folder))
    return {job: state for job, (state, _) in rows.items() if state in standins.ACTIVE}


def cancel_jobs(folder: Path, patience: float = 180) -> int:
    """Cancel the jobs of `folder` and wait until none is left; return how many there were.

    They are asked to leave by SIGTERM, keep their state, and go on at the next attempt.
    """
    end, cancelled = time.monotonic() + patience, set[str]()
    while True:
        try:
            jobs = active_jobs(folder)
            new = sorted(set(jobs) - cancelled)
            if new:
                standins.ask("scancel", *new)
                cancelled |= set(new)
            if not jobs:
                return len(cancelled)
        except NoAnswerError as error:
            if time.monotonic() > end:
                raise DfgsError(f"the SLURM controller does not answer ({_line(error)}); launch again later") from error
        if time.monotonic() > end:
            raise DfgsError(f"jobs {', '.join(sorted(jobs))} of this folder do not end; see `squeue --me`")
        time.sleep(1)


def cancel_hopeless(folder: Path) -> list[str]:
    """Cancel queued jobs of `folder` that SLURM will never start, so that they fail; tell each with its reason."""
    mark = standins.token(folder)
    text = standins.ask("squeue", "--noheader", "--states=PENDING", "--user", str(os.getuid()), "--format=%i|%j|%r|%k")
    rows = [line.split("|", 3) for line in text.splitlines() if line.count("|") >= 3]
    told = []
    for job, name, reason, comment in rows:
        if reason in HOPELESS and mark in comment.split():
            standins.ask("scancel", job)
            told.append(f"job {job} ({name}) would never start: {reason}; see `scontrol show job {job}`")
    return told


def preflight(settings: Any) -> None:
    """Raise `DfgsError` for what SLURM would refuse; `settings` are Snakemake's own, the profile's included."""
    for command in COMMANDS:
        if shutil.which(command) is None:
            raise DfgsError(f"there is no {command} on PATH; launch where SLURM is installed, or with --executor local")
    _check_controller()
    if isinstance(getattr(settings, "slurm_array_jobs", None), str):
        raise DfgsError(
            f"slurm-array-jobs: {settings.slurm_array_jobs!r}: the plugin mixes up the states of an array's tasks; "
            "leave it out of the profile"
        )
    places = _places(settings)
    _check_partitions({place.get("slurm_partition") for place in places})
    _check_accounts({place["slurm_account"] for place in places if "slurm_account" in place})
    for place in places:
        _try(place)


def _check_controller() -> None:
    try:
        standins.ask("scontrol", "ping", timeout=20)
        standins.ask("sinfo", "--noheader", timeout=20)
    except NoAnswerError as error:
        raise DfgsError(f"the SLURM controller does not answer: {_line(error)}; try `scontrol ping`") from error


def _places(settings: Any) -> list[dict[str, str]]:
    """What the profile asks for by default and for each rule, each combination once."""
    default = _texts(settings.default_resources)
    qos = getattr(settings, "slurm_qos", None)
    if isinstance(qos, str):
        default["qos"] = qos
    asked, threads = settings.set_resources or {}, settings.set_threads or {}
    rules = [default | _texts(asked.get(rule)) | _threads(threads.get(rule)) for rule in sorted({*asked, *threads})]
    return [dict(place) for place in sorted({tuple(sorted(place.items())) for place in (default, *rules)})]


def _threads(number: Any) -> dict[str, str]:
    value = _plain(number)
    return {} if value is None else {"threads": value}


def _texts(resources: Any) -> dict[str, str]:
    """Resources of a profile that say where a job goes; one that is an expression is Snakemake's to evaluate."""
    found = {}
    for name in PLACE:
        value = _plain(resources.get(name) if resources is not None else None)
        if value is not None:
            found[name] = value
    return found


def _plain(resource: Any) -> str | None:
    """Read a value that is no function, as text."""
    raw = getattr(resource, "raw", None)
    value = raw if raw is not None else getattr(resource, "_value", resource)
    return str(value).strip("'\"") if isinstance(value, str | int) else None


def _check_partitions(names: set[str | None]) -> None:
    rows = standins.ask("sinfo", "--noheader", "--all", "--format=%P").split()
    known = {row.rstrip("*") for row in rows}
    for name in sorted(name for name in names if name is not None):
        for part in name.split(","):
            if part not in known:
                raise DfgsError(f"profile: slurm_partition: no partition is called {part!r}{did_you_mean(part, known)}")
    if None in names and not any(row.endswith("*") for row in rows):
        raise DfgsError(
            "profile: slurm_partition is not set and this cluster has no default partition; "
            f"set it under default-resources (known: {', '.join(sorted(known))})"
        )


def _check_accounts(names: set[str]) -> None:
    """Accounts are checked where there is accounting; elsewhere SLURM itself takes no notice of them."""
    try:
        text = standins.ask("sacctmgr", "--noheader", "--parsable2", "show", "associations", "format=account")
    except NoAnswerError:
        return
    known = set(text.split())
    for name in sorted(names):
        if known and name.lower() not in known:
            raise DfgsError(f"profile: slurm_account: no account is called {name!r}{did_you_mean(name, known)}")


def _try(place: dict[str, str]) -> None:
    """Let SLURM say itself what it thinks of a place; nothing is submitted."""
    options = [f"{PLACE[name]}={value}" for name, value in place.items()]
    try:
        done = subprocess.run(
            [standins.real("sbatch"), "--test-only", *options, "--time=1", "--wrap=true"],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise DfgsError("the SLURM controller does not answer `sbatch --test-only` within a minute") from error
    if done.returncode:
        named = ", ".join(f"{name}: {value}" for name, value in place.items()) or "no partition set"
        raise DfgsError(f"profile: {named}: SLURM would refuse: {_line(done.stderr)}")


def _line(error: object) -> str:
    """Fold what a SLURM command prints into one line."""
    lines = [line.removeprefix("sbatch: error: ").strip() for line in str(error).splitlines()]
    return "; ".join(line for line in lines if line)[:300]
