"""One photo -> one map and its row, in three steps that may run in different threads: read, draw, write."""

import hashlib
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from pydantic import Field

from model import place_writing
from model.errors import ConfigError, DataError, StorageError
from model.io import files, images, locations
from model.io.images import SCANS
from model.pixels import Pixels
from model.spec import Frozen
from model.translator import Translator
from serving.encoding import SUFFIXES, Format, encode, suffix
from serving.geo.georeference import is_georeferenced
from serving.inference.scene import SceneReading
from serving.inference.tiling import MAX_OVERLAP, OVERLAP, draw_large
from serving.scoring.manifest import Row
from serving.scoring.sources import Photo

_AT_ADDRESS = " (TIFFs that are large or georeferenced become TIFFs on a disk alone: copy it to one, and draw there)"


class ScoreSettings(Frozen):
    """How maps are drawn and written."""

    format: Format = "png"
    resize: bool = False
    """Scale each photo first, so that its shorter side is the network's; else a pixel of it is a pixel of the map."""
    overlap: float = Field(default=OVERLAP, ge=0, le=MAX_OVERLAP)
    """Part of a tile's side that neighbouring tiles share, where a photo is larger than the network's side."""
    scene: SceneReading = SceneReading()
    """How scenes are read."""

    def __str__(self) -> str:
        """Return what all maps depend on, as a row of a manifest has it."""
        return f"{self.format}{' resize' if self.resize else ''} overlap={self.overlap:g}"


@dataclass(frozen=True, slots=True)
class Task:
    """A photo to draw.

    Attributes:
        photo: Which.
        place: Where its map goes.
        output: The map's name in the folder of maps.
        earlier: The row of the map that may be there already.
    """

    photo: Photo
    place: str
    output: str
    earlier: Row | None = None

    @property
    def keeps_tiff(self) -> bool:
        """Tell whether a TIFF is to become a TIFF, by their names."""
        return _is_tiff(self.photo.place) and _is_tiff(self.place)

    @property
    def is_scene(self) -> bool:
        """Tell whether a TIFF on a disk is to become one on a disk: it is drawn in windows, with its georeference."""
        return self.keeps_tiff and not (locations.is_remote(self.photo.place) or locations.is_remote(self.place))


class Outcome(NamedTuple):
    """What became of a photo.

    Attributes:
        row: Of the manifest.
        kept: Whether its map was there already.
        warnings: Sentences on its map.
        georeferenced: Whether the photo is a TIFF with a georeference, and its map has none.
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
    """A map that is not written yet: uint8 (H, W, 3)."""

    task: Task
    pixels: Pixels
    row: Row
    georeferenced: bool


def plan(photos: list[Photo], out: str, earlier: list[Row], settings: ScoreSettings) -> list[Task]:
    """Say where each photo's map goes, and what is known of a map that is there.

    Raises:
        ConfigError: As `check_settings`.
        DataError: A map would take the place of a photo.
    """
    rows = {row.output: row for row in earlier if row.output}
    tasks = []
    for photo in photos:
        output = photo.name + suffix(settings.format)
        tasks.append(Task(photo, locations.inside(out, *output.split("/")), output, rows.get(output)))
    if drawn_over := {photo.place for photo in photos} & {task.place for task in tasks}:
        raise DataError(f"The map of {min(drawn_over)} would take its place; name another folder for the maps.")
    check_settings(tasks, settings)
    return tasks


def check_settings(tasks: list[Task], settings: ScoreSettings) -> None:
    """See that no setting would do nothing.

    Raises:
        ConfigError: Scenes would be resized, or settings of scenes are given and there are none.
    """
    scenes = sum(task.is_scene for task in tasks)
    if scenes and settings.resize:
        raise ConfigError(
            f"TIFFs that become TIFFs, {scenes} here, are scenes, which have a ground resolution and are not resized: "
            "leave --resize out, or name another --format."
        )
    if not scenes and settings.scene != SceneReading():
        raise ConfigError(
            f"Settings of scenes are given ({settings.scene}), and no TIFF on a disk is to become one: leave them out."
        )


def make_origin(translator: Translator, settings: str, *, model: str) -> Row:
    """Return what the rows of all maps share; `model` says where the model comes from."""
    return Row(
        source="",
        model=model,
        model_sha256=translator.bundle.manifest.hashes()[translator.variant],
        variant=translator.variant,
        settings=settings,
    )


def find_kept(task: Task, row: Row) -> Outcome | None:
    """Return the outcome if the map of just this photo, model and settings lies there, as it was written.

    Raises:
        PlaceError: Its place does not answer.
        DataError: The map of another photo is there.
    """
    if task.earlier is None:
        return None
    if _drawn_alike(task.earlier, row) and _is_there(task, task.earlier):
        return Outcome(replace(task.earlier, source=row.source, model=row.model), kept=True)
    if task.earlier.source != row.source and task.earlier.source_sha256 != row.source_sha256:
        raise DataError(f"{task.output} is the map of {task.earlier.source}; draw into another folder")
    return None


class ImageScorer:
    """Scores photos one by one with one model."""

    def __init__(self, translator: Translator, settings: ScoreSettings, *, model: str) -> None:
        """Take a loaded model; `model` says in the rows where it comes from."""
        self._draw, self._side, self._settings = translator, translator.bundle.manifest.network.image_size, settings
        self._origin = make_origin(translator, str(settings), model=model)

    def read(self, task: Task) -> ReadPhoto | Outcome:
        """Read a photo; the outcome, if its map is there already or it can't be drawn.

        Any number of threads may.

        Raises:
            PlaceError: Where the photo or its map lies does not answer.
        """
        began, place = time.perf_counter(), task.photo.place
        if task.photo.problem:
            return Outcome(Row(source=place, error=task.photo.problem))
        # From the file, for it may be too large to be read whole.
        located = _is_tiff(place) and not locations.is_remote(place) and is_georeferenced(Path(place))
        try:
            content = locations.read_bytes(place)
            if locations.is_remote(place):
                located = is_georeferenced(content)
            if located and task.keeps_tiff:
                raise DataError(f"{images.short_name(locations.as_path(place))} is georeferenced")
            row = replace(self._origin, source=place, source_sha256=hashlib.sha256(content).hexdigest())
            if kept := find_kept(task, row):
                return kept._replace(georeferenced=located)
            image = images.decode(locations.as_path(place), content, formats=SCANS)
        except StorageError:
            raise
        except DataError as error:
            told = f"{error}{_AT_ADDRESS if task.keeps_tiff else ''}"
            return Outcome(Row(source=place, error=told), georeferenced=located)
        pixels = np.asarray(self._scaled(image))
        return ReadPhoto(task, pixels, replace(row, milliseconds=_since(began)), located)

    def draw(self, photo: ReadPhoto) -> DrawnMap:
        """Draw a map; one thread at a time, for the model takes all cores."""
        began = time.perf_counter()
        height, width = photo.pixels.shape[:2]
        if height == width == self._side:
            drawn, seams = self._draw(photo.pixels[None])[0], None
        else:
            drawn, found = draw_large(photo.pixels, self._draw, side=self._side, overlap=self._settings.overlap)
            seams = None if found.ratio is None else round(found.ratio, 4)
        row = replace(photo.row, width=width, height=height, seams=seams)
        return DrawnMap(photo.task, drawn, _later(row, began), photo.georeferenced)

    def write(self, drawn: DrawnMap | Outcome) -> Outcome:
        """Write a map, whole or not at all; an outcome is returned as it is.

        Any number of threads may.

        Raises:
            PlaceError: Nothing can be written there.
        """
        if isinstance(drawn, Outcome):
            return drawn
        began = time.perf_counter()
        try:
            content = encode(drawn.pixels, self._settings.format)
            place_writing.write_bytes(drawn.task.place, content)
        except StorageError:
            raise
        except DataError as error:
            return Outcome(Row(source=drawn.row.source, error=str(error)), georeferenced=drawn.georeferenced)
        sha256 = hashlib.sha256(content).hexdigest()
        row = _later(replace(drawn.row, output=drawn.task.output, output_sha256=sha256), began)
        return Outcome(row, georeferenced=drawn.georeferenced)

    def _scaled(self, image: Image.Image) -> Image.Image:
        if not self._settings.resize:
            return image
        scale = self._side / min(image.size)
        size = (max(self._side, round(image.width * scale)), max(self._side, round(image.height * scale)))
        # As training scales its photos.
        return image.resize(size, Image.Resampling.BICUBIC)


def _is_tiff(place: str) -> bool:
    return SUFFIXES.get(locations.as_path(place).suffix.lower()) == "tiff"


def _drawn_alike(earlier: Row, row: Row) -> bool:
    """Tell whether the same photo, model and settings made the earlier map."""
    same = ("source_sha256", "model_sha256", "variant", "settings")
    return all(getattr(earlier, name) == getattr(row, name) for name in same)


def _is_there(task: Task, earlier: Row) -> bool:
    """Tell whether the map lies there as it was written; one on a disk may be larger than the memory."""
    try:
        if locations.is_remote(task.place):
            return hashlib.sha256(locations.read_bytes(task.place)).hexdigest() == earlier.output_sha256
        return Path(task.place).is_file() and files.sha256(Path(task.place)) == earlier.output_sha256
    except StorageError:
        raise
    except (DataError, OSError):
        return False


def _later(row: Row, began: float) -> Row:
    return replace(row, milliseconds=round((row.milliseconds or 0) + _since(began), 1))


def _since(began: float) -> float:
    return round(1000 * (time.perf_counter() - began), 1)
