"""Statistics on long tables, at three levels that are never mixed: queries, trainings, datasets."""

from dfgs.stats.seeds import (
    AVERAGE,
    Interval,
    SplitSpread,
    Transfer,
    describe_seeds,
    in_order,
    intervals,
    mean_interval,
    seed_values,
    split_spreads,
    transfer_label,
    transfers,
    with_average,
)

__all__ = [
    "AVERAGE",
    "Interval",
    "SplitSpread",
    "Transfer",
    "describe_seeds",
    "in_order",
    "intervals",
    "mean_interval",
    "seed_values",
    "split_spreads",
    "transfer_label",
    "transfers",
    "with_average",
]
