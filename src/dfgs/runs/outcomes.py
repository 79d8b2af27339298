"""How attempts end, in words that a ledger can count."""

import re
import shutil
import subprocess

from dfgs.errors import BadDataError, DfgsError, DivergedError, Preempted, SupersededError
from dfgs.runs import slurm
from dfgs.runs.holders import describe
from dfgs.runs.lease import Record

COMPLETED, PREEMPTED, TIME_OUT, OUT_OF_MEMORY = "completed", "preempted", "time-out", "out of memory"
NODE_LOST, DIVERGED, BAD_DATA, USER_ERROR, BUG = "node lost", "diverged", "bad data", "user error", "bug"
SUPERSEDED, KILLED = "superseded", "killed"
OUTCOMES = (
    COMPLETED,
    PREEMPTED,
    TIME_OUT,
    OUT_OF_MEMORY,
    NODE_LOST,
    DIVERGED,
    BAD_DATA,
    USER_ERROR,
    BUG,
    SUPERSEDED,
    KILLED,
)
SAID_BY_SLURM = {
    "TIMEOUT": TIME_OUT,
    "DEADLINE": TIME_OUT,
    "OUT_OF_MEMORY": OUT_OF_MEMORY,
    "NODE_FAIL": NODE_LOST,
    "BOOT_FAIL": NODE_LOST,
    "PREEMPTED": PREEMPTED,
}
MEMORY = re.compile(
    r"out of memory|can't allocate memory|cannot allocate memory|killed by signal: Killed", re.IGNORECASE
)


def of_error(error: BaseException) -> tuple[str, str]:
    """Return the outcome of an attempt that ended with `error`, and the reason in one line."""
    reason = f"{type(error).__name__}: {error}" if not isinstance(error, DfgsError) else str(error)
    return _kind(error), " ".join(reason.split())[:500]


def _kind(error: BaseException) -> str:
    if is_out_of_memory(error):
        return OUT_OF_MEMORY
    kinds: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str], ...] = (
        (DivergedError, DIVERGED),
        (BadDataError, BAD_DATA),
        (SupersededError, SUPERSEDED),
        (Preempted, PREEMPTED),
        ((KeyboardInterrupt, SystemExit), KILLED),
        (DfgsError, USER_ERROR),
    )
    return next((word for kind, word in kinds if isinstance(error, kind)), BUG)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Tell whether memory, of host or device, ran out, also where another error was raised from that."""
    while error is not None:
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            return True
        if isinstance(error, RuntimeError) and MEMORY.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def of_dead(record: Record, why: str) -> tuple[str, str]:
    """Return the outcome of an attempt that left its record open, and the reason, as far as anybody knows.

    SLURM and the kernel's log are asked; `why` tells how it was found dead.
    """
    holder = record.get("holder", {})
    ended = slurm.state(holder)
    if ended in SAID_BY_SLURM:
        return SAID_BY_SLURM[ended], f"SLURM says {ended}"
    if ended is not None:
        return KILLED, f"SLURM says {ended}; it left no word of its own"
    if why.endswith("is gone") and _was_killed_for_memory(holder.get("pid")):
        return OUT_OF_MEMORY, "the kernel killed it for memory"
    if why.startswith("no heartbeat"):
        return NODE_LOST, why
    return KILLED, f"{describe(holder)} ended without a word (SIGKILL or a power cut); nobody knows why"


def _was_killed_for_memory(pid: int | None) -> bool:
    """Look for a process in the kernel's log; False where it cannot be read."""
    if shutil.which("dmesg") is None:
        return False
    try:
        log = subprocess.run(
            ["dmesg"], capture_output=True, text=True, errors="replace", timeout=10, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return False
    return re.search(rf"[Kk]illed process {pid}\b", log) is not None
