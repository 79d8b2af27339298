"""Trainings that are cut off go on from their state and end as if undisturbed; other and damaged states are named."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from dfgs.config import Config
from dfgs.errors import Preempted
from dfgs.grid import Grid, Trial
from dfgs.models.clip import random_clip
from dfgs.provenance import read_json
from dfgs.runs.signals import Notice
from dfgs.training.checkpoints import NEVER, Rhythm
from dfgs.training.finetune import finetune
from dfgs.training.pretrain import pretrain
from dfgs.training.prompts import learn_prompts

Values = dict[str, Any]
Stage = Callable[[Path, Rhythm], None]
CPU = torch.device("cpu")
SECONDS = {"seconds", "audit_seconds", "graph_seconds", "epoch_seconds", "sampler_seconds", "sampler_share"}


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
    """What a stage left, times apart; a state that is left behind counts."""
    found: dict[str, Any] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix == ".json":
            found[path.name] = {name: value for name, value in read_json(path).items() if name not in SECONDS}
        elif path.name == "audit.csv":
            rows = [line.split(",") for line in path.read_text().splitlines()]
            timed = {rows[0].index(name) for name in ("graph_seconds", "pass_seconds", "memory_mb")}
            found[path.name] = [[cell for i, cell in enumerate(row) if i not in timed] for row in rows]
        else:
            found[path.name] = path.read_bytes()
    return found


def cut_off(stage: Stage, folder: Path, rhythm: Callable[[], Rhythm]) -> int:
    """Run a stage in attempts that are all cut off by their rhythm's notice, until one ends; the number of attempts."""
    for attempt in range(1, 100):
        try:
            stage(folder, rhythm())
        except (Preempted, KilledError):
            continue
        return attempt
    raise AssertionError("no attempt came to an end")


@pytest.fixture
def tower(on_disk: Values, tmp_path: Path) -> Path:
    """Random weights of the small CLIP."""
    path = tmp_path / "backbone.safetensors"
    clip = random_clip(on_disk["backbones"]["small"]["architecture"], 1)
    save_file({name: tensor.contiguous() for name, tensor in clip.state_dict().items()}, path)
    return path


def stage_0_and_1(values: Values, workers: int = 0) -> Stage:
    job = Grid(Config.parse(values)).prompts_job("a", "tiny", 0)

    def run(folder: Path, rhythm: Rhythm) -> None:
        learn_prompts(job, None, folder / "prompts.safetensors", workers, CPU, rhythm)

    return run


def stage_2(values: Values, sampler: str, prompts: Path, workers: int = 0) -> Stage:
    job = Grid(Config.parse(values)).finetune_job(Trial("a", "tiny", sampler, 0))

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


@pytest.mark.parametrize("sampler", ["pk", "dfgs-k3", "dfgs-bank"])
@pytest.mark.parametrize("looks", [1, 4])
def test_stage_2_that_is_asked_to_leave_again_and_again_ends_as_if_undisturbed(
    on_disk: Values, prompts: Path, tmp_path: Path, sampler: str, looks: int
) -> None:
    on_disk["samplers"]["dfgs-bank"] = {"class": "dfgs", "neighbours": 3, "skip": 1, "features": "bank"}
    on_disk["models"]["tiny"]["finetune"]["iterations"] = 9  # a pass over 10 identities is shorter
    stage = stage_2(on_disk, sampler, prompts)
    assert_same(stage, tmp_path, lambda: Rhythm(notice=Asked(looks)), 18 // looks)


@pytest.mark.parametrize("workers", [0, 4])
def test_a_killed_stage_2_repeats_what_follows_its_last_state_with_any_number_of_workers(
    on_disk: Values, prompts: Path, tmp_path: Path, workers: int
) -> None:
    on_disk["models"]["tiny"]["finetune"]["iterations"] = 9
    on_disk["models"]["tiny"]["finetune"]["losses"]["identity"] = {}
    stage = stage_2(on_disk, "dfgs-k3", prompts, workers)
    assert_same(stage, tmp_path, lambda: Rhythm(steps=5, notice=Killing(8)), 3)


@pytest.mark.parametrize("looks", [1, 3])
def test_prior_and_prompts_that_are_cut_off_end_as_if_undisturbed(on_disk: Values, tmp_path: Path, looks: int) -> None:
    on_disk["models"]["tiny"]["prior"] |= {"epochs": 2, "losses": {"identity": {}, "triplet": {}}}
    on_disk["models"]["tiny"]["prompts"]["epochs"] = 3
    assert_same(stage_0_and_1(on_disk), tmp_path, lambda: Rhythm(notice=Asked(looks)), 10 // looks)


@pytest.mark.parametrize("shuffle", [True, False])
def test_prompts_without_a_prior_that_are_killed_end_as_if_undisturbed(
    on_disk: Values, tmp_path: Path, shuffle: bool
) -> None:
    on_disk["models"]["tiny"]["prior"] = None
    on_disk["models"]["tiny"]["prompts"] |= {"epochs": 3, "batch_size": 7, "drop_last": True, "shuffle": shuffle}
    assert_same(stage_0_and_1(on_disk), tmp_path, lambda: Rhythm(steps=2, notice=Killing(4)), 3)


def test_a_pre_training_that_is_killed_ends_as_if_undisturbed(values: Values, tmp_path: Path) -> None:
    values["backbones"]["small"]["pretrain"]["steps"] = 6
    assert_same(pretraining(values), tmp_path, lambda: Rhythm(steps=2, notice=Killing(4)), 2)
