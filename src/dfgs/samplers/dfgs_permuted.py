"""DFGS on a graph whose identities have changed names: the shape of hard mining without its meaning."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from dfgs.samplers.dfgs import Dfgs


class DfgsPermuted(Dfgs):
    """As DFGS, with the same arguments, but the graph's nodes get the identities' names in random order.

    A control: degrees, components and walk are those of the right graph, while an edge joins look-alikes only by
    chance. What DFGS gains over this sampler is due to the look-alikes. The names are drawn anew for each pass, as in
    the released text variant, where the same happens unintended (`dfgs-released`). Source: ours. Cost: that of DFGS.
    """

    is_graph_by_chance: ClassVar[bool] = True

    @property
    def edge_ranks(self) -> None:
        """None: the names are permuted."""

    def edges(self, rng: np.random.Generator) -> NDArray[np.int32]:
        """Rename both ends of every edge, int32 (N, k)."""
        right = super().edges(rng)
        names = rng.permutation(len(right)).astype(np.int32)
        permuted = np.empty_like(right)
        permuted[names] = names[right]
        return permuted
