"""Pictures that are there twice: the same bytes, or the same to the eye, between training and test or two datasets."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from dfgs.datasets.base import Images
from dfgs.doctor.findings import Finding, shown
from dfgs.doctor.images import Look
from dfgs.doctor.layouts import Views

NEAR = 32
"""Bits of 256. Images of Market-1501 that were saved as JPEG of quality 50, at twice or at half their size kept within
23, 20 and 34; the nearest pictures of its training and test people are 45 apart. Flat areas, as in drawn pictures, tell
less."""


def check_duplicates(root: Path, looks: Mapping[Path, Look], views: Views) -> Iterator[Finding]:
    """Within one dataset: the same bytes anywhere, pictures that look alike between training and test."""
    train, test = (set(views.paths(of_test=side)) for side in (False, True))
    pids = {path: pid for view in views.images.values() for path, pid in _numbered(view)}
    for first, *others in _same_bytes([looks[path] for path in sorted(pids) if path in looks]):
        for other in others:
            pair = f"{shown(first, root)} = {shown(other, root)}"
            if pids[first] != pids[other]:
                yield Finding("error", "duplicate", pair, "the same bytes under two identities")
            elif {first, other} & train and {first, other} & test:
                yield Finding("error", "duplicate", pair, "the same bytes in training and test")
            else:
                yield Finding("note", "duplicate", pair, "the same bytes twice under one identity")
    sides = [[looks[path] for path in sorted(paths) if path in looks] for paths in (train, test)]
    for mine, theirs in _alike(*sides):
        pair = f"{shown(mine.path, root)} ~ {shown(theirs.path, root)}"
        yield Finding("note", "duplicate", pair, "training and test pictures that look alike")


def check_across(roots: tuple[Path, Path], looks: tuple[Sequence[Look], Sequence[Look]]) -> Iterator[Finding]:
    """Between two datasets: the same bytes in both, and pictures of both that look alike."""
    mine = {look.digest: look for look in looks[0] if look.digest}
    for look in looks[1]:
        if look.digest in mine:
            pair = f"{shown(mine[look.digest].path, roots[0])} = {shown(look.path, roots[1])}"
            yield Finding("error", "duplicate", pair, f"the same bytes in {roots[0]} and {roots[1]}")
    for one, other in _alike(looks[0], looks[1]):
        pair = f"{shown(one.path, roots[0])} ~ {shown(other.path, roots[1])}"
        yield Finding("note", "duplicate", pair, f"pictures of {roots[0]} and {roots[1]} that look alike")


def _numbered(images: Images) -> Iterator[tuple[Path, int]]:
    return zip(images.paths, images.pids.tolist(), strict=True)


def _same_bytes(looks: Sequence[Look]) -> Iterator[list[Path]]:
    groups: dict[bytes, list[Path]] = defaultdict(list)
    for look in looks:
        if look.digest:
            groups[look.digest].append(look.path)
    yield from (paths for paths in groups.values() if len(paths) > 1)


def _alike(ones: Sequence[Look], others: Sequence[Look]) -> Iterator[tuple[Look, Look]]:
    """Yield each of `ones` with its nearest of `others` if `NEAR` bits differ at most, and some bytes do."""
    from faiss import IndexBinaryFlat

    ones, others = ([look for look in looks if look.hash] for looks in (ones, others))
    if not ones or not others:
        return
    wanted, known = (np.array([list(look.hash) for look in looks], dtype=np.uint8) for looks in (ones, others))
    index = IndexBinaryFlat(8 * known.shape[1])
    index.add(known)
    distances, nearest = index.search(wanted, 1)
    for one, distance, position in zip(ones, distances[:, 0], nearest[:, 0], strict=True):
        if distance <= NEAR and one.digest != others[position].digest:
            yield one, others[position]
