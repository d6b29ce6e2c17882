"""The loss terms, compared with scipy and with values by hand, for whole batches and for shares."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import expit as sigmoid
from scipy.special import xlogy

from model.networks.losses import adversarial, l1


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def logits(rng, n=4):
    return tf.constant(rng.normal(0, 3, (n, 5, 5, 1)), tf.float32)


def images(rng, n=4):
    return tf.constant(rng.uniform(-1, 1, (n, 8, 8, 3)), tf.float32)


@pytest.mark.parametrize("real", [True, False])
def test_adversarial_is_the_mean_binary_cross_entropy(rng, real):
    patches = logits(rng)
    chance = sigmoid(patches.numpy().astype(float))
    expected = -np.mean(xlogy(1, chance if real else 1 - chance))
    assert adversarial(patches, real=real, global_batch=4).numpy() == pytest.approx(expected, rel=1e-6)


def test_undecided_discriminator_has_the_loss_log_two():
    undecided = tf.zeros((2, 3, 3, 1))
    for real in (True, False):
        assert adversarial(undecided, real=real, global_batch=2).numpy() == pytest.approx(np.log(2))


def test_large_logits_have_a_finite_loss():
    sure = tf.fill((1, 2, 2, 1), 1000.0)
    assert adversarial(sure, real=True, global_batch=1).numpy() == 0
    assert adversarial(sure, real=False, global_batch=1).numpy() == 1000
    assert adversarial(-sure, real=True, global_batch=1).numpy() == 1000


def test_l1_is_the_mean_absolute_difference(rng):
    drawn, true = images(rng), images(rng)
    expected = np.abs(drawn.numpy() - true.numpy()).mean()
    assert l1(drawn, true, global_batch=4).numpy() == pytest.approx(expected, rel=1e-6)
    assert l1(-tf.ones_like(true), tf.ones_like(true), global_batch=4).numpy() == 2
    assert l1(true, true, global_batch=4).numpy() == 0


@pytest.mark.parametrize("sizes", [[4], [2, 2], [1, 3], [1, 1, 1, 1]])
def test_shares_of_all_workers_add_up_to_the_whole(rng, sizes):
    patches, drawn, true = logits(rng), images(rng), images(rng)
    parts = list(zip(*(tf.split(tensor, sizes) for tensor in (patches, drawn, true)), strict=True))
    for real in (True, False):
        whole = adversarial(patches, real=real, global_batch=4)
        shares = sum(adversarial(part, real=real, global_batch=4) for part, _, _ in parts)
        np.testing.assert_allclose(shares, whole, rtol=1e-6)
    whole = l1(drawn, true, global_batch=4)
    shares = sum(l1(part, true_part, global_batch=4) for _, part, true_part in parts)
    np.testing.assert_allclose(shares, whole, rtol=1e-6)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_the_ratio_of_both_terms_does_not_depend_on_the_number_of_workers(rng, workers):
    # Mixing up mean and sum over the workers would turn the ratio 100 : 1 into 100 * workers : 1.
    patches, drawn = logits(rng, n=1), images(rng, n=1)
    own = 4 // workers
    share = [
        adversarial(tf.repeat(patches, own, 0), real=True, global_batch=4),
        l1(tf.repeat(drawn, own, 0), tf.zeros((own, 8, 8, 3)), global_batch=4),
    ]
    single = [
        adversarial(patches, real=True, global_batch=1),
        l1(drawn, tf.zeros_like(drawn), global_batch=1),
    ]
    np.testing.assert_allclose(share, np.array(single) / workers, rtol=1e-6)
