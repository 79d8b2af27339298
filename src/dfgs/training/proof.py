"""Proof of exact resume: trainings are killed at random points, go on, and are held against undisturbed ones."""

import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

import numpy as np

from dfgs.config import Config
from dfgs.drawn.world import DomainSpec, publish_domain
from dfgs.errors import EXIT_PREEMPTED, DfgsError, did_you_mean
from dfgs.grid import Grid, Job, Trial
from dfgs.training.checkpoints import GOING_ON, state_path
from dfgs.training.comparison import differ

STAGES = ("pretrain", "learn-prompts", "finetune")
OUTPUTS = {
    "pretrain": ("weights.safetensors", "report.json"),
    "learn-prompts": ("prompts.safetensors",),
    "finetune": ("weights.safetensors", "curve.csv", "audit.csv", "record.json"),
}
MOST_KILLS = 3
MOST_ATTEMPTS = 20
"""More than a trial can need."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How a proof runs stages: in the folder `scratch`, with a state every `every` steps, ended by one of `signals`.

    `steps` are those of an epoch and of a pre-training, and epochs are two, so that a proof ends in time; 0 leaves all
    as configured. No `stages` are all that the trial needs. `seed` decides the moments of the kills.
    """

    scratch: Path
    signals: tuple[str, ...]
    stages: tuple[str, ...] = ()
    steps: int = 12
    every: int = 3
    seed: int = 0
    workers: int = 0
    device: str = "cpu"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One trial: the stage, the signals with the seconds at which they came, and files that differ.

    `resumed` of the attempts went on from a state; `whole` are the seconds of an undisturbed run.
    """

    stage: str
    kills: tuple[tuple[str, float], ...]
    attempts: int
    resumed: int
    whole: float
    differing: tuple[str, ...]

    def __str__(self) -> str:
        kills = ", ".join(f"{name} at {seconds:.2f} s" for name, seconds in self.kills)
        end = "differs: " + ", ".join(self.differing) if self.differing else "equal"
        attempts = f"{self.attempts} attempts, {self.resumed} from a state"
        return f"{self.stage:13} | {kills:45} | of {self.whole:.2f} s | {attempts} | {end}"


class Proof:
    """Trials of stages on one cell of a grid; `main` is the command line, which forked copies of this process run.

    `name` is the cell's path, such as `a/tiny/pk/s0`; None takes the first of the grid. A copy has the heavy imports
    behind it, which would be most of each attempt; otherwise it is a process like any other, killed as it is. What must
    be there before a stage (drawn images, backbone, prompts) is made first, undisturbed, and the stage's trials are
    held against it.
    """

    def __init__(self, main: Callable[[], None], config: Config, name: str | None, terms: Terms) -> None:
        self.main, self.terms = main, terms
        self.rng = np.random.default_rng(terms.seed)
        self.jobs = _jobs(Grid(config), _cell(Grid(config), name), terms)
        self.stages = [stage for stage in STAGES if stage in self.jobs and stage in (terms.stages or STAGES)]
        if not self.stages:
            raise DfgsError(f"--stage {terms.stages[0]}: this model's backbone is not trained here; leave it out")
        self.whole: dict[str, float] = {}

    def trials(self) -> Iterator[Outcome]:
        """Run what is needed undisturbed, then yield trials of the stages in turn, without end."""
        _import_heavy()
        for stage in STAGES[: 1 + STAGES.index(self.stages[-1])]:
            if stage in self.jobs:
                self._undisturbed(stage)
        for number, stage in enumerate(cycle(self.stages), start=1):
            yield self._trial(stage, self.terms.scratch / f"{stage}-{number}")

    def _undisturbed(self, stage: str) -> None:
        started = time.perf_counter()
        status = _finish(self._start(stage, self._reference(stage)))
        self.whole[stage] = time.perf_counter() - started
        if status:
            raise DfgsError(f"{stage} ends with status {status}, undisturbed: {_told(self._reference(stage))}")

    def _trial(self, stage: str, folder: Path) -> Outcome:
        """Kill a run up to `MOST_KILLS` times, at least once, then let it end."""
        planned, kills, attempts = int(self.rng.integers(1, MOST_KILLS + 1)), list[tuple[str, float]](), 0
        status = EXIT_PREEMPTED
        while (status == EXIT_PREEMPTED or status < 0) and attempts < MOST_ATTEMPTS:
            attempts += 1
            started, process = time.perf_counter(), self._start(stage, folder)
            sent = self._kill(process, self.rng.uniform(0, self.whole[stage])) if len(kills) < planned else []
            status = _finish(process)
            if status:
                kills += sent
            elif not kills:  # it ended before the signal came: again, sooner
                self.whole[stage] = time.perf_counter() - started
                _empty(folder)
                _log(folder).unlink()
                status, attempts = EXIT_PREEMPTED, 0
        if status:
            raise DfgsError(f"{stage} in {folder} ends with status {status} after {kills}: {_told(folder)}")
        names = self._differing(stage, folder)
        if not names:
            _empty(folder)
        resumed = _log(folder).read_text(encoding="utf-8").count(GOING_ON)
        return Outcome(stage, tuple(kills), attempts, resumed, self.whole[stage], names)

    def _differing(self, stage: str, folder: Path) -> tuple[str, ...]:
        """Name the outputs that are not those of the undisturbed run, and a state that was left behind."""
        names = [name for name in OUTPUTS[stage] if differ(folder / name, self._reference(stage) / name)]
        state = state_path(folder / OUTPUTS[stage][0])
        return (*names, state.name) if state.exists() else tuple(names)

    def _kill(self, process: ForkProcess, delay: float) -> list[tuple[str, float]]:
        """Send a signal after `delay` seconds, unless the process has ended before."""
        process.join(delay)
        if process.exitcode is not None or process.pid is None:
            return []
        name = self.terms.signals[int(self.rng.integers(len(self.terms.signals)))]
        os.kill(process.pid, signal.Signals[name])
        return [(name, delay)]

    def _start(self, stage: str, folder: Path) -> ForkProcess:
        folder.mkdir(parents=True, exist_ok=True)
        line = [stage, "--job", json.dumps(self.jobs[stage]), "--device", self.terms.device]
        line += ["--checkpoint-minutes", "0", "--checkpoint-steps", str(self.terms.every)]
        if stage != "pretrain":
            line += ["--workers", str(self.terms.workers)]
        if stage == "learn-prompts" and "pretrain" in self.jobs:
            line += ["--backbone", str(self._reference("pretrain") / OUTPUTS["pretrain"][0])]
        if stage == "finetune":
            line += [str(self._reference("learn-prompts") / OUTPUTS["learn-prompts"][0])]
        line += [str(folder / name) for name in OUTPUTS[stage]]
        process = multiprocessing.get_context("fork").Process(target=_child, args=(self.main, line, _log(folder)))
        process.start()
        return process

    def _reference(self, stage: str) -> Path:
        return self.terms.scratch / "undisturbed" / stage


def _cell(grid: Grid, name: str | None) -> Trial:
    """Find the cell called `name`; the first without a name."""
    cells = {trial.path: trial for trial in grid.all_trials()}
    if name is not None and name not in cells:
        raise DfgsError(f"--trial {name!r} is not in the grid{did_you_mean(name, cells)}")
    return cells[name or next(iter(cells))]


def _finish(process: ForkProcess) -> int:
    """Wait for a process and return its exit status, negative for a signal."""
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def _told(folder: Path) -> str:
    """Return the last line of what a stage has told."""
    lines = _log(folder).read_text(encoding="utf-8").strip().splitlines()
    return lines[-1] if lines else "it told nothing"


def _log(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.log")


def _empty(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            path.unlink()


def _child(main: Callable[[], None], line: list[str], log: Path) -> None:
    with log.open("a", encoding="utf-8") as handle:
        for stream in (1, 2):
            os.dup2(handle.fileno(), stream)
    sys.argv = ["dfgs", *line]
    main()


def _import_heavy() -> None:
    """Import what every stage needs, once for all forks; nothing may compute or touch a GPU here."""
    from dfgs.training import finetune, pretrain, prompts  # noqa: F401


def _jobs(grid: Grid, trial: Trial, terms: Terms) -> dict[str, Job]:
    """Return the jobs of the stages that the trial needs, on drawn images of our own, cut to `terms.steps`."""
    jobs = {
        "learn-prompts": grid.prompts_job(trial.source, trial.model, trial.seed),
        "finetune": grid.finetune_job(trial),
    }
    if grid.needs_pretraining(trial.model):
        jobs["pretrain"] = grid.pretrain_job(grid.config.models[trial.model].backbone)
    for part in grid.config.sources[trial.source].datasets:
        if grid.config.datasets[part].draw is not None:
            folder = terms.scratch / "worlds" / part
            publish_domain(DomainSpec(**grid.draw_job(part)), folder, folder.with_suffix(".json"))
    jobs = json.loads(json.dumps(jobs))
    for name in ("learn-prompts", "finetune"):
        for part in jobs[name]["source"]["datasets"]:
            if grid.config.datasets[part["name"]].draw is not None:
                part["root"] = str(terms.scratch / "worlds" / part["name"])
    return {stage: _cut(job, terms.steps) for stage, job in jobs.items()}


def _cut(job: Any, steps: int) -> Job:
    """Shorten a job to two epochs of `steps` steps each, a pre-training to `steps` steps; 0 leaves it."""
    if steps:
        for part in ("prior", "prompts", "finetune"):
            if job.get(part):
                job[part]["epochs"] = min(2, job[part]["epochs"])
        if job.get("finetune"):
            job["finetune"]["iterations"] = min(steps, job["finetune"]["iterations"] or steps)
        if job.get("selection"):
            job["selection"] = [epoch for epoch in job["selection"] if epoch < job["finetune"]["epochs"]]
        if job.get("pretrain"):
            job["pretrain"]["steps"] = min(steps, job["pretrain"]["steps"])
    return dict(job)
