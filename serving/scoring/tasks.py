"""Photos to draw, each with the file of its map: the settings, the plan and the outcome."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pydantic import Field

from model.errors import ConfigError, DataError
from model.io.formats import BEGIN, identify
from model.io.images import PHOTOS
from model.io.locations import Location
from model.spec import Frozen
from serving.encoding import SUFFIXES, Format, suffix
from serving.geo.headers import is_georeferenced
from serving.geo.photo import RASTERS
from serving.inference.scene import SceneReading
from serving.inference.tiling import MAX_OVERLAP, OVERLAP
from serving.scoring.manifest import Row
from serving.scoring.sources import Photo
from serving.scoring.styles import Style
from serving.scoring.targets import file_format, suffix_of

SCENE_SUFFIXES = frozenset({".tif", ".tiff", ".jp2", ".j2k", ".j2c", ".jpc", ".jpx", ".jpf"})
"""Suffixes of TIFF and JPEG 2000 files."""
SCENE_ADVICE = " (a TIFF that is large or georeferenced becomes a TIFF only on a disk: copy it to one, and draw there)"
_PLAIN_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp"})


class ScoreSettings(Frozen):
    """Settings of how maps are drawn and written."""

    format: Format = "png"
    resize: bool = False
    """Scale each photo first, so that its shorter side is the network's; otherwise the map has the photo's pixels."""
    overlap: float = Field(default=OVERLAP, ge=0, le=MAX_OVERLAP)
    """Share of a tile's side that neighbouring tiles overlap, in photos larger than the network's side."""
    style: Style = "plain"
    """Whether maps have the exact colours of their classes (`crisp`)."""
    scene: SceneReading = SceneReading()
    """Settings of how scenes are read; bands and stretch are those of all TIFF and JPEG 2000 files."""

    def __str__(self) -> str:
        """Return the settings that all maps depend on, in the form of a manifest's rows."""
        style = "" if self.style == "plain" else f" {self.style}"
        return f"{self.format}{' resize' if self.resize else ''} overlap={self.overlap:g}{style}"


@dataclass(frozen=True, slots=True)
class Task:
    """A photo to draw.

    Attributes:
        photo: The photo.
        location: The file of its map.
        output: The map's name in the folder of maps.
        earlier: The row of an earlier map in that file, which may still exist.
        may_be_scene: Whether the photo is a TIFF or JPEG 2000 file.
    """

    photo: Photo
    location: Location
    output: str
    earlier: Row | None = None
    may_be_scene: bool = False

    @property
    def becomes_tiff(self) -> bool:
        """Whether such a photo becomes a TIFF, by the map's name."""
        return self.may_be_scene and SUFFIXES.get(suffix_of(self.location)) == "tiff"

    @property
    def is_scene(self) -> bool:
        """Whether that happens on a disk: it is drawn in windows, with its georeference."""
        return self.becomes_tiff and not (self.photo.location.is_remote or self.location.is_remote)


class Outcome(NamedTuple):
    """The result of a task.

    Attributes:
        row: Its row of the manifest.
        kept: Whether an earlier map was kept.
        warnings: Sentences about the map.
        georeferenced: Whether the photo has a georeference that its map does not have.
    """

    row: Row
    kept: bool = False
    warnings: tuple[str, ...] = ()
    georeferenced: bool = False


def is_raster(photo: Location, *, becomes: Format) -> bool:
    """Return whether a photo is a TIFF or JPEG 2000 file, by its name; on a disk, its first bytes decide for TIFFs."""
    by_name = suffix_of(photo) in SCENE_SUFFIXES
    if becomes != "tiff" or photo.is_remote or not os.path.isfile(photo.path):
        return by_name
    try:
        with photo.path.open("rb") as file:
            found = identify(file.read(BEGIN))
    except OSError:
        return by_name
    return found in RASTERS or (by_name and found not in PHOTOS)


def is_scene(photo: Location, out: Location) -> bool:
    """Return whether a single photo, which may not exist, is a scene that becomes a TIFF on a disk.

    Raises:
        DataError: As `file_format`; or the TIFF would go to an address, where it has no georeference.
    """
    if photo.is_remote or (out.is_remote and SUFFIXES.get(suffix_of(out)) != "tiff"):
        return False
    if out.is_remote and is_georeferenced(photo.path):
        raise DataError(f"{photo} is georeferenced{SCENE_ADVICE}.")
    if out.is_remote or file_format(out) != "tiff":
        return False
    return os.path.isfile(photo.path) and is_raster(photo, becomes="tiff")


def plan_file(photos: Sequence[Photo], out: Location, settings: ScoreSettings) -> list[Task]:
    """Return the task for a single photo whose map goes to a file.

    Raises:
        ConfigError: As `check_settings`.
        DataError: There are several photos, or the map would replace the photo.
    """
    if len(photos) > 1:
        raise DataError(f"{len(photos)} photos can't go to the file {out}; name a folder for their maps.")
    location = out.absolute()
    raster = is_raster(photos[0].location, becomes=settings.format)
    tasks = [Task(photos[0], location, location.name_path.name, may_be_scene=raster)]
    _check_targets(tasks, "name another file")
    check_settings(tasks, settings)
    return tasks


def plan(photos: Sequence[Photo], out: Location, earlier: list[Row], settings: ScoreSettings) -> list[Task]:
    """Return a task for each photo, with the file of its map and the row of an earlier map in that file.

    Raises:
        ConfigError: As `check_settings`.
        DataError: A map would replace a photo.
    """
    rows = {row.output: row for row in earlier if row.output}
    tasks = []
    for photo in photos:
        output = photo.name + suffix(settings.format)
        raster = is_raster(photo.location, becomes=settings.format)
        tasks.append(Task(photo, out.join(*output.split("/")), output, rows.get(output), raster))
    _check_targets(tasks, "choose another folder for the maps")
    check_settings(tasks, settings)
    return tasks


def check_settings(tasks: Sequence[Task], settings: ScoreSettings) -> None:
    """Check that every setting has an effect.

    Raises:
        ConfigError: Scenes would be resized, or settings for scenes, TIFF or JPEG 2000 files are given without any.
    """
    scenes = sum(task.is_scene for task in tasks)
    if scenes and settings.resize:
        raise ConfigError(
            f"TIFFs that become TIFFs, {scenes} here, are scenes, which have a ground resolution and can't be resized; "
            "omit --resize, or choose another --format."
        )
    if settings.scene.resolution is not None and not scenes:
        raise ConfigError(
            f"A ground resolution of {settings.scene.resolution:g} m is given, but no photo is a scene: a TIFF or JPEG "
            "2000 file on a disk that becomes a TIFF (--format tiff). Omit it."
        )
    if (settings.scene.bands or settings.scene.stretch) and all(
        suffix_of(task.photo.location) in _PLAIN_SUFFIXES and not task.may_be_scene for task in tasks
    ):
        raise ConfigError(
            f"Bands or percentiles are given ({settings.scene}), but no photo is a TIFF or JPEG 2000 file; omit them."
        )


def _check_targets(tasks: Sequence[Task], advice: str) -> None:
    """Check that no map would replace a photo, also through links.

    Raises:
        DataError: One would.
    """
    photos = {_real(task.photo.location) for task in tasks if not task.photo.problem}
    replaced = [str(task.location) for task in tasks if _real(task.location) in photos]
    if replaced:
        raise DataError(f"The map {min(replaced)} would replace a photo; {advice}.")


def _real(location: Location) -> Location:
    """Return the location that is written through a link."""
    return location if location.is_remote else Location(Path(os.path.realpath(location.path)))
