"""Two sets of layers with the same weights and outputs: Keras' own, and ones that train faster on CPUs."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from model.networks.convolution import convolve, convolve_transposed, convolve_valid, double_kernel


class FastConv2D(keras.layers.Conv2D):  # type: ignore[misc]
    """A convolution of kernel 4: stride 2 with padding "same", or stride 1 with padding "valid"."""

    def convolution_op(self, inputs: tf.Tensor, kernel: keras.Variable) -> tf.Tensor:
        """Return (N, h, w, filters); overrides Keras' hook for the convolution."""
        operation = convolve if self.strides == (2, 2) else convolve_valid
        return operation(inputs, tf.convert_to_tensor(kernel))


class FastConv2DTranspose(keras.layers.Conv2DTranspose):  # type: ignore[misc]
    """A transposed convolution of kernel 4 and stride 2, with padding "same"."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Return (N, 2h, 2w, filters)."""
        outputs = convolve_transposed(inputs, tf.convert_to_tensor(self.kernel))
        return outputs + tf.convert_to_tensor(self.bias) if self.use_bias else outputs


class FastDoubling(keras.layers.Conv2D):  # type: ignore[misc]
    """Pixels repeated twice in both directions and a convolution of kernel 3, as one transposed convolution."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Return (N, 2h, 2w, filters)."""
        outputs = convolve_transposed(inputs, double_kernel(tf.convert_to_tensor(self.kernel)))
        return outputs + tf.convert_to_tensor(self.bias) if self.use_bias else outputs

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape of the output."""
        images, height, width, _ = input_shape
        return images, height and 2 * height, width and 2 * width, self.filters


class FastBatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]
    """Batch normalization over each worker's own pairs in one fused operation; Keras uses twelve, in float32."""

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: None = None) -> tf.Tensor:
        """Normalise the inputs; when training, with the batch's statistics, which also update the moving ones."""
        if not training or not self.trainable:
            return super().call(inputs, training=training, mask=mask)
        outputs, mean, variance = _fused(inputs, self.gamma, self.beta, self.epsilon)
        # The operation returns the unbiased variance, Keras averages the biased one.
        values = tf.cast(tf.size(inputs) / tf.size(mean), tf.float32)
        variance *= (values - 1) / values
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + value * (1 - self.momentum))
        return outputs


class FastInstanceNormalization(keras.layers.GroupNormalization):  # type: ignore[misc]
    """Instance normalization as batch normalization of one image at a time, if the batch size is known."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Normalise each image and channel with its own statistics."""
        images = inputs.shape[0]
        if images is None:
            return super().call(inputs)
        # One row of each weight per image, so that the gradients are added in a single sum of fixed order.
        scales, offsets = (tf.unstack(tf.tile(weight[None], (images, 1))) for weight in (self.gamma, self.beta))
        parts = zip(tf.split(inputs, images), scales, offsets, strict=True)
        return tf.concat([_fused(*part, self.epsilon)[0] for part in parts], axis=0)


def _fused(
    inputs: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor, epsilon: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return the normalised inputs, the mean and the unbiased variance of each channel."""
    outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=inputs, scale=scale, offset=offset, mean=[], variance=[], epsilon=epsilon
    )
    return outputs, mean, variance


Operation = Callable[[keras.KerasTensor], keras.KerasTensor]


def double(filters: int, *, name: str, **options: Any) -> Operation:  # noqa: ANN401 - arguments of Conv2D
    """Return Keras' layers that repeat each pixel twice in both directions and convolve with kernel 3."""
    repeat = keras.layers.UpSampling2D(2, interpolation="nearest", name=f"{name}_repeat")
    convolve_repeated = keras.layers.Conv2D(filters, 3, padding="same", name=name, **options)
    return lambda inputs: convolve_repeated(repeat(inputs))


def double_fast(filters: int, *, name: str, **options: Any) -> Operation:  # noqa: ANN401 - arguments of Conv2D
    """Return the fast layer that does the same with the same weights."""
    layer: Operation = FastDoubling(filters, 3, padding="same", name=name, **options)
    return layer


class LayerSet(NamedTuple):
    """Those layers that a network can be built with in two ways."""

    conv2d: type[keras.layers.Conv2D] = keras.layers.Conv2D
    conv2d_transpose: type[keras.layers.Conv2DTranspose] = keras.layers.Conv2DTranspose
    batch_normalization: type[keras.layers.BatchNormalization] = keras.layers.BatchNormalization
    instance_normalization: type[keras.layers.GroupNormalization] = keras.layers.GroupNormalization
    double: Callable[..., Operation] = double


KERAS = LayerSet()
FAST = LayerSet(FastConv2D, FastConv2DTranspose, FastBatchNormalization, FastInstanceNormalization, double_fast)
