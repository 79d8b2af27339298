"""What the batches of a pass hold: look-alikes, distances, domains and cameras."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfgs.samplers._labels import Ids, Labels

Floats = NDArray[np.float64]
Rows = NDArray[np.float32]

BLOCK = 1024
"""Identities whose images are averaged at a time."""
QUARTERS = 4


def identity_means(labels: Labels, features: Rows, lengths: Floats | None = None) -> Rows:
    """Average `features` (n, d) over each identity, float32 (N, d); with `lengths` (n,) each row is divided first."""
    means = np.empty((len(labels.identities), features.shape[1]), dtype=np.float32)
    for low in range(0, len(means), BLOCK):
        ends = labels.offsets[low : low + BLOCK + 1]
        images = labels.order[ends[0] : ends[-1]]
        rows = features[images].astype(np.float64)
        if lengths is not None:
            rows /= lengths[images, None]
        sums = np.add.reduceat(rows, ends[:-1] - ends[0], axis=0)
        means[low : low + BLOCK] = sums / np.diff(ends)[:, None]
    return means


def batch_figures(labels: Labels, features: Rows, images: Ids, near: NDArray[np.int32]) -> dict[str, Any]:
    """Describe the batches `images`, int64 (batches, size), in the columns of `Audit`.

    `near` int32 (N, k) holds the nearest identities of each. Cost: O(size^2 d) for each batch; memory beside the
    features: the identities' means.
    """
    crowd = _Crowd.of(labels, features)
    seen = np.array([crowd.look_at(batch, near) for batch in images]).reshape(-1, 7)
    image, mean, hits, pairs, purity, reached, possible = seen.T
    return {
        "neighbour_share": _ratio(hits, pairs),
        "neighbour_chance": near.shape[1] / (len(near) - 1),
        **_by_quarter("image_distance", image),
        **_by_quarter("mean_distance", mean),
        "domain_purity": _mean(purity),
        "camera_balance": _ratio(reached, possible),
    }


@dataclass(frozen=True, slots=True, eq=False)
class _Crowd:
    """All training images: features with their lengths, means of the rows scaled to length 1, cameras and domains."""

    features: Rows
    lengths: Floats
    means: Rows
    rows: Ids
    camids: Ids
    domains: Ids
    cameras: Ids
    """Cameras of each identity, int64 (N,)."""

    @classmethod
    def of(cls, labels: Labels, features: Rows) -> "_Crowd":
        lengths = np.sqrt(np.einsum("nd,nd->n", features, features, dtype=np.float64))
        lengths[lengths == 0] = 1
        _, camids = np.unique(labels.camids, return_inverse=True)
        _, domains = np.unique(labels.domains, return_inverse=True)
        met = np.unique(labels.rows * len(labels) + camids)
        cameras = np.bincount(met // len(labels))
        means = identity_means(labels, features, lengths)
        return cls(features, lengths, means, labels.rows, camids, domains, cameras)

    def look_at(self, batch: Ids, near: NDArray[np.int32]) -> tuple[float, ...]:
        """Return both distances, neighbour pairs and all pairs, purity, further cameras reached and possible."""
        present, place, drawn = np.unique(self.rows[batch], return_inverse=True, return_counts=True)
        features = self.features[batch].astype(np.float64) / self.lengths[batch, None]
        image = _nearest(features, features, place[:, None] == place)
        mean = _nearest(features, self.means[present].astype(np.float64), place[:, None] == np.arange(len(present)))
        hits = np.isin(near[present], present).sum()
        purity = np.bincount(self.domains[batch]).max() / len(batch)
        met = np.unique(place * len(self.rows) + self.camids[batch])
        possible = np.minimum(drawn, self.cameras[present])
        further = len(met) - len(present), possible.sum() - len(present)
        return image, mean, hits, len(present) * (len(present) - 1), purity, *further


def _nearest(rows: Floats, others: Floats, same: NDArray[np.bool_]) -> float:
    """Mean over `rows` of the distance to the nearest of `others` that is not the same identity's; inf if none is."""
    squares = np.einsum("nd,nd->n", rows, rows)[:, None] + np.einsum("nd,nd->n", others, others) - 2 * rows @ others.T
    squares[same] = np.inf
    return float(np.sqrt(np.maximum(squares.min(axis=1), 0)).mean())


def _by_quarter(name: str, values: Floats) -> dict[str, float]:
    quarters = {f"{name}_q{i + 1}": _mean(part) for i, part in enumerate(np.array_split(values, QUARTERS))}
    return {name: _mean(values), **quarters}


def _mean(values: Floats) -> float:
    """Average the batches that have a value, nan if none has."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else math.nan


def _ratio(part: Floats, whole: Floats) -> float:
    return float(part.sum() / whole.sum()) if whole.sum() else math.nan
