"""Who a process is, told so that another one, on any node, can find out whether it is still there."""

import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import Any

Holder = dict[str, Any]


def myself() -> Holder:
    """Describe this process: host, boot and process id with its start, user, and its SLURM job where it is in one."""
    return {
        "host": platform.node(),
        "place": _place(),
        "pid": os.getpid(),
        "started": _started(os.getpid()),
        "user": os.environ.get("USER") or str(os.getuid()),
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
        "slurm_restarts": int(os.environ.get("SLURM_RESTART_COUNT") or 0),
        "slurm_cluster": os.environ.get("SLURM_CLUSTER_NAME"),
    }


def is_dead_here(holder: Holder) -> bool:
    """Tell whether a holder ran under this very kernel and is gone; False too where this cannot be known from here."""
    if holder.get("place") is None or holder["place"] != _place():
        return False
    return bool(_started(holder["pid"]) != holder["started"])


def describe(holder: Holder) -> str:
    """Name a holder for a message: host, process, SLURM job, user."""
    job = f", SLURM job {holder['slurm_job']}" if holder.get("slurm_job") else ""
    return f"process {holder.get('pid', '?')} on {holder.get('host', '?')}{job}, user {holder.get('user', '?')}"


def _place() -> str | None:
    """Return boot and process namespace: process ids mean something within both; None where a system has neither."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    return None


def _started(pid: int) -> int | None:
    """Return a process's start in clock ticks since boot, which tells a reused process id; None when it has ended."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if words[0] in "ZX" else int(words[19])
