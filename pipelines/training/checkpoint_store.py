"""The checkpoints of one run: which are kept, and which one a training goes on from.

```
checkpoints/
├── step-00000120/            whole: written to the side, renamed when its manifest was sealed
├── step-00000180/
└── step-00000240.partial/    being written, or left by a process that was killed
```
"""

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from model.errors import CheckpointError
from pipelines.config.schema import BEST_IS_LOWEST, ValidationScore
from pipelines.training.checkpoint import Manifest, read_manifest, verify

PARTIAL = ".partial"


class PassedOver(NamedTuple):
    """A checkpoint that can't be used, and why."""

    folder: Path
    reason: str

    def __str__(self) -> str:
        """Name it for a person."""
        return f"Passed over checkpoint {self.folder.name}: {self.reason}."


@dataclass(frozen=True)
class CheckpointStore:
    """A folder of checkpoints that all workers and the driver see.

    Attributes:
        root: The folder.
        keep: How many of the newest are kept.
        best_by: The held-out score whose best checkpoint is kept as well.
    """

    root: Path
    keep: int
    best_by: ValidationScore

    @contextlib.contextmanager
    def new(self, step: int) -> Iterator[Path]:
        """Yield a folder to write a checkpoint into; when it is whole it takes its place and older ones go.

        On an error nothing is left of it, and the older ones stay. What a killed process left unfinished goes as well.
        """
        for left_over in self.root.glob(f"*{PARTIAL}"):
            shutil.rmtree(left_over)
        folder = self.root / f"step-{step:08d}"
        draft = folder.with_name(folder.name + PARTIAL)
        draft.mkdir(parents=True)
        try:
            yield draft
            read_manifest(draft)
            if folder.exists():
                # Only a broken one can stand here: a training never takes a step again from a whole one.
                shutil.rmtree(folder)
            draft.rename(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        self._prune()

    def newest(self) -> tuple[Path | None, list[PassedOver]]:
        """Find the newest checkpoint that is whole, and those after it that are not."""
        passed_over = []
        for folder in sorted(self._folders(partial=True), reverse=True):
            try:
                verify(folder)
            except CheckpointError as error:
                passed_over.append(PassedOver(folder, str(error)))
            else:
                return folder, passed_over
        return None, passed_over

    def best(self) -> Path | None:
        """Find the whole checkpoint with the best held-out score."""
        ranked = sorted(self._manifests().items(), key=lambda item: self._rank(item[1]))
        return ranked[0][0] if ranked else None

    def _folders(self, *, partial: bool = False) -> list[Path]:
        found = self.root.glob("step-*") if self.root.is_dir() else ()
        return [path for path in found if path.is_dir() and (partial or path.suffix != PARTIAL)]

    def _manifests(self) -> dict[Path, Manifest]:
        found = {}
        for folder in sorted(self._folders()):
            with contextlib.suppress(CheckpointError):
                found[folder] = read_manifest(folder)
        return found

    def _rank(self, manifest: Manifest) -> float:
        if self.best_by not in manifest.scores:
            return float("inf")
        return manifest.scores[self.best_by] * (1 if BEST_IS_LOWEST[self.best_by] else -1)

    def _prune(self) -> None:
        """Remove all but the newest and the best; what is broken is left for a person to look at."""
        whole = list(self._manifests())
        kept = {*whole[-self.keep :], self.best()}
        for folder in whole:
            if folder not in kept:
                shutil.rmtree(folder)
