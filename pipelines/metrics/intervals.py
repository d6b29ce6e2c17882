"""Confidence intervals (95 %) of scores over the held-out pairs.

They do not cover the variance between training runs, which takes several runs to measure. As neighbouring tiles may
share a street, intervals over tiles of one area are somewhat too narrow.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from model.errors import DataError
from model.spec import Frozen

Values = NDArray[np.float64]
Formula = Callable[[Values], Values]
"""Computes scores (...) from totals (..., K)."""

DRAWS = 2000
"""Resamples of a bootstrap."""
SEED = 0
"""Seed of the samples: all bootstraps of n pairs use the same, so differences are paired and reports reproducible."""
TAIL = 0.025
"""Share left out of a 95 % interval at each end."""
TWO_SIDED = 1.96
"""Half the width of a 95 % interval of a normal distribution, in standard errors."""
GROUPS = 10
"""Groups that the jackknife divides a set of images into, if it has that many."""
BLOCK = 1 << 22
"""Numbers that a bootstrap keeps in memory at a time."""


class Score(Frozen):
    """A measured number: `value`, the ends of its 95 % interval, and the number `n` of images."""

    value: float
    low: float
    high: float
    n: int

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.n < 2:
            raise ValueError(f"a score of {self.n} image(s) has no interval; measure 2 or more")
        if not self.low <= self.high:
            raise ValueError(f"an interval can't run from {self.low} to {self.high}; the lower end comes first")
        return self


@dataclass(frozen=True)
class Tally:
    """The addends of a score for each image, and the formula from their totals to the score.

    Attributes:
        rows: K addends of each image, float64 (N, K).
        formula: Computes scores (...) from totals (..., K); NaN where a score is undefined.
    """

    rows: Values
    formula: Formula

    @classmethod
    def mean(cls, values: Values) -> "Tally":
        """Return the tally of a mean of one value for each image, (N,).

        Raises:
            DataError: A value is not finite.
        """
        if bad := np.flatnonzero(~np.isfinite(values)).tolist():
            raise DataError(f"The values of images {bad[:5]} are NaN or infinite; check those images.")
        return cls(np.stack([values, np.ones_like(values)], axis=1), ratio)

    def value(self) -> float:
        """Return the score of all images."""
        return float(self.formula(self.rows.sum(axis=0)))

    def per_image(self) -> Values:
        """Return the score of each image, (N,); NaN where it is undefined."""
        return self.formula(self.rows)

    def resampled(self) -> Values:
        """Return the scores of DRAWS samples of the images with replacement."""
        return np.concatenate([self.formula(weights @ self.rows) for weights in _sample_counts(len(self.rows))])


def ratio(totals: Values) -> Values:
    """Divide the first total by the second; NaN where the second is zero."""
    numerator, denominator = totals[..., 0], totals[..., 1]
    return np.divide(numerator, denominator, out=np.full_like(numerator, np.nan), where=denominator != 0)


def bootstrap(tally: Tally) -> Score:
    """Return a score with its percentile bootstrap interval (Efron and Tibshirani 1993, section 13.3).

    Raises:
        DataError: There are fewer than two images, or the score is undefined.
    """
    return _percentile_score(tally.value(), tally.resampled(), len(tally.rows))


def paired_difference(first: Tally, second: Tally) -> Score:
    """Return the first score minus the second with its interval, both measured on the same images in the same order.

    Raises:
        DataError: The numbers of images differ; or as for `bootstrap`.
    """
    if len(first.rows) != len(second.rows):
        raise DataError(
            f"Scores of {len(first.rows)} and of {len(second.rows)} images have no paired difference; "
            "measure both on the same pairs."
        )
    return _percentile_score(first.value() - second.value(), first.resampled() - second.resampled(), len(first.rows))


def jackknife(statistic: Callable[[NDArray[np.intp]], float], n: int) -> Score:
    """Return `statistic(rows)` of n images with its jackknife interval, leaving out up to ten groups one by one.

    Efron and Tibshirani (1993), chapter 11. Neighbours are in one group, because neighbouring tiles may share a street.
    Meant for set scores, which a bootstrap would bias: a sample with replacement contains images twice.

    Raises:
        DataError: There are fewer than three images.
    """
    if n < 3:
        raise DataError(f"Found {n} image(s); a set score needs 3 or more.")
    rows = np.arange(n)
    left_out = np.array([statistic(np.delete(rows, group)) for group in groups_of(n)])
    return normal_interval(statistic(rows), float(np.sqrt((len(left_out) - 1) * left_out.var())), n)


def groups_of(n: int) -> list[NDArray[np.intp]]:
    """Divide n rows into the groups that a jackknife leaves out."""
    return np.array_split(np.arange(n), min(GROUPS, n))


def normal_interval(value: float, error: float, n: int) -> Score:
    """Return a score with the normal interval of its standard error."""
    return Score(value=value, low=value - TWO_SIDED * error, high=value + TWO_SIDED * error, n=n)


def _percentile_score(value: float, resampled: Values, n: int) -> Score:
    if n < 2 or not np.isfinite(value):
        raise DataError(f"A score of {n} image(s) is {value:g}; measure 2 or more images in which it is defined.")
    low, high = np.nanquantile(resampled, [TAIL, 1 - TAIL])
    return Score(value=value, low=float(low), high=float(high), n=n)


def _sample_counts(n: int) -> Iterator[Values]:
    """Yield how often each of n images occurs in each of DRAWS samples, in blocks of samples (b, n)."""
    random = np.random.default_rng(SEED)
    step = max(1, BLOCK // n)
    for start in range(0, DRAWS, step):
        draws = random.multinomial(n, np.full(n, 1 / n), size=min(step, DRAWS - start))
        yield draws.astype(np.float64)
