"""The losses that look at the colours of the maps, compared with their formulas."""

import numpy as np
import pytest
import tensorflow as tf

from model.networks import losses
from model.networks.train_step import Objective
from tests.fixtures.train_steps import COLOURS, build, images, step

PALETTE = np.array(COLOURS.colours, np.float32)


@pytest.fixture
def maps():
    """Return three maps of random colours of the palette, slightly off, and the indices of their colours."""
    random = np.random.default_rng(0)
    indices = random.integers(0, 3, (3, 32, 32))
    return tf.constant(PALETTE[indices] + random.uniform(-0.02, 0.02, (3, 32, 32, 3)), tf.float32), indices


def entropy(drawn, maps, **options):
    indices, weights = losses.nearest(maps, COLOURS)
    return losses.colour_entropy(drawn, indices, COLOURS, weights=weights, global_batch=3, **options)


def test_pixels_have_the_weight_of_the_nearest_colour(maps):
    found, weights = losses.nearest(maps[0], COLOURS)
    np.testing.assert_array_equal(found, maps[1])
    np.testing.assert_array_equal(weights[..., 0], np.array(COLOURS.weights, np.float32)[maps[1]])


def test_entropy_is_that_of_the_softmax_of_distances(maps):
    drawn = images(3, seed=5)
    distances = np.linalg.norm(np.asarray(drawn)[..., None, :] - PALETTE, axis=-1)
    logits = -distances / losses.SOFTNESS
    log_sum = logits.max(axis=-1) + np.log(np.exp(logits - logits.max(axis=-1, keepdims=True)).sum(axis=-1))
    of_true = np.take_along_axis(logits, maps[1][..., None], axis=-1)[..., 0]
    expected = ((log_sum - of_true) * np.array(COLOURS.weights)[maps[1]]).mean()
    assert float(entropy(drawn, maps[0])) == pytest.approx(expected, rel=1e-3)


def test_true_maps_have_next_to_no_entropy_and_gradients_point_to_the_true_colour(maps):
    assert float(entropy(maps[0], maps[0])) < 0.2
    between = tf.fill((1, 1, 1, 3), 0.95)
    with tf.GradientTape() as tape:
        tape.watch(between)
        loss = entropy(between, tf.ones((1, 1, 1, 3)))
    assert np.all(np.asarray(tape.gradient(loss, between)) < 0)


def test_weighted_l1_is_the_mean_of_weighted_errors(maps):
    drawn, (_, weights) = images(3, seed=5), losses.nearest(maps[0], COLOURS)
    expected = (np.abs(drawn - maps[0]) * np.asarray(weights)).mean()
    assert float(losses.l1(drawn, maps[0], weights=weights, global_batch=3)) == pytest.approx(expected, rel=1e-5)


def test_the_generator_gets_both_losses(maps):
    state, pairs = build(), (images(3, seed=1), maps[0])
    found = step(state, pairs, objective=Objective(30, 2, COLOURS), global_batch=3)
    expected = (
        found["generator_adversarial_loss"] + 30 * found["generator_l1_loss"] + 2 * found["generator_colour_loss"]
    )
    assert found["generator_loss"] == pytest.approx(expected, rel=1e-5)
    found = step(build(), pairs, objective=Objective(30, 0, COLOURS), global_batch=3)
    assert "generator_colour_loss" not in found


@pytest.mark.parametrize(("logits", "share"), [([3, -1], 0.5), ([1, 2], 1), ([-1, 0], 0)])
def test_accuracy_is_the_share_of_patches_on_the_right_side(logits, share):
    patches = tf.constant(logits, tf.float32, shape=(1, 1, 2, 1))
    assert float(losses.share_right(patches, real=True, global_batch=1)) == share
    right = losses.share_right(-patches, real=False, global_batch=1)
    assert float(right) == share
