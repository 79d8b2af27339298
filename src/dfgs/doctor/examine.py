"""The whole examination of one or several datasets, in one pass over their files."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from dfgs.datasets._published import published_counts
from dfgs.datasets.base import Dataset
from dfgs.doctor.checks import (
    COUNTED,
    check_counts,
    check_identities,
    check_names,
    check_refused,
    count,
    is_as_published,
)
from dfgs.doctor.duplicates import check_across, check_duplicates
from dfgs.doctor.files import images_beside, is_image, walk
from dfgs.doctor.findings import Finding, errors_in_short, notes_in_short, printable, shown, write_findings
from dfgs.doctor.images import Look, look_at_all
from dfgs.doctor.layouts import Views, read_views, recognise, split_arguments
from dfgs.feature_sets import is_drawn_world


@dataclass(frozen=True, slots=True)
class Examined:
    """One dataset after its examination: where it is, its views, every image file that was opened, all findings."""

    dataset: Dataset
    views: Views
    looks: dict[Path, Look]
    findings: list[Finding]


def examine(layout: str | None, root: Path, workers: int) -> Examined:
    """Open every image of a dataset and collect all that is wrong or odd; `layout` None: the layout is recognised.

    Raises `DfgsError` where there is no dataset to examine: a wrong folder, an archive, a withdrawn dataset.
    """
    dataset = recognise(layout, root)
    views = read_views(dataset)
    known = views.paths()
    files = images_beside(known) if views.is_whole else sorted({*known, *filter(is_image, walk(dataset.root))})
    looks = {look.path: look for look in look_at_all(files, workers)}
    findings = [
        *check_refused(views),
        *check_counts(dataset.name, views, is_drawn_world(root)),
        *check_identities(dataset, views),
        *check_names(dataset.root, files, views),
        *_check_images(dataset.root, looks, views),
        *check_duplicates(dataset.root, looks, views),
    ]
    return Examined(dataset, views, looks, findings)


def run(arguments: tuple[str, ...], workers: int, report: Path | None, say: Callable[[str], None]) -> int:
    """Examine every root of `[NAME] ROOT …` and `say` what was found; return the number of errors.

    With several roots each pair is searched for pictures that both hold. `report` gets every finding as a CSV row.
    """
    layout, roots = split_arguments(arguments)
    done = [(root, examine(layout, root, workers)) for root in roots]
    rows = [(str(root), finding) for root, examined in done for finding in examined.findings]
    for root, examined in done:
        for line in describe(root, examined):
            say(line)
    for (one, mine), (other, theirs) in combinations(done, 2):
        looks = ([*mine.looks.values()], [*theirs.looks.values()])
        shared = [*check_across((mine.dataset.root, theirs.dataset.root), looks)]
        rows += [(f"{one} {other}", finding) for finding in shared]
        say(f"{one} and {other}: {len(shared):,} pictures in both")
        for line in (*errors_in_short(shared), *notes_in_short(shared)):
            say(line)
    if report is not None:
        write_findings(rows, report)
    return sum(finding.severity == "error" for _, finding in rows)


def describe(root: Path, examined: Examined) -> Iterator[str]:
    """Yield the lines of one dataset: what it is, a line per view, errors, notes."""
    dataset, views = examined.dataset, examined.views
    yield printable(f"{dataset.name}{f' {dataset.version}' if dataset.version else ''}: {root}")
    published = published_counts(dataset.name)
    later = {f"{split}/{side}" for split in dataset.splits[1:] for side in ("query", "gallery")}
    for view, images in views.images.items():
        if view not in later:
            numbers = "  ".join(f"{n:>9,} {name}" for n, name in zip(count(images), COUNTED, strict=True))
            same = view in published and is_as_published(count(images), published[view])
            yield f"  {view:<20}{numbers}{'  as published' if same else ''}"
    if len(dataset.splits) > 1:
        yield f"  and {len(dataset.splits) - 1} more splits: {dataset.splits[1]} … {dataset.splits[-1]}"
    sizes = Counter(look.size for look in examined.looks.values() if look.digest and not look.error)
    usual = ", ".join(f"{width}×{height} ({number:,})" for (width, height), number in sizes.most_common(3))
    yield f"  {len(examined.looks):,} image files opened; {len(sizes):,} sizes in pixels, most often {usual or 'none'}"
    errors = sum(finding.severity == "error" for finding in examined.findings)
    yield from errors_in_short(examined.findings)
    yield from notes_in_short(examined.findings)
    yield f"{errors:,} errors, {len(examined.findings) - errors:,} notes"


def _check_images(root: Path, looks: dict[Path, Look], views: Views) -> list[Finding]:
    """A file that cannot be trained on is an error if a view uses it, or may use it once it is read."""
    found, used = [], set(views.paths())
    for path, look in looks.items():
        if look.error:
            matters = path in used or not views.is_whole
            found.append(Finding("error" if matters else "note", "image", shown(path, root), look.error))
        found += [Finding("note", "image", shown(path, root), note) for note in look.notes]
    return found
