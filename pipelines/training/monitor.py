"""Follow a training from the driver: losses go to MLflow and to the progress bar, drawings become sheets."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from model.errors import TrainingError
from pipelines.config.schema import RunConfig
from pipelines.report.sheets import comparison
from pipelines.tracking.mlflow_runs import Run
from pipelines.tracking.outbox import Outbox
from pipelines.training.channel import ActorChannel
from pipelines.training.messages import Drawing, TrainingUpdate
from pipelines.training.metric_logger import MetricLogger

SHOWN_LOSSES = {"generator_l1_loss": "L1", "generator_adversarial_loss": "GAN", "discriminator_loss": "D"}


@dataclass
class TrainingMonitor:
    """Reads the first worker's reports until None comes."""

    config: RunConfig
    steps_per_epoch: int
    logged: dict[str, int]
    """What MLflow holds already."""
    steps_done: int = 0
    first_step: int = 0
    began: float = 0
    ended: float = 0
    mistake: str = ""
    failure: Exception | None = None
    losses: dict[str, float] = field(default_factory=dict)

    @property
    def total_steps(self) -> int:
        """Steps of the whole training."""
        return self.steps_per_epoch * self.config.training.epochs

    @property
    def epoch(self) -> int:
        """The running epoch, the first is 0."""
        return min(self.steps_done // self.steps_per_epoch, self.config.training.epochs - 1)

    @property
    def seconds(self) -> float:
        """From the end of the first step, which traces, to the end of the last one."""
        return self.ended - self.began

    @property
    def images_per_second(self) -> float:
        """Pairs trained on a second, all workers together."""
        images = (self.steps_done - self.first_step) * self.config.training.batch_size
        return images / self.seconds if self.seconds > 0 else 0.0

    @contextmanager
    def reading(self, channel: ActorChannel, run: Run) -> Iterator[None]:
        """Take reports from the line while the block runs; on leaving wait until all of them are logged.

        Raises:
            TrackingError: MLflow refused something, or did not come back in time.
            TrainingError: The workers met a mistake that only the user can mend.
        """
        reader = threading.Thread(target=self._read, args=(channel, run), name="reports")
        reader.start()
        try:
            yield
        finally:
            channel.send(None)
            reader.join()
        self.raise_failure()

    def raise_failure(self) -> None:
        """Raise what went wrong while reading, if something did."""
        if self.failure is not None:
            raise self.failure
        if self.mistake:
            raise TrainingError(f"Training failed: {self.mistake}")

    def _read(self, channel: ActorChannel, run: Run) -> None:
        with self._bar() as (bar, task):
            outbox = Outbox(on_news=lambda text: _say(bar, text))
            logger = MetricLogger(run, outbox, logged=self.logged)
            while (report := channel.next_report()) is not None:
                if self.failure is None:
                    try:
                        self._take(report, run, outbox, logger)
                    except Exception as error:
                        self.failure = error
                bar.update(task, completed=self.steps_done, news=self._news(report.epoch))
                for note in report.notes:
                    _say(bar, note)
                if bar.disable and report.losses and self.steps_done % self.steps_per_epoch == 0:
                    _say(bar, self._news(report.epoch))
            try:
                outbox.close(patience=self.config.tracking.patience)
            except Exception as error:
                self.failure = self.failure or error

    def _take(self, report: TrainingUpdate, run: Run, outbox: Outbox, logger: MetricLogger) -> None:
        self.mistake = self.mistake or report.mistake
        if report.curve:
            # The clock starts again, with the first step that is taken from here.
            self.steps_done, self.began = report.curve[-1].step, 0
        if report.losses:
            newest = report.losses[-1]
            if not self.began:
                self.began, self.first_step = report.losses[0].when, report.losses[0].step
            self.ended, self.steps_done, self.losses = newest.when, newest.step, newest.losses
        logger.log(report, images_per_second=self.images_per_second)
        if report.drawing is not None:
            drawing, name = report.drawing, f"sheets/epoch-{report.epoch + 1:04d}.png"
            outbox.put(lambda: run.log_image(self._picture(drawing), name))

    def _picture(self, drawing: Drawing) -> Image.Image:
        return comparison(drawing.source, drawing.drawn, drawing.target, direction=self.config.data.direction)

    def _news(self, epoch: int) -> str:
        numbers = "  ".join(f"{name} {self.losses.get(key, 0):.3f}" for key, name in SHOWN_LOSSES.items())
        return f"epoch {epoch + 1}/{self.config.training.epochs}  {numbers}  {self.images_per_second:.1f} images/s"

    @contextmanager
    def _bar(self) -> Iterator[tuple[Progress, TaskID]]:
        columns = (
            TextColumn("Training"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[news]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        console = Console(stderr=True)
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            yield bar, bar.add_task("train", total=self.total_steps, news="starting the workers")


def _say(bar: Progress, text: str) -> None:
    """Print a line above the bar, unbroken: logs are read by machines too."""
    bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
