"""What a worker tells the driver while it trains."""

from dataclasses import dataclass, field

from model.pixels import Pixels


@dataclass(frozen=True)
class StepLosses:
    """The named losses of one step, over the global batch."""

    step: int
    """Steps since the training began, the first is 1."""
    when: float
    """Seconds since 1970 when the step was done (on a GPU: sent off)."""
    losses: dict[str, float]


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
    losses: list[StepLosses] = field(default_factory=list)
    drawing: Drawing | None = None
