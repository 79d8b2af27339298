"""One row per query: how well it was ranked, plainly and, in columns of their own, by re-ranked distances."""

import gzip
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from dfgs.metrics import Embeddings, Ranking
from dfgs.provenance import write_bytes

LABELS = ("query", "pid", "camid", "matches")
MEASURES = (
    *("average_precision", "average_precision_low", "average_precision_high"),
    *("average_precision_trapezoid", "first_rank", "inp"),
)
PER_QUERY = (*LABELS, *MEASURES, "protocol")
"""Columns; those from the measures on come once more for each further way of ranking, its suffix at their names."""


def query_rows(names: Iterable[object], query: Embeddings, rankings: Mapping[str, tuple[Ranking, str]]) -> pd.DataFrame:
    """Return a row per query; `rankings` maps a suffix ("" is plain) to a ranking and its protocol fingerprint.

    `names` are the query images' files or numbers. Measures are fractions and ranks, NaN for a query without a match.
    """
    (plain, _), *_ = rankings.values()
    columns: dict[str, object] = dict(zip(LABELS, (list(names), query.pids, query.camids, plain.matches), strict=True))
    for suffix, (ranking, fingerprint) in rankings.items():
        columns |= {name + suffix: getattr(ranking, name) for name in MEASURES} | {f"protocol{suffix}": fingerprint}
    return pd.DataFrame(columns)


def write_queries(rows: pd.DataFrame, path: Path) -> None:
    """Write rows as CSV, whole or not at all, compressed if the name ends with `.gz`; equal rows give equal bytes.

    Numbers are written with the fewest digits that read back as the same float64; what is missing is empty.
    """
    data = rows.to_csv(index=False, lineterminator="\n").encode()
    write_bytes(path, gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
