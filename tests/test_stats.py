"""Intervals and averages, compared with slow obvious versions."""

import itertools
import logging
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from dfgs.errors import DfgsError
from dfgs.stats import (
    AVERAGE,
    Interval,
    describe_seeds,
    in_order,
    mean_interval,
    seed_values,
    split_spreads,
    transfer_label,
    transfers,
    with_average,
)


def row(**changes: Any) -> dict[str, Any]:
    """One long row, with changes."""
    base = {"experiment": "default", "source": "a", "target": "b", "split": "test", "model": "small", "sampler": "pk"}
    rest = {"seed": 0, "metric": "mAP", "value": 40.0, "protocol": "0" * 16, "commit": "c0ffee", "versions": "x"}
    return base | rest | changes


def test_the_interval_of_three_seeds_is_the_textbook_one() -> None:
    interval = mean_interval([36.0, 38.0, 40.0])
    assert (interval.mean, interval.n) == (38.0, 3)
    quantile = 0.95 / math.sqrt(2 * 0.975 * 0.025)  # Student's t with two degrees of freedom has this closed form.
    assert interval.half_width == pytest.approx(quantile * 2 / math.sqrt(3), rel=1e-12)
    assert (interval.low, interval.high) == (38.0 - interval.half_width, 38.0 + interval.half_width)


def test_intervals_agree_with_scipy_for_any_sample_and_confidence() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        sample, confidence = rng.normal(50, 5, rng.integers(2, 30)), rng.uniform(0.5, 0.999)
        expected = scipy_stats.t.interval(
            confidence, len(sample) - 1, loc=np.mean(sample), scale=scipy_stats.sem(sample)
        )
        interval = mean_interval(sample, confidence)
        assert (interval.low, interval.high) == pytest.approx(expected, rel=1e-9)


def test_the_interval_covers_the_true_mean_in_95_of_100_draws() -> None:
    rng = np.random.default_rng(1)
    intervals = [mean_interval(rng.normal(0, 1, 3)) for _ in range(4000)]
    assert np.mean([i.low <= 0 <= i.high for i in intervals]) == pytest.approx(0.95, abs=0.01)


@pytest.mark.filterwarnings("error")
def test_one_seed_has_no_interval_and_that_is_no_warning() -> None:
    interval = mean_interval([41.5])
    assert (interval.mean, interval.n) == (41.5, 1)
    assert math.isnan(interval.half_width)
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_what_has_no_mean_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        mean_interval(values)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_a_confidence_outside_0_to_1_is_refused(confidence: float) -> None:
    with pytest.raises(ValueError, match="confidence"):
        mean_interval([1.0, 2.0], confidence)


def test_a_seed_value_is_the_mean_over_the_splits_of_its_target() -> None:
    rng = np.random.default_rng(2)
    cells = list(itertools.product("ab", "xyz", ("pk", "gs"), range(3)))
    rows = [
        row(source=s, target=t, sampler=n, seed=i, split=f"split-{k}", value=rng.uniform(0, 100))
        for s, t, n, i in cells
        for k in range(4)
    ]
    values = seed_values(pd.DataFrame(rows).sample(frac=1, random_state=0), "mAP")
    assert len(values) == len(cells)
    for found in values.to_dict("records"):
        wanted = [r["value"] for r in rows if all(r[key] == found[key] for key in found if key != "value")]
        assert len(wanted) == 4
        assert found["value"] == pytest.approx(sum(wanted) / 4, rel=1e-12)


def test_a_seed_that_lacks_a_split_is_left_out_and_named(caplog: pytest.LogCaptureFixture) -> None:
    rows = [row(seed=seed, split=split) for seed in (0, 1) for split in ("s0", "s1")]
    with caplog.at_level(logging.WARNING):
        values = seed_values(pd.DataFrame(rows[:-1]), "mAP")
    assert values["seed"].tolist() == [0]
    assert "seed 1 lacks a split" in caplog.text
    assert "sampler pk" in caplog.text
    assert "a→b" in caplog.text


def test_the_untuned_backbone_gets_its_value_for_every_source() -> None:
    rows = [row(source=s, target=t) for s in "ab" for t in "xy"]
    rows += [row(source="none", target=t, sampler="zero-shot", value=v) for t, v in (("x", 10.0), ("y", 20.0))]
    rows += [row(source="b", target="y", sampler="zero-shot", value=21.0), row(source="none", target="unused")]
    rows[-1]["sampler"] = "zero-shot"
    values = seed_values(pd.DataFrame(rows), "mAP")
    reference = values[values["sampler"] == "zero-shot"].set_index(["source", "target"])["value"].to_dict()
    assert reference == {("a", "x"): 10.0, ("a", "y"): 20.5, ("b", "x"): 10.0, ("b", "y"): 21.0}
    assert (values["sampler"] == "pk").sum() == 4


def test_a_frame_of_the_untuned_backbone_alone_keeps_its_rows() -> None:
    assert seed_values(pd.DataFrame([row(sampler="zero-shot")]), "mAP")["value"].tolist() == [40.0]


def test_the_average_is_over_cross_domain_columns_and_needs_all_of_them() -> None:
    rows = [row(source=s, target=t, seed=i, value=float(ord(t) + i)) for s in "ab" for t in "abc" for i in (0, 1)]
    rows = [r for r in rows if (r["source"], r["target"], r["seed"]) != ("b", "c", 1)]
    within = {("a", "a"), ("b", "b")}
    values = with_average(seed_values(pd.DataFrame(rows), "mAP"), within)
    averages = values[(values["source"] == AVERAGE[0]) & (values["target"] == AVERAGE[1])]
    cross = [float(ord(t)) for s in "ab" for t in "abc" if s != t]
    assert averages["seed"].tolist() == [0]
    assert averages["value"].tolist() == [sum(cross) / 4]
    assert len(values) == len(rows) + 1


def test_there_is_no_average_when_every_column_is_within_domain() -> None:
    values = seed_values(pd.DataFrame([row(target="a"), row(target="a", seed=1)]), "mAP")
    assert transfers(with_average(values, {("a", "a")})) == [("a", "a")]


def test_columns_come_by_source_with_within_after_cross_domain_and_the_average_last() -> None:
    rows = [row(source=s, target=t) for s in "ba" for t in "cab"]
    within = {("a", "a"), ("b", "b")}
    columns = transfers(with_average(seed_values(pd.DataFrame(rows), "mAP"), within), within)
    assert [transfer_label(column, within) for column in columns] == [
        *("a→b", "a→c", "a→a (within)"),
        *("b→a", "b→c", "b→b (within)", "average"),
    ]


def test_an_unknown_metric_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(DfgsError, match=r"no rows of metric 'rank-1'.*did you mean 'rank1'"):
        seed_values(pd.DataFrame([row(), row(metric="rank1")]), "rank-1")


def test_two_experiments_in_one_table_are_refused() -> None:
    with pytest.raises(DfgsError, match=r"one experiment, got 2: ablation, default"):
        seed_values(pd.DataFrame([row(), row(experiment="ablation")]), "mAP")


def test_two_protocols_of_one_metric_are_refused_and_those_of_other_metrics_ignored() -> None:
    rows = [row(), row(seed=1), row(metric="rank1"), row(metric="rank1", seed=1, protocol="f" * 16)]
    assert len(seed_values(pd.DataFrame(rows), "mAP")) == 2
    with pytest.raises(DfgsError, match="2 protocols"):
        seed_values(pd.DataFrame(rows), "rank1")


def test_samplers_are_listed_as_wanted_then_sorted_without_the_reference() -> None:
    assert in_order(["z", "pk", "zero-shot", "b"], ["pk", "gs"]) == ["pk", "gs", "b", "z"]


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ([3, 3], "mean ± 95 % t-interval over n = 3 seeds"),
        ([2, 3], "mean ± 95 % t-interval over n = 2 to 3 seeds"),
        ([1, 3], "mean ± 95 % t-interval over n = 1 to 3 seeds (one seed: no interval)"),
        ([1], "one seed, so no interval is given"),
        ([], "one seed, so no interval is given"),
    ],
)
def test_the_plus_minus_is_always_explained(counts: list[int], said: str) -> None:
    assert describe_seeds(Interval(40.0, 39.0, 41.0, n) for n in counts) == said


def test_the_spread_of_a_targets_splits_is_that_of_their_means_over_seeds() -> None:
    rng = np.random.default_rng(3)
    cells = list(itertools.product(("pk", "gs"), ("b", "c"), (0, 1, 2), [f"split-{i}" for i in range(10)]))
    rows = [row(sampler=n, target=t, seed=i, split=s, value=rng.uniform(20, 80)) for n, t, i, s in cells]
    rows += [row(sampler="pk", target="d", seed=i, value=30.0 + i) for i in range(3)]
    rows += [row(metric="rank1", sampler="pk", target="d", split="other", value=1.0)]
    spreads = split_spreads(pd.DataFrame(rows), "mAP")
    for name, target in itertools.product(("pk", "gs"), ("b", "c")):
        own = [r for r in rows if r["sampler"] == name and r["target"] == target]
        means = [np.mean([r["value"] for r in own if r["split"] == f"split-{i}"]) for i in range(10)]
        spread = spreads["small", name, ("a", target)]
        assert spread.splits == 10
        assert spread.deviation == pytest.approx(np.std(means, ddof=1), rel=1e-12)
    alone = spreads["small", "pk", ("a", "d")]
    assert alone.splits == 1
    assert math.isnan(alone.deviation)
    assert len(spreads) == 5
