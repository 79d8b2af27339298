"""GS as the paper's repository has it."""

import numpy as np

from dfgs.errors import DfgsError
from dfgs.samplers._graph import GraphSampler
from dfgs.samplers._released import Draws, GeneratorDraws, deal_groups, first_seen
from dfgs.samplers.base import Labels, Pass, check_count


class GsReleased(GraphSampler):
    """The class GS of the repository Qi5Lei/DFGS, batch for batch: random anchors, each with its nearest identities.

    Arguments: `neighbours`, 31 in the released code for its P of 32, by default P - 1; `cap`, 24,320 in the released
    code, by default the identities that one pass of PK serves: no anchor is added once more than `cap` identities,
    anchors and neighbours, were served. So the number of batches has nothing to do with the number of identities, and
    some identities are in none. Each visit takes one of the identity's groups of K images at random, so groups repeat
    over batches. The groups are dealt as in `dfgs-released`, with the same refusal of an identity with one image.

    Raises `DfgsError` if an anchor and its neighbours do not fill whole batches, which would mix two anchors in one.
    Source: https://github.com/Qi5Lei/DFGS, `datasets/samplers/sampler.py`. Cost: the exact nearest neighbours,
    O(N^2 d), and O(n) for the groups.
    """

    least_images = 2

    def __init__(
        self,
        labels: Labels,
        *,
        batch_size: int,
        instances: int,
        seed: int,
        neighbours: int | None = None,
        cap: int | None = None,
    ) -> None:
        # As released: exact, however many identities there are.
        exact = len(labels.identities) + 1
        super().__init__(labels, batch_size=batch_size, instances=instances, seed=seed, exact_below=exact)
        self.k = self.identities_per_batch - 1 if neighbours is None else neighbours
        self.cap = int(labels.chunks(instances).sum()) if cap is None else cap
        check_count("neighbours", self.k, 0)
        check_count("cap", self.cap, 0)
        others = len(labels.identities) - 1
        if self.k > others or (self.k + 1) % self.identities_per_batch:
            raise DfgsError(
                f"neighbours={self.k} with {others} other identities and {self.identities_per_batch} identities in a "
                f"batch; choose at most {others}, and neighbours + 1 a multiple of {self.identities_per_batch}"
            )

    @property
    def edge_ranks(self) -> range:
        """The nearest."""
        return range(self.k)

    def draw_pass(self, rng: np.random.Generator) -> Pass:
        """Serve random anchors with their neighbours up to the cap."""
        return self.replay(GeneratorDraws(rng))

    def replay(self, draws: Draws) -> Pass:
        """Draw one pass out of the released code's draws, made in its order."""
        anchors = first_seen(self.labels)
        shuffled = anchors.copy()
        draws.shuffle(shuffled)
        groups = deal_groups(self.labels, shuffled, self.instances, draws)
        edges = self.neighbours(self.k)
        table = edges.tolist()
        draws.shuffle(anchors)
        served: list[int] = []
        for anchor in anchors[: self.cap // (self.k + 1) + 1]:
            for row in (anchor, *table[anchor]):
                served += groups[row][draws.below(len(groups[row]))]
        return Pass(np.array(served, dtype=np.int64).reshape(-1, self.batch_size), edges=edges)
