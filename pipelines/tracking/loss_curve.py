"""The loss curve: the losses of every step and the held-out scores of every checkpoint.

It is kept in checkpoints, so that it survives the process.
"""

import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from model.errors import CheckpointError

CURVE = "losses.npz"
"""The curve's file in a checkpoint."""


@dataclass(frozen=True)
class StepLosses:
    """The named losses of one step, over the global batch."""

    step: int
    """Number of the step, counted from 1."""
    when: float
    """Seconds since 1970 at the end of the step (on a GPU: when it was launched)."""
    losses: dict[str, float]


@dataclass
class LossCurve:
    """The losses of all steps so far, in order, and the scores of all checkpoints, also of those since removed."""

    steps: list[StepLosses] = field(default_factory=list)
    scores: dict[int, dict[str, float]] = field(default_factory=dict)
    """Named scores on held-out pairs, by the step of the checkpoint."""

    def extend(self, steps: Iterable[StepLosses]) -> None:
        """Append steps."""
        self.steps.extend(steps)

    def save(self, path: Path) -> None:
        """Write the curve as arrays.

        These are `names`, `step` (N,), `when` (N,) and `losses` (N, names); and of M checkpoints `score_names`,
        `score_step` (M,) and `scores` (M, score_names).
        """
        names = list(self.steps[0].losses) if self.steps else []
        score_names = list(next(iter(self.scores.values()), {}))
        np.savez(
            path,
            allow_pickle=False,
            names=np.array(names, np.str_),
            step=np.array([taken.step for taken in self.steps], np.int64),
            when=np.array([taken.when for taken in self.steps], np.float64),
            losses=np.array([[taken.losses[name] for name in names] for taken in self.steps], np.float32).reshape(
                len(self.steps), len(names)
            ),
            score_names=np.array(score_names, np.str_),
            score_step=np.array(list(self.scores), np.int64),
            scores=np.array([[found[name] for name in score_names] for found in self.scores.values()]).reshape(
                len(self.scores), len(score_names)
            ),
        )

    @classmethod
    def load(cls, path: Path) -> "LossCurve":
        """Read a file that `save` wrote; files of version 0.1.0 hold no scores."""
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            names = arrays["names"].tolist()
            rows = zip(arrays["step"].tolist(), arrays["when"].tolist(), arrays["losses"].tolist(), strict=True)
            steps = [StepLosses(step, when, dict(zip(names, row, strict=True))) for step, when, row in rows]
            if "scores" not in arrays:
                return cls(steps)
            score_names = arrays["score_names"].tolist()
            scored = zip(arrays["score_step"].tolist(), arrays["scores"].tolist(), strict=True)
            return cls(steps, {step: dict(zip(score_names, row, strict=True)) for step, row in scored})

    @classmethod
    def newest(cls, checkpoints: Path) -> "LossCurve":
        """Read the curve from the newest checkpoint in a folder; it is empty if there is none.

        Raises:
            CheckpointError: The file can't be read.
        """
        files = sorted(checkpoints.glob(f"step-????????/{CURVE}"))
        try:
            return cls.load(files[-1]) if files else cls()
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise CheckpointError(f"{files[-1]} is damaged; delete the folder of this checkpoint.") from error

    def until(self, step: int) -> "LossCurve":
        """Return the part of the curve up to a step: checkpoints of an unfinished resume go beyond the generator."""
        steps = [taken for taken in self.steps if taken.step <= step]
        return LossCurve(steps, {number: found for number, found in self.scores.items() if number <= step})
