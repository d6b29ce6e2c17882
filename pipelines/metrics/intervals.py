"""How sure a score is: 95 % intervals over the held-out pairs.

Neither kind of interval knows of the luck of the training run, which takes more runs, nor that neighbouring tiles may
share a street: intervals of tiles of one place are somewhat too narrow.
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
"""From totals (..., K) to scores (...)."""

DRAWS = 2000
"""Resamples of a bootstrap."""
SEED = 0
"""All bootstraps of n pairs draw the same pairs: so differences of two scores are paired, and reports repeat."""
TAIL = 0.025
"""What a 95 % interval leaves out at each end."""
TWO_SIDED = 1.96
"""Standard errors in half a 95 % interval of a normal distribution."""
GROUPS = 10
"""Into how many groups of images the jackknife cuts a set, if it holds that many."""
BLOCK = 1 << 22
"""Numbers that a bootstrap holds in memory at a time."""


class Score(Frozen):
    """A measured number: `value`, the ends of its 95 % interval, and the number of images behind it (`n`)."""

    value: float
    low: float
    high: float
    n: int

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.n < 2:
            raise ValueError(f"a score of {self.n} image(s) has no interval; measure 2 or more")
        if not self.low <= self.high:
            raise ValueError(f"an interval can't go from {self.low} to {self.high}")
        return self


@dataclass(frozen=True)
class Tally:
    """What a score adds up over images, and how the totals become the score.

    Attributes:
        rows: Float64 (N, K): K addends of each image.
        formula: From totals (..., K) to scores (...); NaN where the totals leave it undefined.
    """

    rows: Values
    formula: Formula

    @classmethod
    def mean(cls, values: Values) -> "Tally":
        """Tally the mean of one value an image, (N,).

        Raises:
            DataError: A value is not finite.
        """
        if bad := np.flatnonzero(~np.isfinite(values)).tolist():
            raise DataError(f"The values of images {bad[:5]} are NaN or infinite; look at those images.")
        return cls(np.stack([values, np.ones_like(values)], axis=1), ratio)

    def value(self) -> float:
        """Return the score of all images."""
        return float(self.formula(self.rows.sum(axis=0)))

    def of_each(self) -> Values:
        """Return the score of each image by itself, (N,); NaN where it is undefined."""
        return self.formula(self.rows)

    def resampled(self) -> Values:
        """Return the score of DRAWS samples of the images, drawn with replacement."""
        return np.concatenate([self.formula(weights @ self.rows) for weights in _resamples(len(self.rows))])


def ratio(totals: Values) -> Values:
    """Divide the first total by the second; NaN where that is zero."""
    above, below = totals[..., 0], totals[..., 1]
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below != 0)


def bootstrap(tally: Tally) -> Score:
    """Return a score with its percentile bootstrap interval (Efron and Tibshirani 1993, section 13.3).

    Raises:
        DataError: There are fewer than two images, or the score is undefined.
    """
    return _scored(tally.value(), tally.resampled(), len(tally.rows))


def paired_difference(first: Tally, second: Tally) -> Score:
    """Return the first score minus the second with its interval, both measured on the same images in the same order.

    Raises:
        DataError: They are not of equally many images; or as `bootstrap`.
    """
    if len(first.rows) != len(second.rows):
        raise DataError(
            f"Scores of {len(first.rows)} and of {len(second.rows)} images have no paired difference; measure both on "
            "the same pairs."
        )
    return _scored(first.value() - second.value(), first.resampled() - second.resampled(), len(first.rows))


def jackknife(statistic: Callable[[NDArray[np.intp]], float], n: int) -> Score:
    """Score `statistic(rows)` over n images, leaving out one of up to ten groups of neighbours at a time.

    Efron and Tibshirani (1993), chapter 11. Neighbours leave together, because neighbouring tiles may share a street.
    For scores of whole sets, which a bootstrap would bias: a sample drawn with replacement holds images twice.

    Raises:
        DataError: There are fewer than three images.
    """
    if n < 3:
        raise DataError(f"Found {n} image(s); a score of a set takes 3 or more.")
    everything = np.arange(n)
    left_out = np.array([statistic(np.delete(everything, group)) for group in groups_of(n)])
    return normal(statistic(everything), float(np.sqrt((len(left_out) - 1) * left_out.var())), n)


def groups_of(n: int) -> list[NDArray[np.intp]]:
    """Cut n rows into the groups that a jackknife leaves out."""
    return np.array_split(np.arange(n), min(GROUPS, n))


def normal(value: float, error: float, n: int) -> Score:
    """Return a score with the interval that its standard error gives."""
    return Score(value=value, low=value - TWO_SIDED * error, high=value + TWO_SIDED * error, n=n)


def _scored(value: float, resampled: Values, n: int) -> Score:
    if n < 2 or not np.isfinite(value):
        raise DataError(f"A score of {n} image(s) is {value:g}; measure 2 or more images in which it is defined.")
    low, high = np.nanquantile(resampled, [TAIL, 1 - TAIL])
    return Score(value=value, low=float(low), high=float(high), n=n)


def _resamples(n: int) -> Iterator[Values]:
    """Yield how often each of n images is in each of DRAWS samples, some samples (b, n) at a time."""
    random = np.random.default_rng(SEED)
    step = max(1, BLOCK // n)
    for start in range(0, DRAWS, step):
        draws = random.multinomial(n, np.full(n, 1 / n), size=min(step, DRAWS - start))
        yield draws.astype(np.float64)
