"""One job at a time: a lease on the outputs of one stage, made of numbered files; it needs no `flock`.

The folder of a stage's outputs (`home`) holds one small file per attempt, `0001.json`, `0002.json`, …: its number is
the **fencing token**, its content tells who holds it, its modification time is the heartbeat, and once the attempt has
ended it is its record. Nothing is ever unlocked by deletion. The highest number holds; whoever wants the outputs
creates the next number with `link(2)`, which exactly one of any number of jobs on any nodes can do (NFS and Lustre
included), and may do so when the highest one has ended or is dead:

- its process is gone, asked under the same kernel (a reused process id has another start);
- SLURM says that its job has ended; "not known" is not "ended";
- no heartbeat for `Terms.seconds`, both times taken from the file server, so that no node's clock matters.

Guaranteed: whatever ends, sleeps or is cut off, tokens rise by one and the outputs have one holder. A stray (a job that
was taken over and goes on) finds a higher token than its own when it asks, which `provenance.whole_file` does right
before each rename, with no other call in between, and once more right after it.

A stray that was stopped exactly between question and rename finds its temporary file gone when it wakes: who takes
over removes those of the outputs before it computes anything (`clear_leftovers`). So no file of a stray ever replaces
one that its successor has published.

What remains: files that are no declared output of the stage, whose temporary files nobody else may remove, and a drawn
world's folder. There a stray has to be stopped between two neighbouring calls for all of `Terms.seconds`, since the
question has renewed its lease. What it then replaces is replaced whole, by the same job's, and the question after the
rename ends it with `SupersededError` before it publishes anything else.
"""

import errno
import json
import os
import re
import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfgs.errors import DfgsError, HeldError, SupersededError
from dfgs.provenance import sync_folder, unguarded_file
from dfgs.runs import slurm
from dfgs.runs.holders import describe, is_dead_here, myself

Record = dict[str, Any]
RUNNING = "running"
NUMBER = re.compile(r"(\d{4,})\.json")
LEFT_BEHIND = 3600.0
"""Seconds after which a temporary file that nobody has touched is surely a dead process's."""


@dataclass(frozen=True, slots=True)
class Terms:
    """Seconds without heartbeat after which a lease may be taken over, and seconds to wait for a living holder."""

    seconds: float = 120.0
    wait: float = 300.0

    @property
    def poll(self) -> float:
        """Seconds between two looks at a holder."""
        return min(5.0, self.seconds / 20)


@dataclass(slots=True, eq=False)
class Lease:
    """A lease that this process holds: its token, and its record, which `write` keeps on disk."""

    folder: Path
    token: int
    record: Record
    terms: Terms

    @property
    def path(self) -> Path:
        """The file that is lease, heartbeat and record."""
        return self.folder / f"{self.token:04d}.json"

    def check(self, path: Path) -> None:
        """Renew the lease, then make sure that nobody has taken it over; raises `SupersededError` naming who."""
        with suppress(FileNotFoundError):
            os.utime(self.path)
        newest = max(tokens(self.folder), default=0)
        if newest == self.token and read_record(self.path).get("nonce") == self.record["nonce"]:
            return
        by = read_record(self.folder / f"{newest:04d}.json").get("holder", {})
        raise SupersededError(
            f"{path} is no longer this job's to write: attempt {self.token} was taken over by attempt {newest} "
            f"({describe(by)}); nothing was published from here on"
        )

    def write(self, **facts: Any) -> None:
        """Add facts to the record and write it; on a full disk in place, where its block has room for it."""
        self.record |= facts
        text = _text(self.record)
        try:
            with unguarded_file(self.path) as partial:
                partial.write_text(text, encoding="utf-8")
        except DfgsError:
            handle = os.open(self.path, os.O_WRONLY)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.truncate()

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Renew the lease from a thread, four times within its terms."""
        ended = threading.Event()
        thread = threading.Thread(target=self._beat, args=(ended,), name="dfgs heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(self.terms.seconds)

    def _beat(self, ended: threading.Event) -> None:
        while not ended.wait(self.terms.seconds / 4):
            with suppress(OSError):  # a server that is away for a while; `check` has the last word
                os.utime(self.path)


def home(output: Path) -> Path:
    """Return the folder of the attempts that make `output`: below `results/attempts` for what lies in `results`."""
    parts = output.parts
    if "results" in parts[:-1]:
        at = len(parts) - 1 - parts[::-1].index("results")
        return Path(*parts[: at + 1], "attempts", *parts[at + 1 :])
    return output.parent / ".attempts" / output.name


def acquire(folder: Path, facts: Record, terms: Terms) -> Lease | Record:
    """Take the lease on the outputs whose attempts lie in `folder`, waiting for a living holder up to `terms.wait`.

    `facts` go into the record; `job` among them digests what is to be made. Returns the record of another copy that has
    meanwhile completed the same job, instead of a lease. Raises `HeldError` naming a holder that goes on living.
    """
    folder.mkdir(parents=True, exist_ok=True)
    until, has_waited = time.monotonic() + terms.wait, False
    while True:
        token = max(tokens(folder), default=0)
        latest = folder / f"{token:04d}.json"
        record = read_record(latest) if token else {}
        why = reason_to_take(latest, record, terms) if token else "nobody had it"
        if has_waited and is_completed(record, facts["job"]):
            return record
        if why is not None:
            lease = _claim(folder, token + 1, {**facts, "took_over": why}, terms)
            if lease is not None:
                return lease
        elif time.monotonic() >= until:
            raise HeldError(
                f"{facts['outputs'][0]} is being made by {describe(record.get('holder', {}))}, since "
                f"{record.get('since', '?')}; wait for it or end it, then run again"
            )
        else:
            has_waited = True
            time.sleep(terms.poll)


def tokens(folder: Path) -> list[int]:
    """List the attempts' numbers, sorted; reading the folder anew asks the file server."""
    try:
        names = os.listdir(folder)  # noqa: PTH208  (no need for paths)
    except FileNotFoundError:
        return []
    return sorted(int(found[1]) for found in map(NUMBER.fullmatch, names) if found)


def read_record(path: Path) -> Record:
    """Read an attempt's record; empty where it is gone or is being written in place."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def reason_to_take(path: Path, record: Record, terms: Terms) -> str | None:
    """Say why an attempt no longer holds the outputs; None while it does."""
    if record and record.get("state") != RUNNING:
        return "it had ended"
    holder = record.get("holder", {})
    if is_dead_here(holder):
        return f"{describe(holder)} is gone"
    if (ended := slurm.state(holder)) is not None:
        return f"SLURM says {ended} of {describe(holder)}"
    silent = silence(path)
    if silent > terms.seconds:
        return f"no heartbeat of {describe(holder)} for {silent:.0f} s"
    return None


def silence(path: Path) -> float:
    """Return the seconds since an attempt's last heartbeat, by the clock of the file server alone."""
    probe = path.parent / f".now.{uuid.uuid4().hex}"
    try:
        probe.write_bytes(b".")
        return probe.stat().st_mtime - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
    finally:
        probe.unlink(missing_ok=True)


def is_completed(record: Record, job: str) -> bool:
    """Tell whether an attempt has completed this very job and what it made is there."""
    is_done = record.get("outcome") == "completed" and record.get("job") == job
    return is_done and all(Path(path).exists() for path in record["outputs"])


def clear_leftovers(outputs: list[Path]) -> None:
    """Remove temporary files of dead processes: those of `outputs`, which only this job may write, and old ones."""
    for folder in sorted({path.parent for path in outputs if path.parent.is_dir()}):
        names = {path.name for path in outputs}
        for part in sorted(folder.glob(".*.part")):
            is_own = part.name.lstrip(".").rsplit(".", 2)[0] in names
            if is_own and part.is_dir():
                shutil.rmtree(part)
            elif (is_own or silence(part) > LEFT_BEHIND) and part.is_file():
                part.unlink(missing_ok=True)


def _claim(folder: Path, token: int, facts: Record, terms: Terms) -> Lease | None:
    """Create the attempt of this number; None if another job did."""
    since = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    identity = {"token": token, "nonce": uuid.uuid4().hex, "holder": myself(), "since": since, "state": RUNNING}
    lease = Lease(folder, token, {**identity, **facts}, terms)
    claim = folder / f".claim.{lease.record['nonce']}"
    try:
        with claim.open("w", encoding="utf-8") as file:
            file.write(_text(lease.record))
            file.flush()
            os.fsync(file.fileno())
        if not _link(claim, lease.path):
            return None
        sync_folder(folder)
    finally:
        claim.unlink(missing_ok=True)
    return lease


def _link(claim: Path, path: Path) -> bool:
    try:
        os.link(claim, path)
    except FileExistsError:
        return claim.stat().st_nlink == 2  # NFS may have lost the answer to a link that it made
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
            raise
        return _create(claim, path)
    return True


def _create(claim: Path, path: Path) -> bool:
    """Do as `_link` on file systems without hard links; who reads the file while it is empty takes it for held."""
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except FileExistsError:
        return False
    with os.fdopen(handle, "wb") as file:
        file.write(claim.read_bytes())
        os.fsync(handle)
    return True


def _text(record: Record) -> str:
    return json.dumps(record, indent=1, sort_keys=True) + "\n"
