"""One job at a time holds a stage's outputs; the dead are taken over, and strays publish nothing."""

import json
import os
import signal
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dfgs.errors import DfgsError, HeldError, SupersededError
from dfgs.provenance import guarded, write_text
from dfgs.runs import lease as lease_module
from dfgs.runs.holders import _started, describe, is_dead_here, myself
from dfgs.runs.lease import (
    Lease,
    Record,
    Terms,
    acquire,
    clear_leftovers,
    home,
    read_record,
    tokens,
)

BRIEF = Terms(seconds=0.4, wait=0.0)
ELSEWHERE = {"host": "n7", "place": "another boot", "pid": 1, "started": 1, "user": "ada"}


def facts(output: Path, job: str = "j") -> Record:
    return {"stage": "finetune", "job": job, "outputs": [str(output)]}


def take(output: Path, terms: Terms = BRIEF, job: str = "j") -> Lease:
    found = acquire(home(output), facts(output, job), terms)
    assert isinstance(found, Lease)
    return found


def left_by(output: Path, holder: Record) -> Path:
    """Leave what a job of `holder` that still runs would have left."""
    lease = take(output)
    lease.write(holder=holder)
    return lease.path


def in_child(body: Callable[[], None]) -> int:
    """Run `body` in a forked process and return its id; it ends with status 0, or 1 after an exception."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        body()
        status = 0
    finally:
        os._exit(status)


def test_the_attempts_of_an_output_lie_below_results_or_beside_it() -> None:
    weights = Path("/scratch/results/old/results/runs/a/m/pk/s0/weights.safetensors")
    assert home(weights) == Path("/scratch/results/old/results/attempts/runs/a/m/pk/s0/weights.safetensors")
    assert home(Path("results/index.json")) == Path("results/attempts/index.json")
    assert home(Path("out/index.json")) == Path("out/.attempts/index.json")


def test_a_second_job_leaves_in_a_sentence_that_names_the_holder(tmp_path: Path) -> None:
    output = tmp_path / "weights"
    first = take(output)
    with pytest.raises(HeldError, match=r"weights is being made by process \d+ on .*, since 20.*; wait") as caught:
        take(output)
    assert f"process {os.getpid()} on {first.record['holder']['host']}" in str(caught.value)
    assert tokens(first.folder) == [1]


def test_the_token_rises_by_one_at_each_acquisition(tmp_path: Path) -> None:
    output = tmp_path / "weights"
    for expected in (1, 2, 3):
        lease = take(output)
        assert lease.token == expected
        lease.write(state="ended", outcome="bug")
    assert [read_record(lease.folder / f"000{n}.json")["token"] for n in (1, 2, 3)] == [1, 2, 3]
    assert not [path for path in lease.folder.iterdir() if path.name.startswith(".")]


def test_a_holder_that_was_killed_on_this_machine_is_taken_over_at_once(tmp_path: Path) -> None:
    output, patient = tmp_path / "weights", Terms(seconds=1000, wait=0)
    child = in_child(lambda: (take(output, patient), os.kill(os.getpid(), signal.SIGKILL))[0])
    os.waitpid(child, 0)
    lease = take(output, patient)
    assert lease.token == 2
    assert lease.record["took_over"].endswith("is gone")


def test_a_killed_holder_that_nobody_has_waited_for_and_a_reused_process_id_count_as_dead() -> None:
    child = in_child(lambda: time.sleep(0.3))
    holder = myself() | {"pid": child, "started": _started(child)}
    assert not is_dead_here(holder)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert is_dead_here(holder)
    os.waitpid(child, 0)
    assert is_dead_here(holder)
    assert not is_dead_here(myself())
    assert is_dead_here(myself() | {"started": 1})
    assert not is_dead_here(myself() | {"place": "another boot", "started": 1})
    assert not is_dead_here(myself() | {"place": None, "started": 1})


def test_a_holder_elsewhere_is_taken_over_only_without_heartbeat(tmp_path: Path) -> None:
    path = left_by(tmp_path / "weights", ELSEWHERE)
    with pytest.raises(HeldError, match="process 1 on n7, user ada"):
        take(tmp_path / "weights")
    os.utime(path, (time.time() - 60, time.time() - 60))
    lease = take(tmp_path / "weights")
    assert (lease.token, lease.record["took_over"]) == (2, "no heartbeat of process 1 on n7, user ada for 60 s")


def test_the_clock_of_this_machine_decides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left_by(tmp_path / "weights", ELSEWHERE)
    monkeypatch.setattr(time, "time", lambda: 4e9)
    with pytest.raises(HeldError):
        take(tmp_path / "weights")


def test_a_heartbeat_keeps_a_lease_beyond_its_terms(tmp_path: Path) -> None:
    output = tmp_path / "weights"
    lease = take(output)
    lease.write(holder=ELSEWHERE)
    with lease.beating():
        time.sleep(3 * BRIEF.seconds)
        with pytest.raises(HeldError):
            take(output)
    time.sleep(1.5 * BRIEF.seconds)
    assert take(output).token == 2


@pytest.mark.parametrize(
    ("answer", "is_taken"),
    [
        ("JobId=7 JobState=NODE_FAIL Restarts=0", True),
        ("JobId=7 JobState=RUNNING Restarts=0", False),
        ("JobId=7 JobState=RUNNING Restarts=1", True),
        ("", False),
    ],
)
def test_slurm_decides_where_it_knows_and_silence_is_not_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, is_taken: bool
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    program = programs / "scontrol"
    program.write_text(f"#!/bin/sh\n[ '{answer}' ] && echo '{answer}'\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{programs}:/bin")
    monkeypatch.setattr("dfgs.runs.slurm._steps", lambda job: [])
    left_by(tmp_path / "weights", ELSEWHERE | {"slurm_job": "7", "slurm_restarts": 0})
    if is_taken:
        assert take(tmp_path / "weights").record["took_over"].startswith("SLURM says NODE_FAIL of process 1 on n7")
    else:
        with pytest.raises(HeldError, match="SLURM job 7"):
            take(tmp_path / "weights")


@pytest.mark.parametrize("has_links", [True, False])
def test_of_many_that_take_over_at_the_same_moment_exactly_one_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool
) -> None:
    if not has_links:
        monkeypatch.setattr(os, "link", _no_links)
    for round_ in range(8):
        output = tmp_path / f"weights-{round_}"
        path = left_by(output, ELSEWHERE)
        os.utime(path, (1, 1))
        moment, all_have_tried = time.monotonic() + 0.1, tmp_path / f"tried-{round_}"

        def rush(output: Path = output, moment: float = moment, all_have_tried: Path = all_have_tried) -> None:
            time.sleep(max(0.0, moment - time.monotonic()))
            take(output, Terms(seconds=60, wait=0))
            while not all_have_tried.exists():  # whoever comes late must not find the winner gone
                time.sleep(0.01)

        children, ended = [in_child(rush) for _ in range(6)], dict[int, int]()
        until = time.monotonic() + 20
        while len(ended) < len(children) - 1 and time.monotonic() < until:
            waited = [os.waitpid(child, os.WNOHANG) for child in children if child not in ended]
            ended |= {child: status for child, status in waited if child}
            time.sleep(0.01)
        all_have_tried.touch()
        ended |= {child: os.waitpid(child, 0)[1] for child in children if child not in ended}
        assert sum(os.waitstatus_to_exitcode(status) == 0 for status in ended.values()) == 1
        assert tokens(home(output)) == [1, 2]


def _no_links(*_: object) -> None:
    raise PermissionError(1, "Operation not permitted")


def test_a_lost_answer_to_a_link_that_was_made_is_no_defeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.link

    def link(source: Path, target: Path) -> None:
        real(source, target)
        raise FileExistsError(17, "File exists")  # as an NFS client says when it repeats the call

    monkeypatch.setattr(os, "link", link)
    assert take(tmp_path / "weights").token == 1


def test_a_stray_that_was_taken_over_publishes_nothing_and_keeps_its_record(tmp_path: Path) -> None:
    output = tmp_path / "weights"
    write_text(output, "earlier")
    stray = take(output)
    os.utime(stray.path, (1, 1))
    stray.write(holder=ELSEWHERE)
    os.utime(stray.path, (1, 1))
    winner = take(output)
    with guarded(stray.check), pytest.raises(SupersededError, match=r"attempt 1 was taken over by attempt 2 \(process"):
        write_text(output, "stray")
    assert output.read_text() == "earlier"
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []
    with guarded(winner.check):
        write_text(output, "winner")
    assert output.read_text() == "winner"
    write_text(output, "no guard, no question")


def test_a_record_that_is_gone_or_of_another_job_fences_too(tmp_path: Path) -> None:
    lease = take(tmp_path / "weights")
    lease.path.write_text(json.dumps({**lease.record, "nonce": "another"}))
    with pytest.raises(SupersededError):
        lease.check(tmp_path / "weights")
    lease.path.unlink()
    with pytest.raises(SupersededError):
        lease.check(tmp_path / "weights")


def test_a_stray_is_told_even_when_it_loses_its_lease_within_the_rename(tmp_path: Path) -> None:
    output = tmp_path / "weights"
    lease = take(output)
    asked = []

    def check(path: Path) -> None:
        lease.check(path)
        asked.append(path)
        lease.path.with_name("0002.json").write_text("{}")

    with guarded(check), pytest.raises(SupersededError):
        write_text(output, "late")
    assert asked == [output]


def test_asking_renews_the_lease(tmp_path: Path) -> None:
    lease = take(tmp_path / "weights")
    os.utime(lease.path, (1, 1))
    lease.check(tmp_path / "weights")
    assert lease_module.silence(lease.path) < 1


def test_a_copy_that_has_waited_takes_the_result_of_the_same_job_and_makes_that_of_another(tmp_path: Path) -> None:
    for job, is_taken in (("j", True), ("k", False)):
        output = tmp_path / job
        first = take(output)
        child = in_child(lambda first=first, output=output: _finish_soon(first, output))  # type: ignore[misc]
        found = acquire(home(output), facts(output, job), Terms(seconds=5, wait=10))
        os.waitpid(child, 0)
        assert isinstance(found, dict) is is_taken


def _finish_soon(lease: Lease, output: Path) -> None:
    time.sleep(0.3)
    output.write_text("made")
    lease.write(state="ended", outcome="completed")


def test_temporary_files_of_the_dead_are_cleared_and_those_of_others_stay(tmp_path: Path) -> None:
    for name in (".weights.7.part", ".old.7.part", ".other.8.part", "weights"):
        (tmp_path / name).write_text("half")
    os.utime(tmp_path / ".old.7.part", (1, 1))
    clear_leftovers([tmp_path / "weights"])
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.8.part", "weights"]


def test_a_record_fits_into_its_block_when_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = take(tmp_path / "weights")

    def full(path: Path) -> None:
        raise DfgsError(f"cannot write {path}: No space left on device")

    monkeypatch.setattr(lease_module, "unguarded_file", full)
    lease.write(state="ended", outcome="user error")
    assert read_record(lease.path)["outcome"] == "user error"


def test_a_holder_is_named_by_what_is_known() -> None:
    assert describe({}) == "process ? on ?, user ?"
    assert describe(ELSEWHERE | {"slurm_job": "12"}) == "process 1 on n7, SLURM job 12, user ada"
    assert sys.platform != "linux" or myself()["place"]
