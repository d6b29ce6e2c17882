"""Convolutions of kernel size 4 with fewer multiplications: Winograd's minimal filtering.

Along one axis, two taps g over three values d give two outputs with three products instead of four (Lavin & Gray 2016,
"Fast Algorithms for Convolutional Neural Networks", section 4.1, as F(2, 2)):

    y0 = (d0 - d1) g0 + d1 (g0 + g1)        y1 = d1 (g0 + g1) + (d2 - d1) g1

At stride 2 a value is a pair of pixels and a kernel has two taps. At stride 1 a value is one pixel and the four taps
are two taps of two taps each: the rule is applied to itself. In two dimensions that is 36 products for every 64 of a
plain convolution at stride 2, and 81 for every 256 at stride 1.

All products of one kind form one matrix product over the channels. Gradients are the same products with the sums before
and after them transposed. The price is rounding: in bfloat16 an output is off by up to 0.75 % (stride 2) or 1.5 %
(stride 1) of the outputs' standard deviation, compared with 0.3 % for a plain convolution; in float32 by up to two
millionths.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

TILE = 4
"""Pixels along one axis from one tile to the next, which is also the kernel size."""

Parts = list[Any]
"""Arrays or tensors of the same shape."""


class Geometry(NamedTuple):
    """The sizes of a convolution of an image (N, H, W, C) to a small one (N, h, w, D).

    At stride 2 the padding is "same" and H and W are even; at stride 1 there is no padding.
    """

    stride: int
    n: int
    height: int
    width: int
    channels: int
    filters: int

    @property
    def small(self) -> tuple[int, int]:
        """Height and width of the small image."""
        if self.stride == 2:
            return self.height // 2, self.width // 2
        return self.height - TILE + 1, self.width - TILE + 1

    @property
    def outputs(self) -> int:
        """Outputs of a tile along one axis, equal to the number of a kernel's taps."""
        return TILE // self.stride

    @property
    def points(self) -> int:
        """Products of a tile along one axis."""
        return {1: 9, 2: 3}[self.stride]

    @property
    def tiles(self) -> tuple[int, int]:
        """Number of tiles: down and across."""
        height, width = self.small
        return -(-height // self.outputs), -(-width // self.outputs)

    @property
    def before(self) -> int:
        """Rows and columns of zeros before the image."""
        return self.stride - 1

    @property
    def after(self) -> tuple[int, int]:
        """Rows of zeros below and columns to the right of the image, up to one extra tile."""
        down, across = self.tiles
        return TILE * (down + 1) - self.before - self.height, TILE * (across + 1) - self.before - self.width


def convolve(image: tf.Tensor, kernel: tf.Tensor, geometry: Geometry) -> tf.Tensor:
    """Convolve an image to a small one; kernel (4, 4, C, D)."""

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def operation(image: tf.Tensor, kernel: tf.Tensor) -> Any:  # noqa: ANN401 - required by tf.custom_gradient
        image_points, kernel_points = _image_points(image, geometry), _kernel_points(kernel, geometry)

        def gradient(small: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            small_points = _small_points(small, geometry)
            return _multiply_to_image(small_points, kernel_points, geometry), _multiply_to_kernel(
                image_points, small_points, geometry
            )

        return _multiply_to_small(image_points, kernel_points, geometry), gradient

    return operation(image, kernel)


def convolve_transposed(small: tf.Tensor, kernel: tf.Tensor, geometry: Geometry) -> tf.Tensor:
    """Convolve a small image to an image: the transpose of `convolve`."""

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def operation(small: tf.Tensor, kernel: tf.Tensor) -> Any:  # noqa: ANN401 - required by tf.custom_gradient
        small_points, kernel_points = _small_points(small, geometry), _kernel_points(kernel, geometry)

        def gradient(image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            image_points = _image_points(image, geometry)
            return _multiply_to_small(image_points, kernel_points, geometry), _multiply_to_kernel(
                image_points, small_points, geometry
            )

        return _multiply_to_image(small_points, kernel_points, geometry), gradient

    return operation(small, kernel)


# Matrix products over the points, with `points` squared and `tiles` counted over all images:
# image (points, tiles, stride^2 C) @ kernel (points, stride^2 C, D) = small image (points, tiles, D).
# Each of the three follows from the other two.


def _multiply_to_small(image_points: tf.Tensor, kernel_points: tf.Tensor, geometry: Geometry) -> tf.Tensor:
    return _small_from_points(tf.matmul(image_points, kernel_points), geometry)


def _multiply_to_image(small_points: tf.Tensor, kernel_points: tf.Tensor, geometry: Geometry) -> tf.Tensor:
    return _image_from_points(tf.matmul(small_points, kernel_points, transpose_b=True), geometry)


def _multiply_to_kernel(image_points: tf.Tensor, small_points: tf.Tensor, geometry: Geometry) -> tf.Tensor:
    return _kernel_from_points(tf.matmul(image_points, small_points, transpose_a=True), geometry)


def _image_points(image: tf.Tensor, geometry: Geometry) -> tf.Tensor:
    """Transform (N, H, W, C) -> (points, tiles, stride^2 C)."""
    n, channels, stride, points = geometry.n, geometry.channels, geometry.stride, geometry.points
    down, across = geometry.tiles
    before, (below, right) = geometry.before, geometry.after
    image = tf.pad(image, ((0, 0), (before, below), (before, right), (0, 0)))
    if stride > 1:
        # Make the rows of a value adjacent.
        rows = tf.reshape(image, (n, -1, stride, TILE * (across + 1), channels))
        image = tf.transpose(rows, (0, 1, 3, 2, 4))
    image = tf.stack(_points(_cut(image, n, down, geometry)))
    image = tf.stack(_points(_cut(image, points * n * down, across, geometry)))
    return tf.reshape(image, (points**2, n * down * across, stride**2 * channels))


def _image_from_points(parts: tf.Tensor, geometry: Geometry) -> tf.Tensor:
    """Apply the transpose of `_image_points`."""
    stride, n, height, width, channels, _ = geometry
    (down, across), points, before = geometry.tiles, geometry.points, geometry.before
    columns = tf.unstack(tf.reshape(parts, (points, points * n * down, across, -1)))
    rows = tf.unstack(tf.reshape(_join(_points_transposed(columns), geometry), (points, n, down, -1)))
    image = _join(_points_transposed(rows), geometry)
    if stride > 1:
        image = tf.reshape(image, (n, -1, TILE * (across + 1), stride, channels))
        image = tf.transpose(image, (0, 1, 3, 2, 4))
    image = tf.reshape(image, (n, TILE * (down + 1), TILE * (across + 1), channels))
    return image[:, before : before + height, before : before + width]


def _small_points(small: tf.Tensor, geometry: Geometry) -> tf.Tensor:
    """Transform (N, h, w, D) -> (points, tiles, D)."""
    n, (height, width), filters = geometry.n, geometry.small, geometry.filters
    (down, across), outputs = geometry.tiles, geometry.outputs
    small = tf.pad(small, ((0, 0), (0, outputs * down - height), (0, outputs * across - width), (0, 0)))
    rows = tf.stack(_outputs_transposed(tf.unstack(tf.reshape(small, (n * down, outputs, -1)), axis=1)))
    columns = tf.stack(_outputs_transposed(tf.unstack(tf.reshape(rows, (-1, outputs, filters)), axis=1)))
    return tf.reshape(columns, (geometry.points**2, n * down * across, filters))


def _small_from_points(parts: tf.Tensor, geometry: Geometry) -> tf.Tensor:
    """Apply the transpose of `_small_points`."""
    n, (height, width), filters = geometry.n, geometry.small, geometry.filters
    (down, across), outputs, points = geometry.tiles, geometry.outputs, geometry.points
    columns = tf.stack(_outputs(tf.unstack(tf.reshape(parts, (points, -1, filters)))), axis=1)
    rows = tf.stack(_outputs(tf.unstack(tf.reshape(columns, (points, n * down, -1)))), axis=1)
    return tf.reshape(rows, (n, outputs * down, outputs * across, filters))[:, :height, :width]


def _kernel_points(kernel: tf.Tensor, geometry: Geometry) -> tf.Tensor:
    """Transform (4, 4, C, D) -> (points, stride^2 C, D)."""
    parts = tf.constant(_taps(geometry), kernel.dtype) @ tf.reshape(kernel, (TILE**2, -1))
    return tf.reshape(parts, (geometry.points**2, -1, geometry.filters))


def _kernel_from_points(parts: tf.Tensor, geometry: Geometry) -> tf.Tensor:
    """Apply the transpose of `_kernel_points`."""
    channels, filters = geometry.channels, geometry.filters
    parts = tf.reshape(parts, (-1, channels * filters))
    kernel = tf.matmul(tf.constant(_taps(geometry), parts.dtype), parts, transpose_a=True)
    return tf.reshape(kernel, (TILE, TILE, channels, filters))


def _taps(geometry: Geometry) -> npt.NDArray[Any]:
    """Return the sums of a kernel's 16 pixels: (points across, points down, columns of a value, rows of a value)."""
    taps, pixels = np.stack(_outputs_transposed(list(np.eye(geometry.outputs)))), np.eye(geometry.stride)
    return np.asarray(np.einsum("pb,qd,rs,ct->qpcrbsdt", taps, taps, pixels, pixels)).reshape(-1, TILE**2)


def _cut(image: tf.Tensor, lead: int, tiles: int, geometry: Geometry) -> Parts:
    """Cut axis 1 of (lead, pixels, ...) into the values of each tile; the last ones are the next tile's first."""
    outputs = geometry.outputs
    image = tf.reshape(image, (lead, tiles + 1, outputs, -1))
    return [image[:, :tiles, value] for value in range(outputs)] + [image[:, 1:, value] for value in range(outputs - 1)]


def _join(values: Parts, geometry: Geometry) -> tf.Tensor:
    """Apply the transpose of `_cut`."""
    outputs = geometry.outputs
    own = [tf.pad(value, ((0, 0), (0, 1), (0, 0))) for value in values[:outputs]]
    after = [tf.pad(value, ((0, 0), (1, 0), (0, 0))) for value in values[outputs:]]
    return tf.stack([one + other for one, other in zip(own, after, strict=False)] + own[-1:], axis=2)


def _points(values: Parts) -> Parts:
    """Return the factors of a kernel's points: 3 from 3 values, 9 from 7."""
    if len(values) == 1:
        return values
    taps = (len(values) + 1) // 2
    first, middle, last = (values[start : start + taps - 1] for start in (0, taps // 2, taps))
    return _points(_subtract(first, middle)) + _points(middle) + _points(_subtract(last, middle))


def _points_transposed(points: Parts) -> Parts:
    if len(points) == 1:
        return points
    first, middle, last = (_points_transposed(third) for third in _thirds(points))
    middle = _subtract(_subtract(middle, first), last)
    if len(middle) == 1:
        return first + middle + last
    # Each has three values: the last of `first` and the first of `middle` are the same, and so on.
    return [*first[:2], first[2] + middle[0], middle[1], middle[2] + last[0], *last[1:]]


def _outputs(points: Parts) -> Parts:
    """Return 2 outputs from 3 products, 4 from 9."""
    if len(points) == 1:
        return points
    first, middle, last = (_outputs(third) for third in _thirds(points))
    return _add(first, middle) + _add(middle, last)


def _outputs_transposed(outputs: Parts) -> Parts:
    if len(outputs) == 1:
        return outputs
    first, last = outputs[: len(outputs) // 2], outputs[len(outputs) // 2 :]
    return _outputs_transposed(first) + _outputs_transposed(_add(first, last)) + _outputs_transposed(last)


def _thirds(points: Parts) -> tuple[Parts, Parts, Parts]:
    third = len(points) // 3
    return points[:third], points[third : 2 * third], points[2 * third :]


def _add(first: Parts, second: Parts) -> Parts:
    return [one + other for one, other in zip(first, second, strict=True)]


def _subtract(first: Parts, second: Parts) -> Parts:
    return [one - other for one, other in zip(first, second, strict=True)]
