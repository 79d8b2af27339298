"""What the page shows, ready for its template: texts, tables and pictures; the template escapes all of them."""

from dataclasses import dataclass, field

from dfgs.rendering import Entry, Table

Commands = tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
"""Whose numbers, and for each of them what it is and the command that makes it again."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table: the first `labels` columns name a row; a `note` stands below it."""

    ident: str
    title: str
    note: str
    header: tuple[str, ...]
    labels: int
    rows: tuple[tuple[Entry, ...], ...]
    reference_rows: tuple[tuple[Entry, ...], ...] = ()
    commands: Commands = ()


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure as a data URI: a title, a line on what it shows, what stands in for it, the command that draws it."""

    name: str
    title: str
    text: str
    alternative: str
    uri: str
    command: str


@dataclass(frozen=True, slots=True)
class Experiment:
    """All that the page says of one experiment; `missing` names what has no numbers yet."""

    name: str
    title: str
    sentences: tuple[str, ...]
    notes: tuple[str, ...]
    contrasts: Sheet | None
    main_picture: Picture | None
    tables: tuple[Sheet, ...]
    pictures: tuple[Picture, ...]
    batch_pictures: tuple[Picture, ...]
    numbers: Sheet
    audit: Sheet | None
    missing: tuple[str, ...]
    disagreements: tuple["Disagreement", ...] = ()


@dataclass(frozen=True, slots=True)
class Shot:
    """One small picture: the key of its data URI in the page's album (empty: not shown), and its text."""

    key: str
    text: str
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Query:
    """A query that one sampler ranks right and the other wrong: its picture, and the list of each."""

    text: str
    query: Shot
    lists: tuple[tuple[str, tuple[Shot, ...]], ...]


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Where two samplers disagree on one transfer: counts in a sentence, then the queries that differ most."""

    title: str
    text: str
    queries: tuple[Query, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """The whole page; `banners` come first and say what a reader must know before any number."""

    title: str
    is_partial: bool
    banners: tuple[str, ...]
    experiments: tuple[Experiment, ...]
    cost: tuple[Sheet, ...]
    cost_text: tuple[str, ...]
    protocols: Sheet
    protocol_text: tuple[tuple[str, str], ...]
    words: tuple[tuple[str, str], ...]
    versions: tuple[tuple[str, str], ...]
    commands: tuple[tuple[str, str], ...]
    album: dict[str, str] = field(default_factory=dict)


def shown(table: Table, ident: str, commands: Commands = ()) -> Sheet:
    """Turn a table of the report into one of the page.

    The caption's first sentence is the title, what follows it the note.
    """
    title, stop, note = table.caption.partition(". ")
    return Sheet(
        ident=ident,
        title=title + stop.strip(),
        note=" ".join([note, *table.notes]).strip(),
        header=table.header,
        labels=table.labels,
        rows=table.rows,
        reference_rows=table.reference_rows,
        commands=commands,
    )
