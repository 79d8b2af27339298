"""The one evaluator: exact ranking metrics per query, streamed at about the cost of the matrix product; numpy only.

>>> import numpy as np
>>> from dfgs.metrics import PROTOCOLS, Embeddings, rank, summarise
>>> features = np.array([[0, 0], [0, 1], [3, 3]], np.float32)
>>> images = Embeddings(features, pids=np.array([5, 5, 8]), camids=np.array([1, 2, 1]))
>>> summary = summarise(rank(images, images, PROTOCOLS["market1501"]))
>>> summary["mAP"], summary["queries"], summary["queries_without_match"]
(100.0, 3, 1)
"""

from dfgs.metrics._blocks import Distance, Products
from dfgs.metrics.embeddings import Embeddings, unit_rows
from dfgs.metrics.protocols import PROTOCOLS, Protocol, difference
from dfgs.metrics.ranking import Bound, Ranking, rank, settle_ties, summarise
from dfgs.metrics.reranking import KReciprocal, Reranking, rank_reranked
from dfgs.metrics.verification import RATES, pair_scores, true_positive_rates

__all__ = [
    "PROTOCOLS",
    "RATES",
    "Bound",
    "Distance",
    "Embeddings",
    "KReciprocal",
    "Products",
    "Protocol",
    "Ranking",
    "Reranking",
    "difference",
    "pair_scores",
    "rank",
    "rank_reranked",
    "settle_ties",
    "summarise",
    "true_positive_rates",
    "unit_rows",
]
