"""Monitoring of a training run by the driver: losses go to MLflow and to a progress bar, drawings become sheets."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from model.errors import TrainingError
from model.spec import LossName
from pipelines.config.schema import RunConfig
from pipelines.report.sheets import comparison
from pipelines.tracking.mlflow_runs import Run
from pipelines.tracking.outbox import Outbox
from pipelines.training.channel import ActorChannel
from pipelines.training.messages import Drawing, TrainingUpdate
from pipelines.training.metric_logger import MetricLogger

SHOWN_LOSSES: dict[LossName, str] = {
    "generator_l1_loss": "L1",
    "generator_adversarial_loss": "GAN",
    "discriminator_loss": "D",
}


@dataclass
class TrainingMonitor:
    """Monitor of a training run, which processes the first worker's updates until it receives None."""

    config: RunConfig
    steps_per_epoch: int
    logged: dict[str, int]
    """The last steps that MLflow holds already."""
    steps_done: int = 0
    first_step: int = 0
    began: float = 0
    ended: float = 0
    user_error: str = ""
    failure: Exception | None = None
    losses: dict[str, float] = field(default_factory=dict)

    @property
    def total_steps(self) -> int:
        """Steps of the complete training."""
        return self.steps_per_epoch * self.config.training.epochs

    @property
    def epoch(self) -> int:
        """The running epoch, counted from 0."""
        return min(self.steps_done // self.steps_per_epoch, self.config.training.epochs - 1)

    @property
    def seconds(self) -> float:
        """Seconds from the end of the first step, which includes tracing, to the end of the last one."""
        return self.ended - self.began

    @property
    def images_per_second(self) -> float:
        """Pairs trained per second by all workers together."""
        images = (self.steps_done - self.first_step) * self.config.training.batch_size
        return images / self.seconds if self.seconds > 0 else 0.0

    @contextmanager
    def reading(self, channel: ActorChannel, run: Run) -> Iterator[None]:
        """Process updates from the channel while the block runs; on leaving, wait until all of them are logged.

        Raises:
            TrackingError: MLflow rejected something, or stayed unreachable for too long.
            TrainingError: The workers met an error that only the user can fix.
        """
        reader = threading.Thread(target=self._read, args=(channel, run), name="updates")
        reader.start()
        try:
            yield
        finally:
            channel.send(None)
            reader.join()
        self.raise_failure()

    def raise_failure(self) -> None:
        """Raise the error met while reading, if there was one."""
        if self.failure is not None:
            raise self.failure
        if self.user_error:
            raise TrainingError(f"Training failed: {self.user_error}")

    def _read(self, channel: ActorChannel, run: Run) -> None:
        with self._bar() as (bar, task):
            outbox = Outbox(notify=lambda text: _print_above(bar, text))
            logger = MetricLogger(run, outbox, logged=self.logged)
            while (update := channel.next_update()) is not None:
                if self.failure is None:
                    try:
                        self._process(update, run, outbox, logger)
                    except Exception as error:
                        self.failure = error
                bar.update(task, completed=self.steps_done, status=self._status(update.epoch))
                for note in update.notes:
                    _print_above(bar, note)
                if bar.disable and update.losses and self.steps_done % self.steps_per_epoch == 0:
                    _print_above(bar, self._status(update.epoch))
            try:
                outbox.close(patience=self.config.tracking.patience)
            except Exception as error:
                self.failure = self.failure or error

    def _process(self, update: TrainingUpdate, run: Run, outbox: Outbox, logger: MetricLogger) -> None:
        self.user_error = self.user_error or update.user_error
        if update.curve:
            # Resumed from a checkpoint: restart the clock with the next step.
            self.steps_done, self.began = update.curve[-1].step, 0
        if update.losses:
            newest = update.losses[-1]
            if not self.began:
                self.began, self.first_step = update.losses[0].when, update.losses[0].step
            self.ended, self.steps_done, self.losses = newest.when, newest.step, newest.losses
        logger.log(update, images_per_second=self.images_per_second)
        if update.drawing is not None:
            drawing, name = update.drawing, f"sheets/epoch-{update.epoch + 1:04d}.png"
            outbox.put(lambda: run.log_image(self._sheet(drawing), name))

    def _sheet(self, drawing: Drawing) -> Image.Image:
        return comparison(drawing.source, drawing.drawn, drawing.target, direction=self.config.data.direction)

    def _status(self, epoch: int) -> str:
        numbers = "  ".join(f"{label} {self.losses.get(name, 0):.3f}" for name, label in SHOWN_LOSSES.items())
        return f"epoch {epoch + 1}/{self.config.training.epochs}  {numbers}  {self.images_per_second:.1f} images/s"

    @contextmanager
    def _bar(self) -> Iterator[tuple[Progress, TaskID]]:
        columns = (
            TextColumn("Training"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[status]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        console = Console(stderr=True, markup=False, emoji=False)
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            yield bar, bar.add_task("train", total=self.total_steps, status="starting the workers")


def _print_above(bar: Progress, text: str) -> None:
    """Print a line above the bar without wrapping it, so that logs can be parsed."""
    bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
