"""One photo -> one map and its row, in three steps that may run in different threads: read, draw, write."""

import hashlib
import time
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from PIL import Image
from pydantic import Field

from model import images, place_writing, places
from model.errors import DataError
from model.images import SCANS
from model.pixels import Pixels
from model.places import PlaceError
from model.spec import Frozen
from model.translator import Translator
from serving.encoding import Format, encode, suffix
from serving.score_manifest import Row
from serving.sources import Photo
from serving.tiling import MAX_OVERLAP, OVERLAP, draw_large


class ScoreSettings(Frozen):
    """How maps are drawn and written."""

    format: Format = "png"
    resize: bool = False
    """Scale each photo first, so that its shorter side is the network's; else a pixel of it is a pixel of the map."""
    overlap: float = Field(default=OVERLAP, ge=0, le=MAX_OVERLAP)
    """Part of a tile's side that neighbouring tiles share, where a photo is larger than the network's side."""

    def __str__(self) -> str:
        """Return them as a row of a manifest has them."""
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


class Outcome(NamedTuple):
    """What became of a photo; `kept` if its map was there already."""

    row: Row
    kept: bool = False


@dataclass(frozen=True, slots=True)
class ReadPhoto:
    """A photo that was read: uint8 (H, W, 3)."""

    task: Task
    pixels: Pixels
    row: Row


@dataclass(frozen=True, slots=True)
class DrawnMap:
    """A map that is not written yet: uint8 (H, W, 3)."""

    task: Task
    pixels: Pixels
    row: Row


def plan(photos: list[Photo], out: str, earlier: list[Row], settings: ScoreSettings) -> list[Task]:
    """Say where each photo's map goes, and what is known of a map that is there.

    Raises:
        DataError: A map would take the place of a photo.
    """
    rows = {row.output: row for row in earlier if row.output}
    tasks = []
    for photo in photos:
        output = photo.name + suffix(settings.format)
        tasks.append(Task(photo, places.inside(out, *output.split("/")), output, rows.get(output)))
    if drawn_over := {photo.place for photo in photos} & {task.place for task in tasks}:
        raise DataError(f"The map of {min(drawn_over)} would take its place; name another folder for the maps.")
    return tasks


class ImageScorer:
    """Scores photos one by one with one model."""

    def __init__(self, translator: Translator, settings: ScoreSettings, *, model: str | None = None) -> None:
        """Take a loaded model; `model` says in the rows where it comes from, by default its run."""
        manifest = translator.bundle.manifest
        self._draw, self._side, self._settings = translator, manifest.network.image_size, settings
        self.model = model or f"runs:/{manifest.run_id}"
        self._origin = Row(
            source="",
            model=self.model,
            model_sha256=manifest.hashes()[translator.variant],
            variant=translator.variant,
            settings=str(settings),
        )

    def score(self, task: Task) -> Outcome:
        """Do it all: read, draw, write.

        Raises:
            PlaceError: As `read` and `write`.
        """
        photo = self.read(task)
        return self.write(self.draw(photo) if isinstance(photo, ReadPhoto) else photo)

    def read(self, task: Task) -> ReadPhoto | Outcome:
        """Read a photo; the outcome, if its map is there already or it can't be drawn.

        Any number of threads may.

        Raises:
            PlaceError: Where the photo or its map lies does not answer.
        """
        began = time.perf_counter()
        try:
            if task.photo.problem:
                raise DataError(task.photo.problem)
            content = places.read_bytes(task.photo.place)
            sha256 = hashlib.sha256(content).hexdigest()
            row = replace(self._origin, source=task.photo.place, source_sha256=sha256)
            if task.earlier:
                if _drawn_alike(task.earlier, row) and _is_there(task):
                    return Outcome(replace(task.earlier, source=row.source, model=row.model), kept=True)
                if task.earlier.source != row.source and task.earlier.source_sha256 != row.source_sha256:
                    raise DataError(f"{task.output} is the map of {task.earlier.source}; draw into another folder")
            image = images.decode(places.as_path(task.photo.place), content, formats=SCANS)
        except PlaceError:
            raise
        except DataError as error:
            return Outcome(Row(source=task.photo.place, error=str(error)))
        pixels = np.asarray(self._scaled(image))
        return ReadPhoto(task, pixels, replace(row, milliseconds=_since(began)))

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
        return DrawnMap(photo.task, drawn, _later(row, began))

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
        except PlaceError:
            raise
        except DataError as error:
            return Outcome(Row(source=drawn.row.source, error=str(error)))
        sha256 = hashlib.sha256(content).hexdigest()
        return Outcome(_later(replace(drawn.row, output=drawn.task.output, output_sha256=sha256), began))

    def _scaled(self, image: Image.Image) -> Image.Image:
        if not self._settings.resize:
            return image
        scale = self._side / min(image.size)
        size = (max(self._side, round(image.width * scale)), max(self._side, round(image.height * scale)))
        # As training scales its photos.
        return image.resize(size, Image.Resampling.BICUBIC)


def _drawn_alike(earlier: Row, row: Row) -> bool:
    """Tell whether the same photo, model and settings made the earlier map."""
    same = ("source_sha256", "model_sha256", "variant", "settings")
    return all(getattr(earlier, name) == getattr(row, name) for name in same)


def _is_there(task: Task) -> bool:
    """Tell whether the map lies there as it was written."""
    if task.earlier is None:
        return False
    try:
        return hashlib.sha256(places.read_bytes(task.place)).hexdigest() == task.earlier.output_sha256
    except PlaceError:
        raise
    except DataError:
        return False


def _later(row: Row, began: float) -> Row:
    return replace(row, milliseconds=round((row.milliseconds or 0) + _since(began), 1))


def _since(began: float) -> float:
    return round(1000 * (time.perf_counter() - began), 1)
