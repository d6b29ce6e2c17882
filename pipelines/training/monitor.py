"""Monitoring of a training run by the driver: losses go to MLflow and to a progress bar, drawings become sheets."""

import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import ceil

from PIL import Image
from ray.exceptions import RayError
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from model.errors import TrainingError
from model.spec import LossName
from pipelines.config.schema import RunConfig
from pipelines.data.dataset import steps_per_epoch
from pipelines.report.sheets import comparison
from pipelines.tracking.loss_curve import StepLosses
from pipelines.tracking.mlflow_runs import Run
from pipelines.tracking.outbox import Outbox
from pipelines.training.channel import ActorChannel
from pipelines.training.length import own_length, planned_steps
from pipelines.training.messages import Drawing, TrainingUpdate
from pipelines.training.metric_logger import MetricLogger

SHOWN_LOSSES: dict[LossName, str] = {
    "generator_l1_loss": "L1",
    "generator_adversarial_loss": "GAN",
    "discriminator_loss": "D",
}
WIDE_COLUMNS = 110
"""Columns of a terminal from which the bar shows all of these losses; narrower ones show the first."""
ESTIMATE_SECONDS = 4.0
"""Seconds of training after which its length is estimated."""


@dataclass
class TrainingMonitor:
    """Monitor of a training run, which processes the first worker's updates until it receives None."""

    config: RunConfig
    pairs: int
    """Training pairs."""
    logged: dict[str, int]
    """The last steps that MLflow holds already."""
    decided: int | None = None
    """Steps of a training by minutes, once they are known."""
    steps_done: int = 0
    resumed_after: int = 0
    """Steps that were done before the workers started, or restarted."""
    first: StepLosses | None = None
    """The first step since then."""
    newest: StepLosses | None = None
    estimated: bool = False
    user_error: str = ""
    failure: Exception | None = None
    lost: threading.Event = field(default_factory=threading.Event)
    """Set when Ray has ended."""

    @property
    def total_steps(self) -> int | None:
        """Steps of the complete training; None if not yet known."""
        return planned_steps(self.config.training, self.pairs) or self.decided

    @property
    def is_over(self) -> bool:
        """Whether all steps are done."""
        return self.total_steps is not None and self.steps_done >= self.total_steps

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch."""
        return steps_per_epoch(self.pairs, self.config.training.batch_size)

    @property
    def epoch(self) -> int:
        """The running epoch, counted from 0."""
        last = self.steps_done if self.total_steps is None else self.total_steps - 1
        return min(self.steps_done, last) // self.steps_per_epoch

    @property
    def seconds(self) -> float:
        """Seconds from the end of the first step, which includes tracing, to the end of the last one."""
        return self.newest.when - self.first.when if self.first and self.newest else 0.0

    @property
    def images_per_second(self) -> float:
        """Pairs trained per second by all workers together; 0 before the second step."""
        if not self.first or self.seconds <= 0:
            return 0.0
        return (self.steps_done - self.first.step) * self.config.training.batch_size / self.seconds

    @property
    def estimate(self) -> str:
        """Number of steps to do, and about how long they take at the speed so far; or how many fit into the minutes."""
        speed, batch = self.images_per_second, self.config.training.batch_size
        if self.total_steps is None:
            _, minutes = own_length(self.config.training)
            return f"{minutes:g} minutes, about {round(minutes * 60 * speed / batch):,} steps at {speed:.1f} images/s"
        left = self.total_steps - self.steps_done
        number = f"{self.total_steps} steps" if self.resumed_after == 0 else f"{left} of {self.total_steps} steps left"
        return f"{number}, about {duration(left * batch / speed)} at {speed:.1f} images/s"

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
            # If Ray has ended, so has the reader.
            with contextlib.suppress(RayError):
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
            while (update := self._receive(channel)) is not None:
                if self.failure is None:
                    try:
                        self._process(update, run, outbox, logger)
                    except Exception as error:
                        self.failure = error
                bar.update(
                    task,
                    completed=self.steps_done,
                    total=self.total_steps,
                    status=self._status(update.epoch, wide=_is_wide(bar)),
                )
                for note in self._notes(update, show_progress=bar.disable):
                    _print_above(bar, note)
            try:
                outbox.close(patience=self.config.tracking.patience)
            except Exception as error:
                self.failure = self.failure or error

    def _receive(self, channel: ActorChannel) -> TrainingUpdate | None:
        """Wait for the next update; None is the last one, also if Ray has ended."""
        try:
            return channel.next_update()
        except RayError:
            self.lost.set()
            return None

    def _process(self, update: TrainingUpdate, run: Run, outbox: Outbox, logger: MetricLogger) -> None:
        self.user_error = self.user_error or update.user_error
        if update.begins:
            # Restart the clock with the next step.
            self.steps_done = self.resumed_after = update.step
            self.first = self.newest = None
        if update.total_steps is not None:
            self.decided = update.total_steps
        if update.losses:
            self.first, self.newest = self.first or update.losses[0], update.losses[-1]
            self.steps_done = self.newest.step
        logger.log(update, images_per_second=self.images_per_second or None)
        if update.drawing is not None:
            drawing, name = update.drawing, f"sheets/epoch-{update.epoch + 1:04d}.png"
            outbox.put(lambda: run.log_image(self._sheet(drawing), name))

    def _notes(self, update: TrainingUpdate, *, show_progress: bool) -> Iterator[str]:
        """Yield lines for the user: the worker's, once the estimate, and after each epoch its losses without a bar."""
        yield from update.notes
        if not self.estimated and self.seconds >= ESTIMATE_SECONDS and not self.is_over:
            self.estimated = True
            yield f"{self.estimate}."
        if update.total_steps is not None and not update.begins:
            _, minutes = own_length(self.config.training)
            yield f"{minutes:g} minutes are enough for {update.total_steps:,} steps."
        if show_progress and update.losses and self.steps_done % self.steps_per_epoch == 0:
            yield self._status(update.epoch)

    def _sheet(self, drawing: Drawing) -> Image.Image:
        return comparison(drawing.source, drawing.drawn, drawing.target, direction=self.config.data.direction)

    def _status(self, epoch: int, *, wide: bool = True) -> str:
        total = self.total_steps
        parts = [f"epoch {epoch + 1}" + (f"/{ceil(total / self.steps_per_epoch)}" if total else "")]
        shown = SHOWN_LOSSES if wide else dict([*SHOWN_LOSSES.items()][:1])
        if self.newest:
            losses = self.newest.losses
            parts += [f"{label} {losses[name]:.3f}" for name, label in shown.items() if name in losses]
        if self.images_per_second:
            parts.append(f"{self.images_per_second:.1f} images/s")
        return "  ".join(parts)

    @contextmanager
    def _bar(self) -> Iterator[tuple[Progress, TaskID]]:
        console = Console(stderr=True, markup=False, emoji=False)
        columns = (
            TextColumn("Training"),
            BarColumn(bar_width=20 if console.width >= WIDE_COLUMNS else 6),
            TextColumn("{task.fields[status]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("left"),
        )
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            yield bar, bar.add_task("train", total=self.total_steps, status="starting the workers")


def duration(seconds: float) -> str:
    """Return a rounded duration in one or two units: 45 s, 2 min 20 s, 3 h 40 min, 2 d 4 h."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    units = (("s", 1, 10), ("min", 60, 600), ("h", 3600, 3600), ("d", 86400, 0))
    larger = 1 if seconds < 3600 else 2 if seconds < 86400 else 3
    (small_name, small, step), (large_name, large, _) = units[larger - 1], units[larger]
    whole, rest = divmod(round(seconds / step) * step, large)
    return f"{whole} {large_name} {rest // small} {small_name}" if rest else f"{whole} {large_name}"


def _is_wide(bar: Progress) -> bool:
    return bar.disable or bar.console.width >= WIDE_COLUMNS


def _print_above(bar: Progress, text: str) -> None:
    """Print a line above the bar without wrapping it, so that logs can be parsed."""
    bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
