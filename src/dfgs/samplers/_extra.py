"""The compiled loops where the `compiled` extra is installed and works."""

import logging
from functools import cache
from importlib import import_module
from types import ModuleType

logger = logging.getLogger(__name__)


@cache
def compiled() -> ModuleType | None:
    """Return `_compiled`, or None without numba; results are the same with either."""
    try:
        return import_module("dfgs.samplers._compiled")
    except (ImportError, RuntimeError) as error:  # RuntimeError: numba finds no folder for its cache
        logger.info("samplers without the compiled extra: %s", error)
        return None
