"""One training step: losses, updates, mixed precision, and several replicas compared with one."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from model.networks.train_step import Objective, TrainState, equalise_moving_statistics, stack_losses, train_step
from model.networks.view import View
from model.spec import LOSSES, NetworkConfig
from tests.fixtures.train_steps import (
    BETA_1,
    COLOURS,
    TINY,
    build,
    gradients,
    images,
    split_cpu,
    step,
    step_on,
    weights,
)

split_cpu()


@pytest.fixture
def pairs():
    return images(2, seed=1), images(2, seed=2)


@pytest.fixture
def precision():
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy("float32")


def test_losses_have_the_listed_names_and_add_up(pairs):
    losses = step(build(), pairs, objective=Objective(30, adversarial_weight=0.5))
    assert losses.keys() == {*LOSSES} - {"generator_colour_loss"}
    assert 0 <= losses["discriminator_accuracy"] <= 1
    generator_loss = 0.5 * losses["generator_adversarial_loss"] + 30 * losses["generator_l1_loss"]
    discriminator_loss = losses["discriminator_real_loss"] + losses["discriminator_drawn_loss"]
    assert losses["generator_loss"] == pytest.approx(generator_loss, rel=1e-6)
    assert losses["discriminator_loss"] == pytest.approx(discriminator_loss, rel=1e-6)


def test_stacked_losses_do_not_depend_on_the_order_of_the_dict():
    losses = {name: tf.constant(float(number)) for number, name in enumerate(LOSSES)}
    reordered = dict(sorted(losses.items(), key=lambda item: item[0][::-1]))
    assert list(reordered) != list(losses)
    assert stack_losses(reordered).numpy().tolist() == [0, 1, 2, 3, 4, 5, 6, 7]


def test_both_optimizers_get_the_gradients_of_the_papers_losses(pairs):
    state, (photo, street_map) = build(), pairs
    entropy, distance = keras.losses.BinaryCrossentropy(from_logits=True), keras.losses.MeanAbsoluteError()
    with tf.GradientTape(persistent=True) as tape:
        drawn = state.generator(photo, training=True)
        on_drawn = state.discriminator([photo, drawn], training=True)
        generator_loss = entropy(tf.ones_like(on_drawn), on_drawn) + 100 * distance(street_map, drawn)
        on_real = state.discriminator([photo, street_map], training=True)
        on_drawn = state.discriminator([photo, tf.stop_gradient(drawn)], training=True)
        discriminator_loss = entropy(tf.ones_like(on_real), on_real) + entropy(tf.zeros_like(on_drawn), on_drawn)
    expected = [
        *tape.gradient(generator_loss, state.generator.trainable_variables),
        *tape.gradient(discriminator_loss, state.discriminator.trainable_variables),
    ]
    step(state, pairs)
    for (name, gradient), reference in zip(gradients(state).items(), expected, strict=True):
        assert np.any(gradient), name
        np.testing.assert_allclose(gradient, reference, rtol=1e-3, atol=1e-6, err_msg=name)


def test_step_changes_every_weight_of_both_networks(pairs):
    state = build()
    before = weights(state.generator) + weights(state.discriminator)
    step(state, pairs)
    after = weights(state.generator) + weights(state.discriminator)
    assert all(np.any(old != new) for old, new in zip(before, after, strict=True))


def test_without_adversarial_weight_the_discriminator_is_not_trained(pairs):
    state, objective = build(), Objective(100.0, 2.0, COLOURS, adversarial_weight=0)
    before = weights(state.generator), weights(state.discriminator)
    losses = step(state, pairs, objective=objective)
    assert set(losses) == {*objective.losses} == {"generator_loss", "generator_l1_loss", "generator_colour_loss"}
    expected = 100 * losses["generator_l1_loss"] + 2 * losses["generator_colour_loss"]
    assert losses["generator_loss"] == pytest.approx(expected, rel=1e-6)
    assert all(np.array_equal(old, new) for old, new in zip(before[1], weights(state.discriminator), strict=True))
    assert all(np.any(old != new) for old, new in zip(before[0], weights(state.generator), strict=True))


@pytest.mark.parametrize("frozen", ["generator", "discriminator"])
def test_neither_optimizer_changes_the_other_network(pairs, frozen):
    state = build()
    moving = {"generator": "discriminator", "discriminator": "generator"}[frozen]
    getattr(state, f"{frozen}_optimizer").learning_rate = 0.0
    before = {name: weights(getattr(state, name)) for name in (frozen, moving)}
    step(state, pairs)
    for old, new in zip(before[frozen], weights(getattr(state, frozen)), strict=True):
        np.testing.assert_array_equal(old, new)
    assert any(np.any(old != new) for old, new in zip(before[moving], weights(getattr(state, moving)), strict=True))


def test_few_steps_on_one_pair_bring_the_drawing_close_to_its_map():
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    with strategy.scope():
        state = build(NetworkConfig(image_size=32, width=4, depth=3))
    photo = images(1, seed=1)
    street_map = tf.concat([tf.fill((1, 32, 16, 3), -0.5), tf.fill((1, 32, 16, 3), 0.7)], axis=2)
    run = tf.function(step_on(strategy, state, global_batch=1))
    l1 = [run(photo, street_map).numpy()[Objective(100).losses.index("generator_l1_loss")] for _ in range(40)]
    assert l1[0] == pytest.approx(0.6, abs=0.05)
    assert np.mean(l1[-5:]) < 0.5 * l1[0]


@pytest.mark.parametrize("mixed", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_keeps_losses_and_weights_in_float32(precision, mixed, pairs):
    precision(mixed)
    state = build()
    losses = train_step(state, *pairs, objective=Objective(100.0), global_batch=2)
    assert {value.dtype for value in losses.values()} == {tf.float32}
    assert np.all(np.isfinite(list(losses.values())))
    assert all(np.any(gradient) for gradient in gradients(state).values())
    assert {variable.dtype for variable in state.variables().values()} <= {
        "float32",
        "int64",
        "int32",
        "uint32",
        "bool",
    }


@pytest.mark.parametrize(
    ("mixed", "side", "width"),
    [
        ("mixed_bfloat16", 32, 8),
        ("mixed_float16", 32, 8),
        # Wide enough for minimal filtering, which rounds more often.
        pytest.param("mixed_bfloat16", 256, 64, marks=pytest.mark.slow),
    ],
)
def test_mixed_precision_learns_what_float32_learns(precision, mixed, side, width):
    network = NetworkConfig(image_size=side, width=width, depth=3, dropout=0)
    found = []
    for policy in ("float32", mixed):
        precision(policy)
        state = build(network, learning_rate=2e-4)
        taken = tf.function(
            lambda *pair, state=state: train_step(state, *pair, objective=Objective(100.0), global_batch=4)
        )
        losses = [
            {
                name: float(value)
                for name, value in taken(images(4, number % 5, side), images(4, 9 + number % 5, side)).items()
            }
            for number in range(50)
        ]
        found.append({name: np.mean([step[name] for step in losses[-5:]]) for name in losses[0]})
    for name, value in found[0].items():
        assert found[1][name] == pytest.approx(value, rel=0.05), name


def test_overflowing_gradient_in_float16_skips_a_step_and_halves_the_scale(precision, pairs):
    precision("mixed_float16")
    state = build()
    scale = float(state.generator_optimizer.dynamic_scale)
    before = weights(state.generator)
    step(state, pairs, l1_weight=1e30)
    for old, new in zip(before, weights(state.generator), strict=True):
        np.testing.assert_array_equal(old, new)
    assert float(state.generator_optimizer.dynamic_scale) == scale / 2


def frozen_norms():
    """Build a state whose batch norms use and keep their moving statistics, so that images do not interact."""
    state = build()
    for network in (state.generator, state.discriminator):
        for layer in network.layers:
            layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
    optimizers = [keras.optimizers.Adam(2e-3, beta_1=BETA_1) for _ in range(2)]
    return TrainState(state.generator, state.discriminator, *optimizers)


def test_gradients_of_two_workers_add_up_to_those_of_one():
    photo, street_map = images(4, seed=1), images(4, seed=2)
    found, losses = [], []
    for share in (slice(0, 4), slice(0, 1), slice(1, 4)):
        state = frozen_norms()
        shared = step(state, (photo[share], street_map[share]), global_batch=4)
        losses.append(list(shared.values()))
        found.append(list(gradients(state).values()))
    np.testing.assert_allclose(np.add(losses[1], losses[2]), losses[0], rtol=1e-5)
    for whole, one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one + other, whole, rtol=1e-3, atol=1e-6)


def test_two_replicas_take_the_same_step_as_one():
    # Both replicas get the same two pairs, so that batch norm has the same statistics as in the batch of all four.
    pairs = images(2, seed=1), images(2, seed=2)
    single, both = build(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    losses = step(single, [tf.tile(images, (2, 1, 1, 1)) for images in pairs], global_batch=4)
    with both.scope():
        state = build()
    shares = [both.experimental_distribute_values_from_function(lambda _, half=half: half) for half in pairs]
    summed = step_on(both, state, global_batch=4)(*shares)
    np.testing.assert_allclose(summed, [losses[name] for name in LOSSES if name in losses], rtol=1e-4)
    expected = gradients(single)
    for name, gradient in gradients(state).items():
        np.testing.assert_allclose(gradient, expected[name], rtol=2e-3, atol=1e-5, err_msg=name)
    for variable in state.generator.trainable_variables:
        one, other = both.experimental_local_results(variable._value)
        np.testing.assert_array_equal(one, other)


def test_moving_statistics_become_the_mean_over_the_replicas():
    both = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with both.scope():
        state = build()
    pairs = [images(2, seed=seed) * [[[[1.0]]], [[[0.1]]]] for seed in (1, 2)]
    shares = [
        both.experimental_distribute_values_from_function(
            lambda replica, pair=pair: pair[replica.replica_id_in_sync_group :][:1]
        )
        for pair in pairs
    ]
    step_on(both, state, global_batch=2)(*shares)

    def statistics():
        networks = (state.generator, state.discriminator)
        norms = [variable for network in networks for variable in network.variables if "moving_" in variable.path]
        return [np.array(both.experimental_local_results(variable._value)) for variable in norms]

    before = statistics()
    equalise_moving_statistics(state, both)
    for old, new in zip(before, statistics(), strict=True):
        assert np.any(old[0] != old[1])
        np.testing.assert_allclose(new, [old.mean(axis=0)] * 2, rtol=1e-5)


def test_equalising_changes_nothing_for_a_single_worker(pairs):
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    with strategy.scope():
        state = build()
    step(state, pairs)
    before = {name: variable.numpy() for name, variable in state.variables().items()}
    equalise_moving_statistics(state, strategy)
    for name, variable in state.variables().items():
        np.testing.assert_array_equal(variable.numpy(), before[name], err_msg=name)


@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("objective", [Objective(100.0), Objective(100.0, 1.0, COLOURS)])
def test_no_sum_depends_on_timing(norm, joint, objective, pairs):
    """TensorFlow's AddN starts with the input whose memory is freed first; a sum of two is the same either way."""
    state = build(TINY.model_copy(update={"norm": norm}))
    view = View(joint=joint)
    traced = tf.function(lambda *both: train_step(state, *both, objective=objective, global_batch=2, view=view))
    sums = [op for op in traced.get_concrete_function(*pairs).graph.get_operations() if op.type == "AddN"]
    assert sums and {len(op.inputs) for op in sums} == {2}
