"""The state of a training: variables by name, seeds, copies, and the decay of the learning rate."""

import numpy as np
import pytest
import tensorflow as tf

from model.networks.optimizers import LinearDecay
from model.networks.train_step import prepare_deployed, update_average
from tests.fixtures.train_steps import WITH_DROPOUT, build, images, split_cpu, step, weights

split_cpu()


@pytest.fixture
def pairs():
    return images(2, seed=1), images(2, seed=2)


@pytest.mark.parametrize(
    ("share", "rates"),
    [
        (0.5, [2, 2, 2, 2, 2, 2, 1.6, 1.2, 0.8, 0.4, 0]),
        (1, [2 - 0.2 * step for step in range(11)]),
        (0, [2] * 10 + [0]),
    ],
)
def test_learning_rate_falls_to_zero_over_the_last_share_of_the_steps(share, rates):
    decay = LinearDecay(2.0, steps=10, share=share)
    found = [float(decay(tf.constant(step, tf.int64))) for step in range(len(rates))]
    np.testing.assert_allclose(found, rates, atol=1e-6)
    assert float(decay(tf.constant(12))) == 0
    assert float(LinearDecay.from_config(decay.get_config())(tf.constant(8))) == pytest.approx(found[8])


def test_average_forgets_the_first_weights_soon_and_keeps_a_share_later(pairs):
    state = build(average=True)
    first = state.averaged.trainable_variables[0].numpy()
    step(state, pairs)
    trained = state.generator.trainable_variables[0].numpy()
    update_average(state, keep=0.9, step=10)
    expected = first * 0.55**10 + trained * (1 - 0.55**10)
    np.testing.assert_allclose(state.averaged.trainable_variables[0], expected, rtol=1e-5)
    update_average(state, keep=0.9, step=1000)
    expected = expected * 0.9**10 + trained * (1 - 0.9**10)
    np.testing.assert_allclose(state.averaged.trainable_variables[0], expected, rtol=1e-5)
    prepare_deployed(state, tf.distribute.get_strategy())
    assert state.deployed is state.averaged
    own = zip(state.averaged.non_trainable_variables, state.generator.non_trainable_variables, strict=True)
    assert all(np.array_equal(one, other) for one, other in own)


def test_another_rate_follows_the_same_steps_also_when_they_change():
    decay = LinearDecay(2.0, steps=10, share=0.5)
    other = decay.starting_at(0.2)
    decay.steps.assign(20)
    for done in (10, 15, 20):
        assert float(other(tf.constant(done))) == pytest.approx(0.1 * float(decay(tf.constant(done))))


@pytest.mark.parametrize("ratio", [1, 0.1])
def test_both_optimizers_follow_the_decay(pairs, ratio):
    rate = LinearDecay(2e-3, steps=2, share=1)
    state = build(learning_rate=rate, discriminator_learning_rate=None if ratio == 1 else rate.starting_at(2e-4))
    moved = []
    for _ in range(3):
        before = weights(state.generator), weights(state.discriminator)
        step(state, pairs)
        after = weights(state.generator), weights(state.discriminator)
        moved.append(
            [
                max(np.abs(new - old).max() for old, new in zip(*both, strict=True))
                for both in zip(before, after, strict=True)
            ]
        )
    # Adam's first step is as large as the learning rate, whatever the gradient.
    np.testing.assert_allclose(moved[0], [2e-3, 2e-3 * ratio], rtol=0.02)
    assert 0 < moved[1][0] < 1.5e-3 and 0 < moved[1][1] < 1.5e-3 * ratio
    assert moved[2] == [0, 0]


def test_variables_have_unique_names_that_do_not_change():
    state, again = build(WITH_DROPOUT), build(WITH_DROPOUT, seed=9)
    names = list(state.variables())
    parts = [state.generator, state.discriminator, state.generator_optimizer, state.discriminator_optimizer]
    assert len(names) == sum(len(part.variables) for part in parts)
    assert names == list(again.variables())


def test_same_seed_gives_the_same_values():
    state, again = build(WITH_DROPOUT, seed=9), build(WITH_DROPOUT, seed=9)
    assert sum("seed_generator" in name for name in state.variables()) == 2
    for one, same in zip(state.variables().values(), again.variables().values(), strict=True):
        np.testing.assert_array_equal(one.numpy(), same.numpy())


def test_state_with_the_same_variables_trains_in_the_same_way(pairs):
    state, copy = build(WITH_DROPOUT), build(WITH_DROPOUT, seed=9)
    step(state, pairs)
    for variable, source in zip(copy.variables().values(), state.variables().values(), strict=True):
        variable.assign(source.numpy())
    # The random state of dropout is among the variables too; it was another one a step ago.
    again = step(copy, pairs)
    assert step(state, pairs) == pytest.approx(again, rel=1e-5)
    assert step(state, pairs) != pytest.approx(again, rel=1e-5)
