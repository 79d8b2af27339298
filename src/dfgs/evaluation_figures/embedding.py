"""A map of the features in two dimensions (t-SNE): do the images of a person lie together?"""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from dfgs.errors import DfgsError
from dfgs.feature_sets import FeatureSet
from dfgs.figures.base import legend, looks, panels, style
from dfgs.metrics import Distance, Protocol, unit_rows

PERPLEXITY = 30
FEWEST = 5


def draw_embedding(
    features: FeatureSet, protocol: Protocol, distance: Distance, identities: int, seed: int = 0
) -> Figure:
    """Draw the images of the `identities` people with the most images; the same seed gives the same picture.

    Under "cosine" rows are scaled to length 1 first. Raises `DfgsError` without scikit-learn (extra `embedding`) and
    for fewer than five images.
    """
    rows, pids, is_query = choose_images(features, protocol, identities)
    if len(rows) < FEWEST:
        raise DfgsError(f"{features.name}: {len(rows)} images of {identities} identities; expected {FEWEST} at least")
    if distance == "cosine":
        rows = unit_rows(rows)
    places = _embed(rows, seed)
    marks = looks(np.unique(pids).tolist())
    with style():
        figure = Figure(layout="constrained")
        FigureCanvasAgg(figure)
        (axes,) = panels(figure, 1, 1, (5.0, 4.5))
        for pid, look in marks.items():
            for chosen, size, edge in ((~is_query, 22, "none"), (is_query, 46, "black")):
                x, y = places[(pids == pid) & chosen].T
                axes.scatter(x, y, s=size, c=look.colour, marker=look.marker, edgecolors=edge, linewidths=0.9)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(visible=True, color="#bbbbbb")
        axes.grid(visible=False)
        dots = [Line2D([], [], c=k.colour, marker=k.marker, ls="none", label=f"id {p}") for p, k in marks.items()]
        if is_query.any():
            dots.append(Line2D([], [], c="white", mec="black", marker="o", ls="none", ms=7, label="black edge: query"))
        legend(figure, dots)
        figure.suptitle(
            f"t-SNE of {features.name}\n{len(rows)} images of the {len(marks)} identities with the most images"
        )
    return figure


def choose_images(
    features: FeatureSet, protocol: Protocol, identities: int
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.bool_]]:
    """Return rows (n, d), pids (n,) and whether a row is a query (n,), junk and distractors left out."""
    views = [features.gallery] if features.is_all_against_all else [features.query, features.gallery]
    rows = np.concatenate([view.features for view in views])
    pids = np.concatenate([view.pids for view in views])
    is_query = np.arange(len(pids)) < len(pids) - len(features.gallery)
    people, counts = np.unique(pids[~np.isin(pids, protocol.junk_pids + protocol.distractor_pids)], return_counts=True)
    chosen = np.isin(pids, people[np.argsort(-counts, kind="stable")][:identities])
    return rows[chosen], pids[chosen], is_query[chosen]


def _embed(rows: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    try:
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise DfgsError("the embedding needs scikit-learn; install the extra: pip install 'dfgs[embedding]'") from error
    perplexity = min(PERPLEXITY, (len(rows) - 1) / 3)
    tsne = TSNE(2, perplexity=perplexity, init="pca", random_state=seed, n_jobs=1)
    return np.asarray(tsne.fit_transform(rows))
