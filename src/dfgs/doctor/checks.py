"""Checks of a dataset's views that need no pixels: published counts, identities, cameras, names."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from dfgs.datasets._published import published_counts
from dfgs.datasets.base import Dataset, Images
from dfgs.doctor.files import named_otherwise
from dfgs.doctor.findings import Finding, shown
from dfgs.doctor.layouts import TRAIN, Views
from dfgs.metrics import PROTOCOLS, Protocol

COUNTED = ("images", "identities", "cameras")
PART = 0.5
"""A view with less than this share of the published images is a part of the dataset that somebody chose."""


def count(images: Images) -> tuple[int, int, int]:
    """Return the numbers of images, identities (distractors are none) and cameras of a view."""
    return len(images), len(np.unique(images.pids[images.pids > 0])), len(np.unique(images.camids))


def is_as_published(found: Sequence[int], expected: Sequence[int | None]) -> bool:
    """Whether counts agree where something is published."""
    return all(e is None or f == e for f, e in zip(found, expected, strict=True))


def check_counts(layout: str, views: Views, is_drawn: bool) -> Iterator[Finding]:
    """Compare with the published counts: a difference is an error in a dataset that is neither drawn nor a part."""
    expected = {view: counts for view, counts in published_counts(layout).items() if view in views.images}
    if is_drawn or not expected:
        yield Finding("note", "counts", layout, "a drawn dataset, nothing published" if is_drawn else "none published")
        return
    found = {view: count(views.images[view]) for view in expected}
    is_part = any(found[view][0] < PART * (counts[0] or 0) for view, counts in expected.items())
    for view, counts in expected.items():
        if is_as_published(found[view], counts):
            continue
        pairs = [(name, f, e) for name, f, e in zip(COUNTED, found[view], counts, strict=True) if e not in (None, f)]
        said = ", ".join(f"{name} {f:,} instead of {e:,} ({f - e:+,})" for name, f, e in pairs if e is not None)
        what = f"{said}: a part of the dataset" if is_part else f"{said} as published"
        yield Finding("note" if is_part else "error", "counts", view, what)


def check_refused(views: Views) -> Iterator[Finding]:
    """A view that the layout refuses is an error, or a note where there is none by default but all images are read."""
    for reason in dict.fromkeys(views.refused.values()):
        first, *others = [view for view, why in views.refused.items() if why == reason]
        where = f"{first} and {len(others)} views more" if others else first
        yield Finding("note" if views.is_whole else "error", "layout", where, reason)


def check_identities(dataset: Dataset, views: Views) -> Iterator[Finding]:
    """Identities in training and test, with one training image, and queries that have no right answer."""
    train = views.images.get(TRAIN)
    trained: set[int] = set()
    if train is not None:
        pids, times = np.unique(train.pids, return_counts=True)
        trained = set(pids.tolist())
        for pid in pids[times == 1]:
            yield Finding("note", "identity", f"id {pid}", "one training image only, so batches repeat it")
    pairs = {split: [views.images.get(f"{split}/{side}") for side in ("query", "gallery")] for split in dataset.splits}
    tested = {pid for sides in pairs.values() for images in sides if images is not None for pid in images.pids.tolist()}
    for pid in sorted(trained & tested):
        yield Finding("error", "identity", f"id {pid}", "in training and in test")
    alone: set[int] = set()
    for split, (query, gallery) in pairs.items():
        if query is not None and gallery is not None:
            lacking = _without_answer(query, gallery, PROTOCOLS[dataset.protocol])
            alone |= set(lacking)
            if len(lacking) == len(query):
                what = f"no query has a right answer under protocol {dataset.protocol}{_cameras(gallery)}"
                yield Finding("error", "queries", split, what)
    for pid in sorted(alone):
        yield Finding("note", "queries", f"id {pid}", "a query without a right answer in the gallery, not scored")


def _without_answer(query: Images, gallery: Images, protocol: Protocol) -> list[int]:
    """Return the pids of the queries that no gallery image matches."""
    cameras: dict[int, set[int]] = {}
    for pid, camid in zip(gallery.pids.tolist(), gallery.camids.tolist(), strict=True):
        cameras.setdefault(pid, set()).add(camid)
    own = zip(query.pids.tolist(), query.camids.tolist(), strict=True)
    return [p for p, c in own if not cameras.get(p, set()) - ({c} if protocol.removes_same_camera else set())]


def _cameras(gallery: Images) -> str:
    return "; its gallery has one camera only" if len(np.unique(gallery.camids)) == 1 else ""


def check_names(root: Path, files: list[Path], views: Views) -> Iterator[Finding]:
    """Names that are no UTF-8, images that no view uses, and rare forms of names where a view was refused."""
    used = set(views.paths())
    for path in files:
        if not _is_utf8(path.relative_to(root)):
            yield Finding("error", "name", shown(path, root), "the name is no UTF-8, results and packs can't hold it")
    for path in files:
        if path not in used and views.is_whole:
            yield Finding("note", "unused", shown(path, root), "image in no view (junk, or passed over by its name)")
    for path in [] if views.is_whole else named_otherwise(files):
        yield Finding("note", "name", shown(path, root), "named unlike most images beside it")


def _is_utf8(path: Path) -> bool:
    try:
        os.fsencode(path).decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
