"""The level of queries: two trained models on the same queries, and other people of the same cameras."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from dfgs.errors import DfgsError
from dfgs.rendering import MISSING, Entry, Table
from dfgs.stats.queries import QUERY, query_interval
from dfgs.stats.seeds import Interval
from dfgs.stats.summarise import Plan
from dfgs.stats.summary import number_or_none
from dfgs.tables.words import label_columns

Trained = tuple[str, str, int, str]
"""Model, source, seed and sampler."""
USED = (*QUERY, "pid", "average_precision")


def read_queries(metrics: Sequence[Path]) -> dict[Trained, pd.DataFrame]:
    """Read the per-query rows of trained models; whose they are stands in `metrics.csv` beside each file.

    Raises `DfgsError` for a file that is missing or damaged.
    """
    found = {}
    for path in metrics:
        try:
            whose = pd.read_csv(path, nrows=1, usecols=["model", "source", "seed", "sampler"]).iloc[0]
            rows = pd.read_csv(path.with_name("per_query.csv.gz"), usecols=list(USED))
        except (OSError, ValueError, IndexError) as error:
            raise DfgsError(f"cannot read {path} or per_query.csv.gz beside it: {error}") from error
        found[str(whose["model"]), str(whose["source"]), int(whose["seed"]), str(whose["sampler"])] = rows
    return found


def queries_table(trained: Mapping[Trained, pd.DataFrame], plan: Plan) -> Table:
    """Compare the two models of every planned pair of trainings on each target's queries."""
    models = sorted({model for model, *_ in trained})
    labels = [*label_columns(models, "sampler"), "against", "trained and tested", "seed"]
    found = [
        ((model, sampler, baseline), source, target, seed, interval)
        for sampler, baseline in plan.contrasts
        for model, source, seed in sorted({key[:3] for key in trained})
        for target, interval in _intervals(trained, (model, source, seed), (sampler, baseline))
    ]
    caption = (
        f"Experiment {plan.experiment}, level of queries: mean difference in average precision (points) of one pair of "
        "trained models on a target's queries, with a 95 % bootstrap interval that draws people, each with all of his "
        "or her queries. It says how far the difference between these two trainings holds for other people of the same "
        "cameras, and nothing of other seeds; the verdict is that of the level of trainings."
    )
    rows = tuple(
        (
            *(Entry(name) for name in names[3 - (len(labels) - 2) :]),
            Entry(f"{source}→{target}" + (" (within)" if (source, target) in plan.within else "")),
            *(Entry(str(seed)), Entry(f"{i.mean:+.1f}", value=i.mean), Entry(_ends(i)), Entry(str(i.n))),
        )
        for names, source, target, seed, i in found
    )
    numbers = [
        (*names, source, target, seed, i.mean, number_or_none(i.low), number_or_none(i.high), i.n)
        for names, source, target, seed, i in found
    ]
    columns = ["model", "sampler", "baseline", "source", "target", "seed", "mean", "low", "high", "people"]
    frame = pd.DataFrame(numbers, columns=columns).assign(level="queries", caption=caption)
    return Table(caption, (*labels, "difference", "95 % interval", "people"), len(labels), rows, (), frame)


def _intervals(
    trained: Mapping[Trained, pd.DataFrame], cell: tuple[str, str, int], contrast: tuple[str, str]
) -> list[tuple[str, Interval]]:
    """Compare a pair of trainings on each target that both were scored on; nothing where one is missing."""
    first, second = (trained.get((*cell, name)) for name in contrast)
    if first is None or second is None:
        return []
    targets = sorted(set(first["target"]) & set(second["target"]))
    return [
        (target, _points(query_interval(first[first["target"] == target], second[second["target"] == target])))
        for target in targets
    ]


def _points(found: Interval) -> Interval:
    return Interval(100 * found.mean, 100 * found.low, 100 * found.high, found.n)


def _ends(found: Interval) -> str:
    return MISSING if found.n < 2 else f"{found.low:+.1f} to {found.high:+.1f}"
