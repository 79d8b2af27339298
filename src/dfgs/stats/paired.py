"""Paired differences over trainings: exact test, interval, adjustment for several comparisons, seeds still needed."""

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

from dfgs.stats.seeds import Interval, mean_interval

Floats = NDArray[np.float64]

EXACT = 16
"""Most pairs whose 2^n sign flips are all counted; beyond, 2^16 random ones are drawn."""
BOOTSTRAP_FROM = 20
"""Least pairs for which the interval is bootstrapped: fewer say too little of their distribution's shape."""
RESAMPLES = 9999
POWER = 0.8


def sign_flip(differences: ArrayLike, seed: int = 0) -> float:
    """Return the two-sided p-value of the mean of paired `differences`, (n,), under flips of their signs.

    Under the null hypothesis a pair's difference is as likely its negative. Exact up to `EXACT` pairs; the least value
    n pairs can reach is 2^(1 - n), so three pairs end at 0.25 and six at 0.03. Raises `ValueError` for no differences
    and for one that is not finite.

    >>> sign_flip([1.0, 2.0, 3.0])
    0.25
    """
    sample = _sample(differences)
    if len(sample) > EXACT:
        found = stats.permutation_test(
            (sample,), np.mean, permutation_type="samples", n_resamples=2**EXACT, batch=2**12, rng=seed
        )
        return float(found.pvalue)
    sums = np.abs(_signs(len(sample)) @ sample)
    # Flips that give the same sum count as one; they may differ in the last bits.
    return float(np.mean(sums >= abs(sample.sum()) * (1 - 1e-12)))


def difference_interval(differences: ArrayLike, confidence: float = 0.95, seed: int = 0) -> Interval:
    """Return the mean of paired `differences`, (n,), with its interval.

    Student's t below `BOOTSTRAP_FROM` pairs; from there the bootstrap, bias-corrected and accelerated (Efron 1987,
    `scipy.stats.bootstrap`), whose ends need not lie evenly about the mean. One pair has no interval (nan).
    """
    sample = _sample(differences)
    if len(sample) < BOOTSTRAP_FROM or np.ptp(sample) == 0:
        return mean_interval(sample, confidence)
    found = stats.bootstrap(
        (sample,), np.mean, confidence_level=confidence, n_resamples=RESAMPLES, method="BCa", rng=seed
    ).confidence_interval
    return Interval(float(sample.mean()), float(found.low), float(found.high), len(sample))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust the p-values of several planned comparisons so that any false rejection is as rare as promised.

    Holm (1979): the smallest is multiplied by their number m, the next by m - 1, and none falls below one before it.

    >>> holm([0.04, 0.01])
    [0.04, 0.02]
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.minimum(np.maximum.accumulate(np.asarray(p_values)[order] * factors), 1)
    result = np.empty(len(p_values))
    result[order] = adjusted
    return [float(value) for value in result]


def pairs_to_reject(comparisons: int, level: float = 0.05) -> int:
    """Return the least number of pairs with which `sign_flip` can reject one of so many comparisons after `holm`.

    >>> pairs_to_reject(1), pairs_to_reject(4)
    (6, 8)
    """
    return math.ceil(1 - math.log2(level / comparisons))


def pairs_needed(
    mean: float, deviation: float, margin: float, comparisons: int, level: float = 0.05, most: int = 1000
) -> int | None:
    """Return how many pairs like those observed would decide, None if `most` or more.

    A mean beyond `margin` is to be told from 0 with a chance of `POWER` (two-sided t-test at `level` / `comparisons`,
    and enough pairs for the sign-flip test to reject); one inside is to have its interval within ± `margin`.
    """
    if abs(mean) <= margin:
        enough = (n for n in range(2, most) if half_width(deviation, n, level) <= margin - abs(mean))
    else:
        least = pairs_to_reject(comparisons, level)
        enough = (n for n in range(least, most) if power(mean, deviation, n, level / comparisons) >= POWER)
    return next(enough, None)


def power(difference: float, deviation: float, pairs: int, level: float = 0.05) -> float:
    """Return the chance that a two-sided t-test at `level` rejects when the true difference is `difference`."""
    if deviation == 0:
        return float(difference != 0)
    shift, freedom = abs(difference) / deviation * math.sqrt(pairs), pairs - 1
    critical = stats.t.ppf(1 - level / 2, freedom)
    near, far = stats.nct.sf(critical, freedom, shift), stats.nct.cdf(-critical, freedom, shift)
    # SciPy has nan for a tail that is too thin to be computed.
    return float(near) + (0.0 if math.isnan(far) else float(far))


def smallest_difference(deviation: float, pairs: int, level: float = 0.05) -> float:
    """Return the true difference that a two-sided t-test at `level` finds with a chance of `POWER`.

    >>> round(smallest_difference(1.0, 16, 0.05), 2)
    0.75
    """
    far = 3 * float(stats.t.ppf(1 - level / 2, pairs - 1)) / math.sqrt(pairs)
    return deviation * float(optimize.brentq(lambda shift: power(shift, 1.0, pairs, level) - POWER, 0, far))


def half_width(deviation: float, pairs: int, level: float = 0.05) -> float:
    """Return half the width of the t-interval that pairs with this standard deviation will have."""
    return float(stats.t.ppf(1 - level / 2, pairs - 1)) * deviation / math.sqrt(pairs)


@cache
def _signs(number: int) -> Floats:
    """All sign patterns of so many pairs that begin with +, (2^(n - 1), n); their negatives have the same size."""
    patterns = np.arange(2 ** (number - 1))[:, None] >> np.arange(number)
    return np.asarray(1 - 2 * (patterns[:, ::-1] & 1), dtype=np.float64)


def _sample(differences: ArrayLike) -> Floats:
    sample = np.asarray(differences, dtype=np.float64)
    if sample.ndim != 1 or not sample.size or not np.isfinite(sample).all():
        raise ValueError(f"expected one finite difference or more, got {sample.tolist()}")
    return sample
