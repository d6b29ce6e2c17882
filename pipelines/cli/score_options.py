"""The options of `score`, and how they are read."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated

import typer

from model.errors import ConfigError
from model.io.addresses import is_address

if TYPE_CHECKING:
    from model.io.locations import Location
    from serving.inference.scene import SceneReading
    from serving.scoring.image_scorer import ScoreSettings

HELP = """Draw maps of photos: of one, of a folder, of all at an address; or of a whole scene.

sat2map score photos maps
sat2map score photo.jpg -o map.png
sat2map score 'survey/**/*.jpg' s3://BUCKET/maps --model models:/NAME@champion
sat2map score scene.tif -o map.tif --vector map.gpkg
sat2map score survey maps --format tiff

A pixel of the photo becomes a pixel of the map. What is larger than the
network's side is drawn in tiles that overlap and blend.

OUT gets manifest.csv and manifest.parquet: each photo's map, its hashes,
model and time, or why it has no map. Run the same again, after a kill too,
and what is missing or has changed is drawn, and nothing else.

A TIFF that becomes a TIFF is a scene: the map is a Cloud Optimized GeoTIFF
in the scene's coordinate system and at the model's ground resolution, with
map.manifest.json and a STAC item beside it. With --format tiff, so is every
TIFF among the photos. To PNG, JPEG or WebP no georeference comes along.

Exit code: 0, all have maps; 4, some can't be drawn, the others have maps;
2, nothing could be done.
"""

Photos = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="IN",
        help="Photos: files, folders, globs such as 'photos/**/*.jpg', lists of places as @LIST; also addresses.",
        show_default=False,
    ),
]
Maps = Annotated[
    str, typer.Argument(metavar="OUT", help="The folder for their maps; a file for one map.", show_default=False)
]
Out = Annotated[str, typer.Option("--out", "-o", metavar="OUT", help="The same, as an option.")]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        metavar="MODEL",
        help="A bundle's folder, models:/NAME@champion or models:/NAME/3; by default the newest run's.",
    ),
]
Variant = Annotated[
    str, typer.Option("--variant", metavar="NAME", help="fp32, int8 and so on; by default the fastest here.")
]
Format = Annotated[
    str,
    typer.Option(
        "--format", metavar="FORMAT", help="png, jpeg, webp or tiff; by default png. With tiff, TIFFs are scenes."
    ),
]
Resize = Annotated[
    bool,
    typer.Option(
        "--resize", help="Scale each photo first, so that its shorter side is the network's, as training did."
    ),
]
Distributed = Annotated[
    bool, typer.Option("--distributed", help="Draw on a Ray cluster: RAY_ADDRESS, or one of this machine.")
]
Actors = Annotated[
    int | None,
    typer.Option("--actors", min=1, metavar="N", help="Of the cluster; by default all it has room for."),
]
CpusPerActor = Annotated[
    int | None, typer.Option("--cpus-per-actor", min=1, metavar="N", help="By default 4, or what there is.")
]
SCENES = "Of scenes (TIFFs that become TIFFs)"
"""What these options stand under."""
ALONE = "Of a single scene (score scene.tif -o map.tif)"
Resolution = Annotated[
    float | None,
    typer.Option(
        "--resolution",
        min=1e-3,
        metavar="METRES",
        help="What a pixel of the model's photos shows; by default what the model says.",
        rich_help_panel=SCENES,
    ),
]
Bands = Annotated[
    str,
    typer.Option(
        "--bands", metavar="R,G,B", help="Three bands or one; by default red, green, blue.", rich_help_panel=SCENES
    ),
]
Stretch = Annotated[
    str,
    typer.Option(
        "--stretch",
        metavar="LOW,HIGH",
        help="Percentiles that become black and white; by default 2,98 where a band is not 8 bits.",
        rich_help_panel=SCENES,
    ),
]
Vector = Annotated[
    str,
    typer.Option(
        "--vector",
        metavar="FILE",
        help="Write the map's classes as polygons: a .gpkg or .geojson.",
        rich_help_panel=ALONE,
    ),
]
Classes = Annotated[
    str,
    typer.Option(
        "--classes",
        metavar="A,B",
        help="Which classes become polygons; by default all but ground.",
        rich_help_panel=ALONE,
    ),
]


def split(photos: list[str], maps: str, out: str) -> tuple[list[str], str]:
    """Tell photos from the place for their maps: what comes last, as `cp` has it, unless an option names it.

    Raises:
        ConfigError: One of both is missing.
    """
    if out and (photos or maps):
        return [*photos, maps] if maps else photos, out
    if not photos:
        found = f"Where do the maps of {maps} go?" if maps else "What is to be drawn, and where do the maps go?"
        raise ConfigError(f"{found} Write: sat2map score {shlex.quote(maps) if maps else 'PHOTOS'} MAPS.")
    return photos, maps


def is_scene(sources: Sequence[str], out: str) -> bool:
    """Tell whether one TIFF is to become another, on this machine."""
    files = [*sources, out]
    return len(sources) == 1 and all(
        PurePath(file).suffix.lower() in (".tif", ".tiff") and not is_address(file) for file in files
    )


def image_settings(out: "Location", *, format: str, resize: bool, scene: "SceneReading") -> "ScoreSettings":
    """Read how maps are drawn and written; a single map's format is that of its name.

    Raises:
        ConfigError: There is no such format, or two are named.
    """
    from serving.encoding import SUFFIXES
    from serving.scoring.image_scorer import ScoreSettings
    from serving.scoring.scorer import is_file_name

    formats = sorted(set(SUFFIXES.values()))
    if format and format not in formats:
        raise ConfigError(f"--format {format} is no format of maps; there are: {', '.join(formats)}.")
    named = SUFFIXES[out.name_path.suffix.lower()] if is_file_name(out) else None
    if format and named and format != named:
        raise ConfigError(f"--format {format} and {out} don't agree; omit one of them.")
    return ScoreSettings(format=named or format or "png", resize=resize, scene=scene)


def scene_reading(resolution: float | None, *, bands: str, stretch: str) -> "SceneReading":
    """Read how scenes are to be read.

    Raises:
        ConfigError: Bands or percentiles are no numbers.
    """
    from serving.inference.scene import SceneReading

    percentiles = tuple(_numbers("--stretch", stretch))
    if percentiles and len(percentiles) != 2:
        raise ConfigError(f"--stretch {stretch} has {len(percentiles)} numbers; give two percentiles, such as 2,98.")
    numbers = _numbers("--bands", bands)
    if any(number != int(number) for number in numbers):
        raise ConfigError(f"--bands {bands} are no band numbers; write them as 3,2,1.")
    return SceneReading(
        resolution=resolution,
        bands=tuple(int(number) for number in numbers) or None,
        stretch=(percentiles[0], percentiles[1]) if percentiles else None,
    )


def _numbers(option: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")] if text else []
    except ValueError as error:
        raise ConfigError(f"{option} {text} are no numbers; write them with commas between them.") from error


def refuse_given(given: Mapping[str, object], why: str) -> None:
    """Refuse options that would do nothing.

    Raises:
        ConfigError: One is given.
    """
    names = [name for name, value in given.items() if value]
    if names:
        raise ConfigError(f"{', '.join(names)} can't be used here: {why}.")
