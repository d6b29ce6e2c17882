"""The loss curve: every named loss of every step, kept in checkpoints so that none is lost with a process."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

CURVE = "losses.npz"
"""The file that holds it in a checkpoint."""


@dataclass(frozen=True)
class StepLosses:
    """The named losses of one step, over the global batch."""

    step: int
    """Steps since the training began, the first is 1."""
    when: float
    """Seconds since 1970 when the step was done (on a GPU: sent off)."""
    losses: dict[str, float]


@dataclass
class LossCurve:
    """The losses of all steps so far, in order."""

    steps: list[StepLosses] = field(default_factory=list)

    def extend(self, steps: Iterable[StepLosses]) -> None:
        """Add the steps that follow."""
        self.steps.extend(steps)

    def save(self, path: Path) -> None:
        """Write the curve as arrays: `names`, `step` (N,), `when` (N,), `losses` (N, names)."""
        names = list(self.steps[0].losses) if self.steps else []
        np.savez(
            path,
            allow_pickle=False,
            names=np.array(names, np.str_),
            step=np.array([taken.step for taken in self.steps], np.int64),
            when=np.array([taken.when for taken in self.steps], np.float64),
            losses=np.array([list(taken.losses.values()) for taken in self.steps], np.float32).reshape(
                len(self.steps), len(names)
            ),
        )

    @classmethod
    def load(cls, path: Path) -> "LossCurve":
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            names = arrays["names"].tolist()
            rows = zip(arrays["step"].tolist(), arrays["when"].tolist(), arrays["losses"].tolist(), strict=True)
            return cls([StepLosses(step, when, dict(zip(names, row, strict=True))) for step, when, row in rows])

    @classmethod
    def newest(cls, checkpoints: Path) -> "LossCurve":
        """Read the losses of all steps from the newest checkpoint in a folder; empty if the checkpoints are gone."""
        files = sorted(checkpoints.glob(f"step-????????/{CURVE}"))
        return cls.load(files[-1]) if files else cls()
