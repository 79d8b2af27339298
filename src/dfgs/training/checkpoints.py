"""Resume state of a stage: one file beside its outputs, kept now and then, and removed once they are there."""

import logging
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dfgs.errors import DfgsError
from dfgs.provenance import digest_bytes, digest_json, versions, whole_file
from dfgs.runs.attempts import keep
from dfgs.runs.signals import Notice

log = logging.getLogger(__name__)
ROOMS = ("training", "losses", "models", "device", "samplers", "datasets", "drawn", "packs")
"""Code that a training runs through, beside the package's single files: a state of other code is not gone on with."""


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often a state is kept: every `minutes` or `steps`, whichever comes first; 0 is never.

    Besides, always when a signal of `notice` asks the job to leave.
    """

    minutes: float = 0.0
    steps: int = 0
    notice: Notice = field(default_factory=Notice)


NEVER = Rhythm()
GOING_ON = "going on from"
"""How the log line of an attempt begins that has found a state."""


class Checkpoint:
    """The state of a stage beside its `output`, so that the next attempt goes on where this one was cut off.

    Example:
        checkpoint = Checkpoint(output, {"job": job}, rhythm)
        with checkpoint.keeping(model=model, optimiser=optimiser, progress=progress):
            for step in range(progress.step, 100):
                ...
                checkpoint.tick(f"step {step + 1}")
        (write the output)
        checkpoint.clear()

    A part is anything with `state_dict` and `load_state_dict`, `state` and `restore`, or `get_state` and `set_state`.
    `belongs` is JSON-able and tells what the state belongs to, besides code and versions: a state of something else and
    a damaged one are named in the log and not used. No state is ever unpickled into anything but tensors and plain
    values.
    """

    def __init__(self, output: Path, belongs: dict[str, Any], rhythm: Rhythm) -> None:
        self.path, self.rhythm = state_path(output), rhythm
        self._key = {name: digest_json(value) for name, value in belongs.items()}
        self._key |= {"code": code_digest(), "versions": versions()}
        self._parts: dict[str, Any] = {}
        self._found = self._read()
        self._steps, self._kept = 0, time.monotonic()
        self.saves, self.seconds = 0, 0.0

    def __contains__(self, name: str) -> bool:
        """Tell whether the state that was found holds a part that is not restored yet."""
        return name in self._found.get("parts", {})

    @contextmanager
    def keeping(self, **parts: Any) -> Iterator[None]:
        """Restore the parts from the state if there is one, and keep them in states until the block ends."""
        self._parts |= parts
        waiting = self._found.get("parts", {})
        for name, part in parts.items():
            if name in waiting:
                _methods(part)[1](waiting.pop(name))
        if self._found and not waiting:  # after the last part: to build and restore one may draw random numbers
            _restore_random(self._found["random"])
            self._found = {}
        yield
        for name in parts:
            del self._parts[name]

    def tick(self, done: str) -> None:
        """Keep the state if it is time; if the job is asked to leave, keep it and raise `Preempted` naming `done`."""
        self._steps += 1
        notice = self.rhythm.notice
        if notice.received is not None:
            self._try_to_save()
            notice.leave(f"after {done}; the next attempt goes on from {self.path}")
        is_late = self.rhythm.minutes and time.monotonic() - self._kept >= 60 * self.rhythm.minutes
        if is_late or (self.rhythm.steps and self._steps >= self.rhythm.steps):
            self._try_to_save()

    def save(self) -> None:
        """Write the state of all parts, whole or not at all."""
        started, self._steps, self._kept = time.perf_counter(), 0, time.monotonic()
        state = {"key": self._key, "random": _random(), "parts": {n: _methods(p)[0]() for n, p in self._parts.items()}}
        with whole_file(self.path) as partial, partial.open("wb") as handle:
            torch.save(_plain(state), handle)
        keep()
        self.saves += 1
        self.seconds += time.perf_counter() - started

    def _try_to_save(self) -> None:
        """Save; a disk that is full for a moment costs a state, not the training."""
        try:
            self.save()
        except DfgsError as error:
            log.warning("%s; the last state is as it was", error)

    def clear(self) -> None:
        """Remove the state and what killed attempts left of theirs; the outputs are there."""
        if self.saves:
            size = self.path.stat().st_size / 1e6
            log.info("state of %.1f MB kept %d times in %.2f s", size, self.saves, self.seconds)
        for path in (self.path, *self.path.parent.glob(f".{self.path.name}.*.part")):
            path.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any]:
        """Read the state of an earlier attempt; empty without a usable one."""
        if not self.path.exists():
            return {}
        try:
            with zipfile.ZipFile(self.path) as archive:
                broken = archive.testzip()  # torch does not look at the checksums
            if broken is not None:
                raise zipfile.BadZipFile(f"{broken} is not what was written")
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            other = sorted(name for name, value in self._key.items() if state["key"].get(name) != value)
        except Exception as error:  # a damaged archive may raise anything
            log.warning("%s is damaged (%s); starting over", self.path, (str(error) or repr(error)).splitlines()[0])
            return {}
        if other:
            log.warning("%s is the state of a job with other %s; starting over", self.path, ", ".join(other))
            return {}
        log.info("%s %s", GOING_ON, self.path)
        return dict(state)


def state_path(output: Path) -> Path:
    """Return the file of the resume state beside a stage's first output."""
    return output.with_name(f"{output.name}.resume")


def code_digest() -> str:
    """Digest the source files of `ROOMS` and the package's single files."""
    package = Path(__file__).parents[1]
    files = sorted(path for room in ("", *ROOMS) for path in (package / room).glob("*.py"))
    return digest_bytes(b"".join(path.read_bytes() for path in files))


def _methods(part: Any) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    for give, take in (("state_dict", "load_state_dict"), ("state", "restore"), ("get_state", "set_state")):
        if hasattr(part, take):
            return getattr(part, give), getattr(part, take)
    raise TypeError(f"{type(part).__name__} cannot be kept in a resume state: it has no state to restore")


def _random() -> dict[str, Any]:
    # To ask a GPU that nothing uses would take memory on it.
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []}


def _restore_random(states: dict[str, Any]) -> None:
    torch.set_rng_state(states["cpu"])
    for device, state in zip(range(torch.cuda.device_count()), states["cuda"], strict=False):
        torch.cuda.set_rng_state(state, device)


def _plain(value: Any) -> Any:
    """Turn arrays into tensors, in any depth: what is read back with `weights_only`."""
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(item) for item in value)
    return value
