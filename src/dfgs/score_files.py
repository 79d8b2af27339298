"""Score anybody's features: a plain table with the bounds that ties leave, and one row per query."""

import csv
import gzip
import io
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dfgs.errors import DfgsError, did_you_mean
from dfgs.feature_sets import FeatureSet
from dfgs.metrics import PROTOCOLS, Protocol, Ranking, rank, summarise, true_positive_rates
from dfgs.metrics._blocks import Distance
from dfgs.provenance import whole_file
from dfgs.scoring import UNDECIDED

COUNTS = ("queries", "queries_without_match")
MEANINGS = {
    "mAP": "standard: mean over the matches of the precision at each",
    "mAP_trapezoid": "Market-1501's own code: each precision averaged with the one just before",
    "mINP": "matches / rank of the last match",
}
PER_QUERY = (
    *("query", "pid", "camid", "matches", "average_precision", "average_precision_low", "average_precision_high"),
    *("average_precision_trapezoid", "first_rank", "inp"),
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """What `score` found: `values` in percent midway between `lost` and `won`, with every tie lost and won.

    `rates`: true positive rates at false positive rates, in percent; empty where they were not asked for.
    """

    features: FeatureSet
    protocol: Protocol
    distance: Distance
    ranking: Ranking
    values: dict[str, float]
    lost: dict[str, float]
    won: dict[str, float]
    rates: dict[str, float]

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the protocol, the distance, the normalisation and the labels."""
        return self.protocol.fingerprint(**self.features.settings(self.distance))


def find_protocol(name: str) -> Protocol:
    """Return the protocol called `name`; `DfgsError` names the nearest known one."""
    if name not in PROTOCOLS:
        raise DfgsError(f"no protocol is called {name!r}{did_you_mean(name, PROTOCOLS)}")
    return PROTOCOLS[name]


def parse_ranks(text: str) -> tuple[int, ...]:
    """Read ranks as in `1,5,10`; `DfgsError` unless they are whole numbers from 1."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) >= 1 for part in parts):
        raise DfgsError(f"ranks are {text!r}; expected whole numbers from 1, as in 1,5,10")
    return tuple(sorted({int(part) for part in parts}))


def score(
    features: FeatureSet, protocol: Protocol, distance: Distance, ranks: Sequence[int], *, needs_rates: bool = False
) -> Score:
    """Rank the gallery for every query and average; `needs_rates` asks for the true positive rates too.

    As in `dfgs.scoring`, ties count as lost where they leave more than `UNDECIDED` points of mAP open.

    Raises `DfgsError` if no query has a match, and whatever `dfgs.metrics.rank` refuses.
    """
    features.check(protocol)
    ranking = rank(features.query, features.gallery, protocol, distance)
    if not ranking.matches.any():
        raise DfgsError(
            f"{features.name}: none of the {len(features.query)} queries has a match under protocol "
            f"{protocol.name!r}; expected identities that query and gallery share"
            + (" and two cameras saw" if protocol.removes_same_camera else "")
        )
    lost = summarise(replace(ranking, optimistic=ranking.pessimistic), ranks)
    won = summarise(replace(ranking, pessimistic=ranking.optimistic), ranks)
    is_open = won["mAP"] - lost["mAP"] > UNDECIDED
    if is_open:
        ranking = replace(ranking, optimistic=ranking.pessimistic)
        log.warning("%s: features are alike; ties count as lost (collapsed)", features.name)
    return Score(
        features,
        protocol,
        distance,
        ranking,
        summarise(ranking, ranks),
        lost,
        won,
        true_positive_rates(features.query, features.gallery, protocol, distance) if needs_rates else {},
    )


def as_table(found: Score) -> str:
    """Lay a score out as aligned plain text, in percent."""
    query, gallery = found.features.query, found.features.gallery
    head = [
        ("features", f"{found.features.name}, {query.features.shape[1]} dimensions"),
        ("query", _describe(found, query.pids, query.camids)),
        ("gallery", _describe(found, gallery.pids, gallery.camids)),
        ("protocol", f"{found.protocol.name}, fingerprint {found.fingerprint}"),
        ("distance", f"{found.distance}, normalised on reading: {'yes' if found.features.is_normalised else 'no'}"),
        ("no match", f"{found.values['queries_without_match']:.0f} of {len(query)} queries, not averaged in"),
    ]
    is_open = found.won["mAP"] - found.lost["mAP"] > UNDECIDED
    head.append(("ties", "count as lost, for features are alike" if is_open else "midway between lost and won"))
    rows = [
        (name, *(f"{bound[name]:.3f}" for bound in (found.values, found.lost, found.won)), MEANINGS.get(name, ""))
        for name in found.values
        if name not in (*COUNTS, "mAP_low", "mAP_high")
    ]
    rows += [(name, f"{value:.3f}", "", "", "") for name, value in found.rates.items()]
    table = [("metric (%)", "value", "ties lost", "ties won", ""), *rows]
    return "\n".join([*_aligned(head, "<<"), "", *_aligned(table, "<>>><")])


def write_queries(found: Score, path: Path) -> None:
    """Write one row per query with `PER_QUERY`, whole or not at all, compressed if the name ends with `.gz`.

    `query` is the image file, or the row number where the features name none. Metrics are fractions and empty for a
    query without a match.
    """
    features, ranking = found.features, found.ranking
    names = features.query_paths or range(len(features.query))
    metrics = [getattr(ranking, name) for name in PER_QUERY[4:]]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(PER_QUERY)
    for i, name in enumerate(names):
        shown = ["" if np.isnan(values[i]) else repr(float(values[i])) for values in metrics]
        writer.writerow([name, features.query.pids[i], features.query.camids[i], ranking.matches[i], *shown])
    data = text.getvalue().encode()
    with whole_file(path) as partial:
        partial.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def _describe(found: Score, pids: np.ndarray, camids: np.ndarray) -> str:
    junk, distractors = (np.isin(pids, p) for p in (found.protocol.junk_pids, found.protocol.distractor_pids))
    identities = len(np.unique(pids[~(junk | distractors)]))
    text = f"{len(pids)} images, {identities} identities, {len(np.unique(camids))} cameras"
    for name, mask in (("distractors", distractors), ("junk", junk)):
        text += f", {mask.sum()} {name}" if mask.any() else ""
    return text


def _aligned(rows: Iterable[Sequence[str]], sides: str) -> list[str]:
    rows = list(rows)
    widths = [max(len(row[column]) for row in rows) for column in range(len(sides))]
    return ["  ".join(f"{c:{s}{w}}" for c, s, w in zip(row, sides, widths, strict=True)).rstrip() for row in rows]
