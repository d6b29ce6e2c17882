"""Scores of sets of images: distances between the features of drawn and true maps, and the Inception Score.

They do not compare single pairs. The names FID, KID and Inception Score are reserved for one network
(`pipelines/metrics/pretrained/inception.py`); with another network, the same formulas have other names.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import rel_entr

from model.errors import DataError
from pipelines.metrics.intervals import Score, Values, groups_of, jackknife, normal_interval

Array = NDArray[np.floating]
"""Features or probabilities, one row for each image."""

SPLITS = 10
"""Parts of a set whose Inception Scores are averaged (Salimans et al. 2016, and usual since)."""
LEAST_IN_SPLIT = 50


@dataclass(frozen=True)
class Features:
    """Outputs of a classification network for N images: `pool` (N, D), its last layer, and `probabilities` (N, C)."""

    pool: NDArray[np.float32]
    probabilities: NDArray[np.float32]

    def __post_init__(self) -> None:
        """Check that both have one row for each image."""
        if self.pool.ndim != 2 or self.probabilities.ndim != 2 or len(self.pool) != len(self.probabilities):
            raise DataError(
                f"Features of shape {self.pool.shape} do not belong to probabilities of shape "
                f"{self.probabilities.shape}; give both one row for each image."
            )


def frechet_distance(a: Array, b: Array) -> float:
    """Return the Fréchet distance of two Gaussians fitted to features `a` (N, D) and `b` (M, D): 0 for equal sets.

    Dowson and Landau (1982), as used by Heusel et al. (2017): |mu_a - mu_b|^2 + Tr(S_a + S_b - 2 (S_a S_b)^1/2).
    With S = X'X for centred features X, the last trace is the sum of the singular values of X_a X_b', so that no
    D x D root is needed. This is exact even if N < D and the covariance lacks full rank. The value falls with N even
    for the same distribution: compare only distances of equal N.

    Raises:
        DataError: The features are not two tables of the same width with two or more rows, or contain NaN.
    """
    _check_features(a, b)
    (mean_a, root_a), (mean_b, root_b) = _gaussian(a), _gaussian(b)
    shared = np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum()
    distance = np.square(mean_a - mean_b).sum() + np.square(root_a).sum() + np.square(root_b).sum() - 2 * shared
    # Equal sets leave a rounding error of either sign.
    return max(float(distance), 0.0)


def frechet_score(a: Array, b: Array) -> Score:
    """Return `frechet_distance` of N pairs with its interval; row i of `a` and row i of `b` are a pair.

    The jackknife leaves out both images of a pair together, because they are not independent.

    Raises:
        DataError: As for `frechet_distance`; or the numbers of rows differ or are below three.
    """
    _check_features(a, b)
    _check_same_number(a, b)
    return jackknife(lambda rows: frechet_distance(a[rows], b[rows]), len(a))


def kernel_score(a: Array, b: Array) -> Score:
    """Return the kernel distance of features `a` and `b`, (N, D) each, with its interval: 0 or less for equal sets.

    Binkowski et al. (2018), section 4: the unbiased estimate of the squared maximum mean discrepancy under the kernel
    (x'y / D + 1)^3. It is taken over the complete set: the random subsets of some implementations only add noise to the
    same expected value. Rows as for `frechet_score`.

    Raises:
        DataError: As for `frechet_score`.
    """
    _check_features(a, b)
    _check_same_number(a, b)
    n = len(a)
    if n < 3:
        raise DataError(f"Found {n} image(s); a set score needs 3 or more.")
    groups = groups_of(n)
    first, second, across = (_sums(x, y, groups) for x, y in ((a, a), (b, b), (a, b)))
    # The unbiased estimate leaves out products of an image with itself.
    first -= np.diag([_self_products(a[rows]) for rows in groups])
    second -= np.diag([_self_products(b[rows]) for rows in groups])
    sizes = np.array([len(rows) for rows in groups])

    def discrepancy(kept: NDArray[np.intp]) -> float:
        m, block = int(sizes[kept].sum()), np.ix_(kept, kept)
        within = (first[block].sum() + second[block].sum()) / (m * (m - 1))
        return float(within - 2 * across[block].sum() / m**2)

    numbers = np.arange(len(groups))
    left_out = np.array([discrepancy(np.delete(numbers, group)) for group in numbers])
    return normal_interval(discrepancy(numbers), float(np.sqrt((len(groups) - 1) * left_out.var())), n)


def inception_score(probabilities: Array) -> Score:
    """Return the mean over ten splits of exp(mean KL(p(y|x) || p(y))), of class probabilities (N, C).

    Salimans et al. (2016), section 4: from 1 to the smaller of C and the images in a split. In a split of one image,
    p(y) is p(y|x) and the score is 1.00 +- 0.00 for any image; with few images it is hardly higher.

    Raises:
        DataError: A split would have fewer than 50 images, or a row is not a distribution (but logits, for example).
    """
    _check_table(probabilities, "Probabilities")
    if len(probabilities) < SPLITS * LEAST_IN_SPLIT:
        raise DataError(
            f"{len(probabilities)} images in {SPLITS} splits are too few for an Inception Score; "
            f"give {LEAST_IN_SPLIT} images or more for each split."
        )
    exact = probabilities.astype(np.float64)
    sums = exact.sum(axis=1)
    if exact.min() < 0 or np.abs(sums - 1).max() > 1e-3:
        raise DataError(
            f"Found probabilities from {exact.min():.3g} with sums of {sums.min():.3g} to {sums.max():.3g}; "
            "they must be 0 or more and sum to 1: take them after the softmax."
        )
    splits = np.array_split(exact, SPLITS)
    scores = np.array([np.exp(rel_entr(split, split.mean(axis=0)).sum(axis=1).mean()) for split in splits])
    return normal_interval(float(scores.mean()), float(scores.std(ddof=1) / np.sqrt(SPLITS)), len(exact))


def _gaussian(a: Array) -> tuple[Values, Values]:
    """Return the mean (D,) and a root R of the covariance, R'R = S, with at most D rows."""
    rows, columns = a.shape
    exact = a.astype(np.float64)
    mean = exact.mean(axis=0)
    root = (exact - mean) / np.sqrt(rows - 1)
    if rows > columns:
        root = np.asarray(np.linalg.qr(root, mode="r"))
    return mean, root


def _sums(x: Array, y: Array, groups: list[NDArray[np.intp]]) -> Values:
    """Sum the kernel over each group of x with each group of y, with one block in memory at a time."""
    return np.array([[_kernel(x[rows], y[others]).sum() for others in groups] for rows in groups])


def _kernel(x: Array, y: Array) -> Values:
    kernel: Values = (x.astype(np.float64) @ y.astype(np.float64).T / x.shape[1] + 1) ** 3
    return kernel


def _self_products(x: Array) -> float:
    exact = x.astype(np.float64)
    return float(((np.square(exact).sum(axis=1) / x.shape[1] + 1) ** 3).sum())


def _check_features(a: Array, b: Array) -> None:
    for features in (a, b):
        _check_table(features, "Features")
    if a.shape[1] != b.shape[1]:
        raise DataError(f"Features of {a.shape[1]} and {b.shape[1]} columns differ; take both from one network.")


def _check_same_number(a: Array, b: Array) -> None:
    if len(a) != len(b):
        raise DataError(
            f"Found {len(a)} drawn and {len(b)} true images; give the same number, as the interval is over pairs."
        )


def _check_table(table: Array, what: str) -> None:
    if table.ndim != 2 or len(table) < 2:
        raise DataError(f"{what} are of shape {table.shape}; give one row for each of 2 or more images.")
    if not np.isfinite(table).all():
        bad = int((~np.isfinite(table).all(axis=1)).sum())
        raise DataError(f"{what} of {bad} of {len(table)} images contain NaN or infinity; check those images.")
