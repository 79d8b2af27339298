"""torchvision's transforms and open_clip, imported in the one way that also works beside a CPU-only torch.

The registry's Linux torchvision wheel is a CUDA build: beside CPU torch its compiled operators cannot load and the
import stops on `torchvision::nms`. We use none of them, so their schemas are declared. Elsewhere this does nothing.

Whole, both cost a process more than torch itself, and most of ours need an image tower alone. So `v2` is imported when
it is first asked for, open_clip's towers come without the rest of open_clip, and the rest on demand: `open_clip` is the
package as ever. Its adapters of timm and transformers, which bring those libraries with them, serve no model of ours.
"""

import importlib
import logging
import sys
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from dfgs.compiler import compiler_aside, standing_in

ARCHITECTURES = Path(__file__).parent / "models" / "architectures"
"""Our own, which open_clip knows as soon as it is loaded."""
v2: Any  # the transforms, by `__getattr__` below
_LIBRARIES: list[torch.library.Library] = []
log = logging.getLogger(__name__)


class _OnDemand(ModuleType):
    """A package whose own code runs once something is asked that its imported modules do not answer."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__version__":  # what the import system asks of every module
            raise AttributeError(name)
        object.__setattr__(self, "__class__", ModuleType)
        with compiler_aside():
            _import_torchvision()
            spec: Any = self.__spec__
            spec.loader.exec_module(self)
        self.add_model_config(ARCHITECTURES)
        return getattr(self, name)


def _import_torchvision() -> None:
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        # Only after the failed import: beside a real CPU torchvision a second definition would raise.
        _LIBRARIES.append(torch.library.Library("torchvision", "FRAGMENT"))
        for operator in ("nms", "qnms"):
            _LIBRARIES[0].define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        importlib.import_module("torchvision")


def _import_towers() -> Any:
    """Import the modules of open_clip that define towers, without its package's own code."""
    if "open_clip" in sys.modules:
        sys.modules["open_clip"].add_model_config(ARCHITECTURES)
        return sys.modules["open_clip"]
    spec = find_spec("open_clip")
    assert spec is not None, "open_clip_torch is not installed"
    package = module_from_spec(spec)
    object.__setattr__(package, "__class__", _OnDemand)
    sys.modules["open_clip"] = package
    misc = ModuleType("torchvision.ops.misc")
    misc.FrozenBatchNorm2d = torch.nn.Module  # type: ignore[attr-defined] # for a function that we do not call
    parents = {name: ModuleType(name) for name in ("torchvision", "torchvision.ops")}
    try:
        with standing_in({"timm": None, "transformers": None, **parents, misc.__name__: misc}):
            import open_clip.model
    except ImportError as error:
        log.info("open_clip is imported whole, which takes longer: %s", error)
        return _import_whole()
    return open_clip


def _import_whole() -> Any:
    """Import open_clip as ever: for a release whose towers need more of it."""
    for name in [name for name in sys.modules if name.split(".")[0] == "open_clip"]:
        del sys.modules[name]
    _import_torchvision()
    package: Any = importlib.import_module("open_clip")
    package.add_model_config(ARCHITECTURES)
    return package


def __getattr__(name: str) -> Any:
    if name != "v2":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with compiler_aside():
        _import_torchvision()
        from torchvision.transforms import v2 as transforms
    return transforms


open_clip = _import_towers()
