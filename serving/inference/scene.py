"""A map of a complete scene: from a GeoTIFF to a Cloud Optimized GeoTIFF, resumable strip by strip.

The map has the model's ground resolution and the scene's extent and coordinate system: a finer grid would only hold
interpolated pixels, and a GIS overlays the two by their georeference. If the scene has alpha or nodata, the map has an
alpha band. Finished strips are kept in a hidden folder next to the map until it is complete.
"""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from model.errors import DataError, StorageError
from model.io.files import check_writable, follow, write_bytes
from model.io.images import short_name
from model.io.prefetch import run_ahead
from model.io.progress import SILENT, Progress
from model.pixels import Pixels
from model.spec import Frozen
from model.translator import Translate
from serving.geo.cog import encode_strip, join_strips
from serving.geo.gdal import check_path, gdal
from serving.geo.grid import Grid
from serving.geo.imagery import NOTHING_VALID, Imagery, open_imagery
from serving.geo.raster import open_raster
from serving.geo.sidecars import misplacing_files
from serving.inference.finishing import Finish, finish_strips
from serving.inference.seams import Seams
from serving.inference.strip_folder import StripNote, open_strip_folder, read_finished, strip_name
from serving.inference.tiling import OVERLAP, Strip, draw_tiles, tile_starts

SUFFIXES = (".tif", ".tiff")
SIDECARS = (".aux.xml", ".ovr", ".msk")
"""Suffixes of files that GDAL keeps next to a TIFF: those of an earlier map would change the new one."""


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
    finish: Finish | None = None,
    check: Callable[[Grid], None] = lambda grid: None,
    progress: Progress = SILENT,
) -> SceneReport:
    """Draw the map of a GeoTIFF; a run that was stopped resumes when called again, with the same result.

    Args:
        draw: Draws tiles, uint8 (N, side, side, 3).
        source: The scene; sidecar files are ignored.
        out: The map, .tif; an existing file is replaced once the new map is complete. A link is followed.
        side: Side of a tile in pixels.
        model: Identifies the model, for instance by its sha256. It is written into the map (tag MODEL), and strips
            of another model are not resumed.
        resolution: Metres on the ground of a pixel in the model's photos; None to draw the scene's own pixels.
        bands: One or three band numbers, from 1; None for red, green and blue by the rule of `serving.geo.bands`.
        stretch: Two percentiles that become black and white; None for 2 and 98 if the values are not 8 bits.
        overlap: Minimum overlap of neighbouring tiles, as a fraction of `side`.
        finish: Finishes the drawn pixels of the complete map; None for a plain one.
        check: Receives the grid of the map before the first tile is drawn, and raises if it can't be used.
        progress: Receives the progress of drawing and writing.

    Raises:
        ConfigError: A setting is out of range.
        DataError: The scene can't be read or the map can't be written (StorageError: by the disk); strips are kept.
    """
    began = time.perf_counter()
    target = _check_paths(source, out)
    with gdal(), open_imagery(source, resolution=resolution, bands=bands, stretch=stretch) as imagery:
        tile_starts(1, side, overlap)  # Raises if `overlap` is out of range.
        check(grid := imagery.grid.storable())
        key: list[object] = [*_identify(source), model, side, overlap, resolution, bands, stretch]
        with open_strip_folder(target, key) as folder:
            resumed = read_finished(folder)
            drawn = _draw_missing(draw, imagery, folder, target, resumed, side=side, overlap=overlap, progress=progress)
            notes = [*resumed, *drawn]
            written = _write_map(imagery, grid, folder, notes, target, model=model, finish=finish, progress=progress)
        warnings = (*_warn(imagery, grid, written, short_name(source), notes), *_misplaced(target, written))
    return SceneReport(
        source=source.name,
        map=out.name,
        model=model,
        side=side,
        overlap=overlap,
        resumed=sum(note.height for note in resumed),
        warnings=warnings,
        milliseconds=round(1000 * (time.perf_counter() - began)),
        **_describe(imagery, written),
        **_count(notes),
    )


def _identify(source: Path) -> tuple[int, int]:
    scene = source.stat()
    return scene.st_size, scene.st_mtime_ns


def _misplaced(out: Path, written: Grid) -> Iterator[str]:
    """Yield a warning if a map has no location and lies next to files that have one."""
    if files := " and ".join(misplacing_files(out, written)):
        yield f"{out.name} lies next to {files}, whose location other programs take for that of the map."


def _warn(imagery: Imagery, planned: Grid, written: Grid, name: str, notes: list[StripNote]) -> tuple[str, ...]:
    """Return all warnings about a map."""
    warnings = (*imagery.warnings, *imagery.grid.differences(planned, written, name))
    return warnings if any(note.drawn for note in notes) else (*warnings, f"{name} {NOTHING_VALID}")


def _count(notes: list[StripNote]) -> dict[str, Any]:
    """Return the fields of the report that add up those of the strips."""
    return {
        "tiles": sum(note.drawn for note in notes),
        "skipped": sum(note.skipped for note in notes),
        "seams": sum((Seams(*note.seams) for note in notes), Seams()).ratio,
    }


def _describe(imagery: Imagery, written: Grid) -> dict[str, Any]:
    """Return the fields of the report that follow from how the scene was read."""
    levels = imagery.colours.levels
    return {
        "width": imagery.width,
        "height": imagery.height,
        "crs": written.crs.to_string() if written.crs else None,
        "ground": imagery.map_pixel and (imagery.map_pixel.across, imagery.map_pixel.down),
        "bands": imagery.colours.bands,
        "levels": None if levels is None else tuple(map(tuple, levels.tolist())),
    }


def _check_paths(source: Path, out: Path) -> Path:
    """Return the file that `out` leads to."""
    for path in (source, out):
        check_path(path)
    if out.suffix.lower() not in SUFFIXES:
        raise DataError(
            f"The map of a scene is a GeoTIFF; {out.name} has no name that ends in {' or '.join(SUFFIXES)}."
        )
    if out.is_dir():
        raise DataError(f"{out} is a folder; name a file for the map.")
    if out.exists() and source.exists() and out.samefile(source):
        raise DataError(f"The map would overwrite its photo {source}; name another file.")
    check_writable(out)
    return follow(out)


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
    shape = {"height": imagery.height, "width": imagery.width, "side": side}
    strips = draw_tiles(imagery.read, draw, **shape, overlap=overlap, start=start)
    count = len(tile_starts(imagery.height, side, overlap)) - len(finished)
    with ThreadPoolExecutor(1, "write") as writer:
        yield from run_ahead(writer, write, progress.track(strips, f"Drawing {out.name}", total=count), 1)


def _with_alpha(strip: Strip, imagery: Imagery) -> Pixels:
    """Add the scene's alpha, if it has any, to the rows of a strip; pixels with alpha 0 become black."""
    if not imagery.masked:
        return strip.rows
    alpha = imagery.alpha(strip.top, 0, *strip.rows.shape[:2])
    return np.dstack([np.where(alpha[..., None] > 0, strip.rows, 0), alpha]).astype(np.uint8)


def _write_map(
    imagery: Imagery,
    grid: Grid,
    folder: Path,
    notes: list[StripNote],
    out: Path,
    *,
    model: str,
    finish: Finish | None,
    progress: Progress,
) -> Grid:
    """Write the map from its strips and return the grid that the file has."""
    draft, strips = folder / "map.tif", [folder / strip_name(note.top) for note in notes]
    tags = {"TIFFTAG_SOFTWARE": "sat2map", "MODEL": model} | imagery.taken
    with _write_errors(out, "all rows"), progress.working(f"Writing {out.name}"):
        if finish:
            strips = finish_strips(strips, finish)
        join_strips(strips, draft, grid=grid, bands=4 if imagery.masked else 3, tags=tags)
        with open_raster(draft) as dataset:
            written = Grid.read(dataset)
        for suffix in SIDECARS:
            # A name that is too long has no file.
            if os.path.lexists(sidecar := out.with_name(out.name + suffix)):
                sidecar.unlink()
        draft.replace(out)
    return written


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
