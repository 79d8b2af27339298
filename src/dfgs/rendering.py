"""Write a table as CSV (raw numbers), Markdown, LaTeX (booktabs) and HTML."""

import html
import io
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from dfgs.provenance import write_text

MISSING = "\N{EN DASH}"
"""What stands in a cell without a number."""

_MARKDOWN = str.maketrans({c: "\\" + c for c in "\\`*_|<>[]#~"})
_LATEX = str.maketrans(
    {c: "\\" + c for c in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
    # At the start of a row these would belong to the line break before it.
    | {c: f"{{{c}}}" for c in "[]*"}
    | {"†": r"$\dagger$", "→": r"$\to$", "±": r"$\pm$", "×": r"$\times$", "≤": r"$\leq$", MISSING: "--"}
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One cell of a table: its text and its place in the column (1 best, 2 second best, 0 not marked).

    `raised` follows the text as a superscript; `value` is the number behind the text where the text does not begin with
    it, by which the column can be sorted.
    """

    text: str
    place: int = 0
    raised: str = ""
    value: float | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A table ready to be written: the first `labels` entries of a row name it, the others are numbers.

    `reference_rows` are set apart below `rows`; `notes` stand under the table; the frame `numbers` is the CSV file.
    """

    caption: str
    header: tuple[str, ...]
    labels: int
    rows: tuple[tuple[Entry, ...], ...]
    reference_rows: tuple[tuple[Entry, ...], ...]
    numbers: pd.DataFrame
    notes: tuple[str, ...] = ()


def write(table: Table, stem: Path | str) -> None:
    """Write a table to `stem` + `.csv`, `.md`, `.tex` and `.html`, each file whole or not at all."""
    stem = Path(stem)
    texts = {"csv": to_csv(table), "md": to_markdown(table), "tex": to_latex(table, stem.name), "html": to_html(table)}
    for suffix, text in texts.items():
        write_text(stem.with_name(f"{stem.name}.{suffix}"), text)


def to_csv(table: Table) -> str:
    """Return the raw numbers at full precision, one cell of the table per line."""
    text = io.StringIO()
    table.numbers.to_csv(text, index=False, lineterminator="\n")
    return text.getvalue()


def to_markdown(table: Table) -> str:
    """Return caption, pipe table and notes; second best is in `<ins>`, reference rows are in italics."""

    def entry(cell: Entry, italic: bool) -> str:
        text = cell.text.translate(_MARKDOWN)
        marked = f"*{text}*" if italic else {1: f"**{text}**", 2: f"<ins>{text}</ins>"}.get(cell.place, text)
        return marked + (f"<sup>{cell.raised.translate(_MARKDOWN)}</sup>" if cell.raised else "")

    lines = [[name.translate(_MARKDOWN) for name in table.header]]
    lines += [[entry(cell, False) for cell in row] for row in table.rows]
    lines += [[entry(cell, True) for cell in row] for row in table.reference_rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(table.header))]
    rule = [":" + "-" * (w - 1) if i < table.labels else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    padded = [
        [c.ljust(w) if i < table.labels else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))]
        for line in lines
    ]
    pipes = "\n".join(f"| {' | '.join(line)} |" for line in [padded[0], rule, *padded[1:]])
    notes = "".join(f"\n- {note.translate(_MARKDOWN)}" for note in table.notes)
    return f"{table.caption.translate(_MARKDOWN)}\n\n{pipes}\n" + (f"{notes}\n" if notes else "")


def to_latex(table: Table, label: str) -> str:
    r"""Return a LaTeX `table` for `\input`, with `\label{tab:<label>}`; the document loads booktabs and graphicx.

    A table that is wider than the line is scaled down to it.
    """

    def entry(cell: Entry) -> str:
        text = cell.text.translate(_LATEX)
        marked = {1: rf"\textbf{{{text}}}", 2: rf"\underline{{{text}}}"}.get(cell.place, text)
        return marked + (rf"\textsuperscript{{{cell.raised.translate(_LATEX)}}}" if cell.raised else "")

    def line(row: Iterable[Entry]) -> str:
        return "    " + " & ".join(entry(cell) for cell in row) + r" \\"

    body = [line(row) for row in table.rows]
    if table.reference_rows:
        body += [r"    \midrule", *(line(row) for row in table.reference_rows)]
    return "\n".join(
        [
            r"% Needs \usepackage{booktabs,graphicx}.",
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{table.caption.translate(_LATEX)}}}",
            rf"  \label{{tab:{re.sub('[^A-Za-z0-9-]', '-', label)}}}",
            r"  \smallskip",
            r"  \resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"  \begin{{tabular}}{{{'l' * table.labels}{'r' * (len(table.header) - table.labels)}}}",
            r"    \toprule",
            line(Entry(name) for name in table.header),
            r"    \midrule",
            *body,
            r"    \bottomrule",
            r"  \end{tabular}}",
            *(rf"  \par\smallskip\parbox{{\linewidth}}{{\footnotesize {n.translate(_LATEX)}}}" for n in table.notes),
            r"\end{table}",
            "",
        ]
    )


def to_html(table: Table) -> str:
    """Return an HTML fragment: a `table` with caption, headers with their scope, and a list of notes.

    A cell's `data-value` is the number behind it (empty where there is none), by which a script can sort; the best is
    `strong`, the second best underlined, reference rows are a `tbody` of class `reference`. Plain ASCII.
    """

    def entry(cell: Entry, is_label: bool) -> str:
        text = html.escape(cell.text)
        marked = {1: f"<strong>{text}</strong>", 2: f"<u>{text}</u>"}.get(cell.place, text)
        marked += f"<sup>{html.escape(cell.raised)}</sup>" if cell.raised else ""
        if is_label:
            return f'<th scope="row">{marked}</th>'
        return f'<td data-value="{_sortable(cell)}">{marked}</td>'

    def body(rows: Iterable[Iterable[Entry]], kind: str) -> list[str]:
        lines = ["".join(entry(cell, i < table.labels) for i, cell in enumerate(row)) for row in rows]
        return [f"<tbody{kind}>", *(f"<tr>{line}</tr>" for line in lines), "</tbody>"] if lines else []

    heads = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in table.header)
    notes = [f"<li>{html.escape(note)}</li>" for note in table.notes]
    lines = [
        f"<table>\n<caption>{html.escape(table.caption)}</caption>",
        f"<thead><tr>{heads}</tr></thead>",
        *body(table.rows, ""),
        *body(table.reference_rows, ' class="reference"'),
        "</table>",
        *(['<ul class="notes">', *notes, "</ul>"] if notes else []),
    ]
    return "".join(f"{line}\n" for line in lines).encode("ascii", "xmlcharrefreplace").decode()


def _sortable(cell: Entry) -> str:
    """Return the number behind a cell, else the one that its text begins with; empty for neither."""
    if cell.value is not None:
        return "" if math.isnan(cell.value) else repr(float(cell.value))
    found = re.match(r"[+-]?\d+(\.\d+)?", cell.text)
    return found.group() if found else ""
