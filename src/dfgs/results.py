"""The long table of numbers (`metrics.csv`): one number per row, read strictly, equal rows written as equal bytes."""

from __future__ import annotations

import csv
import logging
import math
import re
from collections.abc import Iterable, Mapping
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfgs.errors import DfgsError
from dfgs.metrics import RATES, difference
from dfgs.provenance import whole_file

if TYPE_CHECKING:
    # The configuration needs the names of this module, and every stage the configuration; few need tables.
    import pandas as pd

LOGGER = logging.getLogger(__name__)

KEY = ("experiment", "source", "target", "split", "model", "sampler", "seed", "metric")
COLUMNS = (*KEY, "value", "protocol", "commit", "versions")
RANKS = tuple(range(1, 21))
"""Ranks of the CMC that every trial is scored at."""
PLAIN = ("mAP", *(f"rank{k}" for k in RANKS), "mINP", "mAP_trapezoid")
RERANKED, SOURCE_VAL, ORACLE = "_reranked", "_source_val", "_oracle"
SELECTED = (SOURCE_VAL, ORACLE)
"""Endings of numbers of a chosen candidate: by the source's validation identities, or by the target's own labels."""
METRICS = (*PLAIN, *RATES, *(name + ending for ending in (RERANKED, *SELECTED) for name in PLAIN))
"""Metrics that a table can show, all in percent; re-ranked and chosen ones are columns of their own."""
REFERENCE = "zero-shot"
"""The sampler name of the untuned backbone: a reference beside the samplers, not one of them."""


def read_metrics(path: Path | str) -> pd.DataFrame:
    """Read a file of long rows; the frame has `COLUMNS` in order, `seed` int64, `value` float64, the rest text.

    Raises `DfgsError` naming file, line and column for a missing or unknown column, a row of another length, an empty
    text, a seed that is no whole number and a value that is no finite number.
    """
    try:
        with Path(path).open(encoding="utf-8", newline="") as handle:
            reader = csv.reader(handle, strict=True)
            header = next(reader, [])
            _check_header(path, header)
            lines = [(reader.line_num, line) for line in reader]
    except (OSError, ValueError, csv.Error) as error:
        raise DfgsError(f"cannot read {path}: {error}") from error
    for number, line in lines:
        if len(line) != len(header):
            raise DfgsError(f"{path}, line {number}: {len(line)} fields, expected {len(header)}: {', '.join(header)}")
    return _typed([(f"{path}, line {n}", dict(zip(header, line, strict=True))) for n, line in lines])


def write_metrics(rows: pd.DataFrame | Iterable[Mapping[str, Any]], path: Path | str) -> None:
    """Write long rows, whole or not at all, sorted by column; the same rows in any order give the same bytes.

    Values are written with the fewest digits that read back as the same float64. Raises `DfgsError` for what
    `read_metrics` would refuse.
    """
    import pandas as pd

    records: Iterable[Mapping[Any, Any]] = rows.to_dict("records") if isinstance(rows, pd.DataFrame) else rows
    lines = []
    for number, record in enumerate(records):
        _check_header(path, [str(name) for name in record])
        lines.append((f"row {number} for {path}", {str(name): _text(value) for name, value in record.items()}))
    frame = _typed(lines)
    frame = frame.sort_values(list(COLUMNS), ignore_index=True)
    with whole_file(path) as partial, partial.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([_text(value) for value in row] for row in frame.itertuples(index=False, name=None))


def merge(paths: Iterable[Path | str]) -> pd.DataFrame:
    """Join files of long rows into one frame, sorted; a cell that is there twice with the same number is kept once.

    A cell is what `KEY` names. Raises `DfgsError` naming both files when a cell has two numbers or two protocols.
    """
    import pandas as pd

    frames = [read_metrics(path).assign(file=str(path)) for path in paths]
    if not frames:
        raise DfgsError("no metrics to merge: the list of files is empty")
    rows = pd.concat(frames, ignore_index=True).sort_values([*COLUMNS, "file"], ignore_index=True)
    first = rows.groupby(list(KEY))[["value", "protocol", "file"]].transform("first")
    contradicts = (rows["value"] != first["value"]) | (rows["protocol"] != first["protocol"])
    if contradicts.any():
        row, other = rows[contradicts].iloc[0], first[contradicts].iloc[0]
        cell = ", ".join(f"{name} {row[name]}" for name in KEY)
        found = [f"{_text(r['value'])} in {r['file']}" for r in (other, row)]
        protocols = [str(r["protocol"]) for r in (other, row)]
        why = f", of two protocols: {difference(*protocols)}" if len(set(protocols)) > 1 else ""
        raise DfgsError(f"one cell, two numbers: {cell} is {' and '.join(found)}{why}; remove the wrong one")
    return rows.drop_duplicates(list(KEY), ignore_index=True)[list(COLUMNS)]


def check_one_protocol(frame: pd.DataFrame) -> None:
    """Refuse numbers of two protocols, naming the difference; warn in the log when they come from two commits.

    Compared are the rows of one target and metric. The split and the model count as part of the target, because a
    split's own digest and a model's own input size belong to the fingerprint.
    """
    for (model, target, split, metric), rows in frame.groupby(["model", "target", "split", "metric"]):
        examples = rows.sort_values(list(COLUMNS)).drop_duplicates("protocol")
        if len(examples) > 1:
            one, other, *_ = examples.itertuples()
            names = [f"(source {row.source}, sampler {row.sampler}, seed {row.seed})" for row in (one, other)]
            raise DfgsError(
                f"{metric} on target {target} (split {split}, model {model}) was scored under {len(examples)} "
                f"protocols: {difference(str(one.protocol), str(other.protocol))} {' and '.join(names)}; score all of "
                "them under one"
            )
    commits = frame["commit"].value_counts().sort_index()
    if len(commits) > 1:
        counts = ", ".join(f"{commit} ({count} rows)" for commit, count in commits.items())
        LOGGER.warning("numbers of %d commits are compared: %s", len(commits), counts)


def _check_header(where: Path | str, names: list[str]) -> None:
    missing = [name for name in COLUMNS if name not in names]
    unknown = [name for name in names if name not in COLUMNS]
    if missing or len(names) != len(COLUMNS):
        raise DfgsError(
            f"{where}: columns missing: {', '.join(missing) or 'none'}; unknown: {', '.join(unknown) or 'none'}; "
            f"expected, each once: {', '.join(COLUMNS)}"
        )


def _typed(lines: list[tuple[str, dict[str, str]]]) -> pd.DataFrame:
    """Turn texts into a frame with the types of `read_metrics`; each line comes with the words for where it stands."""
    import pandas as pd

    for where, line in lines:
        empty = [name for name in COLUMNS if not line[name]]
        if empty:
            raise DfgsError(f"{where}, column {empty[0]!r}: empty or missing, expected a text or a number")
        if re.fullmatch("[0-9]{1,18}", line["seed"]) is None:
            raise DfgsError(f"{where}, column 'seed': {line['seed']!r}, expected a whole number from 0")
        if not _is_finite(line["value"]):
            raise DfgsError(f"{where}, column 'value': {line['value']!r}, expected a finite number")
    frame = pd.DataFrame([line for _, line in lines], columns=list(COLUMNS), dtype="str")
    return frame.astype({"seed": "int64", "value": "float64"})


def _is_finite(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _text(value: Any) -> str:
    """Write a number so that it reads back unchanged (a whole number without `.0`); what is missing becomes empty."""
    if isinstance(value, str | Integral):
        return str(value)
    if value is None or math.isnan(value):
        return ""
    return repr(float(value)).removesuffix(".0")
