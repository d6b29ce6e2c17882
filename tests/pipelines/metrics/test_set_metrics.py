"""Set scores agree with textbook formulas, and their intervals with the spread over many samples."""

import itertools

import numpy as np
import pytest
from scipy.linalg import sqrtm

from model.errors import DataError
from pipelines.metrics.set_metrics import Features, frechet_distance, frechet_score, inception_score, kernel_score


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def textbook_frechet(a, b):
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    # The root of the symmetric form has the same trace, and exists without full rank too.
    root_a = sqrtm(cov_a + 1e-13 * np.eye(len(cov_a))).real
    middle = np.sqrt(np.clip(np.linalg.eigvalsh(root_a @ cov_b @ root_a), 0, None)).sum()
    return np.square(a.mean(0) - b.mean(0)).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * middle


@pytest.mark.parametrize(("n", "m", "d"), [(60, 80, 5), (8, 9, 30), (50, 10, 20), (10, 50, 20), (20, 20, 20)])
def test_frechet_distance_is_the_textbook_formula_for_tall_and_wide_tables(rng, n, m, d):
    mix = rng.normal(size=(d, d))
    a, b = rng.normal(size=(n, d)) @ mix, 0.3 + 1.4 * rng.normal(size=(m, d))
    assert frechet_distance(a, b) == pytest.approx(textbook_frechet(a, b), rel=1e-5)
    assert frechet_distance(b, a) == pytest.approx(frechet_distance(a, b))


def test_frechet_distance_is_the_formula_with_sqrtm_of_the_product(rng):
    a, b = rng.normal(size=(200, 12)) @ rng.normal(size=(12, 12)), rng.normal(size=(150, 12)) + 1
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(cov_a + cov_b - 2 * sqrtm(cov_a @ cov_b).real)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-10)


def test_frechet_distance_of_a_shift_is_its_square_and_of_equal_sets_zero(rng):
    a = rng.normal(size=(30, 100)).astype(np.float32)
    assert frechet_distance(a, a + 0.5) == pytest.approx(25, rel=1e-5)
    assert 0 <= frechet_distance(a, a[::-1]) < 1e-9


def textbook_kernel(a, b):
    """Return the unbiased estimate by its definition, product by product."""
    n, d = a.shape

    def kernel(x, y):
        return (x @ y / d + 1) ** 3

    inside = sum(kernel(x[i], x[j]) for x in (a, b) for i, j in itertools.permutations(range(n), 2))
    across = sum(kernel(x, y) for x, y in itertools.product(a, b))
    return inside / (n * (n - 1)) - 2 * across / n**2


@pytest.mark.parametrize("n", [3, 7, 25])
def test_kernel_score_is_the_unbiased_estimate(rng, n):
    a, b = rng.normal(size=(n, 6)), 0.5 + rng.normal(size=(n, 6))
    assert kernel_score(a, b).value == pytest.approx(textbook_kernel(a, b), abs=1e-9)


def test_kernel_score_is_torchmetrics_on_fixed_arrays():
    """`torchmetrics.functional...poly_mmd` (degree 3, gamma 1/D, coef 1) on these arrays, subset_size = 12."""
    grid = np.arange(12 * 5, dtype=np.float64).reshape(12, 5)
    real, fake = np.sin(grid), np.cos(1.7 * grid)
    k_xx, k_yy, k_xy = ((x @ y.T / 5 + 1) ** 3 for x, y in ((real, real), (fake, fake), (real, fake)))
    off_diagonal = sum((k.sum(axis=-1) - np.diag(k)).sum() for k in (k_xx, k_yy))
    expected = off_diagonal / (12 * 11) - 2 * k_xy.sum() / 12**2
    assert kernel_score(real, fake).value == pytest.approx(expected, abs=1e-12)


def test_kernel_score_has_no_bias_in_the_number_of_images(rng):
    few = [kernel_score(rng.normal(size=(10, 8)), rng.normal(size=(10, 8))).value for _ in range(300)]
    assert np.mean(few) == pytest.approx(0, abs=3 * np.std(few) / np.sqrt(300))
    assert kernel_score(rng.normal(size=(50, 8)), 1 + rng.normal(size=(50, 8))).low > 0


def test_set_scores_refuse_features_that_do_not_fit(rng):
    a = rng.normal(size=(10, 4))
    with pytest.raises(DataError, match=r"shape \(1, 4\); give one row for each of 2 or more images"):
        frechet_distance(a[:1], a)
    for score in (frechet_score, kernel_score):
        with pytest.raises(DataError, match="10 drawn and 9 true"):
            score(a, a[:9])
        with pytest.raises(DataError, match=r"Found 2 image\(s\)"):
            score(a[:2], a[:2])
        with pytest.raises(DataError, match="4 and 3 columns differ"):
            score(a, a[:, :3])
    a[3, 1] = np.nan
    for score in (frechet_score, kernel_score):
        with pytest.raises(DataError, match="Features of 1 of 10 images contain NaN"):
            score(a, np.zeros((10, 4)))


def half(score):
    return (score.high - score.low) / 2


# 13 images make groups of 2 and 1.
@pytest.mark.parametrize("score", [frechet_score, kernel_score])
@pytest.mark.parametrize("n", [13, 45, 200])
def test_the_interval_is_the_spread_over_fresh_samples(rng, score, n):
    scores = []
    for _ in range(100):
        true = rng.normal(size=(n, 6))
        scores.append(score(1.5 * true + rng.normal(size=(n, 6)) + 1, true))
    spread = np.std([found.value for found in scores], ddof=1)
    assert np.mean([half(found) for found in scores]) == pytest.approx(1.96 * spread, rel=0.3)
    assert {found.n for found in scores} == {n}


def test_inception_score_runs_from_one_to_the_number_of_classes():
    assert inception_score(np.full((500, 4), 0.25)).value == pytest.approx(1)
    score = inception_score(np.tile(np.eye(5, dtype=np.float32), (100, 1)))
    assert score.value == pytest.approx(5) and half(score) == pytest.approx(0, abs=1e-6)


def test_inception_score_is_the_mean_of_ten_splits_with_its_spread(rng):
    probabilities = rng.dirichlet(np.full(8, 0.3), size=600)
    splits = []
    for split in probabilities.reshape(10, 60, 8):
        divergence = (split * np.log(split / split.mean(axis=0))).sum(axis=1)
        splits.append(np.exp(divergence.mean()))
    score = inception_score(probabilities)
    assert score.value == pytest.approx(np.mean(splits))
    assert half(score) == pytest.approx(1.96 * np.std(splits, ddof=1) / np.sqrt(10))


@pytest.mark.parametrize("n", [10, 499])
def test_inception_score_of_few_images_a_split_is_refused(n):
    with pytest.raises(DataError, match=f"^{n} images in 10 splits are too few"):
        inception_score(np.full((n, 4), 0.25))


def test_inception_score_refuses_logits(rng):
    with pytest.raises(DataError, match="take them after the softmax"):
        inception_score(rng.normal(size=(500, 4)))


def test_features_need_one_row_for_each_image():
    with pytest.raises(DataError, match=r"shape \(3, 8\) do not belong to probabilities of shape \(2, 5\)"):
        Features(pool=np.zeros((3, 8), np.float32), probabilities=np.zeros((2, 5), np.float32))
