"""Depth-first walk over a graph of look-alike identities (CLIP-DFGS)."""

import numpy as np
from numpy.typing import NDArray

from dfgs.errors import DfgsError
from dfgs.samplers._graph import EXACT_BELOW, GRAPHS, GraphSampler
from dfgs.samplers._walk import walk
from dfgs.samplers.base import Labels, Pass, check_choice, check_count

ORDERS = ("shuffled", "nearest")


class Dfgs(GraphSampler):
    """Batches are P consecutive new identities of a depth-first walk along edges to look-alike identities.

    Each identity has edges to the identities at ranks m + 1 … m + k of its distances (eq. 12). The walk takes an
    identity's next K images, dealt camera by camera, and goes on to its neighbours (algorithm 1); an identity that is
    already in the batch waits for the next one. The stack is kept from batch to batch, and an identity may come back in
    later batches while it has full groups of K images. Where the walk is stuck it restarts at a random identity outside
    the batch, so that a pass ends only when fewer than P identities have images left, whatever the graph.

    Arguments, with the paper's values as defaults:

    - `graph`: `image` (current model, features given anew before each pass), `text` (learned prompts, given once) or
      `both` (each kind's distances divided by their root mean square over all pairs, then summed);
    - `neighbours` k and `skip` m, which leaves out the m most similar identities;
    - `order`: neighbours are visited `shuffled` (anew for each pass) or `nearest` first;
    - `representation`: an identity's image feature is that of `one` random image or the `mean` of all its images;
    - `restart`: False ends the pass where the walk is stuck, as in the paper's algorithm;
    - `exact_below`: identities from which on the graph is approximate (`statistics.graph_recall` tells how good).

    Source: Zhao, Qi, Geng, "CLIP-DFGS", ACM TOMM 21(1), 2024, section 3; the restart is ours. Cost: the exact nearest
    neighbours, O(N^2 d); then O(n log n) for the image order and O(k) per visit. Raises `DfgsError` if k + m exceeds
    the number of other identities.
    """

    def __init__(
        self,
        labels: Labels,
        *,
        batch_size: int,
        instances: int,
        seed: int,
        graph: str = "image",
        neighbours: int = 10,
        skip: int = 2,
        order: str = "shuffled",
        representation: str = "one",
        restart: bool = True,
        exact_below: int = EXACT_BELOW,
    ) -> None:
        check_choice("graph", graph, tuple(GRAPHS))
        check_choice("order", order, ORDERS)
        check_count("neighbours", neighbours, 1)
        check_count("skip", skip, 0)
        if not isinstance(restart, bool):
            raise DfgsError(f"restart={restart!r} must be true or false")
        self.graph, self.representation = frozenset(GRAPHS[graph]), representation
        self.k, self.m, self.order, self.restart = neighbours, skip, order, restart
        super().__init__(labels, batch_size=batch_size, instances=instances, seed=seed, exact_below=exact_below)
        others = len(labels.identities) - 1
        if neighbours + skip > others:
            remedy = f"choose a sum of at most {others}" if others else "give more identities"
            raise DfgsError(
                f"neighbours={neighbours} + skip={skip} = {neighbours + skip} exceeds the {others} other identities "
                f"that an identity has; {remedy}"
            )

    @property
    def edge_ranks(self) -> range | None:
        """Ranks m to m + k - 1, which are m + 1 to m + k counted from one."""
        return range(self.m, self.m + self.k)

    def draw_pass(self, rng: np.random.Generator) -> Pass:
        """Walk the graph and serve each visit the identity's next images, dealt camera by camera."""
        chunks, starts = self.labels.chunks(self.instances), rng.permutation(len(self.labels.identities))
        edges = self.edges(rng)
        rows, restarts = walk(edges, chunks, starts, self.identities_per_batch, restart=self.restart)
        return self.serve(rows, self.labels.by_camera(rng), restarts, edges)

    def edges(self, rng: np.random.Generator) -> NDArray[np.int32]:
        """Rows of each identity's neighbours in the order of the visit, int32 (N, k)."""
        table = self.neighbours(self.k + self.m)[:, self.m :]
        return rng.permuted(table, axis=1) if self.order == "shuffled" else table
