"""The compiled loops where the `compiled` extra is installed and works."""

import logging
from functools import cache
from importlib import import_module
from types import ModuleType

logger = logging.getLogger(__name__)

FEW = 1000
"""Identities below which importing numba takes longer than the loops save over a training's passes."""


def compiled(identities: int) -> ModuleType | None:
    """Return `_compiled`, or None without numba and for few identities; results are the same with either."""
    return _compiled() if identities >= FEW else None


@cache
def _compiled() -> ModuleType | None:
    try:
        return import_module("dfgs.samplers._compiled")
    except (ImportError, RuntimeError) as error:  # RuntimeError: numba finds no folder for its cache
        logger.info("samplers without the compiled extra: %s", error)
        return None
