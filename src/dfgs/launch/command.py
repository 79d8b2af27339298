"""What `dfgs launch` does, from Snakemake's arguments to its exit status."""

import contextlib
import io
import logging
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from dfgs.errors import DfgsError
from dfgs.launch import holding, standins, supervise
from dfgs.launch.cluster import cancel_jobs, preflight

log = logging.getLogger(__name__)

STANDINS = ("sbatch", "squeue", "sacct")
RESTARTS = 5


def launch(arguments: list[str], patience: float) -> int:
    """Run Snakemake with `arguments` and return the exit status; 128 + the signal's number after a signal.

    One launch holds a folder. What a dead launch left, its jobs and Snakemake's lock, is cleared away first. With the
    executor slurm the plugin's defects are mended by `standins`, and a Snakemake that does not get on for `patience`
    seconds is stopped and started again.
    """
    settings = read_settings(arguments)
    folder = Path(settings.directory or Path.cwd()).resolve()
    on_cluster = settings.executor == "slurm"
    if settings.dryrun or settings.unlock:
        return subprocess.run([*supervise.snakemake(), *arguments], check=False).returncode
    if on_cluster:
        preflight(settings)
    state = folder / ".snakemake" / standins.MARK
    with supervise.Stop() as stop, holding.held(state) as dead:
        clear(folder, dead, arguments, on_cluster)
        environment = prepare(state) if on_cluster else dict(os.environ)
        for _ in range(1 + RESTARTS):
            code = attempt(arguments, environment, stop, patience)
            if code is not None:
                return code
            if stop.number:
                return 128 + stop.number
        raise DfgsError(f"stalled {RESTARTS + 1} times; see the newest file in {folder / '.snakemake/log'}")


def attempt(arguments: list[str], environment: dict[str, str], stop: supervise.Stop, patience: float) -> int | None:
    """Run one Snakemake; None if it stalled or a signal ended it, and then nothing of it is left."""
    on_cluster = standins.STATE in environment
    settings = read_settings(arguments)
    folder = Path(settings.directory or Path.cwd()).resolve()
    process = supervise.start(arguments, environment)
    holding.record(folder / ".snakemake" / standins.MARK, snakemake=[process.pid, time.time()])
    watch = supervise.Watch(process.pid, folder, patience) if on_cluster else None
    code = supervise.run(process, stop, watch)
    if code is None:
        supervise.end(process, folder, on_cluster)
        unlock(folder, arguments)
    return code


def read_settings(arguments: list[str]) -> Any:
    """Read `arguments` and the profile they name as Snakemake itself does."""
    from snakemake.cli import parse_args
    from snakemake.exceptions import CliException

    try:
        with contextlib.redirect_stderr(io.StringIO()):
            return parse_args(list(arguments))[1]
    except CliException as error:
        raise DfgsError(str(error).strip()) from error


def prepare(state: Path) -> dict[str, str]:
    """Put the stand-ins into a folder of their own and return the environment in which they come first."""
    folder = state / "bin"
    folder.mkdir(exist_ok=True)
    for name in STANDINS:
        command = shlex.join([sys.executable, "-E", "-S", str(Path(standins.__file__)), name])
        (folder / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
        (folder / name).chmod(0o755)
    path = os.pathsep.join([str(folder), os.environ.get("PATH", os.defpath)])
    return {**os.environ, "PATH": path, standins.STATE: str(state)}


def clear(folder: Path, dead: holding.Holder | None, arguments: list[str], on_cluster: bool) -> None:
    """Clear away what a dead launch of this folder left: its jobs, which keep their state, and Snakemake's lock."""
    if dead is not None:
        log.warning("the launch of %s on %s was killed; this one takes over", dead["since"], dead["host"])
        _wait_for(dead)
    if on_cluster:
        cancelled = cancel_jobs(folder)
        if cancelled:
            log.warning("%d jobs that a killed launch left are cancelled; they go on where they were", cancelled)
    if dead is not None:
        unlock(folder, arguments)


def _wait_for(dead: holding.Holder) -> None:
    """Wait until the Snakemake of a killed launch, which is interrupted with it, has gone."""
    end = time.monotonic() + supervise.SECONDS_TO_STOP[True]
    while holding.is_running(*dead.get("snakemake", (0, 0.0))):
        if time.monotonic() > end:
            raise DfgsError(f"Snakemake of the killed launch still runs as process {dead['snakemake'][0]}; stop it")
        time.sleep(0.5)


def unlock(folder: Path, arguments: list[str]) -> None:
    """Remove the lock of a Snakemake that was killed."""
    if any((folder / ".snakemake/locks").glob("*")):
        command = [*supervise.snakemake(), "--unlock", *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
