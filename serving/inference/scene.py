"""A map of a complete scene: from a GeoTIFF to a Cloud Optimized GeoTIFF, resumable strip by strip.

The map has the model's ground resolution and the scene's extent and coordinate system: a finer grid would only hold
interpolated pixels, and a GIS overlays the two by their georeference. If the scene has alpha or nodata, the map has an
alpha band. Finished strips are kept in a hidden folder next to the map until it is complete.
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from model.errors import DataError, StorageError
from model.io.files import write_bytes
from model.io.images import short_name
from model.io.prefetch import run_ahead
from model.io.progress import SILENT, Progress
from model.pixels import Pixels
from model.spec import Frozen
from model.translator import Translate
from serving.geo.cog import encode_strip, join_strips
from serving.geo.gdal import gdal
from serving.geo.imagery import NOTHING_VALID, Imagery, open_imagery
from serving.inference.seams import Seams
from serving.inference.strip_folder import StripNote, open_strip_folder, read_finished, strip_name
from serving.inference.tiling import OVERLAP, Strip, draw_tiles, tile_starts

SUFFIXES = (".tif", ".tiff")


class SceneReading(Frozen):
    """Settings for reading a scene; see `draw_scene`."""

    resolution: float | None = None
    bands: tuple[int, ...] | None = None
    stretch: tuple[float, float] | None = None

    def filled(self, resolution: float | None) -> "SceneReading":
        """Return these settings, with the model's resolution if they have none."""
        return self if self.resolution else self.model_copy(update={"resolution": resolution})

    def __str__(self) -> str:
        """Return the settings that are not None, as written in the rows of a manifest."""
        lists = {name: value for name, value in (("bands", self.bands), ("stretch", self.stretch)) if value}
        given = [f"{name}={','.join(f'{number:g}' for number in value)}" for name, value in lists.items()]
        return " ".join(["scene", *([f"resolution={self.resolution!r}"] if self.resolution else []), *given])


class SceneReport(Frozen):
    """The result of `draw_scene`: the map, the settings used and counts."""

    source: str
    map: str
    model: str
    width: int
    """Width of the map in pixels."""
    height: int
    crs: str | None
    ground: tuple[float, float] | None
    """Metres on the ground of the pixel at the map's centre, across and down; None if unknown."""
    bands: tuple[int, ...]
    levels: tuple[tuple[float, float], ...] | None
    """The values that became black and white, for each band; None if the values were 8 bits and kept."""
    side: int
    overlap: float
    tiles: int
    """Number of tiles drawn, in this run and in the runs it resumed."""
    skipped: int
    """Number of tiles left out because they hold no valid pixel."""
    seams: float | None
    """Mean step between pixels across tile edges, divided by the mean step near them; see `Seams`."""
    resumed: int
    """Rows of the map that earlier runs had drawn."""
    milliseconds: int
    """Duration of this run."""
    warnings: tuple[str, ...]


def draw_scene(
    draw: Translate,
    source: Path,
    out: Path,
    *,
    side: int,
    model: str,
    resolution: float | None = None,
    bands: tuple[int, ...] | None = None,
    stretch: tuple[float, float] | None = None,
    overlap: float = OVERLAP,
    progress: Progress = SILENT,
) -> SceneReport:
    """Draw the map of a GeoTIFF; a run that was stopped resumes when called again, with the same result.

    Args:
        draw: Draws tiles, uint8 (N, side, side, 3).
        source: The scene; sidecar files are ignored.
        out: The map, .tif; an existing file is replaced once the new map is complete.
        side: Side of a tile in pixels.
        model: Identifies the model, for instance by its sha256. It is written into the map (tag MODEL), and strips
            of another model are not resumed.
        resolution: Metres on the ground of a pixel in the model's photos; None to draw the scene's own pixels.
        bands: One or three band numbers, from 1; None for red, green and blue by the rule of `serving.geo.bands`.
        stretch: Two percentiles that become black and white; None for 2 and 98 if the values are not 8 bits.
        overlap: Minimum overlap of neighbouring tiles, as a fraction of `side`.
        progress: Receives the progress of drawing and writing.

    Raises:
        ConfigError: A setting is out of range.
        DataError: The scene can't be read, or the map can't be written (StorageError if the disk is at fault);
            finished strips are kept.
    """
    began = time.perf_counter()
    _check_paths(source, out)
    with gdal(), open_imagery(source, resolution=resolution, bands=bands, stretch=stretch) as imagery:
        tile_starts(1, side, overlap)  # Raises if `overlap` is out of range, before a folder is created.
        found = source.stat()
        key = [found.st_size, found.st_mtime_ns, model, side, overlap, resolution, bands, stretch]
        with open_strip_folder(out, key) as folder:
            resumed = read_finished(folder)
            missing = _draw_missing(draw, imagery, folder, out, resumed, side=side, overlap=overlap, progress=progress)
            notes = [*resumed, *missing]
            if not any(note.drawn for note in notes):
                imagery.warnings.append(f"{short_name(source)} {NOTHING_VALID}")
            _write_map(imagery, [folder / strip_name(note.top) for note in notes], out, model=model, progress=progress)
    return SceneReport(
        source=source.name,
        map=out.name,
        model=model,
        side=side,
        overlap=overlap,
        tiles=sum(note.drawn for note in notes),
        skipped=sum(note.skipped for note in notes),
        seams=sum((Seams(*note.seams) for note in notes), Seams()).ratio,
        resumed=sum(note.height for note in resumed),
        milliseconds=round(1000 * (time.perf_counter() - began)),
        **_describe(imagery),
    )


def _describe(imagery: Imagery) -> dict[str, Any]:
    """Return the fields of the report that follow from the scene and how it was read."""
    levels = imagery.colours.levels
    return {
        "width": imagery.width,
        "height": imagery.height,
        "crs": imagery.crs.to_string() if imagery.crs else None,
        "ground": imagery.map_pixel and (imagery.map_pixel.across, imagery.map_pixel.down),
        "bands": imagery.colours.bands,
        "levels": None if levels is None else tuple(map(tuple, levels.tolist())),
        "warnings": tuple(imagery.warnings),
    }


def _check_paths(source: Path, out: Path) -> None:
    if out.suffix.lower() not in SUFFIXES:
        raise DataError(f"The map of a scene is a GeoTIFF; {out.name} must end in {' or '.join(SUFFIXES)}.")
    if out.is_dir():
        raise DataError(f"{out} is a folder; name a file for the map.")
    if out.exists() and source.exists() and out.samefile(source):
        raise DataError(f"The map would overwrite its photo {source}; name another file.")


def _draw_missing(
    draw: Translate,
    imagery: Imagery,
    folder: Path,
    out: Path,
    finished: list[StripNote],
    *,
    side: int,
    overlap: float,
    progress: Progress,
) -> Iterator[StripNote]:
    """Draw the strips below the finished ones, write each while the next is drawn, and yield its note."""

    def write(strip: Strip) -> StripNote:
        note = StripNote(
            top=strip.top,
            height=len(strip.rows),
            drawn=strip.drawn,
            skipped=strip.skipped,
            seams=tuple(asdict(strip.seams).values()),
        )
        content = encode_strip(_with_alpha(strip, imagery), note=note.model_dump_json())
        with _write_errors(out, f"{strip.top} of {imagery.height} rows"):
            write_bytes(folder / strip_name(strip.top), content)
        return note

    start = finished[-1].top + finished[-1].height if finished else 0
    shape = {"height": imagery.height, "width": imagery.width, "side": side, "overlap": overlap}
    strips = draw_tiles(imagery.read, draw, **shape, start=start)
    count = len(tile_starts(imagery.height, side, overlap)) - len(finished)
    with ThreadPoolExecutor(1, "write") as writer:
        yield from run_ahead(writer, write, progress.track(strips, f"Drawing {out.name}", total=count), 1)


def _with_alpha(strip: Strip, imagery: Imagery) -> Pixels:
    """Add the scene's alpha, if it has any, to the rows of a strip; pixels with alpha 0 become black."""
    if not imagery.masked:
        return strip.rows
    alpha = imagery.alpha(strip.top, 0, *strip.rows.shape[:2])
    return np.dstack([np.where(alpha[..., None] > 0, strip.rows, 0), alpha]).astype(np.uint8)


def _write_map(imagery: Imagery, strips: list[Path], out: Path, *, model: str, progress: Progress) -> None:
    draft = strips[0].with_name("map.tif")
    tags = {"TIFFTAG_SOFTWARE": "sat2map", "MODEL": model} | imagery.taken
    with _write_errors(out, "all rows"), progress.working(f"Writing {out.name}"):
        shape = (imagery.height, imagery.width, 4 if imagery.masked else 3)
        join_strips(strips, draft, shape=shape, crs=imagery.crs, transform=imagery.transform, tags=tags)
        draft.replace(out)


@contextmanager
def _write_errors(out: Path, kept: str) -> Iterator[None]:
    """Raise an error of writing as a DataError that reports which rows (`kept`) are already stored."""
    try:
        yield
    except (OSError, StorageError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        # Without an error number it comes from GDAL and concerns this map, not the disk.
        kind = StorageError if getattr(cause, "errno", None) else DataError
        raise kind(
            f"{out.parent} can't be written ({getattr(cause, 'strerror', None) or error}); {kept} are drawn and kept "
            "there: free some space and run again to resume."
        ) from error
