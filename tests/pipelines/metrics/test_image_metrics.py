"""Image scores agree with scikit-image and with their formulas written out."""

from functools import partial

import numpy as np
import pytest
from scipy.ndimage import correlate
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from model.errors import DataError
from pipelines.metrics import image_metrics

SETTINGS = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def grey(level, *, n=1, side=16):
    return np.full((n, side, side, 3), level, np.uint8)


def noisy_pairs(rng, shape=(3, 40, 57, 3), noise=30):
    true = rng.integers(0, 256, shape, np.uint8)
    drawn = np.clip(true + rng.normal(0, noise, shape), 0, 255).astype(np.uint8)
    return drawn, true


def test_l1_counts_levels_without_overflow():
    drawn = np.concatenate([grey(0), grey(255), grey(100)])
    true = np.concatenate([grey(255), grey(0), grey(100)])
    true[2, :8] = 110
    assert image_metrics.l1(drawn, true).tolist() == [255, 255, 5]


def test_a_pixel_is_within_levels_if_all_its_channels_are():
    drawn, true = grey(100), grey(100)
    true[0, :4] = 105
    true[0, 4:8] = [100, 100, 106]
    true[0, 8:12] = [95, 100, 90]
    assert image_metrics.within(drawn, true, levels=5).tolist() == [0.5]
    assert image_metrics.within(drawn, true, levels=10).tolist() == [1.0]
    assert image_metrics.within(grey(0), grey(255), levels=10).tolist() == [0.0]


def test_psnr_agrees_with_scikit_image(rng):
    drawn, true = noisy_pairs(rng)
    expected = [peak_signal_noise_ratio(b, a, data_range=255) for a, b in zip(drawn, true, strict=True)]
    np.testing.assert_allclose(image_metrics.psnr(drawn, true), expected, rtol=1e-12)


def test_psnr_of_identical_images_is_finite_and_higher_than_of_one_level():
    same = image_metrics.psnr(grey(9), grey(9))[0]
    assert same == pytest.approx(10 * np.log10(255**2 * 12))
    assert same > image_metrics.psnr(grey(9), grey(10))[0] == pytest.approx(48.1308, abs=1e-4)
    assert image_metrics.psnr(grey(0), grey(255)) == pytest.approx(0)


@pytest.mark.parametrize("noise", [2, 30, 200])
def test_ssim_agrees_with_scikit_image(rng, noise):
    drawn, true = noisy_pairs(rng, noise=noise)
    expected = [structural_similarity(a, b, channel_axis=-1, **SETTINGS) for a, b in zip(drawn, true, strict=True)]
    np.testing.assert_allclose(image_metrics.ssim(drawn, true), expected, atol=1e-9)


def test_ssim_is_one_for_identical_flat_images_and_near_zero_for_noise(rng):
    assert image_metrics.ssim(grey(0), grey(0)) == pytest.approx(1)
    one, other = rng.integers(0, 256, (2, 1, 64, 64, 3), np.uint8)
    assert abs(image_metrics.ssim(one, other)[0]) < 0.05


def structure(x, y):
    """Return the mean of contrast and structure of one channel, with the window written out."""
    ticks = np.arange(-5, 6)
    window = np.exp(-np.add.outer(ticks**2, ticks**2) / (2 * 1.5**2))
    window /= window.sum()
    inside = (slice(5, -5), slice(5, -5))

    def mean(values):
        return correlate(values, window)[inside]

    covariance = mean(x * y) - mean(x) * mean(y)
    variances = mean(x * x) - mean(x) ** 2 + mean(y * y) - mean(y) ** 2
    c2 = (0.03 * 255) ** 2
    return ((2 * covariance + c2) / (variances + c2)).mean()


@pytest.mark.parametrize("noise", [5, 60])
def test_ms_ssim_is_the_papers_product_over_five_scales(rng, noise):
    drawn, true = noisy_pairs(rng, shape=(2, 181, 200, 3), noise=noise)
    for a, b, found in zip(drawn, true, image_metrics.ms_ssim(drawn, true), strict=True):
        channels = []
        for channel in range(3):
            x, y = a[..., channel].astype(float), b[..., channel].astype(float)
            product = 1.0
            for weight in (0.0448, 0.2856, 0.3001, 0.2363):
                product *= structure(x, y) ** weight
                height, width = (size // 2 * 2 for size in x.shape)
                x, y = (sum(p[i:height:2, j:width:2] for i in (0, 1) for j in (0, 1)) / 4 for p in (x, y))
            channels.append(product * structural_similarity(x, y, **SETTINGS) ** 0.1333)
        assert found == pytest.approx(np.mean(channels), abs=1e-9)


def test_ms_ssim_is_one_for_equal_images_and_zero_for_their_negative(rng):
    _, true = noisy_pairs(rng, shape=(1, 176, 176, 3))
    assert image_metrics.ms_ssim(true, true) == pytest.approx(1)
    assert image_metrics.ms_ssim(255 - true, true) == pytest.approx(0)


@pytest.mark.parametrize(
    "score", [image_metrics.l1, image_metrics.psnr, image_metrics.ssim, partial(image_metrics.within, levels=5)]
)
@pytest.mark.parametrize(
    ("drawn", "true", "message"),
    [
        (grey(1).astype(np.float32), grey(1), r"Drawn maps are float32 of shape \(1, 16, 16, 3\); give .* uint8"),
        (grey(1), grey(1)[0], r"True maps are uint8 of shape \(16, 16, 3\)"),
        (grey(1, n=0), grey(1, n=0), r"one or more RGB images"),
        (grey(1), grey(1, n=2), r"\(1, 16, 16, 3\) can't be compared with true maps of shape \(2, 16, 16, 3\)"),
    ],
)
def test_images_that_are_not_pairs_are_refused(score, drawn, true, message):
    with pytest.raises(DataError, match=message):
        score(drawn, true)


@pytest.mark.parametrize(("score", "least"), [(image_metrics.ssim, 11), (image_metrics.ms_ssim, 176)])
def test_images_smaller_than_the_windows_are_refused(score, least):
    small = grey(1, side=least - 1)
    with pytest.raises(DataError, match=f"Images of {least - 1}x{least - 1} are smaller"):
        score(small, small)
    assert score(grey(1, side=least), grey(1, side=least)) == pytest.approx(1)
