"""The loss terms of Pix2Pix (Isola et al. 2017, equations 1, 3 and 4).

Every term is this worker's share of the mean over the global batch: the sum over its own images, divided by the number
of images of all workers. Keras' optimizers add up the gradients of the workers, so the shares add up to the mean and
the ratio of the terms does not depend on the number of workers.
"""

import tensorflow as tf


def adversarial(logits: tf.Tensor, *, real: bool, global_batch: tf.Tensor | int) -> tf.Tensor:
    """Return the binary cross-entropy of patch logits (N, P, P, 1) with all ones (`real`) or all zeros.

    It is softplus(-x) or softplus(x). TensorFlow's general form uses x three times and adds the three gradients in
    whatever order their memory is freed, so the last bit would differ from run to run.
    """
    entropy = tf.nn.softplus(-logits if real else logits)
    return tf.reduce_sum(tf.reduce_mean(entropy, axis=[1, 2, 3])) / tf.cast(global_batch, tf.float32)


def l1(drawn: tf.Tensor, true: tf.Tensor, *, global_batch: tf.Tensor | int) -> tf.Tensor:
    """Return the mean absolute error of images (N, S, S, 3) in [-1, 1]."""
    return tf.reduce_sum(tf.reduce_mean(tf.abs(drawn - true), axis=[1, 2, 3])) / tf.cast(global_batch, tf.float32)
