"""What one Ray Train worker does: build, restore, step, checkpoint, and tell the driver how it goes."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import ray.train
import tensorflow as tf

from model.pixels import Pixels, to_pixels, to_tensor
from model.step import LinearDecay, TrainState, build_state, equalise_moving_statistics, train_step
from pipelines import checkpoint
from pipelines.config import RunConfig
from pipelines.dataset import Shard, TrainingPairs, load_all
from pipelines.pairs import PairIndex
from pipelines.reports import Drawing, Report, StepLosses
from pipelines.workspace import GENERATOR_FILE

REPORT_SECONDS = 0.5

Step = Callable[[Any, Any], Any]


def train_loop(settings: dict[str, Any]) -> None:
    """Train as one of the workers; Ray Train calls it in each worker process.

    Args:
        settings: `config` and `pairs` as JSON-ready trees, `reports` the queue that the driver reads.
    """
    config = RunConfig.model_validate(settings["config"])
    pairs = PairIndex.model_validate(settings["pairs"])
    context = ray.train.get_context()
    shard = Shard(context.get_world_rank(), context.get_world_size())
    _set_up_devices(config)
    # One worker has nobody to talk to: TensorFlow's own strategy opens no port and reduces nothing.
    strategy = tf.distribute.MultiWorkerMirroredStrategy() if shard.workers > 1 else tf.distribute.get_strategy()
    with strategy.scope():
        state = _build_state(config, steps=config.training.epochs * (len(pairs.train) // config.training.batch_size))
    position = _restore(state, config)
    loop = _Loop(config, strategy, state, shard, put=settings["reports"].put)
    loop.run(pairs, position)


def _set_up_devices(config: RunConfig) -> None:
    for device in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(device, True)
    keras.config.set_dtype_policy(config.training.precision)
    keras.utils.set_random_seed(config.seed)


def _build_state(config: RunConfig, *, steps: int) -> TrainState:
    training = config.training
    rate = LinearDecay(training.learning_rate, steps=steps, share=training.decay)
    return build_state(config.network, learning_rate=rate, beta_1=training.beta_1, seed=config.seed)


def _restore(state: TrainState, config: RunConfig) -> checkpoint.Position:
    saved = ray.train.get_checkpoint()
    if saved is None:
        return checkpoint.Position(epoch=0, step=0)
    with saved.as_directory() as folder:
        return checkpoint.restore(Path(folder), state, network=config.network)


@dataclass
class _Loop:
    config: RunConfig
    strategy: tf.distribute.Strategy
    state: TrainState
    shard: Shard
    put: Callable[[Report], None]
    _losses: list[tuple[int, float, Any]] = field(default_factory=list)

    def run(self, pairs: PairIndex, position: checkpoint.Position) -> None:
        training, network = self.config.training, self.config.network
        batches = TrainingPairs(
            pairs.train,
            side=network.image_size,
            direction=self.config.data.direction,
            jitter=training.jitter,
            mirror=training.mirror,
            batch_size=training.batch_size,
            seed=self.config.seed,
            shard=self.shard,
        )
        shown = load_all(
            pairs.val[: training.sheet_pairs], side=network.image_size, direction=self.config.data.direction
        )
        step_function, names = self._compile_step()
        step = position.step
        for epoch in range(position.epoch, training.epochs):
            for source, target in batches.epoch(epoch):
                step += 1
                losses = step_function(source, target)
                self._losses.append((step, time.time(), losses))
                self._report(epoch, names)
            self._report(epoch, names, now=True)
            self._end_epoch(checkpoint.Position(epoch=epoch + 1, step=step), shown)

    def _compile_step(self) -> tuple[Step, list[str]]:
        """Trace the step once; it returns every loss, summed over the workers, as one vector."""
        names: list[str] = []
        training = self.config.training

        def replica_step(source: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
            losses = train_step(
                self.state, source, target, l1_weight=training.l1_weight, global_batch=training.batch_size
            )
            names[:] = losses
            return tf.stack(list(losses.values()))

        def step(source: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
            return self.strategy.reduce("SUM", self.strategy.run(replica_step, args=(source, target)), axis=None)

        return tf.function(step, reduce_retracing=True), names

    def _report(self, epoch: int, names: list[str], *, now: bool = False) -> None:
        """Send the losses that have gathered; a step is not waited for more often than twice a second."""
        if self.shard.rank or not self._losses:
            return
        if not now and self._losses[-1][1] - self._losses[0][1] < REPORT_SECONDS:
            return
        losses = [
            StepLosses(step, when, dict(zip(names, np.asarray(values).tolist(), strict=True)))
            for step, when, values in self._losses
        ]
        self._losses.clear()
        self.put(Report(epoch=epoch, losses=losses))

    def _end_epoch(self, position: checkpoint.Position, shown: tuple[Pixels, Pixels]) -> None:
        training = self.config.training
        last = position.epoch == training.epochs
        to_save = last or position.epoch % training.checkpoint_every == 0
        to_draw = last or position.epoch % training.sheet_every == 0
        if to_save or to_draw:
            equalise_moving_statistics(self.state, self.strategy)
        if to_draw:
            drawn = to_pixels(np.concatenate([self.state.generator(to_tensor(photo[None])) for photo in shown[0]]))
            if self.shard.rank == 0:
                self.put(Report(epoch=position.epoch - 1, drawing=Drawing(shown[0], drawn, shown[1])))
        if to_save:
            self._save(position, last=last)

    def _save(self, position: checkpoint.Position, *, last: bool) -> None:
        metrics = {"epoch": position.epoch, "step": position.step}
        with tempfile.TemporaryDirectory() as folder:
            # Every worker reads every variable, for reading one may be a conversation of all; the first one writes.
            checkpoint.save(Path(folder), self.state, position=position, network=self.config.network)
            if last:
                self.state.generator.save(Path(folder) / GENERATOR_FILE)
            kept = ray.train.Checkpoint.from_directory(folder) if self.shard.rank == 0 else None
            ray.train.report(metrics, checkpoint=kept)
