"""Differentiable augmentation of everything that the discriminator sees (Zhao et al. 2020).

With few pairs, a discriminator soon knows the real maps by heart, and the generator learns nothing more from it. It
can't memorise pairs that are changed at random; and as real and drawn pairs are changed alike, the generator does not
learn to draw the changes.
"""

from collections.abc import Sequence

import tensorflow as tf

from model.spec import Augmentation

BRIGHTNESS, CONTRAST = 0.25, 0.25
"""Half the ranges: levels move by up to 0.25 on the scale [-1, 1], and contrast by a quarter, half of the paper's."""
SHIFT = 8
"""Images are shifted by up to an eighth of their side."""
CUT = 4
"""A square of up to half the side, a quarter in each direction from a random point, is cut out."""


def augment(pairs: tf.Tensor, draws: tf.Tensor, kinds: Sequence[Augmentation]) -> tf.Tensor:
    """Change each pair at random, the photo and the map alike.

    Args:
        pairs: Photos and maps, (N, S, S, 6) in [-1, 1].
        draws: Uniform random numbers, (N, AUGMENTATION_DRAWS) in [0, 1).
        kinds: The changes, each of which uses numbers of its own.

    Returns:
        The changed pairs, (N, S, S, 6); grey, 0, where nothing is left.
    """
    if "colour" in kinds:
        pairs = _change_colour(pairs, *tf.unstack(draws[:, 0:2, None, None, None], axis=1))
    if "translation" in kinds:
        pairs = _shift(pairs, draws[:, 2:4])
    if "cutout" in kinds:
        pairs = _cut_out(pairs, draws[:, 4:6])
    return pairs


def _change_colour(pairs: tf.Tensor, brightness: tf.Tensor, contrast: tf.Tensor) -> tf.Tensor:
    pairs += BRIGHTNESS * (2 * brightness - 1)
    mean = tf.reduce_mean(pairs, axis=[1, 2, 3], keepdims=True)
    return mean + (pairs - mean) * (1 + CONTRAST * (2 * contrast - 1))


def _shift(pairs: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    side = pairs.shape[1]
    most = side // SHIFT
    starts = tf.cast(draws * (2 * most + 1), tf.int32)
    padded = tf.pad(pairs, ((0, 0), (most, most), (most, most), (0, 0)))
    for axis in (1, 2):
        positions = tf.range(side)[None] + starts[:, axis - 1, None]
        padded = tf.gather(padded, positions, axis=axis, batch_dims=1)
    return padded


def _cut_out(pairs: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    side = pairs.shape[1]
    distances = tf.abs(tf.range(side, dtype=tf.float32) - draws[..., None] * side)
    inside = tf.cast(distances < side / CUT, pairs.dtype)
    return pairs * (1 - inside[:, 0, :, None, None] * inside[:, 1, None, :, None])
