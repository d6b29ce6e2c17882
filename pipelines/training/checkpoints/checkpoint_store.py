"""The checkpoints of one run: writing new ones, removing old ones, and finding the one to resume from.

```
checkpoints/
├── step-00000120/            complete: written under another name, renamed once its manifest was written
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
from pipelines.config.training_settings import BEST_IS_LOWEST, ValidationScore
from pipelines.training.checkpoints.checkpoint import verify
from pipelines.training.checkpoints.checkpoint_manifest import Manifest, read_manifest
from pipelines.training.leftovers import PARTIAL


class SkippedCheckpoint(NamedTuple):
    """A checkpoint that can't be used, and the reason."""

    folder: Path
    reason: str

    def __str__(self) -> str:
        """Return the message for the user."""
        return f"Skipped checkpoint {self.folder.name}: {self.reason}."


@dataclass(frozen=True)
class CheckpointStore:
    """A folder of checkpoints that all workers and the driver see.

    Attributes:
        root: The folder.
        keep: The number of newest checkpoints to keep.
        best_by: The held-out score whose best checkpoint is kept as well.
    """

    root: Path
    keep: int
    best_by: ValidationScore

    @contextlib.contextmanager
    def new(self, step: int) -> Iterator[Path]:
        """Yield a folder to write a checkpoint into; once it is complete, rename it and remove old checkpoints.

        After an error the folder is removed and old checkpoints stay. Leftovers of killed processes are removed first.
        """
        for leftover in self.root.glob(f"*{PARTIAL}"):
            shutil.rmtree(leftover)
        folder = self.root / f"step-{step:08d}"
        draft = folder.with_name(folder.name + PARTIAL)
        draft.mkdir(parents=True)
        try:
            yield draft
            read_manifest(draft)
            if folder.exists():
                # It must be broken: training never repeats the step of an intact checkpoint.
                shutil.rmtree(folder)
            draft.rename(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        self._prune()

    def newest(self) -> tuple[Path | None, list[SkippedCheckpoint]]:
        """Find the newest intact checkpoint, and the newer ones that had to be skipped."""
        skipped = []
        for folder in sorted(self._folders(partial=True), reverse=True):
            try:
                verify(folder)
            except CheckpointError as error:
                skipped.append(SkippedCheckpoint(folder, str(error)))
            else:
                return folder, skipped
        return None, skipped

    def best(self) -> Path | None:
        """Find the complete checkpoint with the best held-out score."""
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
        """Remove all but the newest and the best; broken checkpoints are left for inspection."""
        complete = list(self._manifests())
        kept = {*complete[-self.keep :], self.best()}
        for folder in complete:
            if folder not in kept:
                shutil.rmtree(folder)
