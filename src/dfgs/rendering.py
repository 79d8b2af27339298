"""Write a table as CSV (raw numbers), Markdown and LaTeX (booktabs)."""

import io
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
    | {"†": r"$\dagger$", "→": r"$\to$", "±": r"$\pm$", MISSING: "--"}
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One cell of a table: its text and its place in the column (1 best, 2 second best, 0 not marked)."""

    text: str
    place: int = 0


@dataclass(frozen=True, slots=True)
class Table:
    """A table ready to be written: the first `labels` entries of a row name it, the others are numbers.

    `reference_rows` are set apart below `rows`; the frame `numbers` is the CSV file.
    """

    caption: str
    header: tuple[str, ...]
    labels: int
    rows: tuple[tuple[Entry, ...], ...]
    reference_rows: tuple[tuple[Entry, ...], ...]
    numbers: pd.DataFrame


def write(table: Table, stem: Path | str) -> None:
    """Write a table to `stem` + `.csv`, `.md` and `.tex`, each file whole or not at all."""
    stem = Path(stem)
    for suffix, text in (("csv", to_csv(table)), ("md", to_markdown(table)), ("tex", to_latex(table, stem.name))):
        write_text(stem.with_name(f"{stem.name}.{suffix}"), text)


def to_csv(table: Table) -> str:
    """Return the raw numbers at full precision, one cell of the table per line."""
    text = io.StringIO()
    table.numbers.to_csv(text, index=False, lineterminator="\n")
    return text.getvalue()


def to_markdown(table: Table) -> str:
    """Return the caption and a pipe table; second best is in `<ins>`, reference rows are in italics."""

    def entry(cell: Entry, italic: bool) -> str:
        text = cell.text.translate(_MARKDOWN)
        return f"*{text}*" if italic else {1: f"**{text}**", 2: f"<ins>{text}</ins>"}.get(cell.place, text)

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
    return f"{table.caption.translate(_MARKDOWN)}\n\n{pipes}\n"


def to_latex(table: Table, label: str) -> str:
    r"""Return a LaTeX `table` for `\input`, with `\label{tab:<label>}`; the document loads booktabs and graphicx.

    A table that is wider than the line is scaled down to it.
    """

    def line(row: Iterable[Entry]) -> str:
        texts = [(cell.text.translate(_LATEX), cell.place) for cell in row]
        marked = [{1: rf"\textbf{{{t}}}", 2: rf"\underline{{{t}}}"}.get(place, t) for t, place in texts]
        return "    " + " & ".join(marked) + r" \\"

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
            r"\end{table}",
            "",
        ]
    )
