"""Declarations of the options of the `score` verb."""

from typing import Annotated

import typer

HELP = """Draw maps of photos: of one, of a folder, of all at an address; or of a scene.

sat2map score photos maps
sat2map score photo.jpg -o map.png
sat2map score 'survey/**/*.jpg' s3://BUCKET/maps --model models:/NAME@champion
sat2map score scene.tif -o map.tif --vector map.gpkg
sat2map score survey maps --format tiff

Each pixel of the photo becomes a pixel of the map. Photos larger than the
network's input are drawn in overlapping tiles, which are blended.

OUT gets manifest.csv and manifest.parquet: for each photo its map, hashes,
model and time, or the reason why it has no map. Run the same command again,
also after a kill, to draw only the maps that are missing or out of date.

A TIFF or JPEG 2000 file that becomes a TIFF is a scene: the map is a Cloud
Optimized GeoTIFF in the scene's coordinate system and at the model's ground
resolution, with map.manifest.json and a STAC item next to it. With --format
tiff, so is every such file among the photos. PNG, JPEG and WebP maps have no
georeference.

Exit code: 0 if all photos have maps; 4 if some can't be drawn and the others
have maps; 2 if nothing could be done.
"""

Photos = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="IN",
        help="Photos: files, folders, globs such as 'photos/**/*.jpg', lists as @LIST, or addresses of these.",
        show_default=False,
    ),
]
Maps = Annotated[
    str, typer.Argument(metavar="OUT", help="Folder for the maps, or file for a single map.", show_default=False)
]
Out = Annotated[str, typer.Option("--out", "-o", metavar="OUT", help="OUT, as an option.")]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        metavar="MODEL",
        help="Bundle folder, models:/NAME@champion or models:/NAME/3; by default the bundle of the newest run.",
    ),
]
Variant = Annotated[
    str,
    typer.Option(
        "--variant",
        metavar="NAME",
        help="Model variant, such as fp32 or int8; by default the fastest.",
    ),
]
Format = Annotated[
    str,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="png (default), jpeg, webp or tiff. With tiff, TIFF and JPEG 2000 files are scenes.",
    ),
]
Style = Annotated[
    str,
    typer.Option(
        "--style",
        metavar="STYLE",
        help="plain (default), as the network draws, or crisp: the exact colours of the classes, with smooth borders.",
    ),
]
Resize = Annotated[
    bool,
    typer.Option("--resize", help="Scale each photo first, so that its shorter side is the network's, as in training."),
]
Distributed = Annotated[bool, typer.Option("--distributed", help="Draw on a Ray cluster: RAY_ADDRESS, or a local one.")]
Actors = Annotated[
    int | None,
    typer.Option("--actors", min=1, metavar="N", help="Number of actors on the cluster; by default as many as fit."),
]
CpusPerActor = Annotated[
    int | None,
    typer.Option("--cpus-per-actor", min=1, metavar="N", help="CPUs of each actor; by default at most 4."),
]
RASTERS = "TIFF and JPEG 2000 files"
SCENES = "Scenes (TIFF and JPEG 2000 files that become TIFFs)"
SINGLE_SCENE = "Single scenes (score scene.tif -o map.tif)"
Resolution = Annotated[
    float | None,
    typer.Option(
        "--resolution",
        metavar="METRES",
        help="Ground size of a pixel in the model's photos; by default as stored with the model.",
        rich_help_panel=SCENES,
    ),
]
Bands = Annotated[
    str,
    typer.Option(
        "--bands",
        metavar="R,G,B",
        help="Numbers of three bands, or of one; by default red, green and blue.",
        rich_help_panel=RASTERS,
    ),
]
Stretch = Annotated[
    str,
    typer.Option(
        "--stretch",
        metavar="LOW,HIGH",
        help="Percentiles that become black and white; by default 2,98 for bands that are not 8 bits.",
        rich_help_panel=RASTERS,
    ),
]
Vector = Annotated[
    str,
    typer.Option(
        "--vector",
        metavar="FILE",
        help="Write the map's classes as polygons to a .gpkg or .geojson file.",
        rich_help_panel=SINGLE_SCENE,
    ),
]
Classes = Annotated[
    str,
    typer.Option(
        "--classes",
        metavar="A,B",
        help="Classes that become polygons; by default all but ground.",
        rich_help_panel=SINGLE_SCENE,
    ),
]
