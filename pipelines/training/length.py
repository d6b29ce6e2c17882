"""The length of a training: a number of epochs or of steps, or a budget of minutes."""

from math import ceil

from pipelines.config.training_settings import SAMPLE, LengthUnit, TrainingConfig
from pipelines.data.dataset import steps_per_epoch

MAX_STEPS = 10**8 - 1
"""Most steps of a training: the names of its checkpoints, by which they are sorted, have eight digits."""


def school_length(training: TrainingConfig) -> float:
    """Return the part of the length that is spent on painted scenes, in its unit: a whole number of epochs or steps."""
    unit, length = training.length
    if training.start_from != SAMPLE:
        return 0
    part = training.start_share * length
    return part if unit == "minutes" else min(max(1, round(part)), length - 1)


def own_length(training: TrainingConfig) -> tuple[LengthUnit, float]:
    """Return the part of the length that is spent on the pairs themselves, and its unit."""
    unit, length = training.length
    return unit, length - school_length(training)


def planned_steps(training: TrainingConfig, pairs: int) -> int | None:
    """Return the steps of a training on this many pairs; None if it is as many as fit into `training.minutes`."""
    unit, length = own_length(training)
    if unit == "minutes":
        return None
    return int(length) * (1 if unit == "steps" else steps_per_epoch(pairs, training.batch_size))


def planned_epochs(training: TrainingConfig, pairs: int) -> int:
    """Return the number of epochs that a training with a fixed number of steps begins."""
    steps = planned_steps(training, pairs)
    if steps is None:
        raise ValueError("a training by minutes has no planned epochs")
    return ceil(steps / steps_per_epoch(pairs, training.batch_size))


def stretched(steps: int, training: TrainingConfig) -> int:
    """Return the steps of a training that has done `steps` before the learning rate falls.

    The rate has been constant until then, so that the training is the same as one with `training.steps` of this number.
    """
    return max(steps, ceil(steps / (1 - training.decay)))
