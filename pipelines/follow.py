"""Follow a training from the driver: losses go to MLflow and to the progress bar, drawings become sheets."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ray.util.queue import Queue
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from pipelines.config import RunConfig
from pipelines.reports import Report
from pipelines.sheets import comparison
from pipelines.tracking import Run

SHOWN_LOSSES = {"generator_l1_loss": "L1", "generator_adversarial_loss": "GAN", "discriminator_loss": "D"}


@dataclass
class Follower:
    """Reads the first worker's reports until None comes."""

    config: RunConfig
    steps_per_epoch: int
    steps_done: int = 0
    first_step: int = 0
    began: float = 0
    ended: float = 0
    failure: Exception | None = None
    losses: dict[str, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """From the end of the first step, which traces, to the end of the last one."""
        return self.ended - self.began

    @property
    def images_per_second(self) -> float:
        """Pairs trained on a second, all workers together."""
        images = (self.steps_done - self.first_step) * self.config.training.batch_size
        return images / self.seconds if self.seconds > 0 else 0.0

    def read(self, reports: "Queue", run: Run) -> None:
        """Take reports from the queue; what fails is kept for the thread that waits for this one."""
        with self._bar() as (bar, task):
            while (report := reports.get()) is not None:
                if self.failure is None:
                    try:
                        self._take(report, run)
                    except Exception as error:
                        self.failure = error
                bar.update(task, completed=self.steps_done, news=self._news(report.epoch))
                if bar.disable and report.drawing is None and self.steps_done % self.steps_per_epoch == 0:
                    bar.console.print(self._news(report.epoch), markup=False, highlight=False)

    def raise_failure(self) -> None:
        """Raise what went wrong while reading, if something did."""
        if self.failure is not None:
            raise self.failure

    def _take(self, report: Report, run: Run) -> None:
        if report.losses:
            newest = report.losses[-1]
            if not self.began:
                self.began, self.first_step = report.losses[0].when, report.losses[0].step
            self.ended, self.steps_done, self.losses = newest.when, newest.step, newest.losses
            run.log_losses(report.losses)
            run.log_metrics({"images_per_second": self.images_per_second}, step=self.steps_done)
        if report.drawing is not None:
            drawing = report.drawing
            picture = comparison(drawing.source, drawing.drawn, drawing.target, direction=self.config.data.direction)
            run.log_image(picture, f"sheets/epoch-{report.epoch + 1:04d}.png")

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
            yield (
                bar,
                bar.add_task(
                    "train", total=self.steps_per_epoch * self.config.training.epochs, news="starting the workers"
                ),
            )
