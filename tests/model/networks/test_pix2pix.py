"""Both networks: layers, receptive fields, outputs, number of weights, and seeds."""

from itertools import combinations, pairwise

import keras
import numpy as np
import pytest
import tensorflow as tf

from model.networks.pix2pix import build_discriminator, build_generator
from model.spec import NetworkConfig

TINY = NetworkConfig(image_size=32, width=2, depth=4)
DOWN = ["Conv2D", "LeakyReLU", "BatchNormalization"]
UP = ["Conv2DTranspose", "BatchNormalization", "ReLU", "Concatenate"]
UP_DROPPED = ["Conv2DTranspose", "BatchNormalization", "Dropout", "ReLU", "Concatenate"]


@pytest.fixture(scope="module")
def generator():
    return build_generator(TINY)


@pytest.fixture(scope="module")
def discriminator():
    return build_discriminator(TINY)


@pytest.fixture
def mixed_bfloat16():
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy("float32")


def images(n=1, side=32, seed=0):
    return tf.constant(np.random.default_rng(seed).uniform(-1, 1, (n, side, side, 3)), tf.float32)


def kinds(model):
    return [type(layer).__name__ for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]


def of_kind(model, kind):
    return [layer for layer in model.layers if type(layer) is kind]


def parents(layer):
    return [tensor._keras_history.operation.name for tensor in layer.input]


def receptive_field(inputs, output):
    """Return which pixels of each input have a gradient, for one number of the output."""
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        number = output(inputs)
    return [np.any(gradient[0] != 0, axis=-1) for gradient in tape.gradient(number, inputs)]


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_generator_has_an_encoder_and_a_decoder_with_the_same_levels(depth):
    model = build_generator(NetworkConfig(image_size=32, width=1, depth=depth))
    dropped = min(depth - 1, 3)
    decoder = UP_DROPPED * dropped + UP * (depth - 1 - dropped) + ["Conv2DTranspose", "Activation"]
    assert kinds(model) == DOWN * depth + decoder
    downs, ups = of_kind(model, keras.layers.Conv2D), of_kind(model, keras.layers.Conv2DTranspose)
    assert {(layer.kernel_size, layer.strides) for layer in downs + ups} == {((4, 4), (2, 2))}
    assert [layer.output.shape[1] for layer in downs] == [32 // 2**level for level in range(1, depth + 1)]
    assert [layer.output.shape[1] for layer in ups] == [32 // 2**level for level in reversed(range(depth))]
    assert [layer.negative_slope for layer in of_kind(model, keras.layers.LeakyReLU)] == [pytest.approx(0.2)] * depth


def test_filters_double_inwards_and_halve_outwards(generator):
    assert [layer.filters for layer in of_kind(generator, keras.layers.Conv2D)] == [2, 4, 8, 16]
    assert [layer.filters for layer in of_kind(generator, keras.layers.Conv2DTranspose)] == [8, 4, 2, 3]


def test_decoder_levels_are_joined_to_the_encoder_level_of_the_same_size(generator):
    joints = of_kind(generator, keras.layers.Concatenate)
    assert [parents(joint) for joint in joints] == [[f"up{n}_relu", f"down{n - 1}_norm"] for n in (3, 2, 1)]


def test_dropout_acts_only_while_training():
    model = build_generator(TINY.model_copy(update={"dropout": 0.3}))
    assert [layer.rate for layer in of_kind(model, keras.layers.Dropout)] == [0.3] * 3
    assert np.ptp([model(images(), training=False) for _ in range(2)], axis=0).max() == 0
    assert np.ptp([model(images(), training=True) for _ in range(2)], axis=0).max() > 0


def test_discriminator_halves_four_times_and_ends_in_one_logit_per_patch(discriminator):
    tail = ["ZeroPadding2D", "Conv2D", "BatchNormalization", "LeakyReLU", "ZeroPadding2D", "Conv2D", "Activation"]
    assert kinds(discriminator) == ["Concatenate", *DOWN * 4, *tail]
    convolutions = of_kind(discriminator, keras.layers.Conv2D)
    assert [layer.filters for layer in convolutions] == [2, 4, 8, 16, 16, 1]
    assert [layer.strides for layer in convolutions] == [(2, 2)] * 4 + [(1, 1)] * 2
    assert discriminator.layers[-1].activation is keras.activations.linear


@pytest.mark.parametrize(("side", "patches"), [(32, 4), (64, 2), (128, 6), (256, 14)])
def test_number_of_patches(side, patches):
    model = build_discriminator(NetworkConfig(image_size=side, width=1, depth=2))
    assert model.output_shape == (None, patches, patches, 1)


def test_logit_depends_on_142_pixels_of_photo_and_map():
    # Backwards through the last two convolutions 4 and 7; then, doubled by each of four strides, 16, 34, 70 and 142.
    model = build_discriminator(NetworkConfig(width=1))
    window = np.zeros((256, 256), bool)
    window[65 : 65 + 142, 65 : 65 + 142] = True
    pair = [images(side=256), images(side=256, seed=1)]
    for seen in receptive_field(pair, lambda pair: model(pair, training=False)[0, 7, 7, 0]):
        np.testing.assert_array_equal(seen, window)


def test_centre_of_the_map_depends_on_the_whole_photo(generator):
    (seen,) = receptive_field([images()], lambda photo: generator(photo[0], training=False)[0, 15, 15, 0])
    assert seen.all()


@pytest.mark.parametrize("network", [TINY, NetworkConfig()])
def test_number_of_weights(network):
    def norm(*channels):
        return 4 * sum(channels)

    def kernels(channels):
        return 16 * sum(source * target for source, target in channels)

    with keras.StatelessScope(initialize_variables=False):  # Only shapes: the weights would take 200 MB.
        counted = build_generator(network).count_params(), build_discriminator(network).count_params()
    keras.utils.clear_session()
    widths, inner = network.level_widths(), network.width * 8
    up = widths[-2::-1]
    joined = [2 * filters for filters in up]
    generator = kernels([*pairwise([3, *widths]), *zip([widths[-1], *joined], [*up, 3], strict=True)])
    generator += norm(*widths, *up) + 3
    down = [network.width * factor for factor in (1, 2, 4, 8)]
    discriminator = kernels(pairwise([6, *down, inner, 1])) + norm(*down, inner) + 1
    assert counted == (generator, discriminator)
    if network == NetworkConfig():
        assert counted == (41_839_107, 6_967_041)


def test_maps_are_float32_and_use_the_range_from_minus_one_to_one(generator):
    drawn = generator(1e6 * images(n=2), training=False)
    assert (drawn.shape, drawn.dtype) == ((2, 32, 32, 3), tf.float32)
    assert -1 <= np.min(drawn) < -0.9
    assert 0.9 < np.max(drawn) <= 1


def test_layers_compute_in_bfloat16_and_outputs_are_float32(mixed_bfloat16):
    generator, discriminator = build_generator(TINY), build_discriminator(TINY)
    drawn = generator(images(), training=True)
    logits = discriminator([images(), drawn], training=True)
    assert drawn.dtype == logits.dtype == tf.float32
    assert np.all(np.abs(drawn) <= 1)
    for model in (generator, discriminator):
        assert {layer.compute_dtype for layer in of_kind(model, keras.layers.Conv2D)} == {"bfloat16"}
        assert {variable.dtype for variable in model.trainable_variables} == {"float32"}


@pytest.mark.parametrize("build", [build_generator, build_discriminator])
def test_weights_depend_on_the_seed_only(build):
    keras.utils.set_random_seed(1)
    first = build(TINY, seed=7).get_weights()
    keras.utils.set_random_seed(2)
    again, other = build(TINY, seed=7).get_weights(), build(TINY, seed=8).get_weights()
    for one, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, same)
    kernels = [(one, new) for one, new in zip(first, other, strict=True) if one.ndim == 4]
    assert all(np.all(one != new) for one, new in kernels)


def test_kernels_start_as_different_small_noise(generator, discriminator):
    wide = build_generator(NetworkConfig(image_size=32, width=8, depth=4))
    values = np.concatenate([weight.ravel() for weight in wide.get_weights() if weight.ndim == 4])
    assert np.mean(values) == pytest.approx(0, abs=2e-4)
    assert np.std(values) == pytest.approx(0.02, rel=0.02)
    layers = [*of_kind(generator, keras.layers.Conv2D), *of_kind(generator, keras.layers.Conv2DTranspose)]
    kernels = [layer.kernel.numpy().ravel() for layer in [*layers, *of_kind(discriminator, keras.layers.Conv2D)]]
    for one, other in combinations(kernels, 2):
        assert not np.any(np.isin(one[:24], other[:24]))
