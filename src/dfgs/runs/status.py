"""How far a grid is, from its files alone: done, running, failed and to do by rule, and who is at work where."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dfgs.config import Config
from dfgs.grid import Grid
from dfgs.runs.cells import RULES, Cell, cells_of
from dfgs.runs.lease import Terms, silence
from dfgs.runs.ledger import DONE, FAILED, TO_DO, UNDER_WAY, Audit, attempts_of, audit

STATES = (DONE, UNDER_WAY, FAILED, TO_DO)
TAIL = 4096


def told(config: Config, results: Path, terms: Terms) -> Iterator[str]:
    """Tell the state of a grid, line by line."""
    cells = cells_of(Grid(config))
    found = audit(cells, results, terms)
    yield f"{'rule':14}" + "".join(f"{state:>9}" for state in STATES)
    for rule in (rule for rule in RULES if any(cell.rule == rule for cell in cells)):
        yield f"{rule:14}" + "".join(f"{found.count(rule, state):>9}" for state in STATES)
    for cell in cells:
        yield from _of_cell(cell, found, results, terms)
    yield found.line
    yield from (f"does not add up: {fault}" for fault in found.faults)


def _of_cell(cell: Cell, found: Audit, results: Path, terms: Terms) -> Iterator[str]:
    if found.states[cell.key] == FAILED:
        yield f"failed: {cell.rule} {cell.name}: {found.reasons[cell.key]}"
    if found.states[cell.key] == UNDER_WAY:
        last = attempts_of(cell, results, terms)[-1]
        where = f"{last['node']}{_stale(last, terms)} since {last['since']}"
        yield f"running: {cell.rule} {cell.name} on {where}{_progress(cell, results)}"


def _stale(row: dict[str, Any], terms: Terms) -> str:
    """Mark a holder whose heartbeat is late: half of the time after which it may be taken over has passed."""
    silent = silence(row["file"])
    return f" (STALE: no heartbeat for {silent:.0f} s)" if silent > terms.seconds / 2 else ""


def _progress(cell: Cell, results: Path) -> str:
    """Return the last line of a cell's log, which tells the epoch; empty without a log."""
    log = results.parent / "logs" / cell.rule / f"{cell.name}.log"
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL))
            lines = file.read().decode("utf-8", errors="replace").splitlines()  # a bar ends its lines with \r
    except OSError:
        return ""
    written = [line.strip() for line in lines if line.strip()]
    return f": {written[-1]}" if written else ""
