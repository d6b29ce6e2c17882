"""Scoring of one photo to a map and its row, in three steps that may run in different threads: read, draw, write."""

import hashlib
import time
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from PIL import Image
from pydantic import Field

from model.bundle import Origin
from model.errors import ConfigError, DataError, StorageError
from model.io import files, images
from model.io.images import SCANS
from model.io.locations import Location
from model.pixels import Pixels
from model.spec import Frozen
from model.translator import Translator
from serving.encoding import SUFFIXES, Format, encode, suffix
from serving.geo.headers import is_georeferenced
from serving.inference.scene import SceneReading
from serving.inference.tiling import MAX_OVERLAP, OVERLAP, draw_large
from serving.scoring.manifest import Row
from serving.scoring.sources import Photo

_SCENE_ADVICE = " (a TIFF that is large or georeferenced becomes a TIFF only on a disk: copy it to one, and draw there)"


class ScoreSettings(Frozen):
    """Settings of how maps are drawn and written."""

    format: Format = "png"
    resize: bool = False
    """Scale each photo first, so that its shorter side is the network's; otherwise the map has the photo's pixels."""
    overlap: float = Field(default=OVERLAP, ge=0, le=MAX_OVERLAP)
    """Share of a tile's side that neighbouring tiles overlap, in photos larger than the network's side."""
    scene: SceneReading = SceneReading()
    """Settings of how scenes are read."""

    def __str__(self) -> str:
        """Return the settings that all maps depend on, in the form of a manifest's rows."""
        return f"{self.format}{' resize' if self.resize else ''} overlap={self.overlap:g}"


@dataclass(frozen=True, slots=True)
class Task:
    """A photo to draw.

    Attributes:
        photo: The photo.
        location: The file of its map.
        output: The map's name in the folder of maps.
        earlier: The row of an earlier map in that file, which may still exist.
    """

    photo: Photo
    location: Location
    output: str
    earlier: Row | None = None

    @property
    def keeps_tiff(self) -> bool:
        """Whether a TIFF becomes a TIFF, by their names."""
        return _is_tiff(self.photo.location) and _is_tiff(self.location)

    @property
    def is_scene(self) -> bool:
        """Whether a TIFF on a disk becomes one on a disk: it is drawn in windows, with its georeference."""
        return self.keeps_tiff and not (self.photo.location.is_remote or self.location.is_remote)


class Outcome(NamedTuple):
    """The result of a task.

    Attributes:
        row: Its row of the manifest.
        kept: Whether an earlier map was kept.
        warnings: Sentences about the map.
        georeferenced: Whether the photo is a TIFF with a georeference that its map does not have.
    """

    row: Row
    kept: bool = False
    warnings: tuple[str, ...] = ()
    georeferenced: bool = False


@dataclass(frozen=True, slots=True)
class ReadPhoto:
    """A photo that was read: uint8 (H, W, 3)."""

    task: Task
    pixels: Pixels
    row: Row
    georeferenced: bool


@dataclass(frozen=True, slots=True)
class DrawnMap:
    """A map that is not yet written: uint8 (H, W, 3)."""

    task: Task
    pixels: Pixels
    row: Row
    georeferenced: bool


def plan(photos: list[Photo], out: Location, earlier: list[Row], settings: ScoreSettings) -> list[Task]:
    """Return a task for each photo, with the file of its map and the row of an earlier map in that file.

    Raises:
        ConfigError: As `check_settings`.
        DataError: A map would replace a photo.
    """
    rows = {row.output: row for row in earlier if row.output}
    tasks = []
    for photo in photos:
        output = photo.name + suffix(settings.format)
        tasks.append(Task(photo, out.join(*output.split("/")), output, rows.get(output)))
    if replaced := {photo.location for photo in photos} & {task.location for task in tasks}:
        raise DataError(f"The map of {min(map(str, replaced))} would replace it; choose another folder for the maps.")
    check_settings(tasks, settings)
    return tasks


def check_settings(tasks: list[Task], settings: ScoreSettings) -> None:
    """Check that every setting has an effect.

    Raises:
        ConfigError: Scenes would be resized, or settings for scenes are given without any scenes.
    """
    scenes = sum(task.is_scene for task in tasks)
    if scenes and settings.resize:
        raise ConfigError(
            f"TIFFs that become TIFFs, {scenes} here, are scenes, which have a ground resolution and can't be resized; "
            "omit --resize, or choose another --format."
        )
    if not scenes and settings.scene != SceneReading():
        raise ConfigError(
            f"Settings for scenes are given ({settings.scene}), but no TIFF on a disk becomes a TIFF; omit them."
        )


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
        """Take a loaded model and its origin, for the rows."""
        self._draw, self._side, self._settings = translator, translator.bundle.manifest.network.image_size, settings
        self._row = shared_row(translator, str(settings), origin)

    def read(self, task: Task) -> ReadPhoto | Outcome:
        """Read a photo. Return an outcome if an earlier map is kept or the photo can't be drawn.

        Safe for any number of threads.

        Raises:
            StorageError: The storage of the photo or its map does not answer.
        """
        began, photo = time.perf_counter(), task.photo.location
        source = str(photo)
        if task.photo.problem:
            return Outcome(Row(source=source, error=task.photo.problem))
        # Read from the file, which may be too large to be loaded.
        georeferenced = _is_tiff(photo) and not photo.is_remote and is_georeferenced(photo.path)
        try:
            content = photo.read_bytes()
            if photo.is_remote:
                georeferenced = is_georeferenced(content)
            if georeferenced and task.keeps_tiff:
                raise DataError(f"{images.short_name(photo.name_path)} is georeferenced")
            row = replace(self._row, source=source, source_sha256=hashlib.sha256(content).hexdigest())
            if kept := find_kept(task, row):
                return kept._replace(georeferenced=georeferenced)
            image = images.decode(photo.name_path, content, formats=SCANS)
        except StorageError:
            raise
        except DataError as error:
            reason = f"{error}{_SCENE_ADVICE if task.keeps_tiff else ''}"
            return Outcome(Row(source=source, error=reason), georeferenced=georeferenced)
        pixels = np.asarray(self._scaled(image))
        return ReadPhoto(task, pixels, replace(row, milliseconds=_since(began)), georeferenced)

    def draw(self, photo: ReadPhoto) -> DrawnMap:
        """Draw a map. Call it from one thread at a time: the model uses all cores."""
        began = time.perf_counter()
        height, width = photo.pixels.shape[:2]
        if height == width == self._side:
            drawn, seams = self._draw(photo.pixels[None])[0], None
        else:
            drawn, found = draw_large(photo.pixels, self._draw, side=self._side, overlap=self._settings.overlap)
            seams = None if found.ratio is None else round(found.ratio, 4)
        row = replace(photo.row, width=width, height=height, seams=seams)
        return DrawnMap(photo.task, drawn, _add_time(row, began), photo.georeferenced)

    def write(self, drawn: DrawnMap | Outcome) -> Outcome:
        """Write a map, complete or not at all; an outcome is returned as it is.

        Safe for any number of threads.

        Raises:
            StorageError: The storage does not answer, is full, or denies access.
        """
        if isinstance(drawn, Outcome):
            return drawn
        began = time.perf_counter()
        try:
            content = encode(drawn.pixels, self._settings.format)
            drawn.task.location.write_bytes(content)
        except StorageError:
            raise
        except DataError as error:
            return Outcome(Row(source=drawn.row.source, error=str(error)), georeferenced=drawn.georeferenced)
        sha256 = hashlib.sha256(content).hexdigest()
        row = _add_time(replace(drawn.row, output=drawn.task.output, output_sha256=sha256), began)
        return Outcome(row, georeferenced=drawn.georeferenced)

    def _scaled(self, image: Image.Image) -> Image.Image:
        if not self._settings.resize:
            return image
        scale = self._side / min(image.size)
        size = (max(self._side, round(image.width * scale)), max(self._side, round(image.height * scale)))
        # The filter that training uses.
        return image.resize(size, Image.Resampling.BICUBIC)


def _is_tiff(location: Location) -> bool:
    return SUFFIXES.get(location.name_path.suffix.lower()) == "tiff"


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
