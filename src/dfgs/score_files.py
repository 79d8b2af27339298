"""Score a set of features: metrics with the bounds that ties leave, a plain table of them, and one row per query."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise

import numpy as np
import pandas as pd

from dfgs.errors import DfgsError, did_you_mean
from dfgs.feature_sets import FeatureSet
from dfgs.metrics import (
    PROTOCOLS,
    Distance,
    Embeddings,
    KReciprocal,
    Products,
    Protocol,
    Ranking,
    difference,
    rank,
    rank_reranked,
    settle_ties,
    summarise,
    true_positive_rates,
)
from dfgs.per_query import query_rows
from dfgs.results import RERANKED

COUNTS = ("queries", "queries_without_match")
MEANINGS = {
    "mAP": "standard: mean over the matches of the precision at each",
    "mAP_trapezoid": "Market-1501's own code: each precision averaged with the one just before",
    "mINP": "matches / rank of the last match",
}
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Extras:
    """What `score` does beyond plain ranking.

    `needs_rates` asks for the true positive rates too. `reranking` ranks by k-reciprocal distances instead of plain
    ones. `products` makes the `products` of `dfgs.metrics.rank` for a query and a gallery, say on a GPU.
    """

    needs_rates: bool = False
    reranking: KReciprocal | None = None
    products: Callable[[Embeddings, Embeddings], Products] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """What `score` found: `values` in percent midway between `lost` and `won`, with every tie lost and won.

    `is_open`: ties left so much open that they count as lost. `rates`: true positive rates at false positive rates, in
    percent; empty where they were not asked for. `reranking`: its settings, where re-ranked distances were used.
    """

    features: FeatureSet
    protocol: Protocol
    distance: Distance
    reranking: KReciprocal | None
    ranking: Ranking
    is_open: bool
    values: dict[str, float]
    lost: dict[str, float]
    won: dict[str, float]
    rates: dict[str, float]

    @property
    def suffix(self) -> str:
        """What the names of these numbers end with: nothing for plain ones."""
        return "" if self.reranking is None else RERANKED

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the protocol, the distance, the re-ranking, the normalisation and the images."""
        settings = {} if self.reranking is None else asdict(self.reranking)
        return self.features.fingerprint(
            self.protocol, self.distance, **{name.rstrip("_"): value for name, value in settings.items()}
        )


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
    features: FeatureSet, protocol: Protocol, distance: Distance, ranks: Sequence[int], extras: Extras = Extras()
) -> Score:
    """Rank the gallery for every query and average; ties as `dfgs.metrics.settle_ties` has them.

    Raises `DfgsError` if no query has a match, and whatever `dfgs.metrics.rank` refuses.
    """
    features.check(protocol)
    query, gallery = features.query, features.gallery
    products = extras.products and extras.products(query, gallery)
    if extras.reranking is None:
        ranking = rank(query, gallery, protocol, distance, products)
    else:
        ranking = rank_reranked(query, gallery, protocol, extras.reranking, distance)
    if not ranking.matches.any():
        raise DfgsError(
            f"{features.name}: none of the {len(query)} queries has a match under protocol {protocol.name!r}; expected "
            "identities that query and gallery share" + (" and two cameras saw" * protocol.removes_same_camera)
        )
    lost = summarise(replace(ranking, optimistic=ranking.pessimistic), ranks)
    won = summarise(replace(ranking, pessimistic=ranking.optimistic), ranks)
    ranking, is_open = settle_ties(ranking)
    if is_open:
        log.warning("%s: features are alike; ties count as lost (collapsed)", features.name)
    rates = true_positive_rates(query, gallery, protocol, distance, products) if extras.needs_rates else {}
    values = summarise(ranking, ranks)
    return Score(features, protocol, distance, extras.reranking, ranking, is_open, values, lost, won, rates)


def check_one_protocol(scores: Sequence[Score]) -> None:
    """Raise `DfgsError` naming the difference if two scores, to be shown together, have two fingerprints."""
    for one, other in pairwise(scores):
        if one.fingerprint != other.fingerprint:
            raise DfgsError(
                f"{one.features.name} and {other.features.name} are scored under two protocols: "
                f"{difference(one.fingerprint, other.fingerprint)}; curves of one figure need one"
            )


def as_table(found: Score) -> str:
    """Lay a score out as aligned plain text, in percent."""
    query, gallery = found.features.query, found.features.gallery
    head = [
        ("features", f"{found.features.name}, {query.features.shape[1]} dimensions"),
        ("query", _describe(found, query.pids, query.camids)),
        ("gallery", _describe(found, gallery.pids, gallery.camids)),
        ("protocol", found.fingerprint),
        ("distance", f"{found.distance}, normalised on reading: {'yes' if found.features.is_normalised else 'no'}"),
        ("no match", f"{found.values['queries_without_match']:.0f} of {len(query)} queries, not averaged in"),
        ("ties", "count as lost, for features are alike" if found.is_open else "midway between lost and won"),
    ]
    if found.reranking is not None:
        way = f"k1 {found.reranking.k1}, k2 {found.reranking.k2}, lambda {found.reranking.lambda_:g}"
        head.insert(5, ("re-ranked", f"{way} (k-reciprocal, Zhong et al.); not to be mixed with plain numbers"))
    rows = [
        (name + found.suffix, *(f"{bound[name]:.3f}" for bound in (found.values, found.lost, found.won)), meaning)
        for name, meaning in ((name, MEANINGS.get(name, "")) for name in found.values)
        if name not in (*COUNTS, "mAP_low", "mAP_high")
    ]
    rows += [(name, f"{value:.3f}", "", "", "") for name, value in found.rates.items()]
    table = [("metric (%)", "value", "ties lost", "ties won", ""), *rows]
    return "\n".join([*_aligned(head, "<<"), "", *_aligned(table, "<>>><")])


def query_table(scores: Sequence[Score]) -> pd.DataFrame:
    """Return a row per query (`dfgs.per_query`) of a plain score and, where it follows, the re-ranked one beside it.

    `query` is the image file, or the row number where the features name none.
    """
    features = scores[0].features
    names = features.query_paths or range(len(features.query))
    return query_rows(names, features.query, {s.suffix: (s.ranking, s.fingerprint) for s in scores})


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
