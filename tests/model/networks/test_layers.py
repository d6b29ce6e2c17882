"""The fast layers: the same outputs and gradients as TensorFlow's operations and Keras' own layers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from model.networks.convolution import (
    CHANNEL_PAIRS_TO_FILTER,
    FEW_CHANNELS,
    convolve,
    convolve_transposed,
    convolve_valid,
)
from model.networks.layers import FAST, KERAS
from model.networks.optimizers import FusedAdam
from model.networks.pix2pix import build_discriminator, build_generator
from model.spec import NetworkConfig


def images(*shape, seed=0):
    return tf.constant(np.random.default_rng(seed).normal(size=shape), tf.float32)


def with_gradients(operation, *inputs):
    """Return the output, and the gradients of the inputs for a random gradient of the output."""
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        answer = operation(*inputs)
    back = tf.cast(images(*answer.shape, seed=9), answer.dtype)
    return [answer, *tape.gradient(answer, inputs, output_gradients=back)]


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * np.abs(other).max())


def assert_close(found, expected, error):
    """Check that the standard deviation of the differences is below a share of that of the values."""
    for one, other in zip(found, expected, strict=True):
        assert np.std(tf.cast(one, tf.float32) - other) < error * np.std(other)


def operations(function, *inputs):
    """Return the types of the operations of a traced function."""
    return {node.type for node in tf.function(function).get_concrete_function(*inputs).graph.get_operations()}


# Sizes below and above every switch from matrix product to convolution.
@pytest.mark.parametrize("side", [2, 8, 16, 64, 128])
@pytest.mark.parametrize("channels", [3, FEW_CHANNELS + 1])
def test_convolutions_and_their_gradients_equal_tensorflows(side, channels):
    image, small, kernel = (
        images(2, side, side, channels),
        images(2, side // 2, side // 2, 5),
        images(4, 4, channels, 5),
    )
    assert_same(
        with_gradients(convolve, image, kernel),
        with_gradients(lambda image, kernel: tf.nn.conv2d(image, kernel, 2, "SAME"), image, kernel),
    )
    assert_same(
        with_gradients(convolve_transposed, small, kernel),
        with_gradients(lambda *both: tf.nn.conv2d_transpose(*both, image.shape, 2, "SAME"), small, kernel),
    )


def test_image_need_not_be_square():
    image, kernel = images(1, 4, 12, 3), images(4, 4, 3, 2)
    np.testing.assert_allclose(convolve(image, kernel), tf.nn.conv2d(image, kernel, 2, "SAME"), rtol=1e-4, atol=1e-4)


def test_convolution_of_stride_one_and_its_gradients_equal_tensorflows():
    image, kernel = images(2, 9, 7, 3), images(4, 4, 3, 5)
    expected = with_gradients(lambda image, kernel: tf.nn.conv2d(image, kernel, 1, "VALID"), image, kernel)
    assert_same(with_gradients(convolve_valid, image, kernel), expected)


# Sizes that fill the tiles and sizes that don't; the errors are those in the docstring of the module winograd.
@pytest.mark.parametrize(("stride", "height", "width"), [(2, 64, 32), (2, 66, 62), (1, 31, 31), (1, 35, 38)])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_minimal_filtering_equals_the_convolutions_and_their_gradients(stride, height, width, precision):
    error = 2e-6 if precision == "float32" else {1: 0.015, 2: 0.0075}[stride]
    channels, filters = 120, 140
    assert channels * filters >= CHANNEL_PAIRS_TO_FILTER
    image, kernel = images(2, height, width, channels), 0.02 * images(4, 4, channels, filters, seed=1)
    operation, padding = (convolve, "SAME") if stride == 2 else (convolve_valid, "VALID")
    expected = with_gradients(lambda *both: tf.nn.conv2d(*both, stride, padding), image, kernel)
    assert operations(operation, image, kernel).isdisjoint({"Conv2D", "Conv2DBackpropInput"})
    low = [tf.cast(value, precision) for value in (image, kernel)]
    assert_close(with_gradients(operation, *low), expected, error)
    if stride == 2:
        small = images(*expected[0].shape, seed=2)
        expected = with_gradients(lambda *both: tf.nn.conv2d_transpose(*both, image.shape, 2, "SAME"), small, kernel)
        assert_close(with_gradients(convolve_transposed, tf.cast(small, precision), low[1]), expected, error)


@pytest.mark.parametrize(
    ("build", "settings"),
    [
        (build_generator, {}),
        (build_generator, {"norm": "instance"}),
        (build_generator, {"upsampling": "nearest"}),
        (build_discriminator, {}),
        (build_discriminator, {"norm": "instance"}),
    ],
)
def test_networks_of_both_layer_sets_have_the_same_outputs_gradients_and_statistics(build, settings):
    network = NetworkConfig(image_size=128, width=3, depth=5, dropout=0, **settings)
    pair = [images(2, 128, 128, 3, seed=seed) for seed in (1, 2)]
    results = []
    for layer_set in (KERAS, FAST):
        model = build(network, seed=3, layer_set=layer_set)
        inputs = pair if len(model.inputs) == 2 else pair[0]
        with tf.GradientTape() as tape:
            answer = model(inputs, training=True)
        gradients = tape.gradient(answer, model.trainable_variables, output_gradients=images(*answer.shape, seed=9))
        moving = [variable.numpy() for variable in model.non_trainable_variables if "moving" in variable.name]
        results.append([answer, *gradients, *moving, model(inputs, training=False)])
    assert len(results[0]) > 10
    for found, expected in zip(*results, strict=True):
        assert np.abs(found - expected).max() <= 1e-3 * np.abs(expected).max()


@pytest.mark.parametrize("upsampling", ["transposed", "nearest"])
def test_both_layer_sets_have_the_same_weights_in_the_same_order(upsampling):
    network = NetworkConfig(image_size=32, width=2, depth=3, upsampling=upsampling)
    names = [
        [weight.path for weight in build_generator(network, layer_set=layer_set).weights] for layer_set in (KERAS, FAST)
    ]
    assert names[0] == names[1]


def test_fused_adam_moves_like_keras_own():
    start, steps = images(3, 4), [images(3, 4, seed=seed) for seed in range(1, 5)]
    moved = []
    for optimizer in (keras.optimizers.Adam(0.01, beta_1=0.5), FusedAdam(0.01, beta_1=0.5)):
        weight = keras.Variable(start)
        for gradient in steps:
            optimizer.apply([gradient], [weight])
        moved.append([weight.numpy(), *(np.asarray(variable) for variable in optimizer.variables)])
    for found, expected in zip(*moved, strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-5)
