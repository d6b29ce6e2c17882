"""Convolutions of kernel size 4, each computed by the method that is fastest on a CPU.

Large images with many channels use minimal filtering (`model/networks/winograd.py`), small ones plain matrix products.
oneDNN's convolutions are fast for large images but slow for the deep levels of a U-Net: the gradient of a kernel over
4x4 pixels runs at 1/20 of the speed of a matrix product, and every use of a deep kernel first reorders its 4 to 8
million weights. `python -m pipelines bench training` measures the complete step.

A large image is (N, 2h, 2w, C), a small one (N, h, w, D), a kernel (4, 4, C, D).
"""

from typing import Any

import tensorflow as tf

from model.networks import winograd
from model.networks.winograd import Geometry

KERNEL = 4
# The largest width of the large image, in pixels, for which the matrix product is faster at batch 1 to 16.
WIDEST_DOWN = 8
WIDEST_UP = 16
WIDEST_KERNEL_GRADIENT = 64
# With as few channels as photos and maps have, a convolution's vectors are half empty.
FEW_CHANNELS = 8
# The least number of channel pairs for which minimal filtering outweighs the cost of its image transforms.
CHANNEL_PAIRS_TO_FILTER = 128 * 128
# The least number of pixels in all small images for which it outweighs the cost of its kernel transforms.
PIXELS_TO_FILTER = 512


def convolve(image: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Convolve a large image to a small one: stride 2, padding "same"."""
    n, height, width, channels = image.shape
    geometry = Geometry(2, n, height, width, channels, kernel.shape[-1])
    if _use_winograd(geometry):
        return winograd.convolve(image, kernel, geometry)
    return _convolve(image, kernel)


def convolve_transposed(small: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Convolve a small image to a large one: stride 2, padding "same"; the transpose of `convolve`."""
    n, height, width, filters = small.shape
    geometry = Geometry(2, n, 2 * height, 2 * width, kernel.shape[2], filters)
    if _use_winograd(geometry):
        return winograd.convolve_transposed(small, kernel, geometry)
    return _convolve_transposed(small, kernel)


def double_kernel(kernel: tf.Tensor) -> tf.Tensor:
    """Return the kernel with which `convolve_transposed` repeats each pixel twice in both directions and convolves.

    Args:
        kernel: A kernel for the doubled image, (3, 3, C, D), for stride 1 and padding "same".

    Returns:
        A kernel (4, 4, D, C): that of 3, turned and smeared over the two positions of a repeated pixel.
    """
    turned = tf.transpose(kernel[::-1, ::-1], (0, 1, 3, 2))
    rows = tf.pad(turned, ((0, 1), (0, 0), (0, 0), (0, 0))) + tf.pad(turned, ((1, 0), (0, 0), (0, 0), (0, 0)))
    return tf.pad(rows, ((0, 0), (0, 1), (0, 0), (0, 0))) + tf.pad(rows, ((0, 0), (1, 0), (0, 0), (0, 0)))


def convolve_valid(image: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Convolve an image (N, h + 3, w + 3, C) to (N, h, w, D): stride 1, no padding."""
    n, height, width, channels = image.shape
    geometry = Geometry(1, n, height, width, channels, kernel.shape[-1])
    if _use_winograd(geometry):
        return winograd.convolve(image, kernel, geometry)
    return _convolve_valid(image, kernel)


def _use_winograd(geometry: Geometry) -> bool:
    # The number of images is unknown while Keras builds a network.
    if geometry.n is None or geometry.channels * geometry.filters < CHANNEL_PAIRS_TO_FILTER:
        return False
    height, width = geometry.small
    return geometry.n * height * width >= PIXELS_TO_FILTER


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _convolve(image: tf.Tensor, kernel: tf.Tensor) -> Any:  # noqa: ANN401 - required by tf.custom_gradient
    def gradient(small: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return _up(small, kernel), _kernel_gradient(image, small)

    return _down(image, kernel), gradient


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _convolve_transposed(small: tf.Tensor, kernel: tf.Tensor) -> Any:  # noqa: ANN401 - required by tf.custom_gradient
    def gradient(image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return _down(image, kernel), _kernel_gradient(image, small)

    return _up(small, kernel), gradient


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _convolve_valid(image: tf.Tensor, kernel: tf.Tensor) -> Any:  # noqa: ANN401 - required by tf.custom_gradient
    shape = tf.shape(image)

    def gradient(small: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        strides = [1, 1, 1, 1]
        back = tf.raw_ops.Conv2DBackpropInput(
            input_sizes=shape, filter=kernel, out_backprop=small, strides=strides, padding="VALID"
        )
        _, height, width, _ = small.shape
        taps = [
            image[:, row : row + height, column : column + width] for row in range(KERNEL) for column in range(KERNEL)
        ]
        return back, tf.reshape(_product(taps, small), tf.shape(kernel))

    return tf.nn.conv2d(image, kernel, 1, "VALID"), gradient


def _down(image: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    _, height, width, _ = image.shape
    if max(height, width) > WIDEST_DOWN:
        return tf.nn.conv2d(image, kernel, 2, "SAME")
    filters = kernel.shape[-1]
    windows = _rows(tf.concat(_windows(image), axis=-1))
    return tf.reshape(windows @ tf.reshape(kernel, (-1, filters)), (-1, height // 2, width // 2, filters))


def _up(small: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    _, height, width, filters = small.shape
    channels = kernel.shape[2]
    if max(height, width) * 2 > WIDEST_UP and channels > FEW_CHANNELS:
        shape = (tf.shape(small)[0], 2 * height, 2 * width, channels)
        return tf.nn.conv2d_transpose(small, kernel, shape, 2, "SAME")
    windows = tf.matmul(_rows(small), tf.reshape(kernel, (-1, filters)), transpose_b=True)
    windows = tf.reshape(windows, (-1, height, width, 2, 2, 2, 2 * channels))
    # Window (i, j) covers rows 2i - 1 to 2i + 2: two pairs of rows, the first of them shared with window i - 1.
    above_left, above_right, below_left, below_right = (
        tf.pad(
            tf.reshape(windows[:, :, :, down, :, right], (-1, height, width, 4 * channels)),
            ((0, 0), (down, 1 - down), (right, 1 - right), (0, 0)),
        )
        for down in (0, 1)
        for right in (0, 1)
    )
    # Not tf.add_n, whose order of summation varies.
    pairs = (above_left + above_right) + (below_left + below_right)
    return tf.nn.depth_to_space(pairs, 2)[:, 1:-1, 1:-1]


def _kernel_gradient(image: tf.Tensor, small: tf.Tensor) -> tf.Tensor:
    _, height, width, channels = image.shape
    shape = (KERNEL, KERNEL, channels, small.shape[-1])
    if max(height, width) > WIDEST_KERNEL_GRADIENT:
        return tf.raw_ops.Conv2DBackpropFilter(
            input=image, filter_sizes=shape, out_backprop=small, strides=[1, 2, 2, 1], padding="SAME"
        )
    return tf.reshape(_product(_windows(image), small), shape)


def _product(taps: list[tf.Tensor], small: tf.Tensor) -> tf.Tensor:
    """Return the kernel gradient: each tap's pixels times the output gradient, summed over all pixels."""
    return tf.matmul(_rows(tf.concat(taps, axis=-1)), _rows(small), transpose_a=True)


def _windows(image: tf.Tensor) -> list[tf.Tensor]:
    """Cut the 4x4 windows of stride 2 out of a large image: eight (N, h, w, 2 C), row by row, two columns each.

    Concatenated they are (N, h, w, 16 C) in the kernel's order. Cutting pairs of columns keeps the copies contiguous
    for longer.
    """
    _, height, width, channels = image.shape
    height, width = height // 2, width // 2
    padded = tf.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)))
    pairs = tf.reshape(padded, (-1, height + 1, 2, width + 1, 2 * channels))
    return [
        pairs[:, down : down + height, row, right : right + width]
        for down in (0, 1)
        for row in (0, 1)
        for right in (0, 1)
    ]


def _rows(image: tf.Tensor) -> tf.Tensor:
    return tf.reshape(image, (-1, image.shape[-1]))
