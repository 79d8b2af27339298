"""The numbers of a grid that are there, and the cells that are not."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path

import pandas as pd

from dfgs.errors import DfgsError
from dfgs.grid import Grid, Trial
from dfgs.results import COLUMNS, REFERENCE, merge

NAMED = 6
"""Models that a refusal names; it counts the others."""


@dataclass(frozen=True, slots=True, order=True)
class Gap:
    """A cell without a number: a trial of an experiment on one split of one target."""

    experiment: str
    trial: Trial
    target: str
    split: str


def read_scores(grid: Grid, results: Path) -> pd.DataFrame:
    """Read the long rows of every scored trial, each under the experiments that it belongs to, in one frame.

    Raises `DfgsError` where nothing is scored yet, and where a cell has two numbers, naming both files.
    """
    lists = {name: grid.trials(name) + grid.references(name) for name in grid.config.run}
    trials = sorted({trial for found in lists.values() for trial in found})
    paths = [scores_of(trial, results) for trial in trials]
    there = [path for path in paths if path.is_file()]
    if not there:
        raise DfgsError(f"{results / 'scores'}: none of the {len(paths)} models of this grid is scored; run it first")
    rows = merge(there)
    return pd.concat([_of(rows, name, trials, grid) for name, trials in lists.items()], ignore_index=True)


def scores_of(trial: Trial, results: Path) -> Path:
    """Return where the long rows of a trial lie."""
    return results / "scores" / trial.path / "metrics.csv"


def gaps(grid: Grid, rows: pd.DataFrame) -> list[Gap]:
    """List the cells of the running experiments that `rows` of `read_scores` lack."""
    key = ["experiment", "source", "model", "sampler", "seed", "target", "split"]
    there = set(rows.loc[rows["metric"] == "mAP", key].itertuples(index=False, name=None))
    wanted = [gap for name in grid.config.run for gap in _cells(grid, name)]
    return sorted(g for g in wanted if (g.experiment, *asdict(g.trial).values(), g.target, g.split) not in there)


def told(missing: Sequence[Gap]) -> str:
    """Count missing cells and name them by model, the first ones only, in one line."""
    names = by_model(missing)
    rest = f" and {len(names) - NAMED} other models" if len(names) > NAMED else ""
    return f"{len(missing)} of the grid's cells are missing: {'; '.join(names[:NAMED])}{rest}"


def by_model(missing: Sequence[Gap]) -> list[str]:
    """Name every model that lacks numbers, with the targets it lacks."""
    groups = groupby(sorted(missing), key=lambda gap: (gap.experiment, gap.trial))
    return [f"{name}/{trial.path} on {', '.join(_places(list(lacking)))}" for (name, trial), lacking in groups]


def _places(missing: list[Gap]) -> list[str]:
    splits = {target: [g.split for g in found] for target, found in groupby(missing, key=lambda gap: gap.target)}
    return [target if len(found) == 1 else f"{target} ({len(found)} splits)" for target, found in splits.items()]


def _cells(grid: Grid, experiment: str) -> list[Gap]:
    """List the cells of one experiment; a source is not scored on a target whose test images it trains on."""
    return [
        Gap(experiment, trial, target, split)
        for trial in grid.trials(experiment) + grid.references(experiment)
        for target in grid.config.experiments[experiment].targets
        if trial.sampler == REFERENCE or not grid.config.leaks(trial.source, target)
        for split in grid.config.targets[target].splits
    ]


def _of(rows: pd.DataFrame, experiment: str, trials: list[Trial], grid: Grid) -> pd.DataFrame:
    """Select an experiment's rows: its trials on its own targets; a shared trial may have more."""
    names = pd.MultiIndex.from_tuples([tuple(asdict(trial).values()) for trial in trials])
    is_own = pd.MultiIndex.from_frame(rows[["source", "model", "sampler", "seed"]]).isin(names)
    is_target = rows["target"].isin(grid.config.experiments[experiment].targets)
    return rows.loc[is_own & is_target, list(COLUMNS)].assign(experiment=experiment)
