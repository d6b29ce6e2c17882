"""The loss terms of Pix2Pix (Isola et al. 2017, equations 1, 3 and 4).

Every term is this worker's share of the mean over the global batch: the sum over its own images, divided by the number
of images of all workers. Keras' optimizers add up the gradients of the workers, so the shares add up to the mean and
the ratio of the terms does not depend on the number of workers.
"""

import numpy as np
import tensorflow as tf

from model.spec import WeightedColours

SOFTNESS = 0.1
"""Distance in [-1, 1] by which a colour must be nearer than another one to be e times as likely: 13 of 255 levels, two
thirds of the distance of the nearest colours of common maps."""


def adversarial(logits: tf.Tensor, *, real: bool, global_batch: tf.Tensor | int) -> tf.Tensor:
    """Return the binary cross-entropy of patch logits (N, P, P, 1) with all ones (`real`) or all zeros.

    It is softplus(-x) or softplus(x). TensorFlow's general form uses x three times and adds the three gradients in
    whatever order their memory is freed, so the last bit would differ from run to run.
    """
    entropy = tf.nn.softplus(-logits if real else logits)
    return tf.reduce_sum(tf.reduce_mean(entropy, axis=[1, 2, 3])) / tf.cast(global_batch, tf.float32)


def share_right(logits: tf.Tensor, *, real: bool, global_batch: tf.Tensor | int) -> tf.Tensor:
    """Return the share of patch logits (N, P, P, 1) that are right: positive for `real` maps, negative for drawn."""
    right = tf.cast(logits > 0 if real else logits < 0, tf.float32)
    return tf.reduce_sum(tf.reduce_mean(right, axis=[1, 2, 3])) / tf.cast(global_batch, tf.float32)


def l1(
    drawn: tf.Tensor, true: tf.Tensor, *, global_batch: tf.Tensor | int, weights: tf.Tensor | None = None
) -> tf.Tensor:
    """Return the mean absolute error of images (N, S, S, 3) in [-1, 1], with weights of the pixels (N, S, S, 1)."""
    error = tf.abs(drawn - true)
    if weights is not None:
        error *= weights
    return tf.reduce_sum(tf.reduce_mean(error, axis=[1, 2, 3])) / tf.cast(global_batch, tf.float32)


def nearest(true: tf.Tensor, palette: WeightedColours) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the index of the colour nearest to each pixel of maps (N, S, S, 3), and its weight.

    The indices are (N, S, S), the weights (N, S, S, 1).
    """
    indices = tf.argmin(_squared_distances(true, palette), axis=-1)
    return indices, tf.gather(tf.constant(palette.weights, tf.float32), indices)[..., None]


def colour_entropy(
    drawn: tf.Tensor, indices: tf.Tensor, palette: WeightedColours, *, weights: tf.Tensor, global_batch: tf.Tensor | int
) -> tf.Tensor:
    """Return the mean cross-entropy of drawn pixels (N, S, S, 3) with the colours of the true ones, (N, S, S).

    The probability of a colour is the softmax of its negative distance over SOFTNESS: a soft assignment to the nearest
    one (Agustsson et al. 2017, section 3.1).
    """
    distances = tf.sqrt(_squared_distances(drawn, palette) + 1e-4)
    entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=indices, logits=-distances / SOFTNESS)
    shares = tf.reduce_mean(entropy * weights[..., 0], axis=[1, 2])
    return tf.reduce_sum(shares) / tf.cast(global_batch, tf.float32)


def _squared_distances(images: tf.Tensor, palette: WeightedColours) -> tf.Tensor:
    """Return the squared distance of each pixel (N, S, S, 3) from each colour, (N, S, S, colours)."""
    colours = np.array(palette.colours, np.float32)
    squares = tf.reduce_sum(tf.square(images), axis=-1, keepdims=True) + np.sum(colours**2, axis=-1)
    products = tf.reshape(tf.matmul(tf.reshape(images, (-1, 3)), colours.T), (*images.shape[:-1], len(colours)))
    return tf.maximum(squares - 2 * products, 0)
