"""Whether two runs left the same: files byte by byte, what equal runs differ in (seconds, memory) apart."""

import csv
from pathlib import Path
from typing import Any

from dfgs.provenance import digest_file, read_json

MEASURED = {"seconds", "audit_seconds", "graph_seconds", "epoch_seconds", "sampler_seconds", "sampler_share"}
"""Keys of a record that tell what a run took."""
MEASURED_COLUMNS = {"graph_seconds", "pass_seconds", "memory_mb"}
"""Columns of an audit that do."""


def differ(ours: Path, theirs: Path) -> bool:
    """Tell whether two outputs of a stage differ in anything but what was measured; a missing file differs."""
    if not (ours.is_file() and theirs.is_file()):
        return True
    return bool(comparable(ours) != comparable(theirs))


def comparable(path: Path) -> Any:
    """Return what equal runs have in common: a JSON file's values, an audit's cells, else a digest."""
    if path.suffix == ".json":
        return {name: value for name, value in read_json(path).items() if name not in MEASURED}
    if path.name == "audit.csv":
        with path.open(newline="", encoding="utf-8") as handle:
            return [{k: v for k, v in row.items() if k not in MEASURED_COLUMNS} for row in csv.DictReader(handle)]
    return digest_file(path)
