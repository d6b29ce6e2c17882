"""Convolutions of kernel 4 with fewer multiplications: Winograd's minimal filtering.

Along one axis, two taps g on three values d make two answers with three products instead of four (Lavin & Gray 2016,
"Fast Algorithms for Convolutional Neural Networks", section 4.1, as F(2, 2)):

    y0 = (d0 - d1) g0 + d1 (g0 + g1)        y1 = d1 (g0 + g1) + (d2 - d1) g1

At stride 2 a value is a pair of pixels and a kernel has two taps; at stride 1 a value is one pixel and the four taps
are two taps of two taps: the rule is used on itself. In two dimensions that is 36 products for every 64 of a plain
convolution at stride 2, and 81 for every 256 at stride 1.

All products of one kind make one matrix product over the channels. Gradients are the same products, with the sums
before and behind them transposed. The price is rounding: in bfloat16 an answer is off by up to 0.75 % (stride 2) or
1.5 % (stride 1) of the answers' standard deviation, where a plain convolution's is by 0.3 %; in float32 by up to two
millionths.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

TILE = 4
"""Pixels of an image, along one axis, from one tile to the next: as many as a kernel has."""

Parts = list[Any]
"""Arrays or tensors of one shape."""


class Geometry(NamedTuple):
    """A convolution of an image (N, H, W, C) to a small one (N, h, w, D); every size is a known number.

    At stride 2 the padding is "same" and H and W are even, at stride 1 there is no padding.
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
    def each(self) -> int:
        """Answers of a tile along an axis, which are as many as a kernel's taps."""
        return TILE // self.stride

    @property
    def points(self) -> int:
        """Products of a tile along an axis."""
        return {1: 9, 2: 3}[self.stride]

    @property
    def tiles(self) -> tuple[int, int]:
        """Down and across."""
        height, width = self.small
        return -(-height // self.each), -(-width // self.each)

    @property
    def before(self) -> int:
        """Rows and columns of zeros before the image."""
        return self.stride - 1

    @property
    def after(self) -> tuple[int, int]:
        """Zeros below and right of the image, up to one more tile than there are."""
        down, across = self.tiles
        return TILE * (down + 1) - self.before - self.height, TILE * (across + 1) - self.before - self.width


def convolve(image: tf.Tensor, kernel: tf.Tensor, geometry: Geometry) -> tf.Tensor:
    """Convolve an image to a small one; kernel (4, 4, C, D)."""

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def operation(image: tf.Tensor, kernel: tf.Tensor) -> Any:  # noqa: ANN401 - what tf.custom_gradient asks for
        seen, taps = _of_image(image, geometry), _of_kernel(kernel, geometry)

        def gradient(small: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            back = _of_small(small, geometry)
            return _image(back, taps, geometry), _kernel(seen, back, geometry)

        return _small(seen, taps, geometry), gradient

    return operation(image, kernel)


def convolve_transposed(small: tf.Tensor, kernel: tf.Tensor, geometry: Geometry) -> tf.Tensor:
    """Convolve a small image to an image: the transpose of `convolve`."""

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def operation(small: tf.Tensor, kernel: tf.Tensor) -> Any:  # noqa: ANN401 - what tf.custom_gradient asks for
        back, taps = _of_small(small, geometry), _of_kernel(kernel, geometry)

        def gradient(image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            seen = _of_image(image, geometry)
            return _small(seen, taps, geometry), _kernel(seen, back, geometry)

        return _image(back, taps, geometry), gradient

    return operation(small, kernel)


# What is multiplied is (points across * points down, places, channels): places are N * tiles down * tiles across of
# an image, and pixels of a value * C of a kernel. Of image, small image and kernel, each follows from the other two.


def _small(seen: tf.Tensor, taps: tf.Tensor, geometry: Geometry) -> tf.Tensor:
    return _to_small(tf.matmul(seen, taps), geometry)


def _image(back: tf.Tensor, taps: tf.Tensor, geometry: Geometry) -> tf.Tensor:
    return _to_image(tf.matmul(back, taps, transpose_b=True), geometry)


def _kernel(seen: tf.Tensor, back: tf.Tensor, geometry: Geometry) -> tf.Tensor:
    return _to_kernel(tf.matmul(seen, back, transpose_a=True), geometry)


def _of_image(image: tf.Tensor, geometry: Geometry) -> tf.Tensor:
    """(N, H, W, C) -> (points, places, stride^2 C)."""
    n, channels, stride, points = geometry.n, geometry.channels, geometry.stride, geometry.points
    down, across = geometry.tiles
    before, (below, right) = geometry.before, geometry.after
    image = tf.pad(image, ((0, 0), (before, below), (before, right), (0, 0)))
    if stride > 1:
        # The rows of a value stand beside each other.
        rows = tf.reshape(image, (n, -1, stride, TILE * (across + 1), channels))
        image = tf.transpose(rows, (0, 1, 3, 2, 4))
    image = tf.stack(_points(_cut(image, n, down, geometry)))
    image = tf.stack(_points(_cut(image, points * n * down, across, geometry)))
    return tf.reshape(image, (points**2, n * down * across, stride**2 * channels))


def _to_image(parts: tf.Tensor, geometry: Geometry) -> tf.Tensor:
    """The transpose of `_of_image`."""
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


def _of_small(small: tf.Tensor, geometry: Geometry) -> tf.Tensor:
    """(N, h, w, D) -> (points, places, D)."""
    n, (height, width), filters = geometry.n, geometry.small, geometry.filters
    (down, across), each = geometry.tiles, geometry.each
    small = tf.pad(small, ((0, 0), (0, each * down - height), (0, each * across - width), (0, 0)))
    rows = tf.stack(_answers_transposed(tf.unstack(tf.reshape(small, (n * down, each, -1)), axis=1)))
    columns = tf.stack(_answers_transposed(tf.unstack(tf.reshape(rows, (-1, each, filters)), axis=1)))
    return tf.reshape(columns, (geometry.points**2, n * down * across, filters))


def _to_small(parts: tf.Tensor, geometry: Geometry) -> tf.Tensor:
    """The transpose of `_of_small`."""
    n, (height, width), filters = geometry.n, geometry.small, geometry.filters
    (down, across), each, points = geometry.tiles, geometry.each, geometry.points
    columns = tf.stack(_answers(tf.unstack(tf.reshape(parts, (points, -1, filters)))), axis=1)
    rows = tf.stack(_answers(tf.unstack(tf.reshape(columns, (points, n * down, -1)))), axis=1)
    return tf.reshape(rows, (n, each * down, each * across, filters))[:, :height, :width]


def _of_kernel(kernel: tf.Tensor, geometry: Geometry) -> tf.Tensor:
    """(4, 4, C, D) -> (points, stride^2 C, D)."""
    parts = tf.constant(_taps(geometry), kernel.dtype) @ tf.reshape(kernel, (TILE**2, -1))
    return tf.reshape(parts, (geometry.points**2, -1, geometry.filters))


def _to_kernel(parts: tf.Tensor, geometry: Geometry) -> tf.Tensor:
    """The transpose of `_of_kernel`."""
    channels, filters = geometry.channels, geometry.filters
    parts = tf.reshape(parts, (-1, channels * filters))
    kernel = tf.matmul(tf.constant(_taps(geometry), parts.dtype), parts, transpose_a=True)
    return tf.reshape(kernel, (TILE, TILE, channels, filters))


def _taps(geometry: Geometry) -> npt.NDArray[Any]:
    """How the 16 pixels of a kernel add up to (points across, points down, columns of a value, rows of a value)."""
    taps, pixels = np.stack(_answers_transposed(list(np.eye(geometry.each)))), np.eye(geometry.stride)
    return np.asarray(np.einsum("pb,qd,rs,ct->qpcrbsdt", taps, taps, pixels, pixels)).reshape(-1, TILE**2)


def _cut(image: tf.Tensor, lead: int, tiles: int, geometry: Geometry) -> Parts:
    """Cut the axis behind `lead` places into the values of each tile, the last of which are the next tile's first."""
    each = geometry.each
    image = tf.reshape(image, (lead, tiles + 1, each, -1))
    return [image[:, :tiles, value] for value in range(each)] + [image[:, 1:, value] for value in range(each - 1)]


def _join(values: Parts, geometry: Geometry) -> tf.Tensor:
    """The transpose of `_cut`."""
    each = geometry.each
    own = [tf.pad(value, ((0, 0), (0, 1), (0, 0))) for value in values[:each]]
    after = [tf.pad(value, ((0, 0), (1, 0), (0, 0))) for value in values[each:]]
    return tf.stack([one + other for one, other in zip(own, after, strict=False)] + own[-1:], axis=2)


def _points(values: Parts) -> Parts:
    """What is multiplied with a kernel's points: 3 of 3 values, 9 of 7."""
    if len(values) == 1:
        return values
    taps = (len(values) + 1) // 2
    first, middle, last = (values[start : start + taps - 1] for start in (0, taps // 2, taps))
    return _points(_less(first, middle)) + _points(middle) + _points(_less(last, middle))


def _points_transposed(points: Parts) -> Parts:
    if len(points) == 1:
        return points
    first, middle, last = (_points_transposed(third) for third in _thirds(points))
    middle = _less(_less(middle, first), last)
    if len(middle) == 1:
        return first + middle + last
    # Of three values each: the last of one and the first of the next but one are the same.
    return [*first[:2], first[2] + middle[0], middle[1], middle[2] + last[0], *last[1:]]


def _answers(points: Parts) -> Parts:
    """2 answers of 3 products, 4 of 9."""
    if len(points) == 1:
        return points
    first, middle, last = (_answers(third) for third in _thirds(points))
    return _and(first, middle) + _and(middle, last)


def _answers_transposed(answers: Parts) -> Parts:
    if len(answers) == 1:
        return answers
    first, last = answers[: len(answers) // 2], answers[len(answers) // 2 :]
    return _answers_transposed(first) + _answers_transposed(_and(first, last)) + _answers_transposed(last)


def _thirds(points: Parts) -> tuple[Parts, Parts, Parts]:
    third = len(points) // 3
    return points[:third], points[third : 2 * third], points[2 * third :]


def _and(ones: Parts, others: Parts) -> Parts:
    return [one + other for one, other in zip(ones, others, strict=True)]


def _less(ones: Parts, others: Parts) -> Parts:
    return [one - other for one, other in zip(ones, others, strict=True)]
