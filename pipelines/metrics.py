"""How near drawn maps come to true ones: numpy in, numbers out.

Two kinds of number. *Image scores* compare each drawn map with its own true map and give one value an image.
*Set scores* compare what a network sees in two sets of images, and know nothing of single pairs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_validator
from scipy.ndimage import gaussian_filter
from scipy.special import rel_entr

from model.errors import DataError
from model.pixels import Pixels

Values = NDArray[np.float64]
"""One number an image: float64 of shape (N,)."""

Array = NDArray[np.floating]
"""Features or probabilities: one row an image."""

GROUPS = 10
"""Into how many groups of images the jackknife cuts a set, if it holds that many."""

ROUNDING_ERROR = 1 / 12
"""Mean square of what rounding to whole levels does to a value."""


class Score(BaseModel):
    """A measured number: `value`, the standard error of it (`error`) and the number of images behind it (`n`).

    The error of a mean over images is std(ddof=1) / sqrt(n); the error of a set score is a delete-a-group jackknife.
    Neither knows of the luck of the training run: that takes more runs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float
    error: float
    n: int

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.n < 2:
            raise DataError(f"A score of {self.n} image(s) has no standard error; measure 2 or more.")
        if not (np.isfinite(self.value) and np.isfinite(self.error) and self.error >= 0):
            raise DataError(
                f"A score must be finite with an error of 0 or more, not {self.value} +- {self.error}; "
                "look for NaN in the images."
            )
        return self


@dataclass(frozen=True)
class Features:
    """What a classification network sees in N images: `pool` (N, D), its last layer, and `probabilities` (N, C).

    Every network that feeds a set score returns this.
    """

    pool: NDArray[np.float32]
    probabilities: NDArray[np.float32]

    def __post_init__(self) -> None:
        """Refuse halves that do not belong together."""
        if self.pool.ndim != 2 or self.probabilities.ndim != 2 or len(self.pool) != len(self.probabilities):
            raise DataError(
                f"Features of shape {self.pool.shape} do not belong to probabilities of shape "
                f"{self.probabilities.shape}; give one row an image to both."
            )


def check_images(images: Pixels, what: str = "Images") -> None:
    """Refuse anything but one or more uint8 RGB images of shape (N, H, W, 3).

    Raises:
        DataError: `images` are of another type or shape, or there are none; the message begins with `what`.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3 or not images.size:
        raise DataError(
            f"{what} are {images.dtype} of shape {images.shape}; "
            "give one or more RGB images as uint8 in [0, 255] of shape (N, H, W, 3)."
        )


def l1(drawn: Pixels, true: Pixels) -> Values:
    """Return the mean absolute difference of each pair, in levels of 255.

    Args:
        drawn: generated maps, uint8 (N, H, W, 3).
        true: their true maps, of the same shape.

    Raises:
        DataError: the two are not uint8 RGB images of one shape.
    """
    _check_pairs(drawn, true)
    return np.array([np.abs(np.subtract(a, b, dtype=np.int16)).mean() for a, b in zip(drawn, true, strict=True)])


def psnr(drawn: Pixels, true: Pixels) -> Values:
    """Return the peak signal-to-noise ratio of each pair, in dB; images as for `l1`.

    The mean square error counts as 1/12 at least, what rounding to whole levels costs by itself: two uint8 images
    can't be shown to agree better. So identical images have 58.9 dB, not infinity, which no mean would survive.
    """
    _check_pairs(drawn, true)
    square = [np.square(np.subtract(a, b, dtype=np.int32)).mean() for a, b in zip(drawn, true, strict=True)]
    return 10 * np.log10(255**2 / np.maximum(square, ROUNDING_ERROR))


def ssim(drawn: Pixels, true: Pixels) -> Values:
    """Return the structural similarity of each pair, 1 for identical images; images as for `l1`, 11 pixels or more.

    Wang, Bovik, Sheikh and Simoncelli (2004), section III-B and C: Gaussian window of 11x11 pixels with sigma 1.5,
    K1 = 0.01, K2 = 0.03; each channel by itself, then their mean; windows that overhang the border do not count.
    """
    _check_pairs(drawn, true)
    if min(drawn.shape[1:3]) < 11:
        height, width = drawn.shape[1:3]
        raise DataError(f"Images of {width}x{height} are smaller than the window of SSIM; give 11x11 pixels or more.")
    return np.array([_ssim(a, b) for a, b in zip(drawn, true, strict=True)])


def _ssim(drawn: Pixels, true: Pixels) -> float:
    x, y = (np.moveaxis(image, -1, 0).astype(np.float64) for image in (drawn, true))
    mean_x, mean_y, mean_squares, mean_product = (_window(plane) for plane in (x, y, x * x + y * y, x * y))
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    squares, product = mean_x * mean_x + mean_y * mean_y, mean_x * mean_y
    # The two variances are only ever needed as a sum, so one filtered plane serves both.
    above = (2 * product + c1) * (2 * (mean_product - product) + c2)
    below = (squares + c1) * (mean_squares - squares + c2)
    return float((above / below).mean())


def _window(planes: Values) -> Values:
    """Average (C, H, W) under the Gaussian window, only where the window lies inside."""
    mean: Values = gaussian_filter(planes, sigma=1.5, radius=5, axes=(1, 2))[:, 5:-5, 5:-5]
    return mean


def mean_score(values: Values) -> Score:
    """Return the mean of one value an image, with its standard error.

    Raises:
        DataError: there are fewer than two values, or one is not finite.
    """
    if values.ndim != 1 or len(values) < 2:
        raise DataError(f"Found values of shape {values.shape}; a mean with an error takes 2 images or more.")
    if bad := np.flatnonzero(~np.isfinite(values)).tolist():
        raise DataError(f"The values of images {bad[:5]} are NaN or infinite; look at those images.")
    return Score(value=float(values.mean()), error=float(values.std(ddof=1) / np.sqrt(len(values))), n=len(values))


def frechet_distance(a: Array, b: Array) -> float:
    """Return the Fréchet distance of two Gaussians fitted to features `a` (N, D) and `b` (M, D): 0 for equal sets.

    Dowson and Landau (1982), as used by Heusel et al. (2017): |mu_a - mu_b|^2 + Tr(S_a + S_b - 2 (S_a S_b)^1/2).
    With S = X'X for centred features X, the last trace is the sum of the singular values of X_a X_b', so that no
    D x D root is needed; it is exact, also where N < D leaves the covariance without full rank. The value falls with
    N even for the same distribution: compare only distances of equal N.

    Raises:
        DataError: the features are not two tables of one width with two rows or more, or hold NaN.
    """
    for features in (a, b):
        _check_table(features, "Features")
    if a.shape[1] != b.shape[1]:
        raise DataError(f"Features of {a.shape[1]} and {b.shape[1]} columns differ; take both from one network.")
    (mean_a, root_a), (mean_b, root_b) = _gaussian(a), _gaussian(b)
    shared = np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum()
    distance = np.square(mean_a - mean_b).sum() + np.square(root_a).sum() + np.square(root_b).sum() - 2 * shared
    # Equal sets leave a rounding error of either sign.
    return max(float(distance), 0.0)


def _gaussian(features: Array) -> tuple[Values, Values]:
    """Return the mean (D,) and a root R of the covariance, R'R = S, with at most D rows."""
    rows, columns = features.shape
    exact = features.astype(np.float64)
    mean = exact.mean(axis=0)
    root = (exact - mean) / np.sqrt(rows - 1)
    if rows > columns:
        root = np.asarray(np.linalg.qr(root, mode="r"))
    return mean, root


def frechet_score(a: Array, b: Array) -> Score:
    """Return `frechet_distance` of N pairs with its jackknife error; row i of `a` and of `b` are one pair.

    A pair leaves on both sides at once, because its two halves are not independent.

    Raises:
        DataError: as `frechet_distance`, or the two hold different numbers of rows, or fewer than three.
    """
    if len(a) != len(b):
        raise DataError(
            f"Found {len(a)} drawn and {len(b)} true images; the error is over pairs, so give equally many."
        )
    return _jackknife(lambda rows: frechet_distance(a[rows], b[rows]), len(a))


def inception_score(probabilities: Array) -> float:
    """Return exp(mean KL(p(y|x) || p(y))) of class probabilities (N, C): from 1 to the smaller of N and C.

    Salimans et al. (2016), section 4. Over the whole set, without the usual ten splits: the score grows with the
    number of images in a split, and where a split holds one image p(y) is p(y|x), so it reads 1.00 +- 0.00 whatever
    was drawn. The name belongs to the formula: with another network than Inception, log it under another one.

    Raises:
        DataError: there are fewer than two rows, or a row is not a distribution (logits, say).
    """
    _check_table(probabilities, "Probabilities")
    exact = probabilities.astype(np.float64)
    sums = exact.sum(axis=1)
    if exact.min() < 0 or np.abs(sums - 1).max() > 1e-3:
        raise DataError(
            f"Found probabilities from {exact.min():.3g} with sums of {sums.min():.3g} to {sums.max():.3g}; "
            "they must be 0 or more and sum to 1: take them after the softmax."
        )
    return float(np.exp(rel_entr(exact, exact.mean(axis=0)).sum(axis=1).mean()))


def inception_score_with_error(probabilities: Array) -> Score:
    """Return `inception_score` with its jackknife error, which stands for the usual spread over splits.

    Raises:
        DataError: as `inception_score`, or there are fewer than three rows.
    """
    return _jackknife(lambda rows: inception_score(probabilities[rows]), len(probabilities))


def _jackknife(statistic: Callable[[NDArray[np.intp]], float], n: int) -> Score:
    """Score `statistic(rows)` over n images, leaving out one of up to ten groups of neighbours at a time.

    Efron and Tibshirani (1993), chapter 11. Neighbours leave together, because neighbouring tiles may share a street.
    That groups of n not divisible by ten differ by an image, and the statistics are biased in n, moved the error by
    at most 6 % in trials with 13 to 45 images.
    """
    if n < 3:
        raise DataError(f"Found {n} image(s); a set score with an error takes 3 or more.")
    everything = np.arange(n)
    groups = np.array_split(everything, min(GROUPS, n))
    left_out = np.array([statistic(np.delete(everything, group)) for group in groups])
    error = np.sqrt((len(groups) - 1) * left_out.var())
    return Score(value=statistic(everything), error=float(error), n=n)


def _check_pairs(drawn: Pixels, true: Pixels) -> None:
    check_images(drawn, "Drawn maps")
    check_images(true, "True maps")
    if drawn.shape != true.shape:
        raise DataError(
            f"Drawn maps of shape {drawn.shape} can't be compared with true maps of shape {true.shape}; give one shape."
        )


def _check_table(table: Array, what: str) -> None:
    if table.ndim != 2 or len(table) < 2:
        raise DataError(f"{what} are of shape {table.shape}; give one row an image, of 2 images or more.")
    if not np.isfinite(table).all():
        bad = int((~np.isfinite(table).all(axis=1)).sum())
        raise DataError(f"{what} of {bad} of {len(table)} images hold NaN or infinity; look at those images.")
