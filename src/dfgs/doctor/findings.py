"""What the doctor finds, as records; on the screen in short, in a CSV file in full."""

import csv
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dfgs.provenance import whole_file

ERROR_LINES, NOTE_EXAMPLES = 50, 8


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found: `error` if training or scoring would stop or be wrong, else `note`.

    `kind` is a word to filter by, `where` a file, a pair of files or a view, and `what` says the same of all alike.
    """

    severity: Literal["error", "note"]
    kind: str
    where: str
    what: str


def shown(path: Path, root: Path) -> str:
    """Return a path relative to `root` where it lies below it, printable."""
    return printable(str(path.relative_to(root) if path.is_relative_to(root) else path))


def printable(text: str) -> str:
    """Escape what a line of text cannot hold: bytes of file names that are no UTF-8, line ends, control characters."""
    decoded = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in decoded)


def errors_in_short(findings: Iterable[Finding]) -> Iterator[str]:
    """Yield a line for each error, the first 50 of each kind, and how many more there are."""
    kinds: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        if finding.severity == "error":
            kinds[finding.kind].append(finding)
    for kind, found in kinds.items():
        for finding in found[:ERROR_LINES]:
            yield printable(f"error: {kind}: {finding.where}: {finding.what}")
        if len(found) > ERROR_LINES:
            yield f"error: {kind}: … and {len(found) - ERROR_LINES:,} more; --report FILE lists them all"


def notes_in_short(findings: Iterable[Finding]) -> Iterator[str]:
    """Yield a line for all notes that say the same: what, how often, and the first few places."""
    alike: dict[tuple[str, str], list[str]] = defaultdict(list)
    for finding in findings:
        if finding.severity == "note":
            alike[finding.kind, finding.what].append(finding.where)
    for (kind, what), places in alike.items():
        more = ", …" if len(places) > NOTE_EXAMPLES else ""
        yield printable(f"note: {kind}: {what}: {len(places):,} ({', '.join(places[:NOTE_EXAMPLES])}{more})")


def write_findings(findings: Sequence[tuple[str, Finding]], path: Path) -> None:
    """Write (root, finding) pairs to a CSV file with the columns root, severity, kind, where, what."""
    with whole_file(path) as partial, partial.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(("root", "severity", "kind", "where", "what"))
        rows = ((root, f.severity, f.kind, f.where, f.what) for root, f in findings)
        writer.writerows(map(printable, row) for row in rows)
