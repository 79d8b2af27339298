"""Draws from torch's CPU generator that leave its state alone."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeding() -> Iterator[Callable[[int], object]]:
    """Yield what seeds torch's CPU generator; after the block its state is as before.

    `torch.manual_seed` would import torch's compiler, and format a stack trace for every kind of device that might be
    started later.
    """
    state = torch.get_rng_state()
    try:
        yield torch.default_generator.manual_seed
    finally:
        torch.set_rng_state(state)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from torch's CPU generator as after `torch.manual_seed(seed)`; afterwards its state is as before."""
    with seeding() as seed_with:
        seed_with(seed)
        yield
