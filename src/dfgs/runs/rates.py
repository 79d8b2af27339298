"""How long a job takes and what it leaves on disk: from a ledger, else from what the package has measured itself."""

import csv
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfgs.drawn.world import CAMERA_SHARE
from dfgs.errors import DfgsError
from dfgs.grid import Job
from dfgs.runs import outcomes
from dfgs.runs.attempts import alike
from dfgs.runs.cells import Cell

SMALL = ("dfgs-small", (64, 32))
"""The backbone, architecture and input size, that the shipped figures hold for."""
SHIPPED = "the package's own figures for the small CLIP (default grid, two jobs at a time on two cores, no GPU)"
RATES = {
    "draw": (0.6, 0.005),
    "pretrain": (4.0, 1.64e-3),
    "learn_prompts": (4.0, 2.2e-4),
    "finetune": (4.0, 1.74e-3),
    "embed": (4.0, 4.6e-4),
    "score": (0.6, 0.17),
}
"""Seconds to start, and seconds for one unit of `work`: means over the default grid's 102 jobs, 22 November 2026."""
BYTES = {"draw": 34e3, "pretrain": 18.6e6, "learn_prompts": 5.9e6, "finetune": 5.3e6, "embed": 2560.0, "score": 27e3}
"""Bytes left per identity (draw), job, image (embed: 640 float32 numbers) or scored split (score)."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a job is expected to take: seconds, seconds on a GPU, and whose figures say so."""

    seconds: float
    gpu_seconds: float
    source: str


class Rates:
    """Means of completed attempts by likeness of their jobs, the narrowest that is known first."""

    def __init__(self, rows: Iterable[dict[str, Any]], name: str) -> None:
        self.name = name
        self._found: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
        for row in rows:
            if row["outcome"] == outcomes.COMPLETED:
                for digest in str(row["alike"]).split():
                    self._found[row["stage"], digest].append((float(row["seconds"]), float(row["gpu_seconds"])))

    @classmethod
    def read(cls, path: Path) -> "Rates":
        """Read a ledger; `DfgsError` for a file that is none."""
        try:
            with path.open(encoding="utf-8", newline="") as file:
                return cls(list(csv.DictReader(file)), str(path))
        except (OSError, ValueError, KeyError) as error:
            raise DfgsError(f"cannot read the ledger {path}: {error}; expected one of `dfgs ledger`") from error

    def cost(self, cell: Cell, drawn: dict[str, Job]) -> Cost | None:
        """Return what a cell is expected to take; None where nobody knows."""
        for digest in alike(cell.job):
            if known := self._found.get((cell.rule, digest)):
                seconds, on_gpu = (sum(part) / len(known) for part in zip(*known, strict=True))
                return Cost(seconds, on_gpu, self.name)
        amount = work(cell, drawn)
        if amount is None:
            return None
        start, rate = RATES[cell.rule]
        return Cost(start + rate * amount, 0.0, SHIPPED)


def work(cell: Cell, drawn: dict[str, Job]) -> float | None:
    """Return how much a cell has to do, in its rule's unit; None for what the shipped figures do not cover.

    Units: identities (draw), pairs (pretrain), images seen (learn_prompts, finetune, embed), scored splits (score).
    `drawn` holds the drawing job of every drawn dataset, which tells its images.
    """
    job = cell.job
    if cell.rule == "draw":
        return float(job["train_identities"] + job["test_identities"])
    if cell.rule == "score":
        return float(sum(len(target["splits"]) for target in job["targets"]))
    backbone = job if cell.rule == "pretrain" else job["backbone"]
    if (backbone["architecture"], tuple(backbone["input_size"])) != SMALL:
        return None
    if cell.rule == "pretrain":
        return float(job["pretrain"]["steps"] * job["pretrain"]["batch_size"])
    parts = [part["name"] for part in (job["datasets"] if cell.rule == "embed" else job["source"]["datasets"])]
    if not set(parts) <= set(drawn):
        return None
    if cell.rule == "embed":
        return sum(_test_images(drawn[name]) for name in parts)
    return _trained_images(cell, sum(_train_images(drawn[name]) for name in parts))


def size(cell: Cell, drawn: dict[str, Job]) -> float | None:
    """Return the bytes that a cell leaves; None for what the shipped figures do not cover."""
    amount = work(cell, drawn)
    if amount is None:
        return None
    return BYTES[cell.rule] * (amount if cell.rule in ("draw", "embed", "score") else 1)


def _trained_images(cell: Cell, images: float) -> float:
    job = cell.job
    epoch = (job["finetune"]["iterations"] or images / job["batch"]["size"]) if "finetune" in job else 0
    epoch *= job["batch"]["size"]
    if cell.rule == "finetune":
        return float(job["finetune"]["epochs"] * epoch)
    prior = job["prior"]["epochs"] * epoch if job["prior"] else 0
    return float(prior + images * (1 + job["prompts"]["epochs"]))


def _train_images(draw: Job) -> float:
    return float(draw["train_identities"] * _cameras_passed(draw) * (draw["images_per_camera"] + 0.5))


def _test_images(draw: Job) -> float:
    people = draw["test_identities"] * _cameras_passed(draw) * (draw["images_per_camera"] + 1)
    return float(people + draw["distractors"] + draw["junk"])


def _cameras_passed(draw: Job) -> float:
    """Return how many cameras a drawn person passes in the mean: two surely, each other one by `CAMERA_SHARE`."""
    return float(2 + (draw["cameras"] - 2) * CAMERA_SHARE)
