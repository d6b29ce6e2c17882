"""The discriminator's view: true and drawn maps in one batch or two, standardised, and changed at random."""

import numpy as np
import pytest
import tensorflow as tf

from model.networks.losses import adversarial
from model.networks.view import AS_IN_THE_PAPER, View
from model.spec import AUGMENTATION_DRAWS, Standardisation
from tests.fixtures.train_steps import build, images, step

LEVELS = Standardisation(means=(-0.4, -0.4, -0.5, 0.8, 0.8, 0.7), deviations=(0.3, 0.3, 0.4, 0.1, 0.1, 0.2))


@pytest.fixture
def pairs():
    return images(2, seed=1), images(2, seed=2)


def test_by_default_pairs_are_seen_as_they_are(pairs):
    assert all(seen is given for seen, given in zip(AS_IN_THE_PAPER.pairs(*pairs), pairs, strict=True))


def test_pairs_are_standardised_before_they_are_changed(pairs):
    photo, street_map = View(standardisation=LEVELS).pairs(*pairs)
    np.testing.assert_allclose(photo * LEVELS.deviations[:3] + LEVELS.means[:3], pairs[0], atol=1e-6)
    np.testing.assert_allclose(street_map * LEVELS.deviations[3:] + LEVELS.means[3:], pairs[1], atol=1e-6)
    moved = View(False, LEVELS, ("translation",)).pairs(*pairs, tf.zeros((2, AUGMENTATION_DRAWS)))
    # Shifted by an eighth of 32 pixels, down and to the right; the border has the mean of the channel.
    np.testing.assert_allclose(moved[1][:, 4:, 4:], street_map[:, :-4, :-4])
    assert not np.any(moved[1][:, :4]) and not np.any(moved[0][:, :, :4])


def test_a_joint_batch_is_one_call_of_the_discriminator(pairs):
    photo, street_map = pairs
    state, view = build(), View(joint=True, standardisation=LEVELS)
    drawn = state.generator(photo, training=True)
    both = zip(view.pairs(photo, street_map), view.pairs(photo, drawn), strict=True)
    logits = state.discriminator([tf.concat(halves, axis=0) for halves in both], training=True)
    losses = step(state, pairs, view=view)
    for name, half, real in (("real", logits[:2], True), ("drawn", logits[2:], False)):
        expected = adversarial(half, real=real, global_batch=2)
        assert losses[f"discriminator_{name}_loss"] == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("joint", [False, True])
def test_batch_norm_hides_the_contrast_of_maps_unless_true_and_drawn_ones_share_a_batch(joint):
    # Without a photo, convolutions and leaky units are homogeneous; these levels are far above the norms' epsilon.
    street_map = 100 * images(2, seed=2)
    maps = [street_map, 0.2 * street_map]
    strong, pale = View(joint).logits(build().discriminator, tf.zeros_like(street_map), maps)
    assert np.allclose(strong, pale, rtol=0.01, atol=0.001) is not joint
