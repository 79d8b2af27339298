"""The ledger of attempts (`results/ledger.csv`), and its audit: planned = done + failed + left, with reasons."""

import csv
import io
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from dfgs.provenance import write_text
from dfgs.runs import outcomes
from dfgs.runs.attempts import read_attempt, settle
from dfgs.runs.cells import OUTPUTS, Cell
from dfgs.runs.lease import NUMBER, RUNNING, Record, Terms, reason_to_take

COLUMNS = (
    "stage",
    "cell",
    "attempt",
    "outcome",
    "reason",
    "node",
    "seconds",
    "gpu_seconds",
    "wasted_seconds",
    "wasted_share",
    "peak_mb",
    "gpu_peak_mb",
    "queue_seconds",
    "since",
    "slurm_job",
    "commit",
    "job",
    "alike",
)
"""One row per attempt; `queue_seconds` is empty outside SLURM, a running attempt's seconds are those up to now."""
Row = dict[str, Any]
DONE, FAILED, UNDER_WAY, TO_DO = "done", "failed", "running", "to do"


def read_attempts(results: Path, terms: Terms) -> list[Row]:
    """Read all attempts below `results/attempts`, sorted; a record that a dead process left open is settled first.

    A process that merely sends no heartbeat may still end in its own words: its record stays as it is.
    """
    paths = sorted((results / "attempts").rglob("*.json"))
    return [row for path in paths if NUMBER.fullmatch(path.name) for row in _rows(path, results, terms)]


def attempts_of(cell: Cell, results: Path, terms: Terms) -> list[Row]:
    """Read the attempts at one cell, in their order."""
    paths = sorted(cell.attempts(results).glob("*.json"))
    return [row for path in paths if NUMBER.fullmatch(path.name) for row in _rows(path, results, terms)]


def write_ledger(rows: Iterable[Row], path: Path) -> None:
    """Write the ledger, whole or not at all."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


@dataclass(frozen=True, slots=True)
class Audit:
    """Cells of a grid by state and rule, why those that failed did, and what does not add up."""

    states: dict[tuple[str, str], str]
    reasons: dict[tuple[str, str], str]
    faults: list[str]

    @property
    def line(self) -> str:
        """Say it in one line: planned = done + failed + running + to do."""
        counts = Counter(self.states.values())
        parts = [f"{counts[state]} {state}" for state in (DONE, FAILED, UNDER_WAY, TO_DO)]
        return f"{len(self.states)} planned = {' + '.join(parts)}"

    def count(self, rule: str, state: str) -> int:
        """Count a rule's cells in a state."""
        return sum(found == state for (of, _), found in self.states.items() if of == rule)


def audit(cells: Iterable[Cell], results: Path, terms: Terms) -> Audit:
    """Hold every planned cell against its attempts and its files.

    Faults: a cell whose last attempt completed and whose files are gone, and one that two attempts computed at the same
    time and both completed.
    """
    states, reasons, faults = {}, {}, []
    for cell in cells:
        rows = attempts_of(cell, results, terms)
        states[cell.key] = _state(cell, rows, results)
        if states[cell.key] == FAILED:
            reasons[cell.key] = f"{rows[-1]['outcome']}: {rows[-1]['reason']}"
        faults += [f"{cell.rule} {cell.name}: {fault}" for fault in _faults(rows, states[cell.key])]
    return Audit(states, reasons, faults)


def _state(cell: Cell, rows: list[Row], results: Path) -> str:
    if rows and rows[-1]["outcome"] == RUNNING:
        return UNDER_WAY
    if cell.is_done(results):
        return DONE
    return FAILED if rows else TO_DO


def _faults(rows: list[Row], state: str) -> list[str]:
    found = []
    if state == FAILED and rows[-1]["outcome"] == outcomes.COMPLETED:
        found.append(f"attempt {rows[-1]['attempt']} completed, but what it made is not there")
    completed = sorted((row["born"], row["born"] + row["seconds"], row["attempt"]) for row in _completed(rows))
    for (_, end, first), (start, _, second) in pairwise(completed):
        if start < end - 1.0:  # clocks of two nodes
            found.append(f"attempts {first} and {second} ran at the same time and both completed")
    return found


def _completed(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row["outcome"] == outcomes.COMPLETED and row["born"] is not None]


def _rows(path: Path, results: Path, terms: Terms) -> list[Row]:
    record = read_attempt(path)
    if not record:
        return []  # its writer has just begun
    if record.get("state") == RUNNING:
        record = _resolved(path, record, terms)
    return [_row(record, path, results)]


def _resolved(path: Path, record: Record, terms: Terms) -> Record:
    why = reason_to_take(path, record, terms)
    if why is None:
        return {**record, "outcome": RUNNING, "seconds": _seconds(path, record)}
    if not why.startswith("no heartbeat"):
        return settle(path, record, why)
    outcome, reason = outcomes.of_dead(record, why)
    seconds = _seconds(path, record)
    return {**record, "outcome": outcome, "reason": reason, "seconds": seconds, "wasted_seconds": seconds}


def _seconds(path: Path, record: Record) -> float:
    last = path.stat().st_mtime
    return max(0.0, last - float(record.get("born", last)))


def _row(record: Record, path: Path, results: Path) -> Row:
    seconds, wasted = record.get("seconds", 0.0), record.get("wasted_seconds", 0.0)
    queue = record.get("queue_seconds")
    return {
        **{name: record.get(name, "") for name in ("stage", "outcome", "reason", "since", "commit", "job")},
        "cell": _cell(record.get("stage", ""), path, results),
        "attempt": int(path.stem),
        "node": record["holder"]["host"],
        "slurm_job": record["holder"]["slurm_job"] or "",
        "seconds": round(seconds, 3),
        "gpu_seconds": round(record.get("gpu_seconds", 0.0), 3),
        "wasted_seconds": round(wasted, 3),
        "wasted_share": round(wasted / seconds, 4) if seconds else 0.0,
        "peak_mb": round(record.get("peak_bytes", 0) / 1e6, 1),
        "gpu_peak_mb": round(record.get("gpu_peak_bytes", 0) / 1e6, 1),
        "queue_seconds": "" if queue is None else round(queue, 1),
        "alike": " ".join(record.get("alike", ())),
        "born": record.get("born"),
        "file": path,
    }


def _cell(stage: str, path: Path, results: Path) -> str:
    """Name the cell that an attempt's folder belongs to, as the grid does."""
    below = path.parent.relative_to(results / "attempts").as_posix()
    pattern = OUTPUTS.get(stage, ("{cell}",))[0]
    before, _, after = pattern.partition("{cell}")
    return below.removeprefix(before).removesuffix(after)
