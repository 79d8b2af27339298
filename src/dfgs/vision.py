"""torchvision's transforms and open_clip, imported in the one way that also works beside a CPU-only torch.

The registry's Linux torchvision wheel is a CUDA build: beside CPU torch its compiled operators cannot load and the
import stops on `torchvision::nms`. We use none of them, so their schemas are declared. Elsewhere this does nothing.
"""

import importlib
import sys

import torch

try:
    importlib.import_module("torchvision")
except RuntimeError as error:
    if "torchvision::" not in str(error):
        raise
    for _name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[_name]
    # Only after the failed import: beside a real CPU torchvision a second definition would raise.
    _LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
    for _operator in ("nms", "qnms"):
        _LIBRARY.define(f"{_operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import open_clip
from torchvision.transforms import v2

__all__ = ["open_clip", "v2"]
