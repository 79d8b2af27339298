"""What the samplers of the paper's repository have in common: their draws and their groups of K images."""

from typing import Protocol, TypeVar

import numpy as np

from dfgs.samplers._labels import Labels

T = TypeVar("T")


class Draws(Protocol):
    """The random draws of the released samplers, in their order, so that a test can replay those of a real run."""

    def shuffle(self, items: list[T]) -> None:
        """Shuffle in place."""

    def below(self, number: int) -> int:
        """Return a whole number from 0 to `number` - 1."""
        ...

    def fill(self, items: list[int], number: int) -> list[int]:
        """Return `number` draws from `items` with replacement."""
        ...


class GeneratorDraws:
    """Draws out of a NumPy generator."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def shuffle(self, items: list[T]) -> None:
        """Shuffle in place."""
        items[:] = [items[i] for i in self.rng.permutation(len(items)).tolist()]

    def below(self, number: int) -> int:
        """Return a whole number from 0 to `number` - 1."""
        return int(self.rng.integers(number))

    def fill(self, items: list[int], number: int) -> list[int]:
        """Return `number` draws from `items` with replacement."""
        return [items[i] for i in self.rng.integers(len(items), size=number).tolist()]


def first_seen(labels: Labels) -> list[int]:
    """Rows of the identities in the order of their first image."""
    return list(dict.fromkeys(labels.rows.tolist()))


def deal_groups(labels: Labels, rows: list[int], instances: int, draws: Draws) -> dict[int, list[list[int]]]:
    """Deal the images of `rows`, in this order, into groups of K = `instances` indices; what remains is left out.

    Cameras stand in the order of their first image. In a turn each gives one image, K images at most; a camera that
    gives its last one makes the next camera lose that turn. An identity with fewer than K images draws K with
    replacement.
    """
    images: list[dict[int, list[int]]] = [{} for _ in labels.identities]
    for index, (row, camid) in enumerate(zip(labels.rows.tolist(), labels.camids.tolist(), strict=True)):
        images[row].setdefault(camid, []).append(index)
    groups = {}
    for row in rows:
        for shots in images[row].values():
            draws.shuffle(shots)
        order = _deal(list(images[row].values()), instances)
        if len(order) < instances:
            order = draws.fill(order, instances)
        full = len(order) - len(order) % instances
        groups[row] = [order[i : i + instances] for i in range(0, full, instances)]
    return groups


def _deal(cameras: list[list[int]], instances: int) -> list[int]:
    order = []
    while cameras:
        place = given = 0
        while place < len(cameras) and given < instances:
            order.append(cameras[place].pop())
            given += 1
            if not cameras[place]:
                del cameras[place]
            # Also after a removal, when another camera has moved up: that one loses its turn.
            place += 1
    return order
