"""Paired differences over trainings, against scipy and enumeration by hand."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from dfgs.stats.paired import difference_interval, holm, pairs_needed, pairs_to_reject, power, sign_flip


@pytest.mark.parametrize("number", [1, 2, 5, 8])
def test_the_sign_flip_test_counts_every_flip(number):
    sample = np.random.default_rng(number).normal(0.5, 1, number)
    flips = [abs(np.dot(signs, sample)) for signs in itertools.product((1, -1), repeat=number)]
    expected = np.mean([value >= abs(sample.sum()) - 1e-9 for value in flips])
    assert sign_flip(sample) == pytest.approx(expected, abs=1e-15)


def test_the_sign_flip_test_is_that_of_scipy():
    sample = np.random.default_rng(0).normal(0.4, 1, 9)
    found = stats.permutation_test((sample,), np.mean, permutation_type="samples", n_resamples=math.inf)
    assert sign_flip(sample) == pytest.approx(found.pvalue, abs=1e-15)


def test_flips_with_equal_sums_count_as_extreme():
    assert sign_flip([0.1, 0.2, 0.3, 0.1 + 0.2]) == 2 / 16
    assert sign_flip([0.0, 0.0]) == 1


def test_many_pairs_are_flipped_at_random_with_a_seed():
    sample = np.random.default_rng(1).normal(0.3, 1, 30)
    assert sign_flip(sample, seed=3) == sign_flip(sample, seed=3)
    assert sign_flip(sample) == pytest.approx(stats.ttest_1samp(sample, 0).pvalue, abs=0.02)


def test_three_pairs_end_at_a_quarter_and_six_below_five_percent():
    assert sign_flip([1, 2, 3]) == 0.25
    assert sign_flip([1, 2, 3, 4, 5, 6]) == 2 / 64


@pytest.mark.parametrize("wrong", [[], [1.0, math.nan], [[1.0]]])
def test_what_is_no_list_of_finite_differences_is_refused(wrong):
    with pytest.raises(ValueError, match="finite difference"):
        sign_flip(wrong)


def test_fewer_than_twenty_pairs_get_a_t_interval():
    sample = np.random.default_rng(2).normal(1, 2, 12)
    expected = stats.ttest_1samp(sample, 0).confidence_interval(0.9)
    found = difference_interval(sample, 0.9)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.n == 12


def test_twenty_pairs_get_an_interval_that_follows_their_skew():
    sample = np.random.default_rng(3).lognormal(0, 1.2, 40)
    found = difference_interval(sample)
    assert found.high - found.mean > 1.2 * (found.mean - found.low)
    assert found == difference_interval(sample)


def test_equal_differences_have_an_interval_without_width():
    found = difference_interval([0.5] * 25)
    assert (found.low, found.high) == (0.5, 0.5)


def test_holm_multiplies_the_smallest_by_all_and_never_steps_down():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([0.2]) == [0.2]


@pytest.mark.parametrize(("comparisons", "pairs"), [(1, 6), (2, 7), (4, 8), (10, 9)])
def test_the_least_number_of_pairs_can_reject_and_one_fewer_cannot(comparisons, pairs):
    assert pairs_to_reject(comparisons) == pairs
    for number, rejects in ((pairs, True), (pairs - 1, False)):
        adjusted = holm([sign_flip(np.arange(1, number + 1)), *[1.0] * (comparisons - 1)])
        assert (adjusted[0] <= 0.05) is rejects


def test_power_is_the_share_of_simulated_tests_that_reject():
    rng = np.random.default_rng(4)
    samples = rng.normal(1.0, 1.5, (20_000, 10))
    share = np.mean(stats.ttest_1samp(samples, 0, axis=1).pvalue <= 0.05)
    assert power(1.0, 1.5, 10) == pytest.approx(share, abs=0.01)
    assert power(0.0, 1.5, 10) == pytest.approx(0.05)
    assert (power(1, 0, 5), power(0, 0, 5)) == (1, 0)
    assert power(-1.0, 1.5, 10) == pytest.approx(share, abs=0.01)
    assert power(9.5, math.sqrt(5), 5) == pytest.approx(1.0, abs=1e-3)  # SciPy has nan for the other tail


def test_the_pairs_needed_are_the_first_that_are_enough():
    number = pairs_needed(1.0, 1.5, margin=0.5, comparisons=2)
    assert power(1.0, 1.5, number, 0.025) >= 0.8 > power(1.0, 1.5, number - 1, 0.025)
    inside = pairs_needed(0.1, 1.0, margin=0.5, comparisons=2)
    widths = [stats.t.ppf(0.975, n - 1) / math.sqrt(n) for n in (inside, inside - 1)]
    assert widths[0] <= 0.4 < widths[1]


def test_a_clear_difference_still_needs_pairs_enough_to_reject():
    assert pairs_needed(50.0, 0.1, margin=0.5, comparisons=4) == 8


def test_what_no_number_of_pairs_decides_is_none():
    assert pairs_needed(0.5, 1.0, margin=0.5, comparisons=1) is None
