"""What the driver hands to its workers, and what the first worker reports while it trains."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from model.pixels import Pixels
from pipelines.config.schema import RunConfig
from pipelines.data.pairs import PairIndex
from pipelines.tracking.loss_curve import StepLosses


@dataclass(frozen=True)
class WorkerJob:
    """What a worker needs to train its share.

    Attributes:
        config: The settings of the run.
        pairs: The pairs of all workers.
        folder: The run's folder, which every node sees under this path.
        threads: CPU threads of the worker.
        code_revision: The git revision of the driver's code.
    """

    config: RunConfig
    pairs: PairIndex
    folder: Path
    threads: int
    code_revision: str


EPOCH_METRICS = ("input_wait", "val_l1", "val_ssim")


@dataclass(frozen=True)
class Drawing:
    """Held-out pairs beside what the generator draws for them, each (N, S, S, 3)."""

    source: Pixels
    drawn: Pixels
    target: Pixels


@dataclass(frozen=True)
class TrainingUpdate:
    """News from the first worker; `epoch` is the running one, the first is 0."""

    epoch: int
    step: int = 0
    """Finished steps."""
    losses: list[StepLosses] = field(default_factory=list)
    """Of the steps since the last report."""
    curve: list[StepLosses] = field(default_factory=list)
    """Of all steps before the checkpoint that the workers go on from."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Numbers of this step, other than its losses: one of EPOCH_METRICS each."""
    drawing: Drawing | None = None
    notes: tuple[str, ...] = ()
    """What a person should read: a checkpoint that was passed over, one that could not be written."""
    mistake: str = ""
    """What only the user can mend; starting the workers again would not help."""


class Channel(Protocol):
    """What the first worker tells its news to."""

    def send(self, report: TrainingUpdate) -> bool:
        """Send news; tell whether the training is wanted to stop."""
        ...
