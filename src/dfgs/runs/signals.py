"""Signals that ask a job to leave: a handler takes a note of them, loops look at it between their steps."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from dfgs.errors import Preempted

ASKING = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
"""What schedulers send ahead of a kill; which one, a site decides."""


class Notice:
    """Which signal has asked this process to leave; `received` is None as long as none has.

    Example: `with noticed() as notice: for item in items: work(item); notice.leave("after an item")`.
    """

    received: signal.Signals | None = None

    def take(self, number: int, frame: FrameType | None = None) -> None:
        """Note the signal `number`; what a handler calls."""
        self.received = signal.Signals(number)

    def leave(self, where: str) -> None:
        """Raise `Preempted` telling signal and place if a signal was received."""
        if self.received is not None:
            raise Preempted(f"{self.received.name} {where}")


@contextmanager
def noticed() -> Iterator[Notice]:
    """Note the signals `ASKING` instead of dying of them; what handled them before comes back afterwards."""
    notice = Notice()
    with _handled(notice.take):
        yield notice


@contextmanager
def leaving_at_once() -> Iterator[None]:
    """Raise `Preempted` wherever the block is when one of `ASKING` comes: for work without a state to keep."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise Preempted(f"{signal.Signals(number).name}; the next attempt keeps the files that are there")

    with _handled(leave):
        yield


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in ASKING}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def outlive(_worker: int = 0) -> None:
    """Let a loader's worker process outlive `ASKING`, which a launcher sends to every process of a job.

    Its parent needs it for the step that is under way; only the parent's own SIGTERM still ends it.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, ASKING)
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()


def _end_with_parent(parent: int) -> None:
    while signal.sigwaitinfo(ASKING).si_pid != parent:
        pass
    os._exit(0)
