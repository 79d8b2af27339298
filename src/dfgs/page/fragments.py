"""Tables that the workflow has written as HTML fragments, read back as text so that the page can escape it."""

from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

from dfgs.page.shown import Sheet
from dfgs.rendering import Entry

PLACES = {"strong": 1, "u": 2}
SHOWN_ELSEWHERE = ("verdict", "audit", "backbone")
"""Tables that the page makes itself, with commands; so are those of metrics."""


def further_tables(experiment: str, metrics: Sequence[str], results: Path) -> tuple[Sheet, ...]:
    """Read every table of an experiment that was written and that the page does not make itself, sorted by name."""
    known = {*SHOWN_ELSEWHERE, *metrics}
    paths = sorted((results / "tables" / experiment).glob("*.html"))
    sheets = (read_fragment(path, f"{experiment}-table-{path.stem}") for path in paths if path.stem not in known)
    return tuple(sheets)


def read_fragment(path: Path, ident: str) -> Sheet:
    """Read a table that `dfgs.rendering` wrote: caption, header, rows with their marks, notes; nothing else is kept."""
    found = _Fragment(path.read_text(encoding="utf-8"))
    title, stop, note = found.caption.partition(". ")
    rows, references = (tuple(map(tuple, found.bodies.get(kind, []))) for kind in ("", "reference"))
    return Sheet(
        ident=ident,
        title=title + stop.strip(),
        note=" ".join([note, *found.notes]).strip(),
        header=tuple(found.header),
        labels=found.labels,
        rows=rows,
        reference_rows=references,
    )


class _Fragment(HTMLParser):
    """Collects the texts of one table by what they stand in."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.caption, self.header, self.notes = "", list[str](), list[str]()
        self.bodies: dict[str, list[list[Entry]]] = {}
        self.labels, self._body, self._text, self._place = 1, "", "", 0
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin what a tag stands for."""
        if tag == "tbody":
            self._body = dict(attrs).get("class") or ""
            self.bodies[self._body] = []
        elif tag == "tr" and self.bodies:
            self.bodies[self._body].append([])
        elif tag == "sup":
            self._text += " ["
        elif tag in PLACES:
            self._place = PLACES[tag]
        elif tag in ("th", "td", "caption", "li"):
            self._text, self._place = "", 0

    def handle_data(self, data: str) -> None:
        """Gather text."""
        self._text += data

    def handle_endtag(self, tag: str) -> None:
        """Put the gathered text where it belongs."""
        text = " ".join(self._text.split())
        if tag == "sup":
            self._text += "]"
        elif tag == "caption":
            self.caption = text
        elif tag == "li":
            self.notes.append(text)
        elif tag in ("th", "td") and not self.bodies:
            self.header.append(text)
        elif tag in ("th", "td"):
            row = self.bodies[self._body][-1]
            row.append(Entry(text, self._place))
            self.labels = max(self.labels, len(row)) if tag == "th" else self.labels
