"""Every attempt at a stage: it holds its outputs, and leaves a record of how it ended and what it cost."""

import json
import logging
import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dfgs.errors import DfgsError, SupersededError
from dfgs.provenance import commit, digest_json, guarded, unguarded_file
from dfgs.runs import outcomes, slurm
from dfgs.runs.holders import describe
from dfgs.runs.lease import (
    RUNNING,
    Lease,
    Record,
    Terms,
    acquire,
    clear_leftovers,
    home,
    is_completed,
    read_record,
    tokens,
)

log = logging.getLogger(__name__)
LEASE_VARIABLE, WAIT_VARIABLE = "DFGS_LEASE_SECONDS", "DFGS_LEASE_WAIT"
ENDED, SETTLED = "ended", ".settled.json"


class _Clock:
    """The attempt that this process is making: its lease, its start, and how much of it is kept."""

    def __init__(self, lease: Lease) -> None:
        self.lease, self.start = lease, time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.start


_current: _Clock | None = None


@contextmanager
def attempt(stage: str, job: dict[str, Any], outputs: list[Path], terms: Terms | None = None) -> Iterator[bool]:
    """Hold the `outputs` of a stage while the body makes them, and record the attempt beside them.

    Yields True; False when there is nothing to do, because another copy of the same job has completed while this one
    waited. Every file that the body publishes is checked against the lease. Raises `HeldError` naming a living holder,
    `SupersededError` when another job has taken over, `DfgsError` when an output is missing in the end.
    """
    global _current
    facts = {"stage": stage, "job": digest_json(job), "alike": alike(job), "commit": commit()}
    facts |= {"outputs": [str(path) for path in outputs]}
    found = acquire(home(outputs[0]), facts, terms or terms_of_environment())
    if not isinstance(found, Lease):
        log.info("%s is there already: made by %s meanwhile", outputs[0], describe(found["holder"]))
        yield False
        return
    earlier, _current = _current, _Clock(found)
    clock = _current
    try:
        _begin(found, outputs)
        with found.beating(), guarded(found.check):
            yield True
            _check_outputs(outputs)
    except BaseException as error:
        _end(clock, *outcomes.of_error(error))
        if not (isinstance(error, SupersededError) and _is_done_by_another(found)):
            raise
        log.info("%s; its result stands", error)
    else:
        _end(clock, outcomes.COMPLETED, "")
    finally:
        _current = earlier


def keep() -> None:
    """Note that what the running attempt has computed is kept, in a checkpoint; only what follows can be lost."""
    if _current is not None:
        _current.lease.check(_current.lease.path)
        _current.lease.write(kept_seconds=_current.seconds)


def alike(job: dict[str, Any]) -> list[str]:
    """Digest what decides how long a job takes, from narrow to wide: all but seed, but sampler, but data."""
    narrow = {key: value for key, value in job.items() if key not in ("seed", "trial")}
    middle = {key: value for key, value in narrow.items() if key != "sampler"}
    wide = {key: value for key, value in middle.items() if key not in ("source", "datasets", "targets")}
    return [digest_json(part) for part in (narrow, middle, wide)]


def terms_of_environment() -> Terms:
    """Read the lease's terms, in seconds, from `DFGS_LEASE_SECONDS` and `DFGS_LEASE_WAIT`, where they are set."""
    given = {}
    for field, name in (("seconds", LEASE_VARIABLE), ("wait", WAIT_VARIABLE)):
        if text := os.environ.get(name):
            try:
                given[field] = float(text)
            except ValueError:
                raise DfgsError(f"{name} is {text!r}; expected seconds") from None
    return Terms(**given)


def settle(path: Path, record: Record, why: str) -> Record:
    """Close the record that a dead attempt has left open with what can be known of its end, and return it.

    The closing lies beside the record: should the attempt live after all, its own words count.
    """
    outcome, reason = outcomes.of_dead(record, why)
    seconds = max(0.0, path.stat().st_mtime - float(record.get("born", path.stat().st_mtime)))
    closed = {**record, "state": ENDED, "outcome": outcome, "reason": reason, **_cost(seconds, record, is_kept=False)}
    with unguarded_file(path.with_suffix(SETTLED)) as partial:
        partial.write_text(json.dumps(closed, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return closed


def read_attempt(path: Path) -> Record:
    """Read an attempt's record; where it was left open, what was found out about it later."""
    record = read_record(path)
    if record.get("state") != RUNNING:
        return record
    return read_record(path.with_suffix(SETTLED)) or record


def _begin(lease: Lease, outputs: list[Path]) -> None:
    """Clear up after the attempt before this one, and note what is known from the start."""
    _settle_earlier(lease)
    clear_leftovers(outputs)
    waited = slurm.queue_seconds(lease.record["holder"]["slurm_job"])
    lease.write(born=lease.path.stat().st_mtime, gpus=_gpus(), queue_seconds=waited)


def _settle_earlier(lease: Lease) -> None:
    path = lease.folder / f"{lease.token - 1:04d}.json"
    record = read_attempt(path)
    if record.get("state") == RUNNING:
        log.info("taking over %s: %s", lease.record["outputs"][0], lease.record["took_over"])
        settle(path, record, lease.record["took_over"])


def _check_outputs(outputs: list[Path]) -> None:
    for path in outputs:
        if not path.exists():
            raise DfgsError(
                f"{path} is not there though it was written; another job has removed it; run this one again"
            )


def _is_done_by_another(lease: Lease) -> bool:
    newest = read_record(lease.folder / f"{max(tokens(lease.folder), default=0):04d}.json")
    return newest.get("token") != lease.token and is_completed(newest, lease.record["job"])


def _end(clock: _Clock, outcome: str, reason: str) -> None:
    """Write the attempt's end; what stands in the way of that is told and hides no other error."""
    memory = {"peak_bytes": _peak_bytes(), "gpu_peak_bytes": _gpu_peak_bytes()}
    record = clock.lease.record
    record["gpus"] = max(record.get("gpus", 0), int(_torch_with_gpu() is not None))
    cost = _cost(clock.seconds, record, is_kept=outcome == outcomes.COMPLETED)
    try:
        clock.lease.write(state=ENDED, outcome=outcome, reason=reason, **cost, **memory)
    except OSError as error:
        log.warning("the end of this attempt could not be recorded in %s: %s", clock.lease.path, error)


def _cost(seconds: float, record: Record, *, is_kept: bool) -> Record:
    """Return seconds, GPU-seconds, and the seconds whose work is lost: what came after the last checkpoint."""
    wasted = 0.0 if is_kept else max(0.0, seconds - record.get("kept_seconds", 0.0))
    return {"seconds": seconds, "gpu_seconds": seconds * record.get("gpus", 0), "wasted_seconds": wasted}


def _gpus() -> int:
    """Count the GPUs that this job holds: those that SLURM gave it, else the visible ones that were named."""
    given = os.environ.get("SLURM_GPUS_ON_NODE") or os.environ.get("SLURM_JOB_GPUS", "")
    if given.isdigit():
        return int(given)
    return len([name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name and name != "-1"])


def _peak_bytes() -> int:
    """Return the peak resident memory of this process or of the largest of its children, whichever is more."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    unit = 1 if sys.platform == "darwin" else 1024
    return max(resource.getrusage(each).ru_maxrss for each in who) * unit


def _gpu_peak_bytes() -> int:
    torch = _torch_with_gpu()
    return 0 if torch is None else int(torch.cuda.max_memory_allocated())


def _torch_with_gpu() -> Any:
    """Return torch where this process has loaded it and computed on a GPU, else None."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and torch.cuda.is_initialized() else None
