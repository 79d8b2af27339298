"""Training losses, one per file; all share the call `loss(features, labels)`."""

from dfgs.registry import Registry

REGISTRY = Registry("loss", "dfgs.losses")
