"""Signals that ask a job to leave: noted or obeyed, by the job and by the processes that load its images."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.context import ForkProcess
from multiprocessing.synchronize import Event

import click
import pytest
from click.testing import CliRunner

from dfgs.cli.options import leaves_at_once, rhythm_options
from dfgs.errors import Preempted
from dfgs.runs.signals import ASKING, Notice, leaving_at_once, noticed, outlive


@pytest.mark.parametrize("number", ASKING)
def test_a_signal_is_noted_and_the_work_goes_on_until_it_looks(number: signal.Signals) -> None:
    with noticed() as notice:
        notice.leave("before")
        os.kill(os.getpid(), number)
        assert notice.received is number
        with pytest.raises(Preempted, match=f"^{number.name} after step 7$"):
            notice.leave("after step 7")


@pytest.mark.parametrize("watch", [noticed, leaving_at_once])
def test_what_handled_the_signals_before_comes_back(watch: Callable[[], Notice]) -> None:
    seen: list[int] = []
    earlier = {number: signal.signal(number, lambda number, _: seen.append(number)) for number in ASKING}
    try:
        with pytest.raises(KeyError), watch():  # type: ignore[attr-defined]
            raise KeyError
        for number in ASKING:
            os.kill(os.getpid(), number)
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
    assert seen == list(ASKING)


@pytest.mark.parametrize("number", ASKING)
def test_work_without_a_state_is_left_at_once(number: signal.Signals) -> None:
    def work() -> None:
        with leaving_at_once():
            for step in range(100):
                done.append(step)
                if step == 3:
                    os.kill(os.getpid(), number)

    done: list[int] = []
    with pytest.raises(Preempted, match=f"^{number.name}; the next attempt keeps the files that are there$"):
        work()
    assert done == [0, 1, 2, 3]


def _work(ready: Event) -> None:
    outlive()
    ready.set()
    time.sleep(60)


@pytest.fixture
def worker() -> ForkProcess:
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=_work, args=(ready,))
    process.start()
    assert ready.wait(20)
    return process


@pytest.mark.parametrize("number", ASKING)
def test_a_loaders_process_outlives_the_signals_of_others_and_ends_with_its_parents(
    worker: ForkProcess, number: signal.Signals
) -> None:
    code = f"import os, sys; os.kill(int(sys.argv[1]), {int(number)})"
    subprocess.run([sys.executable, "-S", "-c", code, str(worker.pid)], check=True)
    worker.join(0.5)
    assert worker.exitcode is None
    worker.terminate()
    worker.join(20)
    assert worker.exitcode == 0


def test_the_rhythm_is_made_of_the_command_lines_options_and_hears_signals() -> None:
    found = []

    @click.command()
    @rhythm_options
    @click.argument("name")
    def stage(name: str, rhythm: object) -> None:
        os.kill(os.getpid(), signal.SIGUSR2)
        found.append((name, rhythm))

    for arguments in (["a"], ["--checkpoint-minutes", "0.5", "--checkpoint-steps", "20", "b"]):
        assert CliRunner().invoke(stage, arguments).exit_code == 0
    names = [(name, rhythm.minutes, rhythm.steps, rhythm.notice.received) for name, rhythm in found]  # type: ignore[attr-defined]
    assert names == [("a", 5.0, 0, signal.SIGUSR2), ("b", 0.5, 20, signal.SIGUSR2)]
    assert CliRunner().invoke(stage, ["--checkpoint-minutes", "-1", "c"]).exit_code == 2


def test_a_command_without_a_state_ends_as_preempted() -> None:
    @click.command()
    @leaves_at_once
    def stage() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("went on")

    assert isinstance(CliRunner().invoke(stage).exception, Preempted)
