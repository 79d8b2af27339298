"""The verdict on one experiment as a file, `results/experiments/<experiment>/verdict.json`, and how to read it back.

Two levels stand side by side and are never mixed: `contrasts` (over trainings: the level that the verdict words come
from) and `blocks` (over datasets). What is missing is null; numbers are percentage points of the metric.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from dfgs.errors import DfgsError
from dfgs.provenance import read_json, write_json

Record = TypeVar("Record")

SCHEMA = 1
VERDICTS = ("better", "worse", "equal", "undecided")
"""Of the sampler against the baseline, from the level of trainings alone."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One pair of trainings: `difference` is sampler - baseline, trained on one source with one seed."""

    source: str
    seed: int
    difference: float


@dataclass(frozen=True, slots=True)
class Contrast:
    """A planned contrast over trainings: the mean paired difference sampler - baseline and its verdict.

    `low` and `high` end the 95 % interval made by `method` (`t` or `BCa`); all three are None without one, and `why`
    then says why. `deviation` is the standard deviation of the differences, None where there is no interval. `p_value`
    is that of the sign-flip test (1 where there is no test), `adjusted` the same after Holm over all contrasts of the
    experiment. `seeds_needed`: how many more seeds per source would decide it if they went on like these; 0 for one
    that is decided, None where more than 1,000 pairs would be needed or there is no spread to go by.
    """

    model: str
    sampler: str
    baseline: str
    mean: float
    low: float | None
    high: float | None
    method: str | None
    why: str
    deviation: float | None
    p_value: float
    adjusted: float
    verdict: str
    seeds_needed: int | None
    pairs: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class BlockContrast:
    """A planned contrast over source→target blocks: the mean difference, Holm's p-value of Wilcoxon's signed-rank test.

    `low` and `high` end the 95 % bootstrap interval that draws whole sources; None for one source.
    """

    sampler: str
    baseline: str
    mean: float
    low: float | None
    high: float | None
    sources: int
    adjusted: float


@dataclass(frozen=True, slots=True)
class Blocks:
    """Samplers ranked over the source→target blocks of one model (1 is best): mean ranks, Friedman, Nemenyi.

    `why` says why there are no ranks (fewer than three samplers or blocks); then `mean_ranks` is empty, and `p_value`
    and `critical_difference` are None.
    """

    model: str
    blocks: int
    mean_ranks: Mapping[str, float]
    p_value: float | None
    critical_difference: float | None
    why: str
    contrasts: tuple[BlockContrast, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """All that an experiment says about its planned contrasts.

    `sentences` are two, plain text: what the grid proves about the contrasts, and what it cannot. `notes` are further
    sentences that belong under every table of it (one shared backbone, mixed commits, missing trainings). `averaged`
    maps each source to the targets whose mean a training's number is; `is_within` tells that these are the sources' own
    test identities, because the experiment has no other. `commits` made the numbers. An experiment's `margin` of
    practical equivalence and the `level` of its tests are in the metric's points and a share.
    """

    experiment: str
    title: str
    metric: str
    margin: float
    level: float
    sentences: tuple[str, str]
    notes: tuple[str, ...]
    averaged: Mapping[str, tuple[str, ...]]
    is_within: bool
    commits: tuple[str, ...]
    contrasts: tuple[Contrast, ...]
    blocks: tuple[Blocks, ...]


def write_verdict(verdict: Verdict, path: Path | str) -> None:
    """Write a verdict as JSON, its fields by their names; whole or not at all, equal verdicts as equal bytes."""
    write_json(path, {"schema": SCHEMA} | asdict(verdict))


def read_verdict(path: Path | str) -> Verdict:
    """Read a file of `write_verdict`; `DfgsError` names a file that is missing, damaged or of another schema."""
    values = read_json(path)
    if not isinstance(values, dict) or values.get("schema") != SCHEMA:
        raise DfgsError(f"{path}: no verdict of schema {SCHEMA}; make it anew with `dfgs judge`")
    try:
        contrasts = tuple(
            _record(Contrast, c, pairs=tuple(_record(Pair, p) for p in c["pairs"])) for c in values["contrasts"]
        )
        blocks = tuple(
            _record(Blocks, b, contrasts=tuple(_record(BlockContrast, c) for c in b["contrasts"]))
            for b in values["blocks"]
        )
        averaged = {source: tuple(targets) for source, targets in values["averaged"].items()}
        lists = {name: tuple(values[name]) for name in ("sentences", "notes", "commits")}
        return _record(Verdict, values, contrasts=contrasts, blocks=blocks, averaged=averaged, **lists)
    except (KeyError, TypeError, AttributeError) as error:
        raise DfgsError(f"{path}: damaged verdict ({error}); make it anew with `dfgs judge`") from error


def number_or_none(value: float) -> float | None:
    """Turn nan, which JSON has not, into None."""
    return None if math.isnan(value) else float(value)


def _record(kind: type[Record], values: Mapping[str, Any], **made: Any) -> Record:
    """Build a record from its fields among `values`; those in `made` are built already."""
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: made[name] if name in made else values[name] for name in names})
