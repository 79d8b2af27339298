"""Checks of numbers: each follows from those it was made of. Each check yields None, or a fault in words."""

from pathlib import Path

import numpy as np
import pandas as pd

from dfgs.page.digests import Faults
from dfgs.provenance import read_json
from dfgs.results import KEY, merge, read_metrics
from dfgs.stats import intervals, seed_values, with_average

COMPARISON = {"metric", "model", "sampler", "source", "target", "within", "mean", "low", "high", "n"}
"""Columns by which a comparison is told from other tables."""
TOLERANCE = 1e-9
"""How far a mean may be off: sums are the same, their order need not be."""


def scores(results: Path) -> Faults:
    """The numbers of a trial are its own, its training's commit is theirs, and mAP is the mean over its queries."""
    for path in sorted(results.glob("scores/**/metrics.csv")):
        place = path.parent.relative_to(results / "scores").as_posix()
        rows, queries = read_metrics(path), pd.read_csv(path.with_name("per_query.csv.gz"))
        names = rows["source"] + "/" + rows["model"] + "/" + rows["sampler"] + "/s" + rows["seed"].astype(str)
        yield (
            None if set(names) == {place} else f"{path}: it holds numbers of {', '.join(sorted(set(names) - {place}))}"
        )
        record = results / "runs" / place / "record.json"
        if record.is_file():
            said = read_json(record)["commit"]
            yield None if set(rows["commit"]) == {said} else f"{path}: its commit is not that of {record}, {said}"
        means = queries.groupby(["target", "split"])["average_precision"].mean() * 100
        for row in rows[rows["metric"] == "mAP"].itertuples():
            found = float(means.get((row.target, row.split), np.nan))
            same = abs(found - float(str(row.value))) < TOLERANCE
            yield None if same else f"{path}: mAP of {row.target} {row.split} is {row.value}, its queries give {found}"


def metrics(results: Path) -> Faults:
    """Every number of an experiment is one of its trials' scores; the file of all holds every experiment's numbers."""
    parts = sorted(results.glob("scores/**/metrics.csv"))
    files = sorted(results.glob("experiments/*/metrics.csv"))
    key = [name for name in KEY if name != "experiment"]
    scores = merge(parts).set_index(key)["value"] if parts else pd.Series(dtype=float)
    for path in files:
        rows = read_metrics(path).set_index(key)["value"]
        wrong = rows[rows.ne(scores.reindex(rows.index))]
        yield (
            None if wrong.empty else f"{path}: {len(wrong)} numbers are not those of the scores, first {wrong.index[0]}"
        )
    if files and (results / "metrics.csv").is_file():
        same = merge(files).equals(read_metrics(results / "metrics.csv"))
        yield None if same else f"{results / 'metrics.csv'}: it is not what the experiments' numbers make"


def tables(results: Path) -> Faults:
    """Every mean and interval of a comparison follows from its experiment's numbers."""
    for path in sorted(results.glob("tables/*/*.csv")):
        table = pd.read_csv(path, keep_default_na=False, na_values=[""])
        metrics = results / "experiments" / path.parent.name / "metrics.csv"
        if set(table.columns) >= COMPARISON and metrics.is_file():
            yield _table_fault(path, table, read_metrics(metrics))


def _table_fault(path: Path, table: pd.DataFrame, rows: pd.DataFrame) -> str | None:
    inside = table[table["within"]][["source", "target"]].itertuples(index=False, name=None)
    cells = intervals(with_average(seed_values(rows, str(table["metric"].iloc[0])), set(inside)))
    for row in table.fillna({"source": ""}).to_dict("records"):
        found = cells.get((row["model"], row["sampler"], (row["source"], row["target"])))
        if found is None and not row["n"]:
            continue
        said = [row["mean"], row["low"], row["high"], row["n"]]
        made = [np.nan] * 4 if found is None else [found.mean, found.low, found.high, found.n]
        if not np.allclose(said, made, rtol=0, atol=TOLERANCE, equal_nan=True):
            return f"{path}: {row['sampler']} {row['source']}→{row['target']} is {said}, the numbers give {made}"
    return None
