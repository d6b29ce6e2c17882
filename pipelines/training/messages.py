"""What the first worker tells the driver while it trains."""

from dataclasses import dataclass, field
from typing import Protocol

from model.pixels import Pixels
from pipelines.tracking.loss_curve import StepLosses

EPOCH_METRICS = ("input_wait", "val_l1", "val_ssim")


@dataclass(frozen=True)
class Drawing:
    """Held-out pairs beside what the generator draws for them, each (N, S, S, 3)."""

    source: Pixels
    drawn: Pixels
    target: Pixels


@dataclass(frozen=True)
class Report:
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


class Line(Protocol):
    """What the first worker tells its news to."""

    def tell(self, report: Report) -> bool:
        """Send news; tell whether the training is wanted to stop."""
        ...
