"""Two trained models on the same queries: how much of their difference would other people of that dataset undo?"""

import numpy as np
import pandas as pd
from scipy import stats

from dfgs.errors import DfgsError
from dfgs.stats.seeds import Interval

QUERY = ["target", "split", "query"]
RESAMPLES = 9999


def query_interval(
    first: pd.DataFrame,
    second: pd.DataFrame,
    metric: str = "average_precision",
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return mean(`first` - `second`) over queries with a percentile bootstrap interval clustered by identity.

    Both frames hold per-query rows (`target, split, query, pid` and the `metric`, a fraction or empty) of the same
    queries. People are drawn with replacement, each with all of his or her queries, because the queries of one person
    fail together; `n` is the number of people. Queries without a match count in neither. In the metric's unit.

    This says how far the difference between *these two trainings* holds for other people of the same cameras; it says
    nothing of other seeds. Raises `DfgsError` when the frames do not hold the same queries, or no query with a match.
    """
    pairs = first.merge(second, on=QUERY, how="outer", suffixes=("", "_second"), indicator=True)
    alone = pairs[pairs["_merge"] != "both"]
    if len(alone):
        row = alone.iloc[0]
        holder = "first" if row["_merge"] == "left_only" else "second"
        raise DfgsError(
            f"per-query rows: {len(alone)} queries are in one of the two only, such as {row['query']} of target "
            f"{row['target']} (split {row['split']}), in the {holder}; compare models scored on the same queries"
        )
    pairs = pairs.assign(difference=pairs[metric] - pairs[f"{metric}_second"]).dropna(subset="difference")
    if pairs.empty:
        raise DfgsError(f"per-query rows: no query has a {metric} in both; nothing to compare")
    people = pairs.groupby(["target", "pid"])["difference"].agg(["sum", "count"])
    sums, counts = people["sum"].to_numpy(), people["count"].to_numpy(dtype=np.float64)
    mean = float(sums.sum() / counts.sum())
    if len(people) == 1:
        return Interval(mean, float("nan"), float("nan"), 1)
    found = stats.bootstrap(
        (sums, counts),
        lambda s, c, axis: s.sum(axis=axis) / c.sum(axis=axis),
        paired=True,
        confidence_level=confidence,
        n_resamples=RESAMPLES,
        batch=500,
        method="percentile",
        rng=seed,
    ).confidence_interval
    return Interval(mean, float(found.low), float(found.high), len(people))
