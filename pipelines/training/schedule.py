"""The schedule of a training in a worker: when the learning rate falls, and after which step the training ends."""

import time
from collections.abc import Callable

from model.networks.optimizers import LinearDecay
from pipelines.config.training_settings import TrainingConfig
from pipelines.training.checkpoints.checkpoint_manifest import Position
from pipelines.training.length import MAX_STEPS, own_length, planned_steps, stretched


class Schedule:
    """The schedule of one training, which follows the epochs, the steps or the minutes of its settings.

    By minutes, the learning rate is constant until its share of the time is used up; the number of steps done by then
    determines how many there will be.
    """

    def __init__(self, training: TrainingConfig, pairs: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Start the clock; `pairs` is the number of training pairs. Call it in `strategy.scope()`."""
        self._training, self._clock, self._began = training, clock, clock()
        self._unit, self._length = own_length(training)
        self._before = 0.0
        self.total = planned_steps(training, pairs)
        """Steps of the training; None if not yet known."""
        self.rate = LinearDecay(training.learning_rate, steps=self.total or MAX_STEPS, share=training.decay)
        """Learning rate of the generator."""
        self.discriminator_rate = self.rate.starting_at(training.discriminator_learning_rate or training.learning_rate)
        """Learning rate of the discriminator."""

    def resume(self, position: Position) -> None:
        """Continue from the position of a checkpoint."""
        self._before, self._began = position.seconds, self._clock()
        if self.total is None and position.total is not None:
            self._set_total(position.total)

    def position(self, *, epoch: int, step: int, seen: int = 0) -> Position:
        """Return a position with the time that the training has taken so far."""
        total = self.total if self._unit == "minutes" else None
        return Position(epoch=epoch, step=step, seen=seen, seconds=self._seconds(), total=total)

    def is_over(self, position: Position) -> bool:
        """Return whether a position is the end of the training."""
        if self._unit == "epochs":
            return position.epoch >= self._length
        return self.total is not None and position.step >= self.total

    def is_due(self) -> bool:
        """Return whether it is time to determine the number of steps."""
        if self._unit != "minutes" or self.total is not None:
            return False
        return self._seconds() >= 60 * self._length * (1 - self._training.decay)

    def decide(self, step: int) -> int:
        """Determine the number of steps after `step` of them, all with the full learning rate; return it."""
        total = min(MAX_STEPS, stretched(step, self._training))
        self._set_total(total)
        return total

    def _seconds(self) -> float:
        return self._before + self._clock() - self._began

    def _set_total(self, total: int) -> None:
        self.total = total
        self.rate.steps.assign(total)
