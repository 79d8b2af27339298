"""Identity features gathered from training steps, so that a graph needs no forward pass of its own."""

import numpy as np
from numpy.typing import NDArray

from dfgs.errors import DfgsError
from dfgs.samplers._neighbours import nearest
from dfgs.samplers.base import FeatureRequest, Labels

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]


class IdentityBank:
    """A moving mean of the features of each of N identities, float32 `means` (N, d), None before `start`.

    Example: `bank = IdentityBank(751)`, `bank.start(clean)`, then `bank.add(features, labels)` at every step.

    `momentum` is the share that a mean keeps when a batch shows its identity again. At 0.5 a mean is worth the images
    of three visits, 12 at K = 4, and is one visit old on average: about a pass of Market-1501, where an identity has 17
    images. Higher values average more images of older models. Source: ours; the paper embeds fresh images.
    """

    def __init__(self, identities: int, momentum: float = 0.5) -> None:
        self.identities, self.momentum = identities, momentum
        self.means: Floats | None = None

    def start(self, means: Floats) -> None:
        """Begin with `means` (N, d); an identity keeps its row until a batch shows it."""
        if len(means) != self.identities:
            raise DfgsError(f"bank: {len(means)} rows for {self.identities} identities; it belongs to another source")
        self.means = np.array(means, dtype=np.float32)

    def add(self, features: Floats, labels: Rows) -> None:
        """Move the means of a batch's identities towards its features (b, d); `labels` (b,) are the rows of `means`."""
        assert self.means is not None
        order = np.argsort(labels, kind="stable")
        rows, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
        batch = np.add.reduceat(features[order], starts, axis=0) / counts[:, None].astype(np.float32)
        self.means[rows] += np.float32(1 - self.momentum) * (batch - self.means[rows])

    def state(self) -> dict[str, Floats]:
        """Return a copy of what a resumed run needs; empty before `start`."""
        return {} if self.means is None else {"means": self.means.copy()}

    def restore(self, state: dict[str, Floats]) -> None:
        """Go on where `state` was taken; `DfgsError` if it holds another number of identities."""
        if state:
            self.start(state["means"])
        else:
            self.means = None


def graph_agreement(labels: Labels, clean: Floats, bank: Floats, seed: int, neighbours: int = 15) -> dict[str, float]:
    """Compare a bank's graph with the one that clean features of all images give.

    `clean` (n, d) are the features of all images by one model without augmentation, `bank` (N, d) is what is judged.
    `bank` and `one_image`, the usual graph from a random image of each identity, are shares (0 … 1) of an identity's
    `neighbours` nearest identities (at most N - 1) that are among the nearest by the means of `clean`; `chance` is that
    of a random graph.
    """
    means = FeatureRequest(("image",), labels.order, labels.rows[labels.order]).pool(clean[labels.order])
    chosen = np.random.default_rng([seed, 0, 2]).integers(0, labels.counts)
    others = len(means) - 1
    count = min(neighbours, others)
    truth = nearest([means], count)
    judged = {"bank": bank, "one_image": clean[labels.order[labels.offsets[:-1] + chosen]]}
    shares = {name: _shared(truth, nearest([rows], count)) for name, rows in judged.items()}
    return {"neighbours": count, **shares, "chance": count / max(others, 1)}


def _shared(truth: NDArray[np.int32], found: NDArray[np.int32]) -> float:
    """Share of the rows in `found` (N, k) that stand in the same line of `truth`."""
    hits = sum(int((column[:, None] == truth).sum()) for column in found.T)
    return hits / max(truth.size, 1)
