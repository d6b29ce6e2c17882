"""The training loop of one worker: train steps, updates, checkpoints, and stopping on request."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from model.errors import StorageError, TrainingError
from model.io.files import new_file
from model.networks import keras_file
from model.networks.train_step import (
    AVERAGE_EVERY,
    Objective,
    TrainState,
    prepare_deployed,
    stack_losses,
    train_step,
    update_average,
)
from model.networks.view import View
from model.pixels import Pixels, to_pixels, to_tensor
from pipelines.config.schema import RunConfig
from pipelines.data.dataset import Batch, Shard, TrainingPairs
from pipelines.data.pairs import PairIndex
from pipelines.metrics import image_metrics
from pipelines.run_folder import DISCRIMINATOR_FILE, GENERATOR_FILE, RunFolder
from pipelines.tracking.loss_curve import LossCurve, StepLosses
from pipelines.training.checkpoints import checkpoint
from pipelines.training.checkpoints.checkpoint_manifest import Position
from pipelines.training.checkpoints.checkpoint_store import CheckpointStore
from pipelines.training.messages import Channel, Drawing, TrainingUpdate, WorkerJob
from pipelines.training.schedule import Schedule

UPDATE_SECONDS = 2.0
STOP, DUE = -2, -1
"""Positions of the signals in what a compiled step returns."""

CompiledStep = Callable[[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]
"""Source, target, random numbers, pairs in the global batch, signals (2,) -> the losses in the order of LOSSES, and the
signals: requests to stop, and to determine the number of steps. Everything is summed over the workers.
"""


class _StepResult(NamedTuple):
    step: int
    when: float
    values: tf.Tensor
    """What the compiled step returned; on a GPU it may still be running."""


class TrainingLoop:
    """The training of one worker, from the newest checkpoint to the last epoch."""

    def __init__(
        self,
        config: RunConfig,
        strategy: tf.distribute.Strategy,
        state: TrainState,
        shard: Shard,
        channel: Channel,
        *,
        job: WorkerJob,
        schedule: Schedule,
        held_out: tuple[Pixels, Pixels],
        scored: tuple[Pixels, Pixels],
    ) -> None:
        """Compile the step; sheets show the sources and targets of `held_out`, checkpoints are scored on `scored`."""
        self.config, self.strategy, self.state, self.shard, self.channel = config, strategy, state, shard, channel
        self.job, self.schedule, self.folder, self.held_out = job, schedule, RunFolder(job.folder), held_out
        self.scored = scored
        training = config.training
        self.store = CheckpointStore(self.folder.checkpoints, keep=training.keep_checkpoints, best_by=training.best_by)
        self.objective = Objective(training.l1_weight, training.colour_weight, job.palette, training.adversarial_weight)
        self.view = View(training.discriminator_batch == "joint", job.standardisation, training.augment_discriminator)
        self.curve = LossCurve()
        self.saved = -1
        self.waited = 0.0
        self.compiled_step = self._compile_step()
        self._stop = False
        self._newest: deque[_StepResult] = deque(maxlen=2)
        self._unreported: list[_StepResult] = []

    @property
    def first(self) -> bool:
        """Whether this is the first worker, which sends updates and writes files for all."""
        return self.shard.rank == 0

    def run(self, pairs: PairIndex) -> None:
        """Train from the newest intact checkpoint to the last step, or until the driver requests a stop."""
        training = self.config.training
        batches = TrainingPairs(
            pairs.train,
            side=self.config.network.image_size,
            direction=self.config.data.direction,
            jitter=training.jitter,
            mirror=training.mirror,
            turn=training.turn,
            batch_size=training.batch_size,
            seed=self.config.seed,
            shard=self.shard,
        )
        position = self._restore()
        while not self.schedule.is_over(position):
            epoch, position = position.epoch, self._train_epoch(position, batches)
            over = self.schedule.is_over(position)
            if over or position.epoch > epoch:
                self._end_epoch(position)
            if self._has_signal(STOP) and not over:
                self._save(position)
                return
        self._finish(position)

    def _train_epoch(self, position: Position, batches: TrainingPairs) -> Position:
        """Train to the end of the epoch or of the training, or until a stop is requested; return the position."""
        epoch, step, seen = position.epoch, position.step, position.seen
        began, self.waited = time.monotonic(), 0.0
        for batch in self._timed(batches.epoch(epoch, seen=seen)):
            if self._has_signal(DUE) and self.schedule.total is None:
                self._send(TrainingUpdate(epoch=epoch, step=step, total_steps=self.schedule.decide(step)))
            position = self.schedule.position(epoch=epoch, step=step, seen=seen)
            if self._has_signal(STOP) or self.schedule.is_over(position):
                self._report_losses(epoch, now=True)
                return position
            signals = tf.constant([float(self._stop), float(self.first and self.schedule.is_due())])
            pairs = tf.constant(float(batch.pairs))
            values = self.compiled_step(batch.source, batch.target, tf.constant(batch.draws), pairs, signals)
            step, seen = step + 1, seen + batch.pairs
            if step % AVERAGE_EVERY == 0:
                update_average(self.state, keep=self.config.training.average, step=step)
            result = _StepResult(step, time.time(), values)
            self._newest.append(result)
            self._unreported.append(result)
            self._report_losses(epoch)
        self._report_losses(epoch, now=True)
        waited = self.waited / (time.monotonic() - began)
        self._send(TrainingUpdate(epoch=epoch, step=step, metrics={"input_wait": waited}))
        return self.schedule.position(epoch=epoch + 1, step=step)

    def _timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield the batches, and add up the seconds spent waiting for them."""
        while True:
            began = time.monotonic()
            batch = next(batches, None)
            self.waited += time.monotonic() - began
            if batch is None:
                return
            yield batch

    def _compile_step(self) -> CompiledStep:
        """Return the traced step; it is traced once for each batch size, of which an epoch has at most two."""
        training = self.config.training

        def replica_step(
            source: tf.Tensor, target: tf.Tensor, draws: tf.Tensor, pairs: tf.Tensor, signals: tf.Tensor
        ) -> tf.Tensor:
            losses = train_step(
                self.state,
                source,
                target,
                objective=self.objective,
                global_batch=pairs,
                view=self.view,
                draws=draws,
            )
            return tf.concat([stack_losses(losses), signals], axis=0)

        def step(*shares: tf.Tensor) -> tf.Tensor:
            return self.strategy.reduce("SUM", self.strategy.run(replica_step, args=shares), axis=None)

        # XLA fuses well on a GPU, but loses bfloat16's gain on a CPU and can't compile collectives of several workers.
        use_xla = training.gpu and training.workers == 1
        # Autograph would leave the code that it generates in the temporary folder when Ray ends the worker.
        compiled: CompiledStep = tf.function(step, autograph=False, jit_compile=use_xla)
        return compiled

    def _has_signal(self, signal: int) -> bool:
        """Return whether a step carried a signal: all workers read the same, and act on it after the same step.

        The last step but one is read, so that the loop never waits for a GPU.
        """
        return bool(self._newest) and float(np.asarray(self._newest[0].values)[signal]) > 0

    def _report_losses(self, epoch: int, *, now: bool = False) -> None:
        """Send the collected losses, every few seconds or `now`; the reply is the driver's request to stop."""
        results = self._unreported
        if not results or (not now and results[-1].when - results[0].when < UPDATE_SECONDS):
            return
        losses = []
        for result in results:
            numbers = np.asarray(result.values).tolist()[:STOP]
            losses.append(StepLosses(result.step, result.when, dict(zip(self.objective.losses, numbers, strict=True))))
        results.clear()
        self.curve.extend(losses)
        self._stop = self._send(TrainingUpdate(epoch=epoch, step=losses[-1].step, losses=losses))

    def _send(self, update: TrainingUpdate) -> bool:
        """Send an update if this is the first worker; return whether the driver has requested a stop."""
        return self.first and self.channel.send(update)

    def _end_epoch(self, position: Position) -> None:
        training = self.config.training
        last = self.schedule.is_over(position)
        if last or position.epoch % training.sheet_every == 0:
            source, target = self.held_out
            drawing = Drawing(source, self._draw(source), target)
            self._send(TrainingUpdate(epoch=position.begun - 1, drawing=drawing))
        if last or position.epoch % training.checkpoint_every == 0:
            self._save(position)

    def _draw(self, photos: Pixels) -> Pixels:
        """Draw as the exported model will: with moving statistics, equalised first, and without dropout."""
        prepare_deployed(self.state, self.strategy)
        return to_pixels(np.concatenate([self.state.deployed(to_tensor(photo[None])) for photo in photos]))

    def _scores(self) -> dict[str, float]:
        source, target = self.scored
        drawn = self._draw(source)
        scores = {"val_l1": image_metrics.l1, "val_ssim": image_metrics.ssim}
        return {name: float(score(drawn, target).mean()) for name, score in scores.items()}

    def _save(self, position: Position) -> None:
        """Write a checkpoint; if the disk is full, training continues without it, except after the last epoch."""
        if position.step == self.saved:
            return
        scores = self._scores()
        arrays = checkpoint.arrays(self.state)
        self.saved = position.step
        if not self.first:
            return
        self._send(TrainingUpdate(epoch=max(0, position.begun - 1), step=position.step, metrics=scores))
        self.curve.scores[position.step] = scores
        try:
            with self.store.new(position.step) as folder:
                checkpoint.save(
                    folder,
                    arrays,
                    self.curve,
                    position=position,
                    config=self.config,
                    code_revision=self.job.code_revision,
                    scores=scores,
                )
        except (OSError, StorageError) as error:
            reason = getattr(error, "strerror", None) or error
            failure = f"The checkpoint of step {position.step} could not be written ({reason})"
            previous, _ = self.store.newest()
            if self.schedule.is_over(position):
                again = "train again" if previous is None else "resume from the previous one"
                raise TrainingError(
                    f"{failure}, and it is the final one. Free some disk space, then {again}."
                ) from error
            kept = "There is no previous one" if previous is None else "The previous one is kept"
            note = f"{failure}. {kept}, and training continues."
            self._send(TrainingUpdate(epoch=position.epoch, notes=(note,)))

    def _restore(self) -> Position:
        """Restore the newest intact checkpoint and send its complete curve; the driver logs what is missing."""
        folder, skipped = self.store.newest()
        notes = [str(broken) for broken in skipped]
        if folder is None:
            start = self.folder.start
            keras_file.load_networks(
                self.state, self.config.network, start / GENERATOR_FILE, start / DISCRIMINATOR_FILE
            )
            self._send(TrainingUpdate(epoch=0, begins=True, notes=tuple(notes)))
            return self.schedule.position(epoch=0, step=0)
        position, self.curve = checkpoint.restore(folder, self.state, config=self.config)
        self.schedule.resume(position)
        self.saved = position.step
        notes.append(f"Resuming from checkpoint {folder.name} (epoch {position.epoch}).")
        update = TrainingUpdate(
            epoch=position.epoch,
            step=position.step,
            begins=True,
            total_steps=position.total,
            curve=self.curve.steps,
            notes=tuple(notes),
        )
        self._send(update)
        return position

    def _finish(self, position: Position) -> None:
        """Write the generator of the last step or of the best checkpoint (training.result)."""
        training = self.config.training
        best = self.store.best() if training.result == "best" else None
        if best is not None:
            checkpoint.restore(best, self.state, config=self.config)
            note = f"The generator is taken from checkpoint {best.name}, the best by {training.best_by}."
            self._send(TrainingUpdate(epoch=position.begun - 1, notes=(note,)))
        prepare_deployed(self.state, self.strategy)
        if self.first:
            generator, discriminator = keras_file.plain_networks(self.state, self.config.network)
            discriminators = {self.folder.discriminator: discriminator} if training.adversarial_weight else {}
            for file, network in ({self.folder.generator: generator} | discriminators).items():
                with new_file(file) as draft:
                    network.save(draft)
