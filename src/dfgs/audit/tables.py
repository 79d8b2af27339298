"""The audit as a table: a row per sampler, means over passes or over the cells of a grid."""

import math
from collections.abc import Callable, Hashable, Sequence

import pandas as pd

from dfgs.rendering import MISSING, Entry, Table

Row = pd.DataFrame
"""The audits that one row of the table sums up."""


def _mean(rows: Row, column: str, digits: int, unit: float = 1.0) -> str:
    value = unit * float(rows[column].mean())
    return MISSING if math.isnan(value) else f"{value:.{digits}f}"


def _share(rows: Row, part: str, whole: str) -> str:
    return f"{100 * float((rows[part] / rows[whole]).mean()):.1f}"


def _quarters(rows: Row, column: str) -> str:
    return " ".join(_mean(rows, f"{column}_q{i}", 2) for i in range(1, 5))


def _graph(rows: Row) -> str:
    text, bad = _mean(rows, "graph_fidelity", 1, 100), int(rows["at_chance"].sum())
    if not bad:
        return text
    some = "" if bad == len(rows) else f" in {bad} of {len(rows)}"
    return f"{text} at chance{some}{', as meant' if rows['by_design'].all() else ''}"


SHOWN: dict[str, Callable[[Row], str]] = {
    "batches": lambda rows: _mean(rows, "batches", 0),
    "identities (%)": lambda rows: _share(rows, "identities_served", "identities"),
    "images (%)": lambda rows: _share(rows, "images_served", "images"),
    "repeats": lambda rows: _mean(rows, "images_repeated", 0),
    "restarts": lambda rows: _mean(rows, "restarts", 1),
    "neighbour pairs (%)": lambda rows: _mean(rows, "neighbour_share", 1, 100),
    "nearest image": lambda rows: _mean(rows, "image_distance", 3),
    "image q1–q4": lambda rows: _quarters(rows, "image_distance"),
    "nearest mean": lambda rows: _mean(rows, "mean_distance", 3),
    "mean q1–q4": lambda rows: _quarters(rows, "mean_distance"),
    "one domain (%)": lambda rows: _mean(rows, "domain_purity", 1, 100),
    "cameras (%)": lambda rows: _mean(rows, "camera_balance", 1, 100),
    "true edges (%)": _graph,
    "by chance (%)": lambda rows: _mean(rows, "graph_chance", 1, 100),
    "graph (s)": lambda rows: _mean(rows, "graph_seconds", 3),
    "pass (s)": lambda rows: _mean(rows, "pass_seconds", 3),
    "memory (MB)": lambda rows: _mean(rows, "memory_mb", 1),
}
"""Columns of the table; `dfgs.audit.record.Audit` says what they are."""

MEANING = (
    "Neighbour pairs: in-batch pairs of identities of which the second is among the first's nearest of all; {chance} % "
    "in random batches. Nearest image, nearest mean: distance to the nearest image and to the nearest mean of another "
    "identity in the batch (rows of length 1; lower is harder), over all and by quarter (q1–q4). One domain: share of "
    "a batch's commonest domain. Cameras: of the further cameras that an identity's images in a batch could come "
    "from, the share that they do come from. True edges: edges of the graph to true nearest identities, beside what "
    "random edges have; at chance: less than 4 standard deviations above that."
)


def audit_table(rows: pd.DataFrame, labels: Sequence[str], caption: str) -> Table:
    """Sum `rows` up by their columns `labels`, in the order of their coming; `caption` goes before the meaning.

    `rows` has the columns of `Audit`, `at_chance` and `by_design`; a column without any number is left out. The numbers
    of the table are `rows` as they are.
    """
    # A tuple of one label would come back as a bare value.
    groups: list[tuple[Hashable, Row]] = list(rows.groupby(list(labels), sort=False))
    cells = {name: [show(part) for _, part in groups] for name, show in SHOWN.items()}
    known = {name: column for name, column in cells.items() if set(column) - {MISSING, " ".join([MISSING] * 4)}}
    names = [[str(part.iloc[0][label]) for label in labels] for _, part in groups]
    body = tuple(
        tuple(Entry(text) for text in (*names[i], *(column[i] for column in known.values())))
        for i in range(len(groups))
    )
    chance = f"{100 * float(rows['neighbour_chance'].mean()):.1f}"
    meaning = MEANING.replace("{chance}", chance)
    return Table(f"{caption} {meaning}", (*labels, *known), len(labels), body, (), rows)
