"""What the audit takes, the batches that a sampler served, and what it finds."""

import math
from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from dfgs.samplers._continued import ContinuedPasses
from dfgs.samplers._labels import Ids
from dfgs.samplers.base import BatchSampler

Edges = NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """Batches in the order of their serving, int64 (batches, batch size), and how the sampler came to them.

    `edges`: int32 (N, k) for each graph that was used, rows as in `labels.identities`. `reach`: how many nearest
    identities of each the graph was cut from (k + m with a skip of m), so that a window of ranks counts as true.
    `memory`: bytes by which the process grew while the pass was drawn, nan where nobody looked.
    """

    images: Ids
    restarts: int = 0
    edges: tuple[Edges, ...] = ()
    reach: int = 0
    graph_seconds: float = 0.0
    pass_seconds: float = 0.0
    memory: float = math.nan

    @classmethod
    def of_pass(cls, sampler: BatchSampler, memory: float = math.nan) -> "Served":
        """Take the current pass of a sampler."""
        drawn = sampler.current_pass()
        edges = () if drawn.edges is None else (drawn.edges,)
        seconds = sampler.graph_seconds, sampler.draw_seconds - sampler.graph_seconds
        return cls(drawn.images, drawn.restarts, edges, sampler.reach, *seconds, memory)

    @classmethod
    def of_epoch(cls, passes: ContinuedPasses) -> "Served":
        """Take what the latest epoch served; restarts and seconds are those of the passes that began in it."""
        seconds = passes.graph_seconds, passes.draw_seconds - passes.graph_seconds
        return cls(passes.images, passes.restarts, tuple(passes.edges), passes.sampler.reach, *seconds)


@dataclass(frozen=True, slots=True)
class Audit:
    """One row of an audit; nan where there is nothing to tell, such as the graph of a sampler without one.

    - `batches`; `identities_served` of `identities`, `images_served` of `images`; `images_repeated`: draws of an image
      beyond its first; `restarts` of the walk.
    - `neighbour_share`: of the ordered pairs of identities in a batch, the share whose second is among the k nearest of
      the first; `neighbour_chance` is k / (N - 1), what random batches have.
    - `image_distance`: from an image to the nearest image of another identity in its batch; `mean_distance`: to the
      nearest mean, over all its images, of another identity in the batch. Means over the batches, and over those of
      each quarter of the pass (`_q1` … `_q4`). Rows have length 1 for both: 0 is alike, 2 opposite, lower is harder.
    - `domain_purity`: share of a batch's images that its commonest domain has, mean over batches.
    - `camera_balance`: of the cameras beyond one that an identity's images in a batch could come from (as many as
      images, or as it has cameras), the share that they do come from; 1 is all, 0 one camera only.
    - `graph_edges`; `graph_fidelity`: share of the edges that lead to one of the `graph_reach` nearest identities,
      whatever the features that the graph was built from; `graph_chance` = reach / (N - 1), what random edges have;
      `graph_deviations` by how many standard deviations (binomial) the fidelity lies above chance.
    - `graph_seconds`, `pass_seconds` (the rest of drawing the pass), `memory_mb` (growth of the process at its highest
      while graph and pass were made).

    Nearest identities are those of the Euclidean distance between identity means of the features as they are given.
    """

    batches: int
    identities: int
    identities_served: int
    images: int
    images_served: int
    images_repeated: int
    restarts: int
    neighbour_share: float
    neighbour_chance: float
    image_distance: float
    image_distance_q1: float
    image_distance_q2: float
    image_distance_q3: float
    image_distance_q4: float
    mean_distance: float
    mean_distance_q1: float
    mean_distance_q2: float
    mean_distance_q3: float
    mean_distance_q4: float
    domain_purity: float
    camera_balance: float
    graph_edges: int
    graph_reach: int
    graph_fidelity: float
    graph_chance: float
    graph_deviations: float
    graph_seconds: float
    pass_seconds: float
    memory_mb: float

    limit: ClassVar[float] = 4.0
    """Standard deviations above chance that a graph must reach; random edges do once in 30,000 times."""

    @property
    def is_at_chance(self) -> bool:
        """Tell whether the graph's edges lead to true neighbours no more often than random ones would."""
        return self.graph_deviations < self.limit


COLUMNS = tuple(field.name for field in fields(Audit))
