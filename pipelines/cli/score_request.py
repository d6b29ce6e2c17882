"""The request of a `score` command: its options as given, their checks, and their conversion to settings."""

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from model.errors import ConfigError

if TYPE_CHECKING:
    from model.io.locations import Location
    from serving.inference.scene import SceneReading
    from serving.scoring.scene_products import SceneSettings
    from serving.scoring.styles import Style
    from serving.scoring.tasks import ScoreSettings


@dataclass(frozen=True, kw_only=True)
class ScoreRequest:
    """The options of `score` as given: text is empty and numbers are None if an option is not given."""

    sources: tuple[str, ...]
    out: str
    model: str
    run: str
    variant: str | None
    format: str
    style: str
    resize: bool
    distributed: bool
    actors: int | None
    cpus_per_actor: int | None
    resolution: float | None
    bands: str
    stretch: str
    vector: str
    classes: str

    @cached_property
    def target(self) -> "Location":
        """The folder or file for the maps."""
        from model.io.images import is_image_name
        from model.io.locations import Location
        from serving.scoring.targets import parse_target

        single = len(self.sources) == 1 and is_image_name(Location.parse(self.sources[0]).name_path.name)
        return parse_target(self.out, single=single)

    @property
    def is_scene(self) -> bool:
        """Whether a single TIFF or JPEG 2000 file on this machine becomes a TIFF."""
        from model.io.locations import Location
        from serving.scoring.tasks import is_scene

        return is_scene(Location.parse(self.sources[0]), self.target) and len(self.sources) == 1


def split(photos: list[str], maps: str, out: str) -> tuple[list[str], str]:
    """Separate photos from the target of their maps: the last argument, as in `cp`, unless an option names it.

    Raises:
        ConfigError: One of both is missing.
    """
    if out and (photos or maps):
        return [*photos, maps] if maps else photos, out
    if not photos:
        found = f"No folder was named for the maps of {maps}." if maps else "No photos were named."
        raise ConfigError(f"{found} Write: sat2map score {shlex.quote(maps) if maps else 'PHOTOS'} MAPS.")
    return photos, maps


def check_scene_options(request: ScoreRequest) -> None:
    """Refuse options that a single scene does not have.

    Raises:
        ConfigError: One is given.
    """
    options = {
        "--format": request.format if request.format != "tiff" else "",
        "--resize": request.resize,
        "--distributed": request.distributed,
        "--actors": request.actors,
        "--cpus-per-actor": request.cpus_per_actor,
    }
    _refuse(options, "no effect on a single scene, which is drawn on this machine, window by window, into a GeoTIFF")
    if not request.vector:
        _refuse({"--classes": request.classes}, "no effect without --vector")


def check_photo_options(request: ScoreRequest) -> None:
    """Refuse options that photos do not have.

    Raises:
        ConfigError: One is given.
    """
    polygons = {"--vector": request.vector, "--classes": request.classes}
    _refuse(polygons, "no effect here: polygons are made of a single scene (score scene.tif -o map.tif)")
    if not request.distributed:
        pool = {"--actors": request.actors, "--cpus-per-actor": request.cpus_per_actor}
        _refuse(pool, "no effect without --distributed")


def _refuse(options: Mapping[str, object], reason: str) -> None:
    names = [name for name, value in options.items() if value]
    if names:
        has, them = ("has", "it") if len(names) == 1 else ("have", "them")
        raise ConfigError(f"{' and '.join(names)} {has} {reason}; omit {them}.")


def score_settings(request: ScoreRequest) -> "ScoreSettings":
    """Return how maps are drawn and written; a single map's format is that of its name.

    Raises:
        ConfigError: There is no such format, or two are named; or a number can't be read.
    """
    from serving.encoding import SUFFIXES
    from serving.scoring.targets import file_format
    from serving.scoring.tasks import ScoreSettings

    scene = _scene_reading(request)
    formats = sorted(set(SUFFIXES.values()))
    if request.format and request.format not in formats:
        raise ConfigError(f"--format {request.format} is not a format of maps; choose one of: {', '.join(formats)}.")
    named = file_format(request.target)
    if request.format and named and request.format != named:
        raise ConfigError(f"--format {request.format} and {request.out} don't agree; omit one of them.")
    return ScoreSettings(
        format=named or request.format or "png", resize=request.resize, style=_style(request), scene=scene
    )


def scene_settings(request: ScoreRequest) -> "SceneSettings":
    """Return how a single scene is drawn, and which polygons are written.

    Raises:
        ConfigError: A number can't be read.
        DataError: The polygons would not go to a file on a disk.
    """
    from serving.scoring.scene_products import SceneSettings
    from serving.scoring.targets import parse_file

    vector = parse_file(request.vector) if request.vector else None
    classes = tuple(filter(None, request.classes.split(","))) or None
    return SceneSettings(_scene_reading(request), vector, classes, _style(request))


def _style(request: ScoreRequest) -> "Style":
    if request.style not in ("", "plain", "crisp"):
        raise ConfigError(f"--style {request.style} is not a style of maps; choose plain or crisp.")
    return "crisp" if request.style == "crisp" else "plain"


def _scene_reading(request: ScoreRequest) -> "SceneReading":
    from serving.inference.scene import SceneReading

    percentiles = _numbers("--stretch", request.stretch)
    if percentiles and (len(percentiles) != 2 or not 0 <= percentiles[0] < percentiles[1] <= 100):
        raise ConfigError(f"--stretch {request.stretch} is not two rising percentiles of 0 to 100; write them as 2,98.")
    bands = _numbers("--bands", request.bands)
    if bands and (len(bands) not in (1, 3) or not all(number >= 1 and number.is_integer() for number in bands)):
        raise ConfigError(f"--bands {request.bands} is not one band number or three; write them as 3,2,1.")
    if request.resolution is not None and not 1e-3 <= request.resolution < math.inf:
        raise ConfigError(f"--resolution {request.resolution:g} is not a size in metres; write a number such as 0.5.")
    return SceneReading(
        resolution=request.resolution,
        bands=tuple(int(number) for number in bands) or None,
        stretch=(percentiles[0], percentiles[1]) if percentiles else None,
    )


def _numbers(option: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")] if text else []
    except ValueError as error:
        raise ConfigError(f"{option} {text} is not a list of numbers; write them with commas between them.") from error
