"""What the first worker tells the driver while it trains."""

from dataclasses import dataclass, field
from typing import Any

from model.pixels import Pixels
from pipelines.curve import StepLosses

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


@dataclass(frozen=True)
class Line:
    """The two queues between the first worker and the driver (`ray.util.queue.Queue`).

    Attributes:
        reports: What the driver reads.
        orders: Holds something when the driver wants the training to stop.
    """

    reports: Any
    orders: Any

    def tell(self, report: Report) -> None:
        """Send news to the driver."""
        self.reports.put(report)

    def told_to_stop(self) -> bool:
        """Tell whether the driver wants the training to stop."""
        return not self.orders.empty()
