"""Counts of the benchmarks as published, each with its source."""

import json
from collections.abc import Mapping
from pathlib import Path

PUBLISHED = Path(__file__).with_name("published.json")


def published_counts(layout: str) -> Mapping[str, list[int | None]]:
    """Return images, identities and cameras as published, by view; none for a layout without an entry."""
    entries = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    found: Mapping[str, list[int | None]] = entries.get(layout, {"views": {}})["views"]
    return found
