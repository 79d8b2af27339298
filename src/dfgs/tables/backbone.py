"""What the untuned backbone is worth, beside chance."""

import pandas as pd

from dfgs.errors import DfgsError
from dfgs.rendering import Entry, Table
from dfgs.results import COLUMNS, REFERENCE, check_one_protocol
from dfgs.tables.words import label_columns, one_decimal


def backbone_table(frame: pd.DataFrame) -> Table:
    """Show what the untuned backbones are worth: zero-shot mAP on every target beside chance (metric `chance_mAP`).

    Both are percentages, means over a target's splits. Raises `DfgsError` when the frame holds no zero-shot mAP or
    mixes protocols.
    """
    known = frame[(frame["metric"] == "chance_mAP") | ((frame["metric"] == "mAP") & (frame["sampler"] == REFERENCE))]
    if "mAP" not in set(known["metric"]):
        raise DfgsError(f"no mAP of sampler {REFERENCE!r} among the metrics; score the untuned backbone first")
    check_one_protocol(known)
    # The backbone has no source: the same number may stand once for each.
    known = known.sort_values(list(COLUMNS)).drop_duplicates(["model", "target", "split", "metric"])
    numbers = known.pivot_table(index=["model", "target"], columns="metric", values="value", aggfunc="mean")
    numbers = numbers.reindex(columns=["mAP", "chance_mAP"]).reset_index()
    numbers["times_chance"] = numbers["mAP"] / numbers["chance_mAP"]
    models = sorted(numbers["model"].unique())
    caption = (
        "The untuned backbone (zero-shot): mAP (%) on each target, beside the mAP (%) that a random ranking is "
        "expected to reach, and how many times chance that is. One deterministic number each, so no interval is given."
    )
    labels = label_columns(models, "target")
    rows = tuple(
        (
            *(Entry(str(row[name])) for name in labels),
            *(Entry(one_decimal(row[name])) for name in ("mAP", "chance_mAP", "times_chance")),
        )
        for row in numbers.to_dict("records")
    )
    header = (*labels, "zero-shot mAP", "chance mAP", "times chance")
    return Table(caption, header, len(labels), rows, (), numbers.assign(caption=caption))
