"""Training images grouped by identity, and the orders in which an identity's images are served."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfgs.errors import DfgsError

Ids: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Labels:
    """Identity, camera and domain of n training images, and the images of each of the N identities.

    Example: `Labels([7, 3, 7], [0, 0, 1], [0, 0, 0])` has identities `[3, 7]`, order `[1, 0, 2]`, offsets `[0, 1, 3]`.

    `pids`, `camids`, `domains` are int64 (n,); any integers do. Derived: `identities` int64 (N,), the sorted unique
    pids (a *row* is a position in it); `order` int64 (n,), the image indices identity by identity; `offsets` int64
    (N + 1,): row r owns `order[offsets[r]:offsets[r + 1]]`.

    Raises `DfgsError` for no images, for columns of different lengths and for anything but whole numbers.
    """

    pids: Ids
    camids: Ids
    domains: Ids
    identities: Ids = field(init=False)
    order: Ids = field(init=False)
    offsets: Ids = field(init=False)

    def __post_init__(self) -> None:
        for name in ("pids", "camids", "domains"):
            object.__setattr__(self, name, _whole_numbers(name, getattr(self, name)))
        sizes = len(self.pids), len(self.camids), len(self.domains)
        if len(set(sizes)) > 1:
            raise DfgsError(f"labels: pids, camids and domains have {sizes} entries; give one of each per image")
        if not sizes[0]:
            raise DfgsError("labels: no training images; a sampler needs at least one")
        identities, first = np.unique(np.sort(self.pids), return_index=True)
        object.__setattr__(self, "identities", identities)
        object.__setattr__(self, "order", np.argsort(self.pids, kind="stable"))
        object.__setattr__(self, "offsets", np.append(first, sizes[0]))

    def __len__(self) -> int:
        return len(self.pids)

    @cached_property
    def counts(self) -> Ids:
        """Number of images of each identity, int64 (N,)."""
        return np.diff(self.offsets)

    @cached_property
    def rows(self) -> Ids:
        """Identity row of each image, int64 (n,)."""
        return np.searchsorted(self.identities, self.pids)

    @cached_property
    def identity_domains(self) -> Ids:
        """Domain of each identity, int64 (N,); `DfgsError` names an identity with images in two domains."""
        domains = self.domains[self.order]
        lowest, highest = (f.reduceat(domains, self.offsets[:-1]) for f in (np.minimum, np.maximum))
        split = np.flatnonzero(lowest != highest)
        if len(split):
            r = split[0]
            raise DfgsError(
                f"labels: pid {self.identities[r]} has images in domains {lowest[r]} and {highest[r]}; "
                "an identity belongs to one domain, so give each domain pids of its own"
            )
        return lowest

    def chunks(self, instances: int) -> Ids:
        """Groups of K = `instances` images that each identity fills in one pass: n // K, at least 1; int64 (N,)."""
        return np.maximum(self.counts // instances, 1)

    def shuffled(self, rng: np.random.Generator) -> Ids:
        """Return `order` with each identity's images in random order, int64 (n,)."""
        owners = np.repeat(np.arange(len(self.identities)), self.counts)
        return self.order[_shuffle_within(owners, rng)]

    def by_camera(self, rng: np.random.Generator) -> Ids:
        """Return `order` with each identity's images dealt camera by camera, int64 (n,).

        An identity's cameras take turns in a random order that stays the same over the turns; a camera drops out
        when its images, themselves shuffled, are used up. So K neighbours in the order come from K cameras as long
        as K cameras have images left.
        """
        images, groups, turns = self._camera_groups
        images = images[_shuffle_within(groups, rng)]
        number = int(groups[-1]) + 1
        # Whole-number keys without ties: every sort routine, on any machine, gives the same order.
        return images[np.argsort(turns * number + rng.permutation(number)[groups])]

    @cached_property
    def _camera_groups(self) -> tuple[Ids, Ids, Ids]:
        """Images by (identity, camera), the number of that group, and the rank of (identity, turn); int64 (n,) each."""
        rows = np.repeat(np.arange(len(self.identities)), self.counts)
        images = self.order[np.lexsort((self.camids[self.order], rows))]
        camids = self.camids[images]
        starts = np.flatnonzero(np.append(True, (np.diff(rows) != 0) | (np.diff(camids) != 0)))
        sizes = np.diff(np.append(starts, len(images)))
        turn = np.arange(len(images)) - np.repeat(starts, sizes)
        return images, np.repeat(np.arange(len(starts)), sizes), rows * int(sizes.max()) + turn


def _shuffle_within(groups: Ids, rng: np.random.Generator) -> Ids:
    """Return positions that shuffle inside each group; `groups` int64 (n,) is sorted, so groups stay in place."""
    return np.argsort(groups * len(groups) + rng.permutation(len(groups)))


def _whole_numbers(name: str, values: ArrayLike) -> Ids:
    array: NDArray[Any] = np.asarray(values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise DfgsError(f"labels: {name} is {array.dtype} of shape {array.shape}; give whole numbers, one per image")
    return array.astype(np.int64)
