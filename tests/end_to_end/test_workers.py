"""Two workers compared with one: the same gradients, the same weights, the same ratio of the losses."""

from functools import cache

import keras
import numpy as np
import pytest
import tensorflow as tf

from model.networks.train_step import Objective, build_state, stack_losses, train_step
from model.spec import NetworkConfig
from tests.fixtures.train_steps import BETA_1, split_cpu

STEPS = 5

split_cpu()


def images(seed):
    return tf.constant(np.random.default_rng(seed).uniform(-1, 1, (4, 32, 32, 3)), tf.float32)


@cache
def train(strategy, norm, *, steps=STEPS, l1_weight=100.0, precision="float32"):
    """Train for some steps on a global batch of four; return gradients of the first step, weights and losses.

    The results are kept, because most of the time is that of TensorFlow's tracing of the step.
    """
    keras.config.set_dtype_policy(precision)
    try:
        return _train(strategy, norm, steps, l1_weight)
    finally:
        keras.config.set_dtype_policy("float32")


def _train(strategy, norm, steps, l1_weight):
    network = NetworkConfig(image_size=32, width=4, depth=3, dropout=0, norm=norm)
    with strategy.scope():
        state = build_state(network, learning_rate=2e-4, beta_1=BETA_1, seed=0)
    replicas = strategy.num_replicas_in_sync

    @tf.function
    def step(photo, street_map):
        def replica_step(*pair):
            return stack_losses(train_step(state, *pair, objective=Objective(l1_weight), global_batch=4))

        return strategy.reduce("SUM", strategy.run(replica_step, args=(photo, street_map)), axis=None)

    gradients = None
    for number in range(steps):
        shares = [
            strategy.experimental_distribute_values_from_function(
                lambda context, half=half: half[context.replica_id_in_sync_group :: replicas]
            )
            for half in (images(2 * number), images(2 * number + 1))
        ]
        losses = step(*shares)
        if gradients is None:
            # Adam has kept (1 - beta_1) of the first gradient.
            momenta = {name: value for name, value in state.variables().items() if name.endswith("_momentum")}
            gradients = {name: np.asarray(value.value) / (1 - BETA_1) for name, value in momenta.items()}
    weights = {name: np.asarray(value.value) for name, value in state.variables().items() if "/seed_" not in name}
    return gradients, weights, np.asarray(losses)


def difference(found, expected):
    """Return the largest difference of two sets of arrays, relative to the largest value of each array."""
    assert found.keys() == expected.keys()
    return max(
        np.abs(found[name] - expected[name]).max() / max(np.abs(expected[name]).max(), 1e-12) for name in expected
    )


@pytest.fixture(scope="module")
def one():
    return tf.distribute.get_strategy()


@pytest.fixture(scope="module")
def two():
    # Collectives would clash with those of other tests in this process: their keys are counted per strategy.
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], tf.distribute.ReductionToOneDevice())


@pytest.mark.parametrize("norm", ["sync_batch", "instance"])
def test_two_workers_have_the_gradients_and_the_weights_of_one(one, two, norm):
    gradients, weights, losses = train(one, norm)
    shared_gradients, shared_weights, shared_losses = train(two, norm)
    assert difference(shared_gradients, gradients) < 1e-4
    assert difference(shared_weights, weights) < 1e-4
    np.testing.assert_allclose(shared_losses, losses, rtol=1e-4)


def test_batch_norm_gradients_are_the_mean_over_the_workers(two):
    shared, _, _ = train(two, "batch", steps=1)
    own = []
    for rank in range(2):
        state = build_state(
            NetworkConfig(image_size=32, width=4, depth=3, dropout=0), learning_rate=2e-4, beta_1=BETA_1, seed=0
        )
        train_step(state, images(0)[rank::2], images(1)[rank::2], objective=Objective(100.0), global_batch=2)
        momenta = {name: value for name, value in state.variables().items() if name.endswith("_momentum")}
        own.append({name: np.asarray(value.value) / (1 - BETA_1) for name, value in momenta.items()})
    mean = {name: (own[0][name] + own[1][name]) / 2 for name in own[0]}
    assert difference(shared, mean) < 1e-4
    assert difference(shared, own[0]) > 0.01


def test_batch_norm_over_each_share_differs_from_the_whole_batch(one, two):
    assert difference(train(two, "batch", steps=1)[0], train(one, "batch", steps=1)[0]) > 0.01


def test_ratio_of_the_losses_does_not_depend_on_the_workers(one, two):
    # The L1 term's part of the generator's gradient; a ratio of 100 * W : 1 would change it.
    found = []
    for strategy in (one, two):
        whole, without = train(strategy, "instance")[0], train(strategy, "instance", steps=1, l1_weight=0.0)[0]
        found.append({name: whole[name] - without[name] for name in whole if name.startswith("generator")})
    assert difference(found[1], found[0]) < 1e-3


def test_gradients_summed_in_bfloat16_lead_to_the_same_losses(one, two):
    (_, _, single), (_, _, shared) = (
        train(strategy, "instance", precision="mixed_bfloat16") for strategy in (one, two)
    )
    np.testing.assert_allclose(shared, single, rtol=0.02)
