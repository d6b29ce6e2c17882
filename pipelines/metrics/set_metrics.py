"""How far what a network sees in drawn maps is from what it sees in true ones: one number a set of images.

Such scores know nothing of single pairs. The names FID, KID and Inception Score belong to one network
(`pipelines/metrics/pretrained/inception.py`); on another network the same formulas go by other names.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import rel_entr

from model.errors import DataError
from pipelines.metrics.intervals import Score, Values, groups_of, jackknife, normal

Array = NDArray[np.floating]
"""Features or probabilities: one row an image."""

SPLITS = 10
"""Parts of a set whose Inception Scores are averaged (Salimans et al. 2016, and everybody since)."""
LEAST_IN_SPLIT = 50


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


def frechet_distance(a: Array, b: Array) -> float:
    """Return the Fréchet distance of two Gaussians fitted to features `a` (N, D) and `b` (M, D): 0 for equal sets.

    Dowson and Landau (1982), as used by Heusel et al. (2017): |mu_a - mu_b|^2 + Tr(S_a + S_b - 2 (S_a S_b)^1/2).
    With S = X'X for centred features X, the last trace is the sum of the singular values of X_a X_b', so that no
    D x D root is needed; it is exact, also where N < D leaves the covariance without full rank. The value falls with
    N even for the same distribution: compare only distances of equal N.

    Raises:
        DataError: the features are not two tables of one width with two rows or more, or hold NaN.
    """
    _check_features(a, b)
    (mean_a, root_a), (mean_b, root_b) = _gaussian(a), _gaussian(b)
    shared = np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum()
    distance = np.square(mean_a - mean_b).sum() + np.square(root_a).sum() + np.square(root_b).sum() - 2 * shared
    # Equal sets leave a rounding error of either sign.
    return max(float(distance), 0.0)


def frechet_score(a: Array, b: Array) -> Score:
    """Return `frechet_distance` of N pairs with its interval; row i of `a` and of `b` are one pair.

    A pair leaves the jackknife on both sides at once, because its two halves are not independent.

    Raises:
        DataError: as `frechet_distance`, or the two hold different numbers of rows, or fewer than three.
    """
    _check_features(a, b)
    _check_equally_many(a, b)
    return jackknife(lambda rows: frechet_distance(a[rows], b[rows]), len(a))


def kernel_score(a: Array, b: Array) -> Score:
    """Return the kernel distance of features `a` and `b`, (N, D) each, with its interval: 0 or less for equal sets.

    Binkowski et al. (2018), section 4: the unbiased estimate of the squared maximum mean discrepancy under the kernel
    (x'y / D + 1)^3. Over the whole set: random subsets, as some take, only add noise to the same expected value.
    Rows as for `frechet_score`.

    Raises:
        DataError: as `frechet_score`.
    """
    _check_features(a, b)
    _check_equally_many(a, b)
    n = len(a)
    if n < 3:
        raise DataError(f"Found {n} image(s); a score of a set takes 3 or more.")
    groups = groups_of(n)
    first, second, across = (_sums(x, y, groups) for x, y in ((a, a), (b, b), (a, b)))
    # An image beside itself says nothing of the distribution.
    first -= np.diag([_with_itself(a[rows]) for rows in groups])
    second -= np.diag([_with_itself(b[rows]) for rows in groups])
    sizes = np.array([len(rows) for rows in groups])

    def discrepancy(kept: NDArray[np.intp]) -> float:
        m, block = int(sizes[kept].sum()), np.ix_(kept, kept)
        inside = (first[block].sum() + second[block].sum()) / (m * (m - 1))
        return float(inside - 2 * across[block].sum() / m**2)

    everything = np.arange(len(groups))
    left_out = np.array([discrepancy(np.delete(everything, group)) for group in everything])
    return normal(discrepancy(everything), float(np.sqrt((len(groups) - 1) * left_out.var())), n)


def inception_score(probabilities: Array) -> Score:
    """Return the mean over ten splits of exp(mean KL(p(y|x) || p(y))), of class probabilities (N, C).

    Salimans et al. (2016), section 4: from 1 to the smaller of a split's images and C. Where a split holds one image
    p(y) is p(y|x), and the score is 1.00 +- 0.00 whatever was drawn; with few images it is hardly more.

    Raises:
        DataError: A split would hold fewer than 50 images, or a row is not a distribution (logits, say).
    """
    _check_table(probabilities, "Probabilities")
    if len(probabilities) < SPLITS * LEAST_IN_SPLIT:
        raise DataError(
            f"An Inception Score of {len(probabilities)} images in {SPLITS} splits would say nothing: a split takes "
            f"{LEAST_IN_SPLIT} images or more."
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
    return normal(float(scores.mean()), float(scores.std(ddof=1) / np.sqrt(SPLITS)), len(exact))


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
    """Add up the kernel over each group of x beside each group of y: a block in memory at a time."""
    return np.array([[_kernel(x[rows], y[others]).sum() for others in groups] for rows in groups])


def _kernel(x: Array, y: Array) -> Values:
    kernel: Values = (x.astype(np.float64) @ y.astype(np.float64).T / x.shape[1] + 1) ** 3
    return kernel


def _with_itself(x: Array) -> float:
    exact = x.astype(np.float64)
    return float(((np.square(exact).sum(axis=1) / x.shape[1] + 1) ** 3).sum())


def _check_features(a: Array, b: Array) -> None:
    for features in (a, b):
        _check_table(features, "Features")
    if a.shape[1] != b.shape[1]:
        raise DataError(f"Features of {a.shape[1]} and {b.shape[1]} columns differ; take both from one network.")


def _check_equally_many(a: Array, b: Array) -> None:
    if len(a) != len(b):
        raise DataError(
            f"Found {len(a)} drawn and {len(b)} true images; the interval is over pairs, so give equally many."
        )


def _check_table(table: Array, what: str) -> None:
    if table.ndim != 2 or len(table) < 2:
        raise DataError(f"{what} are of shape {table.shape}; give one row an image, of 2 images or more.")
    if not np.isfinite(table).all():
        bad = int((~np.isfinite(table).all(axis=1)).sum())
        raise DataError(f"{what} of {bad} of {len(table)} images hold NaN or infinity; look at those images.")
