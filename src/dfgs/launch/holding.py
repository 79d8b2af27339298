"""One launch per folder: who holds it, whether the holder lives, and what a dead one left behind."""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from dfgs.errors import DfgsError

BEAT = 10.0
# A holder on another machine is dead when its file has not been touched for so many seconds.
SILENCE = 120.0

Holder = dict[str, Any]


@contextmanager
def held(state: Path) -> Iterator[Holder | None]:
    """Hold the launch's folder `state` and yield the dead launch that held it before, or None.

    Raises `DfgsError` that names a holder who lives. A holder on this machine is looked up by process and its start,
    one on another by the age of its file, which it touches every `BEAT` seconds.
    """
    state.mkdir(parents=True, exist_ok=True)
    path = state / "holder.json"
    dead = _take(path)
    ended = threading.Event()
    beating = threading.Thread(target=_beat, args=(path, ended), daemon=True)
    beating.start()
    try:
        yield dead
    finally:
        ended.set()
        beating.join()
        path.unlink(missing_ok=True)


def record(state: Path, **facts: Any) -> None:
    """Add facts to the holder's own file."""
    path = state / "holder.json"
    _write(path, json.loads(path.read_text(encoding="utf-8")) | facts)


def _take(path: Path) -> Holder | None:
    """Make the file `path` ours; return the dead holder whose file it was."""
    dead = None
    while not _create(path):
        holder = _read(path)
        if holder is None:
            continue  # just released
        if _lives(holder, path):
            raise DfgsError(
                f"{path.parents[2]} is held by dfgs launch, process {holder['pid']} on {holder['host']} "
                f"since {holder['since']}; wait for it or stop it"
            )
        if _remove(path, holder):
            dead = holder
    return dead


def _create(path: Path) -> bool:
    """Create `path` with ourselves in it, whole, unless it is there; by a link, which is atomic on NFS too."""
    own = path.with_name(f".holder.{socket.gethostname()}.{os.getpid()}")
    _write(own, _myself())
    try:
        os.link(own, path)
    except FileExistsError:
        return False
    finally:
        own.unlink()
    return True


def _remove(path: Path, holder: Holder) -> bool:
    """Remove a dead holder's file, once, whoever else tries the same."""
    grave = path.with_name(f".dead.{socket.gethostname()}.{os.getpid()}")
    with suppress(FileNotFoundError):
        path.rename(grave)
        if _read(grave) == holder:
            grave.unlink()
            return True
        with suppress(FileExistsError):  # somebody else took over first: give it back
            os.link(grave, path)
        grave.unlink()
    return False


def _myself() -> Holder:
    process = psutil.Process()
    return {
        "host": socket.gethostname(),
        "boot": psutil.boot_time(),
        "pid": process.pid,
        "started": process.create_time(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _lives(holder: Holder, path: Path) -> bool:
    if holder["host"] != socket.gethostname():
        with suppress(FileNotFoundError):
            return _now_there(path.parent) - path.stat().st_mtime < SILENCE
        return True
    return is_running(holder["pid"], holder["started"])


def is_running(pid: int, started: float) -> bool:
    """Tell whether the process that began at `started` still runs under `pid`."""
    try:
        process = psutil.Process(pid)
        same = bool(abs(process.create_time() - started) < 2)
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _now_there(folder: Path) -> float:
    """Time of the file system's own clock, which another machine's may not agree with."""
    probe = folder / f".clock.{socket.gethostname()}.{os.getpid()}"
    probe.touch()
    now = probe.stat().st_mtime
    probe.unlink()
    return now


def _beat(path: Path, ended: threading.Event) -> None:
    while not ended.wait(BEAT):
        with suppress(OSError):
            os.utime(path)


def _read(path: Path) -> Holder | None:
    try:
        holder: Holder = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return holder


def _write(path: Path, holder: Holder) -> None:
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    partial.write_text(json.dumps(holder), encoding="utf-8")
    partial.replace(path)
