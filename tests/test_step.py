"""One training step: what it reports, what it changes, and that two replicas do what one does."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from model.spec import NetworkConfig
from model.step import TrainState, build_state, train_step

TINY = NetworkConfig(image_size=32, width=2, depth=2, dropout=0)
BETA_1 = 0.5
# Two devices out of one processor, so that two replicas can share a batch; possible only before TensorFlow starts.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
ONE_WORKER = tf.distribute.MultiWorkerMirroredStrategy
TWO_REPLICAS = tf.distribute.MirroredStrategy


def build(network=TINY, *, learning_rate=2e-3, seed=0):
    return build_state(network, learning_rate=learning_rate, beta_1=BETA_1, seed=seed)


def images(n, seed):
    return tf.constant(np.random.default_rng(seed).uniform(-1, 1, (n, 32, 32, 3)), tf.float32)


@pytest.fixture
def pairs():
    return images(2, seed=1), images(2, seed=2)


def step(state, pairs, *, l1_weight=100.0, global_batch=2):
    losses = train_step(state, *pairs, l1_weight=l1_weight, global_batch=global_batch)
    return {name: float(value) for name, value in losses.items()}


def weights(network):
    return [variable.numpy() for variable in network.trainable_variables]


def first_moments(state):
    """Return what Adam remembers after one step, (1 - beta_1) x the gradient, as gradients by name."""
    return {
        name.rsplit("/", 1)[1]: np.asarray(variable.value) / (1 - BETA_1)
        for name, variable in state.variables().items()
        if name.endswith("_momentum")
    }


def test_a_step_reports_the_six_losses_and_how_they_add_up(pairs):
    losses = step(build(), pairs, l1_weight=30)
    assert list(losses) == [
        "generator_loss",
        "generator_adversarial_loss",
        "generator_l1_loss",
        "discriminator_loss",
        "discriminator_real_loss",
        "discriminator_drawn_loss",
    ]
    assert losses["generator_loss"] == pytest.approx(
        losses["generator_adversarial_loss"] + 30 * losses["generator_l1_loss"], rel=1e-6
    )
    assert losses["discriminator_loss"] == pytest.approx(
        losses["discriminator_real_loss"] + losses["discriminator_drawn_loss"], rel=1e-6
    )
