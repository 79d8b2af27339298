"""One figure of the report per file: add `figures/<name>.py` with one public subclass of `base.Drawing`."""

from dfgs.registry import Registry

REGISTRY = Registry("figure", "dfgs.figures")
