"""Scoring of one scene to a map and its row, in windows from a disk to a disk, whatever its size."""

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from model.bundle import Origin
from model.errors import ConfigError, DataError, StorageError
from model.io import files
from model.io.images import open_file, short_name
from model.io.progress import SILENT, Progress
from model.translator import Translator
from serving.inference.scene import SceneReport, draw_scene
from serving.scoring.image_scorer import find_kept, shared_row
from serving.scoring.manifest import Row
from serving.scoring.map_files import check_map_files
from serving.scoring.styles import find_finish
from serving.scoring.tasks import Outcome, ScoreSettings, Task

MAX_BYTES = 64 * 2**30
"""Maximum size of a scene, more than 4 billion pixels of eight 16-bit bands: all of it is read for its hash."""

Describe = Callable[[Path, SceneReport, str], tuple[str, ...]]
"""Writes the files next to a map, given the map, its report and the model's variant, and returns all warnings."""


class SceneScorer:
    """Scores scenes one by one with one model."""

    def __init__(
        self,
        translator: Translator,
        settings: ScoreSettings,
        *,
        origin: Origin,
        describe: Describe | None = None,
    ) -> None:
        """Take a loaded model and its origin, for the rows; `describe` writes the files next to a map."""
        manifest = translator.bundle.manifest
        self._draw, self._side, self._overlap = translator, manifest.network.image_size, settings.overlap
        self._finish = find_finish(settings.style, manifest, origin)
        self._reading = settings.scene.filled(manifest.resolution)
        self._describe = describe or _return_warnings
        self._row = shared_row(translator, f"{settings} {self._reading}", origin)

    def score(self, task: Task, *, progress: Progress = SILENT) -> Outcome:
        """Draw a scene, unless its earlier map is kept; strips that a stopped run has drawn are used.

        Raises:
            StorageError: The disk fails, or is full.
        """
        name = str(task.photo.location)
        if task.photo.problem:
            return Outcome(Row(source=name, error=task.photo.problem))
        began = time.perf_counter()
        source, out = task.photo.location.path, task.location.path
        try:
            row = replace(self._row, source=name, source_sha256=_hash(source))
            if kept := find_kept(task, row):
                return kept
            report = draw_scene(
                self._draw,
                source,
                out,
                side=self._side,
                model=row.model_sha256 or "",
                resolution=self._reading.resolution,
                bands=self._reading.bands,
                stretch=self._reading.stretch,
                overlap=self._overlap,
                finish=self._finish,
                check=lambda _: check_map_files(out),
                progress=progress,
            )
            warnings = self._describe(out, report, row.variant or "")
            row = replace(row, output=task.output, output_sha256=files.sha256(out))
        except StorageError:
            raise
        except (ConfigError, DataError) as error:
            return Outcome(Row(source=name, error=str(error)))
        row = replace(
            row,
            width=report.width,
            height=report.height,
            warnings=" | ".join(warnings) or None,
            seams=None if report.seams is None else round(report.seams, 4),
            milliseconds=round(1000 * (time.perf_counter() - began), 1),
        )
        return Outcome(row, warnings=warnings)


def _return_warnings(_: Path, report: SceneReport, __: str) -> tuple[str, ...]:
    return report.warnings


def _hash(source: Path) -> str:
    with open_file(source) as file:
        if (size := os.fstat(file.fileno()).st_size) > MAX_BYTES:
            raise DataError(f"{short_name(source)} has {size} bytes; at most {MAX_BYTES} are allowed")
        return hashlib.file_digest(file, "sha256").hexdigest()
