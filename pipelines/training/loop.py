"""The training loop of one worker: step, report, checkpoint, stop when asked."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from model.errors import TrainingError
from model.io.files import new_file
from model.networks.pix2pix import build_generator
from model.networks.train_step import TrainState, equalise_moving_statistics, train_step
from model.pixels import Pixels, to_pixels, to_tensor
from pipelines.config.schema import RunConfig
from pipelines.data.dataset import Batch, Shard, TrainingPairs
from pipelines.data.pairs import PairIndex
from pipelines.metrics import image_metrics
from pipelines.tracking.loss_curve import LossCurve, StepLosses
from pipelines.training import checkpoint
from pipelines.training.checkpoint import Position
from pipelines.training.checkpoint_store import CheckpointStore
from pipelines.training.messages import Channel, Drawing, TrainingUpdate
from pipelines.workspace import RunFolder

REPORT_SECONDS = 2.0

Step = Callable[..., Any]


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
        folder: RunFolder,
        code_revision: str,
        held_out: tuple[Pixels, Pixels],
    ) -> None:
        """Take what is trained and where it is told and kept; `held_out` is what checkpoints are scored on."""
        self.config, self.strategy, self.state, self.shard, self.channel = config, strategy, state, shard, channel
        self.folder, self.code_revision, self.held_out = folder, code_revision, held_out
        training = config.training
        self.store = CheckpointStore(folder.checkpoints, keep=training.keep_checkpoints, best_by=training.best_by)
        self.curve = LossCurve()
        self.saved = -1
        self.waited = 0.0
        self._stop = False
        self._newest: deque[Any] = deque(maxlen=2)
        self._losses: list[tuple[int, float, Any]] = []
        self._step_function, self._names = self._compile_step()

    @property
    def first(self) -> bool:
        """The first worker speaks and writes for all."""
        return self.shard.rank == 0

    def run(self, pairs: PairIndex) -> None:
        """Train from the newest whole checkpoint to the last epoch, or until the driver wants it to stop."""
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
        for epoch in range(position.epoch, training.epochs):
            position = self._epoch(epoch, position, batches)
            if position.epoch == epoch:  # Stopped on the way.
                self._save(position)
                return
        self._finish()

    def _epoch(self, epoch: int, position: Position, batches: TrainingPairs) -> Position:
        """Train for one epoch, or until the driver wants it to stop; return how far it came."""
        step, seen, began, self.waited = position.step, position.seen, time.monotonic(), 0.0
        for batch in self._waiting(batches.epoch(epoch, seen=seen)):
            if self._must_stop():
                self._report(epoch, now=True)
                return Position(epoch=epoch, step=step, seen=seen)
            stop = tf.constant(float(self._stop))
            losses = self._step_function(batch.source, batch.target, tf.constant(float(batch.pairs)), stop)
            step, seen = step + 1, seen + batch.pairs
            self._newest.append(losses)
            self._losses.append((step, time.time(), losses))
            self._report(epoch)
        self._report(epoch, now=True)
        self._tell(epoch, step=step, metrics={"input_wait": self.waited / (time.monotonic() - began)})
        position = Position(epoch=epoch + 1, step=step)
        self._end_epoch(position)
        return position

    def _waiting(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield the batches, and add up how long the step had to wait for them."""
        while True:
            began = time.monotonic()
            batch = next(batches, None)
            self.waited += time.monotonic() - began
            if batch is None:
                return
            yield batch

    def _compile_step(self) -> tuple[Step, list[str]]:
        """Return the step, which gives every loss and the wish to stop, summed over the workers.

        It traces once for each size of batch, of which an epoch has two at most.
        """
        names: list[str] = []
        training = self.config.training

        def replica_step(source: tf.Tensor, target: tf.Tensor, pairs: tf.Tensor, stop: tf.Tensor) -> tf.Tensor:
            losses = train_step(self.state, source, target, l1_weight=training.l1_weight, global_batch=pairs)
            names[:] = losses
            return tf.stack([*losses.values(), stop])

        def step(*shares: tf.Tensor) -> tf.Tensor:
            return self.strategy.reduce("SUM", self.strategy.run(replica_step, args=shares), axis=None)

        # XLA fuses well on a GPU, loses bfloat16's gain on a CPU, and can't hold a conversation of workers.
        compiled = training.gpu and training.workers == 1
        return tf.function(step, jit_compile=compiled), names

    def _must_stop(self) -> bool:
        """Tell whether a step carried a wish to stop: all workers read the same, and stop after the same step.

        The last step but one is looked at, so that a GPU is never waited for.
        """
        return bool(self._newest) and float(np.asarray(self._newest[0])[-1]) > 0

    def _report(self, epoch: int, *, now: bool = False) -> None:
        """Send the losses that have gathered, and hear what the driver wants, every few seconds or at once."""
        if not self._losses or (not now and self._losses[-1][1] - self._losses[0][1] < REPORT_SECONDS):
            return
        losses = []
        for step, when, values in self._losses:
            numbers = np.asarray(values).tolist()[:-1]
            losses.append(StepLosses(step, when, dict(zip(self._names, numbers, strict=True))))
        self._losses.clear()
        self.curve.extend(losses)
        self._stop = self._tell(epoch, step=losses[-1].step, losses=losses)

    def _tell(self, epoch: int, **news: Any) -> bool:  # noqa: ANN401 - the fields of a Report
        """Send news of the first worker; tell whether the driver wants the training to stop."""
        return self.first and self.channel.send(TrainingUpdate(epoch=epoch, **news))

    def _end_epoch(self, position: Position) -> None:
        training = self.config.training
        last = position.epoch == training.epochs
        to_save = last or position.epoch % training.checkpoint_every == 0
        to_draw = last or position.epoch % training.sheet_every == 0
        if to_draw:
            source, target = (half[: training.sheet_pairs] for half in self.held_out)
            self._tell(position.epoch - 1, drawing=Drawing(source, self._draw(source), target))
        if to_save:
            self._save(position)

    def _draw(self, photos: Pixels) -> Pixels:
        """Draw as the exported model will: with moving statistics, which are made equal first, and no dropout."""
        equalise_moving_statistics(self.state, self.strategy)
        return to_pixels(np.concatenate([self.state.generator(to_tensor(photo[None])) for photo in photos]))

    def _scores(self) -> dict[str, float]:
        source, target = (half[: self.config.training.validation_pairs] for half in self.held_out)
        drawn = self._draw(source)
        return {
            "val_l1": float(image_metrics.l1(drawn, target).mean()),
            "val_ssim": float(image_metrics.ssim(drawn, target).mean()),
        }

    def _save(self, position: Position) -> None:
        """Write a checkpoint; a full disk costs this one and not the training."""
        if position.step == self.saved:
            return
        scores = self._scores()
        arrays = checkpoint.arrays(self.state)
        self.saved = position.step
        if not self.first:
            return
        self._tell(max(0, position.epoch - 1), step=position.step, metrics=scores)
        try:
            with self.store.new(position.step) as folder:
                checkpoint.save(
                    folder,
                    arrays,
                    self.curve,
                    position=position,
                    config=self.config,
                    code_revision=self.code_revision,
                    scores=scores,
                )
        except OSError as error:
            note = f"The checkpoint of step {position.step} could not be written ({error.strerror or error})"
            if position.epoch == self.config.training.epochs:
                raise TrainingError(
                    f"{note}, and it is the last one. Make room, then go on from the one before."
                ) from error
            self._tell(position.epoch, notes=(f"{note}; the one before stays, and training goes on.",))

    def _restore(self) -> Position:
        """Go back to the newest checkpoint that is whole, and send its curve: the driver knows what it has logged."""
        folder, passed_over = self.store.newest()
        notes = [str(broken) for broken in passed_over]
        if folder is None:
            self._tell(0, notes=tuple(notes))
            return Position(epoch=0, step=0)
        position, self.curve = checkpoint.restore(folder, self.state, network=self.config.network)
        self.saved = position.step
        notes.append(f"Going on from checkpoint {folder.name} (epoch {position.epoch}).")
        self._tell(position.epoch, step=position.step, curve=self.curve.steps, notes=tuple(notes))
        return position

    def _finish(self) -> None:
        """Leave the generator: of the last step, or of the best checkpoint."""
        best = self.store.best() if self.config.training.result == "best" else None
        if best is not None:
            checkpoint.restore(best, self.state, network=self.config.network)
            self._tell(self.config.training.epochs - 1, notes=(f"The generator is that of {best.name}.",))
        equalise_moving_statistics(self.state, self.strategy)
        if self.first:
            # Of Keras' own layers, so that whoever loads it needs none of ours.
            generator = build_generator(self.config.network)
            generator.set_weights(self.state.generator.get_weights())
            with new_file(self.folder.generator) as draft:
                generator.save(draft)
