"""Batch samplers: one per file, numpy only; each decides which images a training batch holds."""

from dfgs.registry import Registry

REGISTRY = Registry("sampler", "dfgs.samplers")
