"""Augmentation of the discriminator's pairs: the changes, alike for photo and map, and their gradients."""

import numpy as np
import pytest
import tensorflow as tf

from model.networks.augmentation import augment
from model.spec import AUGMENTATION_DRAWS

SIDE = 32
KINDS = ("colour", "translation", "cutout")


@pytest.fixture
def pairs():
    """Return two pairs whose photo and map are the same."""
    image = np.random.default_rng(0).uniform(-1, 1, (2, SIDE, SIDE, 3)).astype(np.float32)
    return tf.constant(np.concatenate([image, image], axis=-1))


def draws(**values):
    """Return draws for both pairs: 0.5 but for the given ones, which change the second pair only."""
    names = ("brightness", "contrast", "down", "right", "cut_down", "cut_right")
    numbers = np.full((2, AUGMENTATION_DRAWS), 0.5, np.float32)
    for name, value in values.items():
        numbers[1, names.index(name)] = value
    return tf.constant(numbers)


def test_photo_and_map_are_changed_alike_and_pairs_each_by_their_own_draws(pairs):
    random = tf.random.stateless_uniform((2, AUGMENTATION_DRAWS), (3, 4))
    changed = augment(pairs, random, KINDS).numpy()
    assert changed.shape == pairs.shape and np.array_equal(changed[..., :3], changed[..., 3:])
    assert not np.allclose(changed[0], pairs[0]) and not np.allclose(changed[1], pairs[1])
    again = augment(pairs[1:], random[1:], KINDS)
    np.testing.assert_allclose(again, changed[1:], atol=1e-6)


def test_colours_move_by_a_quarter_and_contrast_by_a_quarter(pairs):
    np.testing.assert_allclose(augment(pairs, draws(), ["colour"]), pairs, atol=1e-6)
    brighter = augment(pairs, draws(brightness=1.0), ["colour"])
    np.testing.assert_allclose(brighter[1] - pairs[1], 0.25, atol=1e-6)
    np.testing.assert_allclose(brighter[0], pairs[0], atol=1e-6)
    flat = augment(pairs, draws(contrast=0.0), ["colour"])[1]
    mean = np.mean(pairs[1])
    np.testing.assert_allclose(flat, mean + 0.75 * (pairs[1] - mean), atol=1e-5)


def test_images_are_shifted_by_up_to_an_eighth_and_filled_with_grey(pairs):
    np.testing.assert_array_equal(augment(pairs, draws(), ["translation"]), pairs)
    shifted = augment(pairs, draws(down=0.0, right=0.999), ["translation"])[1].numpy()
    most = SIDE // 8
    np.testing.assert_array_equal(shifted[most:, :-most], pairs[1, :-most, most:])
    assert not shifted[:most].any() and not shifted[:, -most:].any()


def test_a_square_of_half_the_side_is_cut_out(pairs):
    cut = augment(pairs, draws(cut_down=0.0, cut_right=0.5), ["cutout"])[1].numpy()
    kept = (cut == pairs[1].numpy()).all(axis=-1)
    assert not kept[: SIDE // 4, SIDE // 4 + 1 : SIDE * 3 // 4].any()
    assert kept[SIDE // 4 :].all() and kept[:, : SIDE // 4].all() and kept[:, SIDE * 3 // 4 :].all()


def test_gradients_reach_the_pixels_that_are_left(pairs):
    with tf.GradientTape() as tape:
        tape.watch(pairs)
        total = tf.reduce_sum(augment(pairs, draws(down=0.0), KINDS) ** 2)
    gradient = tape.gradient(total, pairs).numpy()
    assert np.isfinite(gradient).all() and (np.abs(gradient) > 0).mean() > 0.5


def test_without_kinds_nothing_changes(pairs):
    assert augment(pairs, draws(brightness=0.9), []) is pairs
