"""`dfgs audit`: serve passes of several samplers on the same images and audit each."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from dfgs.audit.measure import audit, check_audit
from dfgs.audit.memory import PeakMemory
from dfgs.audit.record import Served
from dfgs.audit.sources import Setting, TrainingSet
from dfgs.audit.tables import audit_table
from dfgs.errors import DfgsError
from dfgs.figures.audit import Audit as Drawing
from dfgs.figures.base import FigureData, save, style
from dfgs.rendering import to_markdown, write
from dfgs.samplers.base import BatchSampler, check_count


@dataclass(frozen=True, slots=True)
class Options:
    """How samplers are audited: their common arguments, passes of each, and k, the neighbours that count."""

    batch_size: int
    instances: int
    seed: int
    passes: int
    neighbours: int


def audit_samplers(images: TrainingSet, settings: Sequence[Setting], options: Options) -> pd.DataFrame:
    """Audit `options.passes` passes of every sampler: one row each, `sampler`, `pass` and the columns of `Audit`.

    `at_chance` tells a graph whose edges are no better than random, `by_design` one that is meant to be so, `uses_text`
    one that is built from text features. Raises `DfgsError` before anything is drawn if a sampler's settings are
    impossible.
    """
    check_count("passes", options.passes, 1)
    check_audit(images.labels, options.neighbours)
    common = {"batch_size": options.batch_size, "instances": options.instances, "seed": options.seed}
    built = {setting.name: setting.build(images.labels, **common) for setting in settings}
    rows = []
    for name, sampler in built.items():
        for number in range(options.passes):
            found = audit(images.labels, images.features, _serve(name, sampler, images, number), options.neighbours)
            verdict = {"at_chance": found.is_at_chance, "by_design": sampler.is_graph_by_chance}
            verdict["uses_text"] = "text" in sampler.graph
            rows.append({"sampler": name, "pass": number, **asdict(found), **verdict})
    return pd.DataFrame(rows)


def failures(rows: pd.DataFrame) -> list[str]:
    """Name, in one line each, the samplers with a graph at chance that is not meant to be."""
    found = []
    for name, passes in rows[rows["at_chance"] & ~rows["by_design"]].groupby("sampler", sort=False):
        fidelity, chance = (100 * passes[f"graph_{what}"].mean() for what in ("fidelity", "chance"))
        found.append(
            f"sampler {name}: the graph is at chance: {fidelity:.1f} % of its edges lead to true neighbours, of random "
            f"edges {chance:.1f} % do; its batches hold no look-alikes"
        )
    return found


def _serve(name: str, sampler: BatchSampler, images: TrainingSet, number: int) -> Served:
    """Draw one pass; a graph sampler gets the features of its request, as in a training."""
    sampler.set_epoch(number)
    try:
        if request := sampler.feature_request(number):
            image = None if request.images is None else request.pool(images.features[request.images])
            text = images.text if "text" in request.kinds else None
            sampler.set_features(identities=images.labels.identities, image=image, text=text)
        with PeakMemory() as memory:
            sampler.current_pass()
    except DfgsError as error:
        raise DfgsError(f"sampler {name}: {error}") from error
    return Served.of_pass(sampler, memory.growth)


def report(rows: pd.DataFrame, images: TrainingSet, stem: Path) -> str:
    """Write the table to `stem` + `.csv`, `.md`, `.tex`, the figure to `.png`, `.pdf`, `.svg`; return the Markdown."""
    labels = images.labels
    passes = rows["pass"].nunique()
    caption = (
        f"Audit of {images.name}: {len(labels)} images, {len(labels.identities)} identities, "
        f"{len(np.unique(labels.camids))} cameras; {'one pass' if passes == 1 else f'means over {passes} passes'}."
    )
    if not images.has_text and rows["uses_text"].any():
        caption += " No text features were given: the identities' mean image features stand in for them."
    table = audit_table(rows, ["sampler"], caption)
    write(table, stem)
    order = tuple(dict.fromkeys(rows["sampler"]))
    audits = rows.assign(source=images.name, model="", epoch=0)
    data = FigureData(rows.iloc[:0], rows.iloc[:0], images.name, order, audits=audits)
    figure = Drawing().draw(data)
    bars = "one pass of each sampler" if passes == 1 else f"means over {passes} passes, bars their 95 % t-intervals"
    with style():
        figure.suptitle(f"Audit of {images.name}\n{bars}")
    save(figure, stem)
    return to_markdown(table)
