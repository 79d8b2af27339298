"""Runs one Snakemake, watches whether it gets on, and stops it cleanly."""

import ctypes
import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import psutil

from dfgs.launch.cluster import active_jobs, cancel_hopeless, cancel_jobs
from dfgs.launch.standins import MARK, NoAnswerError

log = logging.getLogger(__name__)

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
# Snakemake cancels its jobs in seconds; a stage on this machine may have a large state to keep.
SECONDS_TO_STOP = {True: 60.0, False: 300.0}
LOOK_EVERY = 10.0


@dataclass
class Stop:
    """The signal that asked the launch to end, if any; used as `with Stop() as stop`."""

    number: int = 0
    before: dict[int, object] = field(default_factory=dict)

    def __enter__(self) -> "Stop":
        self.before = {number: signal.signal(number, self._note) for number in STOPS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, _: FrameType | None) -> None:
        self.number = number


def snakemake() -> list[str]:
    """Command that runs Snakemake with this Python; `DFGS_SNAKEMAKE` names another script."""
    other = os.environ.get("DFGS_SNAKEMAKE")
    return [sys.executable, other] if other else [sys.executable, "-m", "snakemake"]


def start(arguments: list[str], environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    """Start Snakemake in a process group of its own; it is interrupted (and cancels its jobs) if we are killed."""
    # before the fork: nothing but the call itself may happen in the child
    libc = ctypes.CDLL(None)
    return subprocess.Popen(
        [*snakemake(), *arguments],
        env=environment,
        start_new_session=True,
        preexec_fn=lambda: libc.prctl(1, signal.SIGINT),  # PR_SET_PDEATHSIG
    )


class Watch:
    """Whether Snakemake gets on: it writes its log, runs something here, or has a job in SLURM."""

    def __init__(self, pid: int, folder: Path, patience: float) -> None:
        self.process, self.folder, self.patience = psutil.Process(pid), folder, patience
        self.last, self.log_time = time.monotonic(), 0.0

    def is_stalled(self) -> bool:
        """Tell whether nothing has happened for `patience` seconds; a silent controller is no stall."""
        if self._moves():
            self.last = time.monotonic()
        return time.monotonic() - self.last > self.patience

    def _moves(self) -> bool:
        try:
            for line in cancel_hopeless(self.folder):
                log.warning("%s", line)
            if active_jobs(self.folder):
                return True
        except NoAnswerError:
            return True
        return self._writes() or self._runs()

    def _writes(self) -> bool:
        logs = (self.folder / ".snakemake/log").glob("*.log")
        newest = max((path.stat().st_mtime for path in logs), default=0.0)
        written, self.log_time = newest > self.log_time, max(newest, self.log_time)
        return written

    def _runs(self) -> bool:
        """Tell whether Snakemake runs a rule on this machine; its questions to SLURM do not count."""
        with suppress(psutil.Error):
            commands = [" ".join(child.cmdline()) for child in self.process.children()]
            return not all("standins" in command or MARK in command for command in commands)
        return False


def run(process: "subprocess.Popen[bytes]", stop: Stop, watch: Watch | None) -> int | None:
    """Wait for Snakemake and return its status; None if it was stopped here, by a signal or because it stalled."""
    look = time.monotonic()
    while process.poll() is None:
        if stop.number:
            return None
        if watch is not None and time.monotonic() - look > LOOK_EVERY:
            look = time.monotonic()
            if watch.is_stalled():
                log.warning(
                    "stalled: for %.0f s nothing has run here or in SLURM; Snakemake is started again", watch.patience
                )
                return None
        time.sleep(0.2)
    return process.returncode


def end(process: "subprocess.Popen[bytes]", folder: Path, on_cluster: bool) -> None:
    """Stop Snakemake and what it runs, here and in SLURM; stages are given time to keep their state."""
    with suppress(ProcessLookupError):
        if on_cluster:
            process.send_signal(signal.SIGINT)
        else:  # shells and Snakemake wait for the stages, which keep their state and leave
            os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(SECONDS_TO_STOP[on_cluster])
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if on_cluster:
        cancel_jobs(folder)
