"""Trainings that are cut off go on from their state and end as if undisturbed; other and damaged states are named."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from dfgs.cli.resume import prove_resume
from dfgs.config import BackboneSettings, Config
from dfgs.errors import DfgsError, Preempted
from dfgs.grid import Grid, Trial
from dfgs.provenance import write_json
from dfgs.runs.signals import Notice
from dfgs.training import checkpoints
from dfgs.training.checkpoints import NEVER, Checkpoint, Rhythm, state_path
from dfgs.training.comparison import comparable, differ
from dfgs.training.finetune import finetune
from dfgs.training.pretrain import pretrain
from dfgs.training.progress import Stopwatch
from dfgs.training.prompts import learn_prompts
from dfgs.training.proof import Outcome
from dfgs.training.source import load_source

Values = dict[str, Any]
Stage = Callable[[Path, Rhythm], None]
CPU = torch.device("cpu")
SMOKE = Path(__file__).parents[1] / "config" / "smoke.yaml"


class Asked(Notice):
    """Asked to leave at the look number `looks`."""

    def __init__(self, looks: int) -> None:
        self.looks = looks

    @property
    def received(self) -> signal.Signals | None:  # type: ignore[override]
        self.looks -= 1
        return None if self.looks > 0 else signal.SIGTERM


class KilledError(Exception):
    """Stands for SIGKILL: nothing is saved on the way out."""


class Killing(Asked):
    @property
    def received(self) -> signal.Signals | None:  # type: ignore[override]
        if super().received:
            raise KilledError
        return None


def contents(folder: Path) -> dict[str, Any]:
    """What a stage left, what was measured apart; a state that is left behind counts."""
    return {str(path.relative_to(folder)): comparable(path) for path in folder.rglob("*") if path.is_file()}


def cut_off(stage: Stage, folder: Path, rhythm: Callable[[], Rhythm]) -> int:
    """Run a stage in attempts that are all cut off by their rhythm's notice, until one ends; the number of attempts."""
    for attempt in range(1, 100):
        try:
            stage(folder, rhythm())
        except (Preempted, KilledError):
            continue
        return attempt
    raise AssertionError("no attempt came to an end")


def stage_0_and_1(values: Values, workers: int = 0) -> Stage:
    job = Grid(Config.parse(values)).prompts_job("a", "tiny", 0)

    def run(folder: Path, rhythm: Rhythm) -> None:
        learn_prompts(job, None, folder / "prompts.safetensors", workers, CPU, rhythm)

    return run


def stage_2(values: Values, sampler: str, prompts: Path, workers: int = 0) -> Stage:
    job = {**Grid(Config.parse(values)).finetune_job(Trial("a", "tiny", sampler, 0)), "selection": [1]}

    def run(folder: Path, rhythm: Rhythm) -> None:
        names = {"weights": "weights.safetensors", "curve": "curve.csv", "audit": "audit.csv", "record": "record.json"}
        finetune(job, prompts, {key: folder / name for key, name in names.items()}, workers, CPU, rhythm)

    return run


def pretraining(values: Values) -> Stage:
    job = Grid(Config.parse(values)).pretrain_job("small")

    def run(folder: Path, rhythm: Rhythm) -> None:
        pretrain(job, folder / "weights.safetensors", folder / "report.json", CPU, rhythm)

    return run


@pytest.fixture
def prompts(on_disk: Values, tmp_path: Path) -> Path:
    """Prompts of stage 1."""
    stage_0_and_1(on_disk)(tmp_path / "learned", NEVER)
    return tmp_path / "learned" / "prompts.safetensors"


def assert_same(stage: Stage, folder: Path, rhythm: Callable[[], Rhythm], attempts: int) -> None:
    """Hold a run that is cut off again and again against an undisturbed one."""
    stage(folder / "undisturbed", NEVER)
    assert cut_off(stage, folder / "cut", rhythm) >= attempts
    assert contents(folder / "cut") == contents(folder / "undisturbed")


@pytest.mark.parametrize(("sampler", "looks"), [("pk", 3), ("dfgs-k3", 1), ("dfgs-bank", 4)])
def test_stage_2_that_is_asked_to_leave_again_and_again_ends_as_if_undisturbed(
    on_disk: Values, prompts: Path, tmp_path: Path, sampler: str, looks: int
) -> None:
    on_disk["samplers"]["dfgs-bank"] = {"class": "dfgs", "neighbours": 3, "skip": 1, "features": "bank"}
    on_disk["models"]["tiny"]["finetune"]["iterations"] = 7  # a pass over 10 identities is shorter
    stage = stage_2(on_disk, sampler, prompts)
    assert_same(stage, tmp_path, lambda: Rhythm(notice=Asked(looks)), 14 // looks)


@pytest.mark.parametrize("workers", [0, 4])
def test_a_killed_stage_2_repeats_what_follows_its_last_state_with_any_number_of_workers(
    on_disk: Values, prompts: Path, tmp_path: Path, workers: int
) -> None:
    on_disk["models"]["tiny"]["finetune"]["iterations"] = 7
    on_disk["models"]["tiny"]["finetune"]["losses"]["identity"] = {}
    stage = stage_2(on_disk, "dfgs-k3", prompts, workers)
    assert_same(stage, tmp_path, lambda: Rhythm(steps=5, notice=Killing(8)), 2)


def test_a_prior_that_is_cut_off_ends_as_if_undisturbed(on_disk: Values, tmp_path: Path) -> None:
    on_disk["models"]["tiny"]["prior"] |= {"epochs": 2, "losses": {"identity": {}, "triplet": {}}}
    on_disk["models"]["tiny"]["prompts"]["epochs"] = 3
    assert_same(stage_0_and_1(on_disk), tmp_path, lambda: Rhythm(notice=Asked(3)), 5)


@pytest.mark.parametrize("shuffle", [True, False])
def test_prompts_that_are_killed_end_as_if_undisturbed(on_disk: Values, tmp_path: Path, shuffle: bool) -> None:
    on_disk["models"]["tiny"]["prior"] = None
    on_disk["models"]["tiny"]["prompts"] |= {"epochs": 3, "batch_size": 13, "drop_last": True, "shuffle": shuffle}
    assert_same(stage_0_and_1(on_disk), tmp_path, lambda: Rhythm(steps=2, notice=Killing(4)), 3)


def test_a_pre_training_that_is_killed_ends_as_if_undisturbed(values: Values, tmp_path: Path) -> None:
    values["backbones"]["small"]["pretrain"]["steps"] = 6
    assert_same(pretraining(values), tmp_path, lambda: Rhythm(steps=2, notice=Killing(4)), 2)


def test_a_job_that_leaves_names_signal_step_and_state(on_disk: Values, prompts: Path, tmp_path: Path) -> None:
    told = r"^SIGTERM after step 3 of stage 2; the next attempt goes on from .*/weights\.safetensors\.resume$"
    with pytest.raises(Preempted, match=told):
        stage_2(on_disk, "pk", prompts)(tmp_path / "run", Rhythm(notice=Asked(3)))
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["weights.safetensors.resume"]


def test_a_candidate_that_has_gone_since_is_named(on_disk: Values, prompts: Path, tmp_path: Path) -> None:
    stage = stage_2(on_disk, "pk", prompts)
    with pytest.raises(Preempted):
        stage(tmp_path / "run", Rhythm(notice=Asked(6)))
    (tmp_path / "run" / "candidates" / "epoch-1.safetensors").unlink()
    with pytest.raises(DfgsError, match=r"epoch-1\.safetensors is gone, which an interrupted attempt left; remove"):
        stage(tmp_path / "run", NEVER)


class Counter:
    """A training of ten steps: its part is a tensor, and the global random state."""

    def __init__(self) -> None:
        self.value = torch.zeros(1000)

    def state(self) -> torch.Tensor:
        return self.value

    def restore(self, state: torch.Tensor) -> None:
        self.value = state

    def run(self, checkpoint: Checkpoint) -> float:
        torch.manual_seed(3)
        with checkpoint.keeping(counter=self):
            torch.rand(0)
            while self.value[0] < 10:
                self.value = self.value + 1
                self.value[1] += torch.rand(()) + np.random.default_rng(int(self.value[0])).random()
                checkpoint.tick(f"step {int(self.value[0])}")
        return float(self.value[1])


def kept(folder: Path, belongs: Values | None = None) -> Path:
    """Leave a `Counter` after five steps and return its state's file."""
    with pytest.raises(Preempted, match="after step 5"):
        Counter().run(Checkpoint(folder / "out", belongs or {"job": 1}, Rhythm(notice=Asked(5))))
    return state_path(folder / "out")


def test_the_global_random_state_goes_on_too(tmp_path: Path) -> None:
    whole = Counter().run(Checkpoint(tmp_path / "whole", {"job": 1}, NEVER))
    kept(tmp_path)
    assert Counter().run(Checkpoint(tmp_path / "out", {"job": 1}, NEVER)) == whole


def test_a_state_is_kept_after_so_many_steps_or_minutes_or_never(tmp_path: Path) -> None:
    saves = []
    for rhythm in (NEVER, Rhythm(steps=3), Rhythm(minutes=1e-9), Rhythm(minutes=60)):
        checkpoint = Checkpoint(tmp_path / f"{len(saves)}", {"job": 1}, rhythm)
        Counter().run(checkpoint)
        saves.append(checkpoint.saves)
    assert saves == [0, 3, 10, 0]


@pytest.mark.parametrize("what", ["job", "prompts", "code", "versions"])
def test_a_state_of_something_else_is_named_and_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    belongs = {"job": {"seed": 1}, "prompts": "x"}
    path = kept(tmp_path, belongs)
    if what in belongs:
        belongs = belongs | {what: {"seed": 2}}
    else:
        monkeypatch.setattr(checkpoints, "code_digest" if what == "code" else "versions", lambda: "other")
    checkpoint = Checkpoint(tmp_path / "out", belongs, NEVER)
    assert f"{path} is the state of a job with other {what}; starting over" in caplog.text
    assert "counter" not in checkpoint


def flip(data: bytes) -> bytes:
    return data[:2000] + bytes([data[2000] ^ 4]) + data[2001:]


@pytest.mark.parametrize("damage", [lambda data: data[:-100], lambda _: b"", lambda _: b"no archive" * 99, flip])
def test_a_damaged_state_is_named_and_the_training_starts_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[bytes], bytes]
) -> None:
    whole = Counter().run(Checkpoint(tmp_path / "whole", {"job": 1}, NEVER))
    path = kept(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    checkpoint = Checkpoint(tmp_path / "out", {"job": 1}, NEVER)
    (line,) = caplog.messages
    assert re.fullmatch(rf"{re.escape(str(path))} is damaged \([^\n]+\); starting over", line)
    assert Counter().run(checkpoint) == whole


def test_a_state_holds_no_code(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = kept(tmp_path)
    torch.save({"key": {}, "parts": {"counter": Path("x")}}, path)
    Checkpoint(tmp_path / "out", {"job": 1}, NEVER)
    assert f"{path} is damaged" in caplog.text


def test_the_state_goes_with_what_killed_attempts_left_of_it(tmp_path: Path) -> None:
    kept(tmp_path)
    (tmp_path / ".out.resume.123.part").write_text("torn")
    (tmp_path / ".out.123.part").write_text("of the output")
    checkpoint = Checkpoint(tmp_path / "out", {"job": 1}, Rhythm(steps=1))
    Counter().run(checkpoint)
    checkpoint.clear()
    assert [path.name for path in tmp_path.iterdir()] == [".out.123.part"]


def test_a_disk_that_is_full_for_a_moment_costs_a_state_and_not_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(value: object, handle: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    whole = Counter().run(Checkpoint(tmp_path / "whole", {"job": 1}, NEVER))
    path = kept(tmp_path)
    before = path.read_bytes()
    monkeypatch.setattr(torch, "save", full)
    assert Counter().run(Checkpoint(tmp_path / "out", {"job": 1}, Rhythm(steps=2))) == whole
    assert re.search(r"cannot write .*out\.resume: No space left on device.*; the last state is as it was", caplog.text)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["out.resume"]


def test_a_part_that_has_no_state_is_a_bug(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "out", {"job": 1}, Rhythm(steps=1))
    with pytest.raises(TypeError, match="int cannot be kept in a resume state"), checkpoint.keeping(number=3):
        checkpoint.tick("step 1")


def test_seconds_add_up_over_attempts() -> None:
    first, second = Stopwatch(), Stopwatch()
    first.started -= 100
    second.restore(first.state())
    assert 100 <= second.seconds < 110


def test_another_picture_under_an_old_name_is_another_source(on_disk: Values, tmp_path: Path) -> None:
    job = Grid(Config.parse(on_disk)).prompts_job("a", "tiny", 0)
    source = load_source(job["source"], BackboneSettings.model_validate(job["backbone"]))
    before = source.pixels_digest()
    assert source.store._cache is not None
    source.store._cache[len(source.store) - 1] += 1
    assert source.pixels_digest() != before


def test_a_whole_process_group_that_is_asked_to_leave_leaves_as_preempted(
    on_disk: Values, prompts: Path, tmp_path: Path
) -> None:
    on_disk["models"]["tiny"]["finetune"] |= {"epochs": 500, "iterations": 50}
    job = json.dumps(Grid(Config.parse(on_disk)).finetune_job(Trial("a", "tiny", "pk", 0)))
    line = [sys.executable, "-m", "dfgs", "finetune", "--workers", "2", "--checkpoint-steps", "1", "--job", job]
    line += [str(prompts), *(str(tmp_path / "run" / name) for name in ("w", "c", "a", "r"))]
    process = subprocess.Popen(line, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / "w.resume").exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGTERM)
    told = process.communicate(timeout=120)[1]
    assert process.returncode == 75, told
    assert re.search(
        r"^preempted: SIGTERM after step \d+ of stage 2; the next attempt goes on from .*/w\.resume$", told, re.M
    )
    assert "Traceback" not in told


def test_prove_resume_kills_every_stage_and_finds_it_equal() -> None:
    line = [sys.executable, "-m", "dfgs", "prove-resume", "--config", str(SMOKE), "--trials", "3", "--every", "1"]
    done = subprocess.run([*line, "--steps", "6"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = done.stdout.splitlines()
    assert [row.split()[0] for row in rows[:3]] == ["pretrain", "learn-prompts", "finetune"]
    assert all(row.endswith("| equal") for row in rows[:3])
    assert re.search(
        r"\d signals in 3 runs, \d+ attempts, \d+ from a state, \d+ s: 3 runs equal to undisturbed ones, 0 differ",
        rows[3],
    )


def test_prove_resume_finds_what_differs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = Outcome("finetune", (("SIGKILL", 1.5),), 2, 1, 4.0, ("weights.safetensors",))
    monkeypatch.setattr("dfgs.training.proof.Proof.trials", lambda self: iter([found]))
    line = ["--config", str(SMOKE), "--scratch", str(tmp_path), "--trials", "1"]
    done = CliRunner().invoke(prove_resume, line)
    assert done.exit_code == 1
    assert re.search(
        r"finetune .*SIGKILL at 1\.50 s .*2 attempts, 1 from a state \| differs: weights\.safetensors", done.output
    )
    assert f"1 differ\nwhat differs is in {tmp_path}" in done.output


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            ["--trial", "tiny-a/tiny-dfgs/pkk/s0"],
            r"tiny-dfgs/pkk/s0' is not in the grid \(did you mean '.*/pk/s0'",
        ),
        (["--config", "none.yaml"], r"none\.yaml"),
    ],
)
def test_prove_resume_refuses_what_is_not_there(options: list[str], told: str, tmp_path: Path) -> None:
    line = ["--config", str(SMOKE), "--scratch", str(tmp_path), *options]
    error = CliRunner().invoke(prove_resume, line).exception
    assert isinstance(error, DfgsError)
    assert re.search(told, str(error))


@pytest.mark.parametrize("name", ["weights.safetensors", "curve.csv", "audit.csv", "record.json"])
def test_outputs_that_differ_in_more_than_seconds_differ(tmp_path: Path, name: str) -> None:
    def written(seconds: int, value: int) -> Path:
        path = tmp_path / f"{seconds}-{value}" / name
        write_json(path, {"seconds": seconds, "value": value})
        if name == "audit.csv":
            path.write_text(f"epoch,graph_seconds\n{value},{seconds}\n")
        return path

    assert not differ(written(1, 1), written(1, 1))
    assert differ(written(1, 1), written(1, 2))
    assert differ(written(1, 1), written(2, 1)) == (name not in ("audit.csv", "record.json"))
    assert differ(written(1, 1), tmp_path / name)
