"""Every job of a grid that takes time: its rule, its cell, what it makes and what it waits for."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dfgs.config import used_datasets
from dfgs.grid import Grid, Job, Trial
from dfgs.results import REFERENCE
from dfgs.runs.lease import home

Key = tuple[str, str]
OUTPUTS = {
    "draw": ("worlds/{cell}.json",),
    "pretrain": ("backbones/{cell}/weights.safetensors", "backbones/{cell}/report.json"),
    "learn_prompts": ("prompts/{cell}.safetensors",),
    "finetune": tuple(
        f"runs/{{cell}}/{name}" for name in ("weights.safetensors", "curve.csv", "audit.csv", "record.json")
    ),
    "embed": ("features/{cell}/index.json",),
    "score": ("scores/{cell}/metrics.csv", "scores/{cell}/per_query.csv.gz"),
}
"""What each rule makes below `results`, as the workflow's rules declare it; the first names the attempts' folder."""
RULES = tuple(OUTPUTS)


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """One invocation of a rule; `needs` are the keys of the cells that must be done before."""

    rule: str
    name: str
    job: Job
    needs: tuple[Key, ...]

    @property
    def key(self) -> Key:
        """Rule and name, which tell a cell from every other."""
        return self.rule, self.name

    def outputs(self, results: Path) -> list[Path]:
        """Return the files that the cell makes."""
        return [results / path.format(cell=self.name) for path in OUTPUTS[self.rule]]

    def attempts(self, results: Path) -> Path:
        """Return the folder of the cell's attempts."""
        return home(self.outputs(results)[0])

    def is_done(self, results: Path) -> bool:
        """Tell whether everything that the cell makes is there; features that were dropped once scored count."""
        if self.rule == "embed" and (self.outputs(results)[0].parent / "dropped.txt").exists():
            return True
        return all(path.exists() for path in self.outputs(results))


def cells_of(grid: Grid) -> list[Cell]:
    """List the cells of a grid's running experiments, in the order of `RULES`, each before what waits for it."""
    references = {trial for name in grid.config.run for trial in grid.references(name)}
    trials = [*grid.all_trials(), *sorted(references)]
    drawn = sorted(name for name in used_datasets(grid.config) if grid.config.datasets[name].draw is not None)
    models = sorted({trial.model for trial in trials})
    backbones = sorted({grid.config.models[model].backbone for model in models if grid.needs_pretraining(model)})
    learned = sorted({(trial.source, trial.model, trial.seed) for trial in grid.all_trials()})
    return [
        *(Cell("draw", name, grid.draw_job(name), ()) for name in drawn),
        *(Cell("pretrain", name, grid.pretrain_job(name), ()) for name in backbones),
        *(_prompts(grid, *key) for key in learned),
        *(_finetune(grid, trial) for trial in grid.all_trials()),
        *(_embed(grid, trial) for trial in trials),
        *(Cell("score", trial.path, grid.score_job(trial), (("embed", trial.path),)) for trial in trials),
    ]


def _prompts(grid: Grid, source: str, model: str, seed: int) -> Cell:
    needs = (*_worlds(grid, grid.config.sources[source].datasets), *_backbone(grid, model))
    return Cell("learn_prompts", f"{source}/{model}/s{seed}", grid.prompts_job(source, model, seed), needs)


def _finetune(grid: Grid, trial: Trial) -> Cell:
    needs = ("learn_prompts", f"{trial.source}/{trial.model}/s{trial.seed}")
    return Cell("finetune", trial.path, grid.finetune_job(trial), (needs,))


def _embed(grid: Grid, trial: Trial) -> Cell:
    job = grid.embed_job(trial)
    worlds = _worlds(grid, [part["name"] for part in job["datasets"]])
    trained: tuple[Key, ...] = () if trial.sampler == REFERENCE else (("finetune", trial.path),)
    return Cell("embed", trial.path, job, (*worlds, *_backbone(grid, trial.model), *trained))


def _worlds(grid: Grid, names: Iterable[str]) -> tuple[Key, ...]:
    return tuple(("draw", name) for name in names if grid.config.datasets[name].draw is not None)


def _backbone(grid: Grid, model: str) -> tuple[Key, ...]:
    return (("pretrain", grid.config.models[model].backbone),) if grid.needs_pretraining(model) else ()
