"""Image scores against scikit-image, set scores against textbook formulas, errors against the spread of many draws."""

import numpy as np
import pytest
from scipy.linalg import sqrtm
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from model.errors import DataError
from pipelines import metrics
from pipelines.metrics import Features, Score


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def grey(level, *, n=1, side=16):
    return np.full((n, side, side, 3), level, np.uint8)


def noisy_pairs(rng, shape=(3, 40, 57, 3), noise=30):
    true = rng.integers(0, 256, shape, np.uint8)
    drawn = np.clip(true + rng.normal(0, noise, shape), 0, 255).astype(np.uint8)
    return drawn, true


def test_l1_counts_levels_and_does_not_wrap_around():
    drawn = np.concatenate([grey(0), grey(255), grey(100)])
    true = np.concatenate([grey(255), grey(0), grey(100)])
    true[2, :8] = 110
    assert metrics.l1(drawn, true).tolist() == [255, 255, 5]


def test_psnr_agrees_with_scikit_image(rng):
    drawn, true = noisy_pairs(rng)
    expected = [peak_signal_noise_ratio(b, a, data_range=255) for a, b in zip(drawn, true, strict=True)]
    np.testing.assert_allclose(metrics.psnr(drawn, true), expected, rtol=1e-12)


def test_psnr_of_identical_images_is_finite_and_above_one_level_of_error():
    same = metrics.psnr(grey(9), grey(9))[0]
    assert same == pytest.approx(10 * np.log10(255**2 * 12))
    assert same > metrics.psnr(grey(9), grey(10))[0] == pytest.approx(48.1308, abs=1e-4)
    assert metrics.psnr(grey(0), grey(255)) == pytest.approx(0)


@pytest.mark.parametrize("noise", [2, 30, 200])
def test_ssim_agrees_with_scikit_image(rng, noise):
    drawn, true = noisy_pairs(rng, noise=noise)
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    expected = [structural_similarity(a, b, channel_axis=-1, **settings) for a, b in zip(drawn, true, strict=True)]
    np.testing.assert_allclose(metrics.ssim(drawn, true), expected, atol=1e-9)


def test_ssim_is_one_for_identical_flat_images_and_near_zero_for_noise(rng):
    assert metrics.ssim(grey(0), grey(0)) == pytest.approx(1)
    one, other = rng.integers(0, 256, (2, 1, 64, 64, 3), np.uint8)
    assert abs(metrics.ssim(one, other)[0]) < 0.05


@pytest.mark.parametrize("score", [metrics.l1, metrics.psnr, metrics.ssim])
@pytest.mark.parametrize(
    ("drawn", "true", "message"),
    [
        (grey(1).astype(np.float32), grey(1), r"Drawn maps are float32 of shape \(1, 16, 16, 3\); give .* uint8"),
        (grey(1), grey(1)[0], r"True maps are uint8 of shape \(16, 16, 3\)"),
        (grey(1, n=0), grey(1, n=0), r"one or more RGB images"),
        (grey(1), grey(1, n=2), r"\(1, 16, 16, 3\) can't be compared with true maps of shape \(2, 16, 16, 3\)"),
    ],
)
def test_image_scores_refuse_what_is_no_pair_of_photos(score, drawn, true, message):
    with pytest.raises(DataError, match=message):
        score(drawn, true)


def test_ssim_refuses_images_smaller_than_its_window():
    with pytest.raises(DataError, match="Images of 10x10 are smaller"):
        metrics.ssim(grey(1, side=10), grey(1, side=10))
    assert metrics.ssim(grey(1, side=11), grey(1, side=11)) == pytest.approx(1)


def test_mean_score_is_the_mean_with_its_standard_error():
    score = metrics.mean_score(np.array([1.0, 2.0, 3.0, 4.0]))
    assert (score.value, score.n) == (2.5, 4)
    assert score.error == pytest.approx(np.sqrt(5 / 3) / 2)


def test_a_score_survives_json():
    score = Score(value=0.5, error=0.25, n=3)
    assert score.model_dump_json() == '{"value":0.5,"error":0.25,"n":3}'
    assert Score.model_validate_json(score.model_dump_json()) == score


@pytest.mark.parametrize("values", [[], [1.0], [[1.0, 2.0], [3.0, 4.0]], [1.0, np.nan], [1.0, np.inf]])
def test_mean_score_refuses_values_without_a_mean_or_an_error(values):
    with pytest.raises(DataError):
        metrics.mean_score(np.array(values))


@pytest.mark.parametrize(
    ("value", "error", "n"), [(np.nan, 0.1, 5), (1.0, np.nan, 5), (1.0, np.inf, 5), (1.0, -0.1, 5), (1.0, 0.0, 1)]
)
def test_a_score_that_is_no_measurement_is_refused(value, error, n):
    with pytest.raises(DataError):
        Score(value=value, error=error, n=n)


def textbook_frechet(a, b):
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    # The root of the symmetric form: same trace, and it also exists without full rank.
    root_a = sqrtm(cov_a + 1e-13 * np.eye(len(cov_a))).real
    middle = np.sqrt(np.clip(np.linalg.eigvalsh(root_a @ cov_b @ root_a), 0, None)).sum()
    return np.square(a.mean(0) - b.mean(0)).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * middle


@pytest.mark.parametrize(("n", "m", "d"), [(60, 80, 5), (8, 9, 30), (50, 10, 20), (10, 50, 20), (20, 20, 20)])
def test_frechet_distance_is_the_textbook_formula_for_tall_and_wide_tables(rng, n, m, d):
    mix = rng.normal(size=(d, d))
    a, b = rng.normal(size=(n, d)) @ mix, 0.3 + 1.4 * rng.normal(size=(m, d))
    assert metrics.frechet_distance(a, b) == pytest.approx(textbook_frechet(a, b), rel=1e-5)
    assert metrics.frechet_distance(b, a) == pytest.approx(metrics.frechet_distance(a, b))


def test_frechet_distance_is_the_formula_with_sqrtm_of_the_product(rng):
    a, b = rng.normal(size=(200, 12)) @ rng.normal(size=(12, 12)), rng.normal(size=(150, 12)) + 1
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(cov_a + cov_b - 2 * sqrtm(cov_a @ cov_b).real)
    assert metrics.frechet_distance(a, b) == pytest.approx(expected, rel=1e-10)


def test_frechet_distance_of_a_shift_is_its_square_and_of_equal_sets_zero(rng):
    a = rng.normal(size=(30, 100)).astype(np.float32)
    assert metrics.frechet_distance(a, a + 0.5) == pytest.approx(25, rel=1e-5)
    assert 0 <= metrics.frechet_distance(a, a[::-1]) < 1e-9


def test_frechet_refuses_tables_that_do_not_fit(rng):
    a = rng.normal(size=(10, 4))
    with pytest.raises(DataError, match=r"shape \(1, 4\); give one row an image, of 2 images or more"):
        metrics.frechet_distance(a[:1], a)
    with pytest.raises(DataError, match="4 and 3 columns differ"):
        metrics.frechet_distance(a, a[:, :3])
    with pytest.raises(DataError, match="10 drawn and 9 true"):
        metrics.frechet_score(a, a[:9])
    with pytest.raises(DataError, match=r"Found 2 image\(s\)"):
        metrics.frechet_score(a[:2], a[:2])
    a[3, 1] = np.nan
    with pytest.raises(DataError, match="Features of 1 of 10 images hold NaN"):
        metrics.frechet_distance(a, np.zeros((10, 4)))


# 13 images make groups of 2 and 1.
@pytest.mark.parametrize("n", [13, 45, 200])
def test_the_jackknife_error_of_a_frechet_score_is_its_spread_over_fresh_samples(rng, n):
    scores = []
    for _ in range(100):
        true = rng.normal(size=(n, 6))
        scores.append(metrics.frechet_score(1.5 * true + rng.normal(size=(n, 6)) + 1, true))
    spread = np.std([score.value for score in scores], ddof=1)
    assert np.mean([score.error for score in scores]) == pytest.approx(spread, rel=0.25)
    assert {score.n for score in scores} == {n}


def test_the_jackknife_error_of_an_inception_score_is_its_spread_over_fresh_samples(rng):
    draws = [rng.dirichlet(np.full(8, 0.3), size=45) for _ in range(100)]
    scores = [metrics.inception_score_with_error(draw) for draw in draws]
    assert scores[0].value == metrics.inception_score(draws[0])
    spread = np.std([score.value for score in scores], ddof=1)
    assert np.mean([score.error for score in scores]) == pytest.approx(spread, rel=0.25)


def test_inception_score_runs_from_one_to_the_number_of_classes():
    assert metrics.inception_score(np.full((6, 4), 0.25)) == pytest.approx(1)
    assert metrics.inception_score(np.eye(5, dtype=np.float32)) == pytest.approx(5)
    assert metrics.inception_score(np.repeat(np.eye(5), 3, axis=0)) == pytest.approx(5)


def test_inception_score_refuses_single_images_and_logits(rng):
    with pytest.raises(DataError, match="2 images or more"):
        metrics.inception_score(np.eye(4)[:1])
    with pytest.raises(DataError, match="takes 3 or more"):
        metrics.inception_score_with_error(np.eye(4)[:2])
    with pytest.raises(DataError, match="take them after the softmax"):
        metrics.inception_score(rng.normal(size=(5, 4)))


def test_features_hold_one_row_an_image():
    with pytest.raises(DataError, match=r"shape \(3, 8\) do not belong to probabilities of shape \(2, 5\)"):
        Features(pool=np.zeros((3, 8), np.float32), probabilities=np.zeros((2, 5), np.float32))
