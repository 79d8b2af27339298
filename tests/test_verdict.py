"""From long rows to better, worse, equal, undecided; and the other two levels, which never enter it."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from dfgs.errors import DfgsError
from dfgs.stats.blocks import block_table, rank_blocks, source_interval, wilcoxon
from dfgs.stats.calibration import Calibration, Shape, calibrate
from dfgs.stats.paired import smallest_difference
from dfgs.stats.queries import query_interval
from dfgs.stats.verdict import differences, judge, resolvable, seeds_needed, source_seed_values


def grid_values(effects, *, sources=("a", "b"), targets=("a", "b", "c"), seeds=8, noise=0.5, model="m"):
    """Values as `seed_values` returns them: sampler i is `effects[i]` points better than the first."""
    rng = np.random.default_rng(0)
    rows = [
        (model, sampler, source, target, seed, 40 + effect + noise * rng.standard_normal())
        for sampler, effect in effects.items()
        for source in sources
        for target in targets
        for seed in range(seeds)
    ]
    return pd.DataFrame(rows, columns=["model", "sampler", "source", "target", "seed", "value"])


WITHIN = {("a", "a"), ("b", "b")}


class TestPairs:
    def test_a_training_is_one_mean_over_its_cross_domain_targets(self):
        values = grid_values({"pk": 0, "gs": 1}, seeds=2)
        reduced = source_seed_values(values, WITHIN)
        one = values[(values["sampler"] == "gs") & (values["source"] == "b") & (values["seed"] == 1)]
        expected = one[one["target"] != "b"]["value"].mean()
        found = reduced[(reduced["sampler"] == "gs") & (reduced["source"] == "b") & (reduced["seed"] == 1)]
        assert found["value"].item() == pytest.approx(expected)
        assert len(reduced) == 2 * 2 * 2

    def test_a_training_that_lacks_a_target_has_no_mean(self):
        values = grid_values({"pk": 0}, seeds=2)
        lacking = (values["source"] == "a") & (values["target"] == "c") & (values["seed"] == 1)
        assert len(source_seed_values(values[~lacking], WITHIN)) == 3

    def test_the_untuned_backbone_is_no_training(self):
        values = grid_values({"pk": 0, "zero-shot": 0}, seeds=1)
        assert set(source_seed_values(values, WITHIN)["sampler"]) == {"pk"}

    def test_two_models_have_two_verdicts_and_share_holm(self):
        both = pd.concat([grid_values({"pk": 0, "gs": 9}), grid_values({"pk": 0, "gs": 9}, model="n")])
        found = judge(source_seed_values(both, WITHIN), [("gs", "pk")])
        assert [(c.model, c.verdict) for c in found] == [("m", "better"), ("n", "better")]
        assert [c.adjusted for c in found] == [2 * c.p_value for c in found]

    def test_sources_own_targets_are_judged_where_there_is_no_other(self):
        values = grid_values({"pk": 0}, sources=("a",), targets=("a",), seeds=2)
        assert source_seed_values(values, {("a", "a")})["value"].tolist() == values["value"].tolist()

    def test_only_common_seeds_pair(self):
        values = source_seed_values(grid_values({"pk": 0, "gs": 1}, seeds=3), WITHIN)
        lacking = (values["sampler"] == "gs") & (values["seed"] == 2)
        paired = differences(values[~lacking], "gs", "pk")
        assert paired.index.to_list() == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
        first = values.set_index(["sampler", "source", "seed"])["value"]
        assert paired["b", 1] == pytest.approx(first["gs", "b", 1] - first["pk", "b", 1])

    def test_an_unknown_sampler_and_a_pair_without_common_seeds_are_refused(self):
        values = source_seed_values(grid_values({"pk": 0, "gs": 1}, seeds=2), WITHIN)
        with pytest.raises(DfgsError, match=r"no values of sampler 'gz'.*'gs'"):
            differences(values, "gz", "pk")
        apart = values[(values["sampler"] == "pk") == (values["seed"] == 0)]
        with pytest.raises(DfgsError, match="share no source and seed"):
            differences(apart, "gs", "pk")


class TestJudge:
    def verdicts(self, effects, **settings):
        values = source_seed_values(grid_values({"pk": 0, **effects}, **settings), WITHIN)
        return {c.sampler: c for c in judge(values, [(name, "pk") for name in effects])}

    def test_better_worse_equal_and_undecided(self):
        found = self.verdicts({"up": 2, "down": -2, "same": 0})
        assert {name: c.verdict for name, c in found.items()} == {"up": "better", "down": "worse", "same": "equal"}
        assert self.verdicts({"same": 0}, noise=5)["same"].verdict == "undecided"

    def test_three_seeds_of_two_sources_cannot_reject_four_comparisons(self):
        found = self.verdicts({f"s{i}": 20 for i in range(4)}, seeds=3)
        assert {c.verdict for c in found.values()} == {"undecided"}
        assert found["s0"].p_value == 2 / 64
        assert found["s0"].adjusted == 8 / 64
        assert seeds_needed(found["s0"], 4) == 1  # 8 pairs, two a seed

    def test_a_difference_inside_the_margin_is_equal_however_certain(self):
        found = self.verdicts({"hair": 0.3}, noise=0.01)["hair"]
        assert found.adjusted < 0.05
        assert found.verdict == "equal"
        assert seeds_needed(found, 1) == 0

    @pytest.mark.parametrize("sources", [("a",), tuple("abcdefgh")])
    def test_one_seed_decides_nothing_and_tells_nothing_however_many_the_sources(self, sources):
        found = self.verdicts({"up": 9}, sources=sources, targets=("z",), seeds=1)["up"]
        assert (found.verdict, found.p_value) == ("undecided", 1.0)
        assert np.isnan([found.interval.low, found.interval.high, found.deviation]).all()
        assert seeds_needed(found, 1) is None

    def test_what_a_grid_can_resolve_is_said_beforehand(self):
        few, none = resolvable(2, 3, 4)
        assert few == "6 pairs of trainings (2 sources × 3 seeds), 4 planned contrasts: smallest p after Holm 0.12"
        assert none == "cannot call anything better or worse: p ≤ 0.05 needs 4 seeds per source"
        assert "cannot call anything" in resolvable(9, 1, 1)[1]
        assert "difference of 0.5, 0.9, 1.9 points where" in resolvable(2, 8, 4)[1]

    def test_the_smallest_difference_that_is_told_is_found_four_times_in_five(self):
        drawn = np.random.default_rng(0).normal(smallest_difference(2.0, 16, 0.01), 2.0, (4000, 16))
        assert np.mean(stats.ttest_1samp(drawn, 0, axis=1).pvalue <= 0.01) == pytest.approx(0.8, abs=0.02)


class TestBlocks:
    def table(self):
        return block_table(grid_values({"pk": 3, "gs": 1, "dfgs": 2}, seeds=2))

    def test_a_block_is_the_mean_over_seeds(self):
        values = grid_values({"pk": 0, "gs": 1}, seeds=3)
        cell = values[(values["sampler"] == "gs") & (values["source"] == "b") & (values["target"] == "c")]
        assert block_table(values).loc[("b", "c"), "gs"] == pytest.approx(cell["value"].mean())

    def test_ranks_and_tests_are_those_of_scipy_and_of_demsar(self):
        found = rank_blocks(self.table())
        assert found.mean_ranks == {"pk": 1.0, "dfgs": 2.0, "gs": 3.0}
        assert found.p_value == pytest.approx(stats.friedmanchisquare(*self.table().to_numpy().T).pvalue)
        # Demšar (2006), table 5a: q is 2.343 for three classifiers.
        assert found.critical_difference == pytest.approx(2.343 * np.sqrt(3 * 4 / (6 * 6)), abs=1e-3)

    def test_equal_values_share_ranks_and_reject_nothing(self):
        table = self.table() * 0
        found = rank_blocks(table)
        assert set(found.mean_ranks.values()) == {2.0}
        assert found.p_value == 1
        assert wilcoxon(table, [("pk", "gs")]) == [1.0]

    def test_wilcoxon_is_adjusted_over_the_contrasts(self):
        table = self.table()
        single = stats.wilcoxon(table["pk"] - table["gs"]).pvalue
        assert wilcoxon(table, [("pk", "gs"), ("pk", "dfgs")])[0] == pytest.approx(2 * single)

    def test_a_source_is_drawn_with_all_its_targets(self):
        table = self.table()
        found = source_interval(table, "pk", "gs")
        by_source = (table["pk"] - table["gs"]).groupby(level="source").mean()
        assert (found.low, found.high) == pytest.approx((by_source.min(), by_source.max()))
        assert (found.mean, found.n) == (pytest.approx((table["pk"] - table["gs"]).mean()), 2)

    def test_too_few_blocks_and_a_missing_block_are_refused(self):
        with pytest.raises(DfgsError, match="2 samplers on 6 source→target blocks"):
            rank_blocks(self.table()[["pk", "gs"]])
        values = grid_values({"pk": 0, "gs": 1}, seeds=1)
        hole = (values["sampler"] == "gs") & (values["source"] == "b") & (values["target"] == "c")
        with pytest.raises(DfgsError, match="'gs' has no value on b→c"):
            block_table(values[~hole])


def per_query(people, shots, values, target="t"):
    """Per-query rows: `people` persons with `shots` queries each; `values` by query."""
    names = [f"{p}-{s}.jpg" for p in range(people) for s in range(shots)]
    pids = np.repeat(np.arange(people), shots)
    return pd.DataFrame({"target": target, "split": "test", "query": names, "pid": pids, "average_precision": values})


class TestQueries:
    def test_people_are_drawn_and_not_queries(self):
        rng = np.random.default_rng(0)
        persons = np.repeat(rng.normal(0.05, 0.1, 60), 20)
        first, second = per_query(60, 20, 0.5 + persons), per_query(60, 20, np.full(1200, 0.5))
        found = query_interval(first, second)
        error = persons[::20].std(ddof=1) / np.sqrt(60)
        assert found.mean == pytest.approx(persons.mean())
        assert found.half_width == pytest.approx(1.96 * error, rel=0.1)  # 4.5 times that of 1,200 free queries
        assert found.n == 60

    def test_a_query_without_a_match_counts_in_neither(self):
        first, second = per_query(3, 1, [0.5, np.nan, 0.9]), per_query(3, 1, [0.4, np.nan, 0.7])
        assert query_interval(first, second).mean == pytest.approx(0.15)

    def test_other_queries_are_refused_by_name(self):
        first, second = per_query(3, 1, [0.1] * 3), per_query(4, 1, [0.1] * 4)
        with pytest.raises(DfgsError, match=r"1 queries are in one of the two only, such as 3-0.jpg .* in the second"):
            query_interval(first, second)
        nothing = per_query(2, 1, [np.nan] * 2)
        with pytest.raises(DfgsError, match="no query has a average_precision"):
            query_interval(nothing, nothing)


class TestCalibration:
    def test_a_short_run_keeps_the_promises_and_finds_what_is_planted(self):
        found = calibrate(Shape(sources=2, seeds=3, contrasts=1), grids=400)
        assert found.faults == []
        assert found.power > 0.5

    def test_a_grid_that_cannot_reject_says_so(self):
        found = calibrate(Shape(sources=2, seeds=3, contrasts=4), grids=20)
        assert not found.can_reject
        assert (found.power, found.false_positives) == (0, 0)

    @pytest.mark.parametrize(
        ("rates", "fault"),
        [((0.07, 0.95, 0.9), "false positives"), ((0.03, 0.9, 0.9), "coverage"), ((0.03, 0.95, 0.0), "power")],
    )
    def test_a_broken_promise_is_a_fault(self, rates, fault):
        positives, coverage, power = rates
        found = Calibration(Shape(2, 8, 1), positives, coverage, 2.0, power, True)
        assert [fault in said for said in found.faults] == [True]
