"""What stands beside the numbers of a comparison: what each training cost, and which planned contrasts it won."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dfgs.rendering import MISSING, Entry
from dfgs.stats.summary import Verdict

Row = tuple[str, str]
"""Model and sampler."""

DEVICES = {"cpu": "CPU hours", "cuda": "GPU hours"}


@dataclass(frozen=True, slots=True)
class Cost:
    """Mean over a sampler's fine-tunings: hours without the audit, and the sampler's share of the epochs' seconds."""

    hours: float
    share: float
    devices: frozenset[str]


@dataclass(frozen=True, slots=True)
class Beside:
    """Costs by model and sampler, and the verdict of the experiment; both may be missing."""

    costs: Mapping[Row, Cost] = field(default_factory=dict)
    verdict: Verdict | None = None

    @property
    def header(self) -> tuple[str, ...]:
        """Heads of the columns of costs."""
        devices = {device for cost in self.costs.values() for device in cost.devices}
        hours = DEVICES.get(next(iter(devices)), "hours") if len(devices) == 1 else "hours"
        return (hours, "sampler (%)") if self.costs else ()

    def entries(self, row: Row) -> tuple[Entry, ...]:
        """Return a row's cells under `header`."""
        if not self.costs:
            return ()
        cost = self.costs.get(row)
        if cost is None:
            return (Entry(MISSING), Entry(MISSING))
        return (
            Entry(f"{cost.hours:.2g}" if cost.hours < 10 else f"{cost.hours:.0f}", value=cost.hours),
            Entry(f"{100 * cost.share:.1f}", value=100 * cost.share),
        )

    def beaten(self, metric: str) -> dict[Row, list[str]]:
        """Return whom each model and sampler beats at the planned contrasts, which are on one metric alone."""
        found: dict[Row, list[str]] = {}
        if self.verdict is None or self.verdict.metric != metric:
            return found
        for c in self.verdict.contrasts:
            ends = {"better": (c.sampler, c.baseline), "worse": (c.baseline, c.sampler)}.get(c.verdict)
            if ends is not None:
                found.setdefault((c.model, ends[0]), []).append(ends[1])
        return found

    def notes(self, metric: str, letters: Mapping[str, str]) -> tuple[str, ...]:
        """Explain the columns of costs and the superscripts, `letters` by the name of the beaten."""
        notes = []
        if letters:
            each = ", ".join(f"{letter}: beats {name}" for name, letter in letters.items())
            notes.append(f"{each}; decided over trainings at the planned contrasts, p after Holm (table verdict).")
        if self.verdict is not None:
            on = "" if self.verdict.metric == metric else f", on {self.verdict.metric}"
            notes.append(f"Verdict{on}: {self.verdict.sentences[0]}")
        if self.costs:
            notes.append(
                f"{self.header[0]}: one fine-tuning, the mean over sources and seeds, without audits; sampler: the "
                "share of it in which batches were drawn and graphs built."
            )
        return tuple(notes)


def costs_of(records: Iterable[Mapping[str, Any]]) -> dict[Row, Cost]:
    """Sum up the `record.json` of trainings by model and sampler."""
    found: dict[Row, list[Mapping[str, Any]]] = {}
    for record in records:
        found.setdefault((record["trial"]["model"], record["trial"]["sampler"]), []).append(record)
    return {
        row: Cost(
            hours=float(np.mean([(r["seconds"] - r.get("audit_seconds", 0)) / 3600 for r in runs])),
            share=sum(sum(r["sampler_seconds"]) for r in runs) / sum(sum(r["epoch_seconds"]) for r in runs),
            devices=frozenset(r.get("device", "") for r in runs),
        )
        for row, runs in found.items()
    }
