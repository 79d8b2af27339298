"""Tests that need a GPU; `benchmarks/gpu_check.sh` alone runs them."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture
def device() -> torch.device:
    """The GPU; there is no skipping, for who runs these tests has one."""
    assert torch.cuda.is_available(), "these tests need a GPU; benchmarks/gpu_check.sh looks for one first"
    return torch.device("cuda")


@pytest.fixture
def strict() -> Iterator[None]:
    """Deterministic algorithms, as by `--deterministic`."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
