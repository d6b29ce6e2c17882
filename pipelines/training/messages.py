"""Messages of a training run: the job of a worker, and the updates that the first worker sends."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from model.bundle import Lineage
from model.pixels import Pixels
from model.spec import Standardisation, WeightedColours
from pipelines.config.schema import RunConfig
from pipelines.data.pairs import Pair, PairIndex
from pipelines.tracking.loss_curve import StepLosses

EPOCH_METRICS = ("input_wait", "val_l1", "val_ssim")
"""Metrics of an epoch or a checkpoint."""


class StartingNetworks(NamedTuple):
    """Keras files of the networks that a training begins with; without a discriminator, that one begins anew."""

    generator: Path
    discriminator: Path | None
    lineage: Lineage


@dataclass(frozen=True)
class WorkerJob:
    """Everything that a worker needs to train its share.

    Attributes:
        config: The settings of the run.
        pairs: The pairs of all workers, without those of `scored`.
        scored: The pairs that checkpoints are scored on.
        folder: The run's folder, which every node sees under this path.
        threads: CPU threads of the worker.
        code_revision: The git revision of the driver's code.
        palette: Colours of the training maps, with weights, if the losses need them.
        standardisation: Means and deviations of the training pairs, if the discriminator's input is standardised.
    """

    config: RunConfig
    pairs: PairIndex
    scored: tuple[Pair, ...]
    folder: Path
    threads: int
    code_revision: str
    palette: WeightedColours | None = None
    standardisation: Standardisation | None = None


@dataclass(frozen=True)
class Drawing:
    """Held-out pairs with the generator's drawings, each (N, S, S, 3)."""

    source: Pixels
    drawn: Pixels
    target: Pixels


@dataclass(frozen=True)
class TrainingUpdate:
    """Progress of a training run, sent by the first worker."""

    epoch: int
    """The running epoch, counted from 0."""
    step: int = 0
    """Finished steps."""
    losses: list[StepLosses] = field(default_factory=list)
    """Losses of the steps since the last update."""
    curve: list[StepLosses] = field(default_factory=list)
    """Losses of all steps before the checkpoint that the workers resume from."""
    total_steps: int | None = None
    """Steps of a training by minutes, when they become known."""
    begins: bool = False
    """Whether the workers begin to train, or begin again after one of them was lost."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Other metrics at this step, named as in EPOCH_METRICS."""
    drawing: Drawing | None = None
    notes: tuple[str, ...] = ()
    """Messages for the user, for instance about a checkpoint that was skipped or could not be written."""
    user_error: str = ""
    """An error that restarting the workers would not fix, and only the user can."""


class Channel(Protocol):
    """The receiver of updates."""

    def send(self, update: TrainingUpdate) -> bool:
        """Send an update; return whether the training should stop."""
        ...
