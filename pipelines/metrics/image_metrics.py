"""Scores of drawn maps against their true maps, one number for each image."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from model.errors import DataError
from model.pixels import Pixels, check_images

Values = NDArray[np.float64]
"""One number for each image: float64 of shape (N,)."""

ROUNDING_ERROR = 1 / 12
"""Mean square error of rounding to integer levels."""
WINDOW = 11
"""Height and width of the window of SSIM."""
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Weights of the scales of MS-SSIM, the finest first (Wang, Simoncelli and Bovik 2003, section 3.2)."""
MS_SSIM_SIDE = WINDOW * 2 ** (len(SCALE_WEIGHTS) - 1)
"""Least height and width for a window at the coarsest scale."""


def check_pairs(drawn: Pixels, true: Pixels) -> None:
    """Check that images can be compared in pairs.

    Raises:
        DataError: The two are not uint8 RGB images of the same shape.
    """
    check_images(drawn, "Drawn maps")
    check_images(true, "True maps")
    if drawn.shape != true.shape:
        raise DataError(
            f"Drawn maps of shape {drawn.shape} can't be compared with true maps of shape {true.shape}; "
            "give both the same shape."
        )


def l1(drawn: Pixels, true: Pixels) -> Values:
    """Return the mean absolute difference of each pair, in levels of 255.

    Args:
        drawn: Drawn maps, uint8 (N, H, W, 3).
        true: Their true maps, of the same shape.

    Raises:
        DataError: The two are not uint8 RGB images of the same shape.
    """
    check_pairs(drawn, true)
    return np.array([_differences(a, b).mean() for a, b in zip(drawn, true, strict=True)])


def within(drawn: Pixels, true: Pixels, *, levels: int) -> Values:
    """Return the share of pixels in each pair with all channels within `levels`; images as for `l1`."""
    check_pairs(drawn, true)
    return np.array([(_differences(a, b).max(axis=-1) <= levels).mean() for a, b in zip(drawn, true, strict=True)])


def psnr(drawn: Pixels, true: Pixels) -> Values:
    """Return the peak signal-to-noise ratio of each pair, in dB; images as for `l1`.

    The mean square error counts as at least 1/12, the error of rounding to integer levels: closer agreement can't be
    measured in uint8. So identical images have 58.9 dB and not infinity, which would make every mean infinite.
    """
    check_pairs(drawn, true)
    square = [np.square(_differences(a, b), dtype=np.int32).mean() for a, b in zip(drawn, true, strict=True)]
    return 10 * np.log10(255**2 / np.maximum(square, ROUNDING_ERROR))


def ssim(drawn: Pixels, true: Pixels) -> Values:
    """Return the structural similarity of each pair, 1 for identical images; images as for `l1`, 11 pixels or more.

    Wang, Bovik, Sheikh and Simoncelli (2004), section III-B and C: Gaussian window of 11x11 pixels with sigma 1.5,
    K1 = 0.01, K2 = 0.03; the mean over the channels, and over windows that lie completely inside the image.
    """
    check_pairs(drawn, true)
    _check_side(drawn, WINDOW, "SSIM")
    return np.array([np.mean(_similarity(_planes(a), _planes(b))[0]) for a, b in zip(drawn, true, strict=True)])


def ms_ssim(drawn: Pixels, true: Pixels) -> Values:
    """Return the multi-scale structural similarity of each pair; images as for `l1`, 176 pixels or more.

    Wang, Simoncelli and Bovik (2003), section 3: contrast and structure at five scales, each with half the resolution
    of the one before (2x2 pixels are averaged), luminance at the last; windows as for `ssim`. The mean over the
    channels; a negative factor counts as 0, since its power is not real.
    """
    check_pairs(drawn, true)
    _check_side(drawn, MS_SSIM_SIDE, "MS-SSIM")
    return np.array([_ms_ssim(_planes(a), _planes(b)) for a, b in zip(drawn, true, strict=True)])


def _ms_ssim(x: Values, y: Values) -> float:
    product = np.ones(len(x))
    for scale, weight in enumerate(SCALE_WEIGHTS):
        similarity, structure = _similarity(x, y)
        factor = similarity if scale == len(SCALE_WEIGHTS) - 1 else structure
        product *= np.maximum(factor, 0) ** weight
        x, y = _downsample(x), _downsample(y)
    return float(product.mean())


def _similarity(x: Values, y: Values) -> tuple[Values, Values]:
    """Return the SSIM of each channel, (C,), and its factor without the luminance."""
    mean_x, mean_y, mean_squares, mean_product = (_window_means(plane) for plane in (x, y, x * x + y * y, x * y))
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    squares, product = mean_x * mean_x + mean_y * mean_y, mean_x * mean_y
    luminance = (2 * product + c1) / (squares + c1)
    # Only the sum of the two variances is needed, so one filtered plane serves both.
    structure = (2 * (mean_product - product) + c2) / (mean_squares - squares + c2)
    return (luminance * structure).mean(axis=(1, 2)), structure.mean(axis=(1, 2))


def _window_means(planes: Values) -> Values:
    """Return Gaussian means of (C, H, W) for windows that lie completely inside."""
    mean: Values = gaussian_filter(planes, sigma=1.5, radius=5, axes=(1, 2))[:, 5:-5, 5:-5]
    return mean


def _downsample(planes: Values) -> Values:
    """Average blocks of 2x2 pixels of (C, H, W); an odd last row or column is left out."""
    _, height, width = planes.shape
    even = planes[:, : height // 2 * 2, : width // 2 * 2]
    halved: Values = even.reshape(len(planes), height // 2, 2, width // 2, 2).mean(axis=(2, 4))
    return halved


def _planes(image: Pixels) -> Values:
    return np.moveaxis(image, -1, 0).astype(np.float64)


def _differences(drawn: Pixels, true: Pixels) -> NDArray[np.int16]:
    return np.abs(np.subtract(drawn, true, dtype=np.int16))


def _check_side(images: Pixels, least: int, score: str) -> None:
    if min(images.shape[1:3]) < least:
        height, width = images.shape[1:3]
        raise DataError(
            f"Images of {width}x{height} are smaller than the windows of {score}; give {least}x{least} pixels or more."
        )
