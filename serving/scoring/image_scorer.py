"""Scoring of one photo to a map and its row, in three steps that may run in different threads: read, draw, write."""

import hashlib
import time
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.bundle import Origin
from model.errors import ConfigError, DataError, StorageError
from model.io import files, images
from model.io.images import PHOTOS, TooLarge
from model.pixels import Pixels
from model.translator import Translator
from serving.encoding import encode
from serving.geo.headers import is_georeferenced
from serving.geo.photo import RASTERS, read_photo
from serving.inference.tiling import draw_large
from serving.scoring.manifest import Row
from serving.scoring.map_files import remove_map_files
from serving.scoring.styles import find_finish
from serving.scoring.tasks import SCENE_ADVICE, Outcome, ScoreSettings, Task

_SIZE_ADVICE = "; with --format tiff, TIFFs of any size are drawn"
_BYTES_PER_PIXEL = 3


@dataclass(frozen=True, slots=True)
class ReadPhoto:
    """A photo that was read.

    Attributes:
        task: Its task.
        pixels: uint8 (H, W, 3).
        alpha: uint8 (H, W), 0 where the map is empty; None if all pixels are opaque.
        outcome: The outcome so far.
    """

    task: Task
    pixels: Pixels
    alpha: NDArray[np.uint8] | None
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class DrawnMap:
    """A map that is not yet written: uint8 (H, W, 3), or (H, W, 4) with alpha."""

    task: Task
    pixels: Pixels
    outcome: Outcome


def shared_row(translator: Translator, settings: str, origin: Origin) -> Row:
    """Return a row with the fields that all maps of one model share."""
    return Row(
        source="",
        model=str(origin),
        model_sha256=translator.bundle.manifest.hashes()[translator.variant],
        variant=translator.variant,
        settings=settings,
    )


def find_kept(task: Task, row: Row) -> Outcome | None:
    """Return the outcome if there is an intact map of the same photo, model and settings.

    Raises:
        StorageError: The storage does not answer.
        DataError: The file holds the map of another photo.
    """
    if task.earlier is None:
        return None
    if _has_same_inputs(task.earlier, row) and _is_intact(task, task.earlier):
        return Outcome(replace(task.earlier, source=row.source, model=row.model), kept=True)
    if task.earlier.source != row.source and task.earlier.source_sha256 != row.source_sha256:
        raise DataError(f"{task.output} is the map of {task.earlier.source}; draw into another folder")
    return None


class ImageScorer:
    """Scores photos one by one with one model."""

    def __init__(self, translator: Translator, settings: ScoreSettings, *, origin: Origin) -> None:
        """Take a loaded model and its origin, for the rows.

        Raises:
            ConfigError: The model's maps can't have the style.
        """
        self._draw, self._side, self._settings = translator, translator.bundle.manifest.network.image_size, settings
        self._finish = find_finish(settings.style, translator.bundle.manifest, origin)
        self._row = shared_row(translator, str(settings), origin)
        # The ground resolution is that of scenes.
        self._raster_reading = settings.scene.model_copy(update={"resolution": None})

    def read(self, task: Task) -> ReadPhoto | Outcome:
        """Read a photo. Return an outcome if an earlier map is kept or the photo can't be drawn.

        Safe for any number of threads.

        Raises:
            StorageError: The storage of the photo or its map does not answer.
        """
        if task.photo.problem:
            return Outcome(Row(source=str(task.photo.location), error=task.photo.problem))
        try:
            return self._read(task)
        except StorageError:
            raise
        except (ConfigError, DataError) as error:
            return _failed(task, error)

    def read_ahead(self, task: Task, *, max_pixels: int) -> ReadPhoto | Outcome | Task:
        """Read a photo as `read` does, or return its task if it is too large to wait in memory.

        Args:
            task: The photo.
            max_pixels: Maximum number of its pixels; its file may have three bytes for each of them.
        """
        if task.photo.problem:
            return self.read(task)
        try:
            max_bytes = min(images.MAX_BYTES, _BYTES_PER_PIXEL * max_pixels)
            return self._read(task, max_pixels=max_pixels, max_bytes=max_bytes)
        except StorageError:
            raise
        except TooLarge:
            return task
        except (ConfigError, DataError) as error:
            return _failed(task, error)

    def draw(self, photo: ReadPhoto | Outcome) -> DrawnMap | Outcome:
        """Draw a map; an outcome is returned as it is.

        Call it from one thread at a time: the model uses all cores.
        """
        if isinstance(photo, Outcome):
            return photo
        began = time.perf_counter()
        height, width = photo.pixels.shape[:2]
        if height == width == self._side:
            drawn, seams = self._draw(photo.pixels[None])[0], None
        else:
            drawn, found = draw_large(photo.pixels, self._draw, side=self._side, overlap=self._settings.overlap)
            seams = None if found.ratio is None else round(found.ratio, 4)
        if self._finish:
            drawn = self._finish(drawn, None)
        if photo.alpha is not None:
            drawn = np.dstack([np.where(photo.alpha[..., None] > 0, drawn, 0), photo.alpha]).astype(np.uint8)
        row = replace(photo.outcome.row, width=width, height=height, seams=seams)
        return DrawnMap(photo.task, drawn, photo.outcome._replace(row=_add_time(row, began)))

    def write(self, drawn: DrawnMap | Outcome) -> Outcome:
        """Write a map, complete or not at all; an outcome is returned as it is.

        Safe for any number of threads.

        Raises:
            StorageError: The storage does not answer, is full, or denies access.
        """
        if isinstance(drawn, Outcome):
            return drawn
        began, outcome = time.perf_counter(), drawn.outcome
        try:
            content = encode(drawn.pixels, self._settings.format)
            drawn.task.location.write_bytes(content)
            if self._settings.format == "tiff" and not drawn.task.location.is_remote:
                remove_map_files(drawn.task.location.path)
        except StorageError:
            raise
        except DataError as error:
            return outcome._replace(row=Row(source=outcome.row.source, error=str(error)), warnings=())
        sha256 = hashlib.sha256(content).hexdigest()
        warnings = " | ".join(outcome.warnings) or None
        row = replace(outcome.row, output=drawn.task.output, output_sha256=sha256, warnings=warnings)
        return outcome._replace(row=_add_time(row, began))

    def _read(self, task: Task, *, max_pixels: int | None = None, max_bytes: int | None = None) -> ReadPhoto | Outcome:
        """Read a photo of at most so many pixels and bytes, by default of those that `model.io.images` allows."""
        began, location = time.perf_counter(), task.photo.location
        path = location.name_path if location.is_remote else location.path
        content = location.read_bytes(limit=max_bytes)
        format, georeferenced = images.check_format(path, content, (*PHOTOS, *RASTERS)), is_georeferenced(content)
        if georeferenced and self._settings.format == "tiff":
            raise DataError(f"{images.short_name(path)} is georeferenced{SCENE_ADVICE}")
        settings = f"{self._settings} {self._raster_reading}" if format in RASTERS else str(self._settings)
        sha256 = hashlib.sha256(content).hexdigest()
        row = replace(self._row, source=str(location), source_sha256=sha256, settings=settings)
        if kept := find_kept(task, row):
            return kept._replace(georeferenced=georeferenced)
        photo = read_photo(
            content,
            path,
            bands=self._raster_reading.bands,
            stretch=self._raster_reading.stretch,
            max_pixels=max_pixels,
            located=self._settings.format == "tiff",
        )
        pixels = self._scaled(photo.pixels)
        alpha = None if photo.alpha is None else self._scaled(photo.alpha)
        outcome = Outcome(
            replace(row, milliseconds=_since(began)), warnings=photo.warnings, georeferenced=georeferenced
        )
        return ReadPhoto(task, pixels, alpha, outcome)

    def _scaled(self, pixels: Pixels) -> Pixels:
        if not self._settings.resize:
            return pixels
        height, width = pixels.shape[:2]
        scale = self._side / min(height, width)
        size = (max(self._side, round(width * scale)), max(self._side, round(height * scale)))
        # The filter that training uses.
        return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))


def _failed(task: Task, error: Exception) -> Outcome:
    """Return the outcome of a photo that can't be read."""
    location = task.photo.location
    # From the file, which may be too large to be read.
    georeferenced = not location.is_remote and is_georeferenced(location.path)
    advice = ""
    if isinstance(error, TooLarge):
        advice = _SIZE_ADVICE if task.may_be_scene else f": convert it to a TIFF{_SIZE_ADVICE}"
        advice = SCENE_ADVICE if task.becomes_tiff else advice
    return Outcome(Row(source=str(location), error=f"{error}{advice}"), georeferenced=georeferenced)


def _has_same_inputs(earlier: Row, row: Row) -> bool:
    """Return whether the earlier map was made from the same photo, model and settings."""
    same = ("source_sha256", "model_sha256", "variant", "settings")
    return all(getattr(earlier, name) == getattr(row, name) for name in same)


def _is_intact(task: Task, earlier: Row) -> bool:
    """Return whether the map still has the content that was written; one on a disk may be larger than the memory."""
    drawn = task.location
    try:
        if drawn.is_remote:
            return hashlib.sha256(drawn.read_bytes()).hexdigest() == earlier.output_sha256
        return drawn.path.is_file() and files.sha256(drawn.path) == earlier.output_sha256
    except StorageError:
        raise
    except (DataError, OSError):
        return False


def _add_time(row: Row, began: float) -> Row:
    """Add the time since `began` to a row's milliseconds."""
    return replace(row, milliseconds=round((row.milliseconds or 0) + _since(began), 1))


def _since(began: float) -> float:
    return round(1000 * (time.perf_counter() - began), 1)
