"""What choosing a candidate would change: the last model, the source's choice, and the oracle that sees the answers."""

from collections.abc import Collection, Sequence

import pandas as pd

from dfgs.errors import DfgsError
from dfgs.rendering import MISSING, Entry, Table
from dfgs.results import ORACLE, SOURCE_VAL
from dfgs.stats import AVERAGE, Interval, Transfer, describe_seeds, in_order, mean_interval, seed_values, with_average

LAST, CHOSEN, BEST = "last", "source-val", "oracle"
WAYS = {LAST: "", CHOSEN: SOURCE_VAL, BEST: ORACLE}
GAPS = ((CHOSEN, LAST), (BEST, CHOSEN))
KEY = ["model", "sampler", "seed"]


def selection_table(
    frame: pd.DataFrame, metric: str, within: Collection[Transfer] = (), samplers: Sequence[str] = ()
) -> Table:
    """Compare three ways to choose a model of each training (rows: samplers), with the gaps between them.

    `frame` holds the long rows of one experiment. A number is the mean over the cross-domain targets (over all targets
    where there are none), then over seeds with its 95 % t-interval; a gap is taken within each seed. Raises `DfgsError`
    where no candidates were scored.
    """
    if metric + SOURCE_VAL not in set(frame["metric"]):
        raise DfgsError(f"no candidates were scored by {metric}; set models.….selection and run again")
    values = pd.DataFrame({way: _by_seed(frame, metric + ending, within) for way, ending in WAYS.items()}).dropna()
    found = {
        (str(model), str(sampler)): _intervals(rows) for (model, sampler), rows in values.groupby(["model", "sampler"])
    }
    models = sorted({model for model, _ in found})
    keys = [(m, s) for m in models for s in in_order({s for _, s in found}, samplers) if (m, s) in found]
    labels = ["model", "sampler"][-1 if len(models) == 1 else -2 :]
    columns = list(next(iter(found.values())))
    caption = (
        f"Experiment {frame['experiment'].iloc[0]}: {metric} (%) by how the model of a training is chosen, "
        f"{describe_seeds(intervals[LAST] for intervals in found.values())}. source-val: the candidate that is best "
        "on the source's validation identities. oracle: the one that is best on the target, which needs the target's "
        "labels; it is no result."
    )
    rows = tuple(
        tuple(Entry(text) for text in (*key[-len(labels) :], *(_write(found[key][name], name) for name in columns)))
        for key in keys
    )
    numbers = [(metric, *key, name, i.mean, i.low, i.high, i.n) for key in keys for name, i in found[key].items()]
    header = ("metric", "model", "sampler", "choice", "mean", "low", "high", "n")
    return Table(caption, (*labels, *columns), len(labels), rows, (), pd.DataFrame(numbers, columns=list(header)))


def _by_seed(frame: pd.DataFrame, metric: str, within: Collection[Transfer]) -> pd.Series:
    """Return one number per model, sampler and seed: the mean over the cross-domain targets."""
    values = seed_values(frame, metric)
    averages = with_average(values, within)
    cross = averages[averages["target"] == AVERAGE[1]]
    return (values if cross.empty else cross).groupby(KEY)["value"].mean()


def _intervals(rows: pd.DataFrame) -> dict[str, Interval]:
    ways = {way: mean_interval(rows[way]) for way in WAYS}
    return ways | {f"{one} − {other}": mean_interval(rows[one] - rows[other]) for one, other in GAPS}


def _write(interval: Interval, name: str) -> str:
    sign = "+" if "−" in name else ""
    spread = "" if interval.n == 1 else f" ± {interval.half_width:.1f}"
    return f"{interval.mean:{sign}.1f}{spread}" if interval.n else MISSING
