"""Pictures to look into: what samplers put into batches, and the queries on which two of them disagree."""

from pathlib import Path
from typing import Any

from dfgs.page.shown import Disagreement, Query, Shot
from dfgs.provenance import read_json

Album = dict[str, str]
"""Data URIs of small pictures by name; the page holds each once."""
SIDES = ("sampler", "baseline")


def disagreements(results: Path, experiment: str, album: Album) -> tuple[Disagreement, ...]:
    """Read an experiment's `disagreements.json`, empty where there is none, and add its pictures to `album`."""
    path = results / "experiments" / experiment / "disagreements.json"
    if not path.is_file():
        return ()
    found = read_json(path)
    images = found["images"]
    album |= {name: image["thumbnail"] for name, image in images.items() if image["thumbnail"]}
    return tuple(_block(block, images) for block in found["blocks"])


def _block(block: dict[str, Any], images: dict[str, Any]) -> Disagreement:
    one, other, count = block["sampler"], block["baseline"], block["queries"]
    split = "" if block["split"] == "test" else f" {block['split']}"
    split += " (within)" if block["within"] else ""
    text = (
        f"Of {count} queries {block['both_right']} have a right first place under both and {block['both_wrong']} under "
        f"neither; {block['only_sampler']} only under {one}, {block['only_baseline']} only under {other}"
        + (f", {block['undecided']} for half of the seeds." if block["undecided"] else ".")
    )
    title = f"{one} against {other}, {block['source']}→{block['target']}{split}, {block['model']}"
    return Disagreement(title, text, tuple(_query(entry, block, images) for entry in block["shown"]))


def _query(entry: dict[str, Any], block: dict[str, Any], images: dict[str, Any]) -> Query:
    seeds, right = len(block["seeds"]), entry["right"]
    wrong = SIDES[right == SIDES[0]]
    votes, precision = entry["votes"], entry["average_precision"]
    text = (
        f"{entry['query']}: right under {block[right]} ({votes[right]} of {seeds} seeds, AP "
        f"{100 * precision[right]:.0f}), wrong under {block[wrong]} ({votes[wrong]} of {seeds}, AP "
        f"{100 * precision[wrong]:.0f})"
    )
    lists = entry["lists"] or {}
    return Query(
        text=text,
        query=_shot(entry["query"], images, "query"),
        lists=tuple(
            (block[side], tuple(_ranked(found, images) for found in lists[side])) for side in SIDES if side in lists
        ),
    )


def _ranked(found: dict[str, Any], images: dict[str, Any]) -> Shot:
    return _shot(found["image"], images, "right" if found["right"] else "wrong")


def _shot(name: str, images: dict[str, Any], mark: str) -> Shot:
    image = images[name]
    text = f"{mark}: person {image['pid']}, camera {image['camid']}"
    return Shot(name if image["thumbnail"] else "", text, mark)
