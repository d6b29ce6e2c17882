"""The training step of Pix2Pix: its state, and the update by one batch."""

from dataclasses import dataclass
from functools import partial, reduce
from operator import add
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from model.networks import losses
from model.networks.layers import FAST, KERAS
from model.networks.optimizers import FusedAdam, LinearDecay
from model.networks.pix2pix import build_discriminator, build_generator
from model.networks.view import AS_IN_THE_PAPER, View
from model.spec import LOSSES, LossName, NetworkConfig, WeightedColours

AVERAGED = "averaged"
"""The beginning of the names of the averaged generator's variables."""
AVERAGE_EVERY = 10
"""Steps between updates of the average, so that they cost next to nothing."""

Losses = dict[LossName, tf.Tensor]
"""One scalar for each name in `Objective.losses`."""


class Objective(NamedTuple):
    """Weights of the terms of the generator's loss."""

    l1_weight: float
    """Weight of the L1 term."""
    colour_weight: float = 0
    """Weight of the cross-entropy with the colours of the true map (`losses.colour_entropy`)."""
    palette: WeightedColours | None = None
    """Colours of the maps, whose weights apply in both terms; None for equal weights and no cross-entropy."""
    adversarial_weight: float = 1
    """Weight of the adversarial term; with 0 the discriminator is neither asked nor trained."""

    @property
    def weights(self) -> dict[LossName, float]:
        """The weight of each term that has one."""
        weights: dict[LossName, float] = {
            "generator_adversarial_loss": self.adversarial_weight,
            "generator_l1_loss": self.l1_weight,
            "generator_colour_loss": 0 if self.palette is None else self.colour_weight,
        }
        return {name: weight for name, weight in weights.items() if weight or name == "generator_l1_loss"}

    @property
    def losses(self) -> list[LossName]:
        """The names of a step's losses, in their order."""
        absent = {"generator_colour_loss"} - self.weights.keys()
        if not self.adversarial_weight:
            absent |= {"generator_adversarial_loss", *(name for name in LOSSES if name.startswith("discriminator"))}
        return [name for name in LOSSES if name not in absent]


@dataclass(frozen=True)
class TrainState:
    """Both networks and both optimizers: everything that a step changes."""

    generator: keras.Model
    discriminator: keras.Model
    generator_optimizer: keras.optimizers.Optimizer
    discriminator_optimizer: keras.optimizers.Optimizer
    averaged: keras.Model | None = None
    """The generator with the running average of its weights, if there is one."""

    @property
    def deployed(self) -> keras.Model:
        """The generator that draws maps: the averaged one if there is one."""
        return self.generator if self.averaged is None else self.averaged

    def variables(self) -> dict[str, keras.Variable]:
        """Return every variable under a name that is the same in any process with the same settings."""
        parts = {
            "generator": self.generator.variables,
            "discriminator": self.discriminator.variables,
            "generator_optimizer": self.generator_optimizer.variables,
            "discriminator_optimizer": self.discriminator_optimizer.variables,
            AVERAGED: [] if self.averaged is None else self.averaged.variables,
        }
        return {
            f"{part}/{number:03d}/{variable.name}": variable
            for part, variables in parts.items()
            for number, variable in enumerate(variables)
        }


def build_state(
    network: NetworkConfig,
    *,
    learning_rate: float | LinearDecay,
    discriminator_learning_rate: float | LinearDecay | None = None,
    beta_1: float,
    seed: int,
    average: bool = False,
) -> TrainState:
    """Build both networks, each with an Adam optimizer; call it inside `strategy.scope()`, before tracing.

    Both have the same learning rate unless the discriminator's is given.
    With `average`, the state also has the generator with the average of its weights (see `update_average`).
    """
    layer_set = KERAS if tf.config.list_logical_devices("GPU") else FAST
    generator = build_generator(network, seed=seed, layer_set=layer_set)
    discriminator = build_discriminator(network, seed=seed, layer_set=layer_set)
    rates = (learning_rate, discriminator_learning_rate or learning_rate)
    optimizers: list[keras.optimizers.Optimizer] = [FusedAdam(rate, beta_1=beta_1) for rate in rates]
    if keras.config.dtype_policy().compute_dtype == "float16":
        # Small gradients vanish in float16 unless the loss is scaled up (Micikevicius et al. 2018, section 3.2).
        optimizers = [keras.optimizers.LossScaleOptimizer(optimizer) for optimizer in optimizers]
    optimizers[0].build(generator.trainable_variables)
    optimizers[1].build(discriminator.trainable_variables)
    averaged = build_generator(network, seed=seed, layer_set=layer_set) if average else None
    return TrainState(generator, discriminator, optimizers[0], optimizers[1], averaged)


def train_step(
    state: TrainState,
    photo: tf.Tensor,
    street_map: tf.Tensor,
    *,
    objective: Objective,
    global_batch: tf.Tensor | int,
    view: View = AS_IN_THE_PAPER,
    draws: tf.Tensor | None = None,
) -> Losses:
    """Train the networks on one batch of pairs, (N, S, S, 3) in [-1, 1]; return this worker's share of each loss.

    The generator runs once; the discriminator's output for the drawn map is used in both losses.

    Args:
        state: The networks and optimizers.
        photo: The generator's input.
        street_map: The true maps.
        objective: The terms of the generator's loss.
        global_batch: Number of pairs of all workers.
        view: The discriminator's view of the pairs.
        draws: Random numbers for the view's augmentations, (N, AUGMENTATION_DRAWS) in [0, 1).
    """
    with tf.GradientTape() as generator_tape, tf.GradientTape() as discriminator_tape:
        drawn = state.generator(photo, training=True)
        found: Losses = {}
        if objective.adversarial_weight:
            on_real, on_drawn = view.logits(state.discriminator, photo, [street_map, drawn], draws)
            found = _adversarial_losses(on_real, on_drawn, global_batch=global_batch)
            scaled_discriminator_loss = state.discriminator_optimizer.scale_loss(found["discriminator_loss"])
        found |= _pixel_losses(tf.identity(drawn), street_map, objective, global_batch=global_batch)
        generator_loss = reduce(add, (weight * found[name] for name, weight in objective.weights.items()))
        scaled_generator_loss = state.generator_optimizer.scale_loss(generator_loss)
    _apply_gradients(generator_tape, scaled_generator_loss, state.generator, state.generator_optimizer)
    if objective.adversarial_weight:
        _apply_gradients(
            discriminator_tape, scaled_discriminator_loss, state.discriminator, state.discriminator_optimizer
        )
    return {"generator_loss": generator_loss, **found}


def _adversarial_losses(on_real: tf.Tensor, on_drawn: tf.Tensor, *, global_batch: tf.Tensor | int) -> Losses:
    """Return the losses of the contest, given the logits of true and drawn maps, (N, P, P, 1)."""
    adversarial, share_right = (
        partial(loss, global_batch=global_batch) for loss in (losses.adversarial, losses.share_right)
    )
    real_loss, drawn_loss = adversarial(on_real, real=True), adversarial(on_drawn, real=False)
    return {
        "generator_adversarial_loss": adversarial(on_drawn, real=True),
        "discriminator_accuracy": (share_right(on_real, real=True) + share_right(on_drawn, real=False)) / 2,
        "discriminator_loss": real_loss + drawn_loss,
        "discriminator_real_loss": real_loss,
        "discriminator_drawn_loss": drawn_loss,
    }


def _pixel_losses(drawn: tf.Tensor, true: tf.Tensor, objective: Objective, *, global_batch: tf.Tensor | int) -> Losses:
    """Return the L1 loss and, if it has a weight, the cross-entropy of colours; both weigh pixels by the palette."""
    if objective.palette is None:
        return {"generator_l1_loss": losses.l1(drawn, true, global_batch=global_batch)}
    indices, weights = losses.nearest(true, objective.palette)
    l1 = losses.l1(drawn, true, global_batch=global_batch, weights=weights)
    if not objective.colour_weight:
        return {"generator_l1_loss": l1}
    # Gradients of one tensor are added in the order in which their memory is freed; each copy has only two to add.
    copy = tf.identity(drawn)
    entropy = losses.colour_entropy(copy, indices, objective.palette, weights=weights, global_batch=global_batch)
    return {"generator_l1_loss": l1, "generator_colour_loss": entropy}


def stack_losses(step_losses: Losses) -> tf.Tensor:
    """Stack the losses of a step in the order of LOSSES, (L,)."""
    return tf.stack([step_losses[name] for name in LOSSES if name in step_losses])


def update_average(state: TrainState, *, keep: float, step: int) -> None:
    """Move the averaged generator towards the trained one; call it on all workers, every AVERAGE_EVERY steps.

    Args:
        state: The state.
        keep: Share of the average that a single step keeps. At first it is (1 + step) / (10 + step), so that the random
            weights of the beginning are soon forgotten, as in `tf.train.ExponentialMovingAverage`.
        step: The number of finished steps.
    """
    if state.averaged is not None:
        kept = min(keep, (1 + step) / (10 + step)) ** AVERAGE_EVERY
        weights = zip(state.averaged.trainable_variables, state.generator.trainable_variables, strict=True)
        for average, weight in weights:
            average.assign(average.value * kept + weight.value * (1 - kept))


def prepare_deployed(state: TrainState, strategy: tf.distribute.Strategy) -> None:
    """Equalise the moving statistics, and give them to the averaged generator too; call it before it draws."""
    equalise_moving_statistics(state, strategy)
    if state.averaged is not None:
        own = zip(state.averaged.non_trainable_variables, state.generator.non_trainable_variables, strict=True)
        for statistic, value in own:
            statistic.assign(np.asarray(value.value))


def equalise_moving_statistics(state: TrainState, strategy: tf.distribute.Strategy) -> None:
    """Set every worker's moving statistics to the mean over all workers; each has computed them from its own pairs.

    Call it on all workers before saving, evaluating or exporting.
    """
    statistics = [
        variable
        for network in (state.generator, state.discriminator)
        for variable in network.non_trainable_variables
        if variable.path.endswith(("moving_mean", "moving_variance"))
    ]

    def read() -> list[tf.Tensor]:
        return [tf.identity(variable.value) for variable in statistics]

    def write(means: list[tf.Tensor]) -> None:
        for variable, mean in zip(statistics, means, strict=True):
            variable.assign(mean)

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def equalise() -> None:
        means = [strategy.reduce("MEAN", values, axis=None) for values in strategy.run(read)]
        strategy.run(write, args=(means,))

    equalise()


def _apply_gradients(
    tape: tf.GradientTape, loss: tf.Tensor, network: keras.Model, optimizer: keras.optimizers.Optimizer
) -> None:
    gradients = tape.gradient(loss, network.trainable_variables)
    if tf.distribute.get_strategy().num_replicas_in_sync > 1 and network.compute_dtype == "bfloat16":
        # They were computed in bfloat16, so sending them as bfloat16 halves the traffic; sums are rounded likewise.
        gradients = [tf.cast(gradient, tf.bfloat16) for gradient in gradients]
    optimizer.apply_gradients(zip(gradients, network.trainable_variables, strict=True))
