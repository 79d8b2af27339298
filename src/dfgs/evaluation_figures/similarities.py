"""How far apart are pairs of one person and pairs of two: histograms of genuine and impostor scores."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from dfgs.errors import DfgsError
from dfgs.feature_sets import FeatureSet
from dfgs.figures.base import COLOURS, legend, panels, style
from dfgs.metrics import Distance, Protocol, pair_scores, true_positive_rates

BINS = 80
AXIS = {"cosine": "cosine similarity", "euclidean": "Euclidean distance", "dot": "dot product"}
# Filled against hatched, solid against dashed: told apart without colour.
GENUINE: dict[str, Any] = {"facecolor": COLOURS[0] + "44", "edgecolor": COLOURS[0], "linestyle": "-"}
IMPOSTOR: dict[str, Any] = {"facecolor": "none", "edgecolor": COLOURS[1], "linestyle": "--", "hatch": "////"}

Scores = NDArray[np.float32]


def draw_similarities(features: FeatureSet, protocol: Protocol, distance: Distance) -> Figure:
    """Draw both histograms over the pairs that `protocol` leaves to queries with a match, each summing to 100 %.

    Raises `DfgsError` where there is no genuine or no impostor pair.
    """
    features.check(protocol)
    rates = true_positive_rates(features.query, features.gallery, protocol, distance)
    edges, genuine, impostor = count_pairs(features, protocol, distance)
    with style():
        figure = Figure(layout="constrained")
        FigureCanvasAgg(figure)
        (axes,) = panels(figure, 1, 1, (5.0, 3.0))
        handles = []
        for name, counts, look in (("one person", genuine, GENUINE), ("two people", impostor, IMPOSTOR)):
            axes.stairs(100 * counts / counts.sum(), edges, fill=True, linewidth=1.5, **look)
            handles.append(Patch(label=f"{name} ({counts.sum():,} pairs)", **look))
        axes.set_xlabel(AXIS[distance])
        axes.set_ylabel("pairs (%) per bin")
        axes.set_ylim(bottom=0)
        legend(figure, handles)
        figure.suptitle(
            f"Pairs of {features.name}, {protocol.name}\naccepted pairs of one person: "
            f"{rates['tpr_at_fpr_0.01']:.1f} % at 1 % of the others, {rates['tpr_at_fpr_0.001']:.1f} % at 0.1 %"
        )
    return figure


def count_pairs(
    features: FeatureSet, protocol: Protocol, distance: Distance
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the bins' edges (81,) and the genuine and impostor pairs in each (80,), in two passes over the blocks."""
    ends = [
        (float(part.min()), float(part.max()))
        for parts in _pairs(features, protocol, distance)
        for part in parts
        if part.size
    ]
    if not ends:
        raise DfgsError(f"{features.name}: no query has a match under protocol {protocol.name!r}; nothing to draw")
    edges = np.linspace(min(low for low, _ in ends), max(high for _, high in ends), BINS + 1)
    if edges[0] == edges[-1]:
        raise DfgsError(f"{features.name}: all pairs score {edges[0]:g}; there is no histogram of features all alike")
    counts = np.zeros((2, BINS), np.int64)
    for parts in _pairs(features, protocol, distance):
        for row, part in zip(counts, parts, strict=True):
            row += np.histogram(part, edges)[0]
    if not counts[1].any():
        raise DfgsError(f"{features.name}: the gallery shows nobody but the query's own identity; nothing to draw")
    return edges, counts[0], counts[1]


def _pairs(features: FeatureSet, protocol: Protocol, distance: Distance) -> Iterator[tuple[Scores, Scores]]:
    """Yield what the axis shows of genuine and of impostor pairs, a block at a time."""
    for genuine, block in pair_scores(features.query, features.gallery, protocol, distance):
        impostor = block[block > -np.inf]
        if distance == "euclidean":
            genuine, impostor = (np.sqrt(np.maximum(-2 * part, 0)) for part in (genuine, impostor))
        yield genuine, impostor
