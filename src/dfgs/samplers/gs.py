"""One batch per identity: the anchor and its nearest identities (graph sampler)."""

import numpy as np

from dfgs.samplers._graph import GraphSampler
from dfgs.samplers.base import Pass


class Gs(GraphSampler):
    """Every identity is the anchor of one batch, filled with its P - 1 nearest identities; N batches in random order.

    Image features of one random image per identity, drawn anew for each pass, Euclidean distance. K images of an
    identity are read from a shuffled list that begins again at its end, so use is even over the batches, no image
    comes twice in a group, and a pass serves about P times as many images as one of PK.
    Argument: `exact_below`, identities from which on the graph is approximate (`statistics.graph_recall`: how good).
    Source: Liao and Shao, "Graph Sampling Based Deep Metric Learning for Generalizable Person Re-Identification",
    CVPR 2022 (QAConv-GS); there the distance is QAConv's matching score and a reshuffle may repeat an image in a group.
    Cost: the exact nearest neighbours, O(N^2 d), and O(N P K) to fill the batches.
    """

    @property
    def edge_ranks(self) -> range:
        """The P - 1 nearest."""
        return range(self.identities_per_batch - 1)

    def draw_pass(self, rng: np.random.Generator) -> Pass:
        """Put every anchor in front of its neighbours, in random order of anchors."""
        anchors, edges = rng.permutation(len(self.labels.identities)), self.neighbours(self.identities_per_batch - 1)
        return self.serve(np.column_stack([anchors, edges[anchors]]), self.labels.shuffled(rng), edges=edges)
