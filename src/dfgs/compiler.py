"""torch's compiler, kept out of processes that compile nothing: its import takes as long as torch's own.

Optimisers and torchvision ask for it only to say what is not to be compiled.
"""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

COMPILER, UTILITIES = "torch._dynamo", "torch._dynamo.utils"


@contextmanager
def standing_in(modules: dict[str, ModuleType | None]) -> Iterator[None]:
    """Put `modules` in the places of those that are not imported yet; None makes their import fail."""
    put = {name: module for name, module in modules.items() if name not in sys.modules}
    sys.modules.update(put)  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name, module in put.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


@contextmanager
def compiler_aside(is_needed: bool = False) -> Iterator[None]:
    """Answer what is asked of torch's compiler without importing it; nothing is done if it `is_needed`, or there.

    What these answers lack is the compiler's own to give: it is imported then.
    """
    compiler, utilities = _Aside(COMPILER), ModuleType(UTILITIES)
    utilities.is_compile_supported = _is_compile_supported  # type: ignore[attr-defined]
    with standing_in({} if is_needed or COMPILER in sys.modules else {COMPILER: compiler, UTILITIES: utilities}):
        yield


class _Aside(ModuleType):
    """The two answers that code which is never compiled needs."""

    @staticmethod
    def disable(function: Any, *_: Any, **__: Any) -> Any:
        return function

    @staticmethod
    def graph_break(*_: Any, **__: Any) -> None:
        return None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what the import system asks of every module
            raise AttributeError(name)
        return getattr(_real(COMPILER), name)


def _is_compile_supported(device: Any) -> bool:
    return bool(_real(UTILITIES).is_compile_supported(device))


def _real(name: str) -> Any:
    """Import a module of the compiler, in the place of what stands in for it."""
    if isinstance(sys.modules.get(COMPILER), _Aside):
        for aside in (COMPILER, UTILITIES):
            sys.modules.pop(aside, None)
    return importlib.import_module(name)
