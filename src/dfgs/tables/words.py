"""What tables write alike."""

import math
from collections.abc import Sequence

from dfgs.rendering import MISSING


def label_columns(models: Sequence[str], last: str) -> list[str]:
    """Name the label columns: the model is one of them when there are several."""
    return ["model", last] if len(models) > 1 else [last]


def one_decimal(value: float) -> str:
    """Write a number with one decimal; nan as `MISSING`."""
    return MISSING if math.isnan(value) else f"{value:.1f}"
