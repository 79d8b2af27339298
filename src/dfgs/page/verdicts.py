"""The verdict that opens the page: the two sentences of the verdict file, or what can be said without one."""

from pathlib import Path

import pandas as pd

from dfgs.results import REFERENCE
from dfgs.stats import AVERAGE, Transfer, describe_seeds, intervals, seed_values, with_average
from dfgs.stats.summary import Verdict, read_verdict

ONE_SEED = "One seed only: a single training shows no spread, so no interval is given and nothing is tested."


def verdict_of(results: Path, experiment: str) -> Verdict | None:
    """Read an experiment's `verdict.json`; None where there is none. `DfgsError` for a file of another schema."""
    path = results / "experiments" / experiment / "verdict.json"
    return read_verdict(path) if path.is_file() else None


def without_verdict(rows: pd.DataFrame, within: set[Transfer]) -> tuple[str, str]:
    """Say in two sentences that nothing is tested, and how the means of an experiment's samplers lie."""
    cells = intervals(with_average(seed_values(rows, "mAP"), within))
    means = {key: found for key, found in cells.items() if key[2] == AVERAGE and key[1] != REFERENCE}
    first = "No verdict: no planned comparison of this experiment has been judged."
    if not means:
        return first, "No sampler has numbers on all cross-domain targets yet, so there is no average to compare."
    several = len({model for model, _, _ in means}) > 1
    order = sorted(means.items(), key=lambda item: -item[1].mean)
    named = [
        f"{name}{f' ({model})' if several else ''} {found.mean:.1f}"
        + (f" ± {found.half_width:.1f}" if found.n > 1 else "")
        for (model, name, _), found in order
    ]
    what = describe_seeds(means.values())
    return first, f"Average cross-domain mAP: {', '.join(named)} ({what}); the order of means alone proves nothing."


def notes(rows: pd.DataFrame) -> tuple[str, ...]:
    """Say what limits every number of an experiment."""
    trained = rows[rows["sampler"] != REFERENCE]
    return (ONE_SEED,) if trained["seed"].nunique() == 1 else ()
