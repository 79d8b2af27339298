"""Every attempt at a stage leaves a record of how it ended and what it cost."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from dfgs.errors import BadDataError, DfgsError, DivergedError, HeldError, Preempted, SupersededError
from dfgs.provenance import write_text
from dfgs.runs import attempts, outcomes, slurm
from dfgs.runs.attempts import attempt, keep, read_attempt, terms_of_environment
from dfgs.runs.lease import Terms, acquire, home, read_record

TERMS = Terms(seconds=5, wait=0)
JOB = {"seed": 1}


class OutOfMemoryError(RuntimeError):
    """As torch.cuda's is called."""


def record(output: Path, number: int = 1) -> dict[str, Any]:
    return read_attempt(home(output) / f"{number:04d}.json")


def test_a_completed_attempt_tells_who_made_what_and_at_what_cost(tmp_path: Path) -> None:
    output = tmp_path / "weights"
    with attempt("finetune", JOB, [output], TERMS) as is_needed:
        assert is_needed
        assert record(output)["state"] == "running"
        write_text(output, "made")
        time.sleep(0.05)
    found = record(output)
    told = {name: found[name] for name in ("stage", "outputs", "state", "outcome", "reason", "token")}
    assert told == {
        "stage": "finetune",
        "outputs": [str(output)],
        "state": "ended",
        "outcome": "completed",
        "reason": "",
        "token": 1,
    }
    assert 0.05 <= found["seconds"] < 5
    assert (found["wasted_seconds"], found["gpu_seconds"], found["queue_seconds"]) == (0, 0, None)
    assert found["peak_bytes"] > 2**20


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (DivergedError("the loss is nan"), "diverged"),
        (BadDataError("image x cannot be read"), "bad data"),
        (Preempted("SIGTERM"), "preempted"),
        (MemoryError(), "out of memory"),
        (OutOfMemoryError("CUDA out of memory"), "out of memory"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), "out of memory"),
        (DfgsError("cannot write x"), "user error"),
        (HeldError("held"), "user error"),
        (KeyboardInterrupt(), "killed"),
        (SupersededError("taken over"), "superseded"),
        (ZeroDivisionError("division by zero"), "bug"),
    ],
)
def test_what_ends_an_attempt_is_typed_and_goes_on_as_it_was(
    tmp_path: Path, error: BaseException, outcome: str
) -> None:
    output = tmp_path / "weights"
    with pytest.raises(type(error)), attempt("finetune", JOB, [output], TERMS):
        raise error
    found = record(output)
    assert found["outcome"] == outcome
    assert str(error).strip() in found["reason"]
    assert found["wasted_seconds"] == found["seconds"] > 0


def test_an_error_that_was_raised_from_lack_of_memory_is_lack_of_memory() -> None:
    error = DfgsError("lower batch.size")
    error.__cause__ = MemoryError()
    assert outcomes.of_error(error) == ("out of memory", "lower batch.size")


def test_what_a_checkpoint_keeps_is_not_wasted(tmp_path: Path) -> None:
    output = tmp_path / "weights"
    keep()  # outside of any attempt: nothing to note

    def leave_after_a_checkpoint() -> None:
        with attempt("finetune", JOB, [output], TERMS):
            time.sleep(0.2)
            keep()
            raise Preempted("SIGTERM")

    with pytest.raises(Preempted):
        leave_after_a_checkpoint()
    assert 0 < record(output)["wasted_seconds"] < 0.15 < record(output)["seconds"]


def test_an_output_that_is_missing_in_the_end_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(DfgsError, match="weights is not there though it was written"),
        attempt("finetune", JOB, [tmp_path / "weights"], TERMS),
    ):
        pass


def test_a_killed_attempt_is_closed_by_the_next_one(tmp_path: Path) -> None:
    output = tmp_path / "weights"
    code = (
        "import os, signal, sys, time\nfrom pathlib import Path\nfrom dfgs.runs.attempts import attempt\n"
        "with attempt('finetune', {'seed': 1}, [Path(sys.argv[1])]):\n"
        "    Path(sys.argv[1]).with_name('.weights.1.part').write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(output)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert record(output)["state"] == "running"
    with attempt("finetune", JOB, [output], TERMS):
        assert not list(tmp_path.glob(".*.part"))
        write_text(output, "made")
    assert record(output)["outcome"] == "killed"
    assert "nobody knows why" in record(output)["reason"]
    assert record(output, 2)["outcome"] == "completed"
    assert "is gone" in record(output, 2)["took_over"]


@pytest.mark.parametrize(
    ("state", "outcome"),
    [("TIMEOUT", "time-out"), ("OUT_OF_MEMORY", "out of memory"), ("NODE_FAIL", "node lost"), ("CANCELLED", "killed")],
)
def test_slurm_tells_how_a_dead_attempt_ended(monkeypatch: pytest.MonkeyPatch, state: str, outcome: str) -> None:
    monkeypatch.setattr("dfgs.runs.slurm.state", lambda holder: state)
    assert outcomes.of_dead({"holder": {"slurm_job": "7"}}, "SLURM says so")[0] == outcome


def test_the_kernel_log_and_silence_tell_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    holder = {"holder": {"pid": 77, "host": "n1"}}
    monkeypatch.setattr(outcomes, "_was_killed_for_memory", lambda pid: pid == 77)
    assert outcomes.of_dead(holder, "process 77 is gone")[0] == "out of memory"
    assert outcomes.of_dead(holder, "no heartbeat of process 77 for 130 s")[0] == "node lost"


def test_the_wait_in_the_queue_is_from_submission_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    times = "SubmitTime=2026-11-22T10:00:00 EligibleTime=2026-11-22T10:00:01 StartTime=2026-11-22T10:02:30"
    monkeypatch.setattr("dfgs.runs.slurm._ask", lambda *command: f"JobId=7 JobState=RUNNING {times}")
    assert slurm.queue_seconds("7") == 150
    assert slurm.queue_seconds(None) is None
    monkeypatch.setattr("dfgs.runs.slurm._ask", lambda *command: None)
    assert slurm.queue_seconds("7") is None


def test_a_process_that_the_kernel_killed_for_memory_is_found_in_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "dmesg"
    program.write_text("#!/bin/sh\necho '[1] Out of memory: Killed process 77 (python) total-vm:9kB'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    assert outcomes.of_dead({"holder": {"pid": 77}}, "process 77 is gone")[0] == "out of memory"
    assert outcomes.of_dead({"holder": {"pid": 7}}, "process 7 is gone")[0] == "killed"


def test_a_stray_whose_work_another_has_completed_leaves_in_peace_and_says_so(tmp_path: Path) -> None:
    output = tmp_path / "weights"
    with attempt("finetune", JOB, [output], TERMS):
        os.utime(home(output) / "0001.json", (1, 1))
        _elsewhere(output)
        _another_completes(output)
        write_text(output, "stray")
    assert output.read_text() == "winner"
    assert record(output)["outcome"] == "superseded"


def test_a_stray_whose_successor_still_works_leaves_with_its_error(tmp_path: Path) -> None:
    output = tmp_path / "weights"

    def write_as_a_stray() -> None:
        with attempt("finetune", JOB, [output], TERMS):
            _elsewhere(output)
            acquire(home(output), {"stage": "finetune", "job": "x", "outputs": [str(output)]}, TERMS)
            write_text(output, "stray")

    with pytest.raises(SupersededError, match="attempt 1 was taken over by attempt 2"):
        write_as_a_stray()
    assert not output.exists()


def test_a_job_that_is_launched_again_later_computes_again(tmp_path: Path) -> None:
    for _ in range(2):
        with attempt("finetune", JOB, [tmp_path / "weights"], TERMS) as is_needed:
            assert is_needed
            write_text(tmp_path / "weights", "made")
    assert record(tmp_path / "weights", 2)["outcome"] == "completed"


def test_the_own_words_of_an_attempt_that_lives_after_all_count(tmp_path: Path) -> None:
    output = tmp_path / "weights"
    path = home(output) / "0001.json"
    with attempt("finetune", JOB, [output], TERMS):
        attempts.settle(path, read_record(path), "no heartbeat of process 7 for 130 s")
        assert record(output)["outcome"] == "node lost"
        write_text(output, "made")
    assert record(output)["outcome"] == "completed"


def _elsewhere(output: Path) -> None:
    """Make this process's lease look as if another node's and silent."""
    path = home(output) / "0001.json"
    found = read_record(path)
    path.write_text(json.dumps({**found, "holder": {**found["holder"], "place": "elsewhere"}}))
    os.utime(path, (1, 1))


def _another_completes(output: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom dfgs.provenance import write_text\n"
        "from dfgs.runs.attempts import attempt\n"
        "with attempt('finetune', {'seed': 1}, [Path(sys.argv[1])]):\n    write_text(sys.argv[1], 'winner')"
    )
    subprocess.run([sys.executable, "-c", code, str(output)], check=True)


def test_gpus_are_counted_by_slurm_or_by_what_is_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_GPUS_ON_NODE", "SLURM_JOB_GPUS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    assert attempts._gpus() == 0
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,GPU-abc")
    assert attempts._gpus() == 2
    monkeypatch.setenv("SLURM_GPUS_ON_NODE", "4")
    assert attempts._gpus() == 4


def test_the_terms_come_from_the_environment_and_a_wrong_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert terms_of_environment() == Terms(120, 300)
    monkeypatch.setenv("DFGS_LEASE_WAIT", "7.5")
    assert terms_of_environment() == Terms(120, 7.5)
    monkeypatch.setenv("DFGS_LEASE_SECONDS", "soon")
    with pytest.raises(DfgsError, match="DFGS_LEASE_SECONDS is 'soon'; expected seconds"):
        terms_of_environment()
