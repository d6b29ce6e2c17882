"""Drawn maps as polygons: each area of a class of the palette becomes a feature of a GIS layer."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from model.errors import ConfigError, DataError
from model.io.images import short_name
from model.io.progress import SILENT, Progress
from model.spec import Frozen, Palette
from serving.geo.antimeridian import DIGITS
from serving.geo.footprint import Footprint
from serving.geo.gdal import gdal, metadata_errors
from serving.geo.grid import Raster, crs_name
from serving.geo.raster import open_raster
from serving.vectors.classes import BACKGROUND, BLOCK, Codes, read_classes, remove_blur, remove_small_areas, windows
from serving.vectors.polygons import Polygons, dissolve, touches_edge, trace
from serving.vectors.surface import Ground, find_ground, find_plane
from serving.vectors.vector_file import (
    DEGREES,
    ClassPolygons,
    Features,
    check_vector_file,
    vector_driver,
    write_features,
)

MIN_PIXELS = 25
"""Default minimum area in pixels; smaller areas are merged into a neighbour."""
TOLERANCE = 1.5
MAX_TOLERANCE = 50.0
MAX_PIXELS = 600_000_000
"""Maximum size of a map: the class of each pixel is held in memory."""
OUTSIDE = 255
"""Code of the area beyond the edge of a map, which no class has."""
MIN_PIXEL_SIZE = 0.01
"""Smallest pixel in metres with which polygons in GeoJSON stay valid."""


class VectorReport(Frozen):
    """The result of `write_vectors`."""

    file: str
    crs: str
    min_pixels: int
    """Areas of fewer pixels were merged into their largest neighbour."""
    tolerance: float
    classes: dict[str, ClassPolygons]
    milliseconds: int


def check_vectors(raster: Raster, name: str, out: Path, palette: Palette, classes: Sequence[str] | None) -> None:
    """Check, before a map is drawn, that `write_vectors` can make polygons of it.

    Args:
        raster: The grid of the map.
        name: The map's or scene's name, for messages.
        out: The file of the polygons.
        palette: The map's classes.
        classes: The classes to write; None for all but the background.

    Raises:
        ConfigError: `out` has another suffix, or the palette doesn't have a class.
        DataError: The map is too large or has no usable georeference, or `out` can't be written.
    """
    _choose_classes(palette, classes)
    driver = vector_driver(out)
    _find_ground(raster, name, driver)
    check_vector_file(out, raster.crs)


def write_vectors(
    map_file: Path,
    out: Path,
    palette: Palette,
    *,
    classes: Sequence[str] | None = None,
    min_area: float | None = None,
    tolerance: float = TOLERANCE,
    progress: Progress = SILENT,
) -> VectorReport:
    """Write the areas of a drawn map's classes as valid polygons that share their borders and never overlap.

    Each pixel has the class of the nearest colour; blurred borders are no classes of their own (`remove_blur`). Areas
    below `min_area` are merged into their largest neighbour, unless all are that small. Transparent parts have no
    features. Memory: 1.5 GB for 20,000 x 20,000 pixels, 700,000 polygons.

    The layer, `map`, has the attributes `class`, `colour` (the class's first colour in the palette) and `area_m2` (on
    the ellipsoid, so correct in Web Mercator too). A GeoPackage has the map's coordinate system, on whatever body; in
    one that exists, only the features of the layer are replaced. GeoJSON is in degrees of WGS 84, with counterclockwise
    shells, and is cut at the antimeridian into MultiPolygons (RFC 7946).

    Args:
        map_file: A GeoTIFF of the colours, uint8 RGB, or RGB and alpha, of at most 600 million pixels.
        out: The file to write, .gpkg or .geojson; it is written completely or not at all.
        palette: The classes.
        classes: The classes to write; None for all but the background, `ground`.
        min_area: Minimum area in square metres; None for that of 25 pixels.
        tolerance: Tolerance in pixels of `serving.vectors.polygons.trace`.
        progress: Receives the progress of reading, tracing and writing.

    Raises:
        ConfigError: An argument is out of range, or names a class that the palette doesn't have.
        DataError: The map can't be used or has no georeference, or `out` can't be written.
    """
    began = time.monotonic()
    driver, chosen = vector_driver(out), _choose_classes(palette, classes)
    _check_numbers(min_area, tolerance)
    with gdal():
        with open_raster(map_file) as dataset:
            with metadata_errors(map_file):
                _check_bands(dataset, map_file)
            crs, ground = dataset.crs, _find_ground(dataset, short_name(map_file), driver)
            check_vector_file(out, crs)
            codes = read_classes(dataset, map_file, palette, progress=progress)
        min_pixels = MIN_PIXELS if min_area is None else math.ceil(min(min_area / ground.pixel.area, MAX_PIXELS))
        with progress.working("Removing blurred borders and small areas"):
            remove_blur(codes, palette)
            remove_small_areas(codes, min_pixels)
        to_features = partial(_to_features, ground=ground, in_degrees=driver == "GeoJSON")
        features = _trace_map(codes, chosen, tolerance=tolerance, to_features=to_features, progress=progress)
    with progress.working(f"Writing {out.name}"):
        stored = write_features(features, palette, out, DEGREES if driver == "GeoJSON" else crs.to_wkt())
    return VectorReport(
        file=out.name,
        crs=stored,
        min_pixels=min_pixels,
        tolerance=tolerance,
        classes={name: found.summary() for name, found in features.items()},
        milliseconds=round(1000 * (time.monotonic() - began)),
    )


def _choose_classes(palette: Palette, classes: Sequence[str] | None) -> dict[str, int]:
    """Return the code of each chosen class."""
    codes = {name: code for code, name in enumerate(palette.classes, start=1)}
    if classes is None:
        return {name: code for name, code in codes.items() if name != BACKGROUND}
    unknown = [name for name in classes if name not in palette.classes]
    if unknown or not classes:
        found = f"{unknown[0]!r} is not a class of this map" if unknown else "No class is given"
        raise ConfigError(f"{found}; choose from {', '.join(palette.classes)}.")
    return {name: code for name, code in codes.items() if name in classes}


def _check_numbers(min_area: float | None, tolerance: float) -> None:
    if min_area is not None and not 0 <= min_area < math.inf:
        raise ConfigError(f"A minimum area of {min_area:g} square metres can't be used; give 0 or more.")
    if not 0 <= tolerance <= MAX_TOLERANCE:
        raise ConfigError(f"A tolerance of {tolerance:g} pixels can't be used; give 0 to {MAX_TOLERANCE:g}.")


def _check_bands(dataset: Any, path: Path) -> None:  # noqa: ANN401 - a rasterio dataset
    from rasterio.enums import ColorInterp

    kinds = sorted(set(dataset.dtypes))
    alpha = dataset.colorinterp[3:] in ((), (ColorInterp.alpha,))
    if dataset.count < 3 or not alpha or kinds != ["uint8"]:
        raise DataError(
            f"{short_name(path)} has {dataset.count} band(s) of {', '.join(kinds)}; give a drawn map, which has 3 of "
            "uint8, or 4 with alpha."
        )


def _find_ground(raster: Raster, name: str, driver: str) -> Ground:
    """Return the ground of a map, if polygons can be made of it."""
    if raster.width * raster.height > MAX_PIXELS:
        raise DataError(
            f"{name} has {raster.width}x{raster.height} pixels; maps of at most {MAX_PIXELS} can become polygons: draw "
            "the scene in parts or at a coarser resolution."
        )
    if driver != "GeoJSON":
        return find_ground(raster, name)
    if find_plane(raster, name):
        raise DataError(
            f"{name} is in {crs_name(raster.crs)}, which can't be converted to the degrees of GeoJSON; name a .gpkg "
            "file."
        )
    footprint = Footprint(raster, name)
    if footprint.pixel.area < MIN_PIXEL_SIZE**2:
        raise DataError(
            f"{name} has pixels of {footprint.pixel.mean:.3g} m, too fine for GeoJSON with {DIGITS} decimals; name a "
            ".gpkg file."
        )
    return footprint


def _trace_map(
    codes: Codes,
    chosen: Mapping[str, int],
    *,
    tolerance: float,
    to_features: Callable[[Polygons], Features],
    progress: Progress,
) -> dict[str, Features]:
    """Trace the chosen classes of a map, name -> code, window by window, and merge polygons cut by the windows."""
    found: dict[str, list[Features]] = {name: [] for name in chosen}
    cut: dict[str, list[Polygons]] = {name: [] for name in chosen}
    height, width = codes.shape
    for top, left in progress.track(windows(height, width), "Tracing borders"):
        bottom, right = min(top + BLOCK, height), min(left + BLOCK, width)
        polygons, own = trace(_window_with_margin(codes, top, left), top=top, left=left, tolerance=tolerance)
        at_edge = touches_edge(polygons, (left, top, right, bottom))
        for name, code in chosen.items():
            found[name].append(to_features(polygons[(own == code) & ~at_edge]))
            cut[name].append(polygons[(own == code) & at_edge])
    for name, pieces in cut.items():
        found[name].append(to_features(dissolve(np.concatenate(pieces))))
    return {name: Features.join(parts) for name, parts in found.items()}


def _window_with_margin(codes: Codes, top: int, left: int) -> Codes:
    """Return a window with a margin of one pixel, OUTSIDE where the map ends."""
    height, width = codes.shape
    bottom, right = min(top + BLOCK, height), min(left + BLOCK, width)
    window = np.full((bottom - top + 2, right - left + 2), OUTSIDE, np.uint8)
    above, before = min(top, 1), min(left, 1)
    part = codes[top - above : bottom + 1, left - before : right + 1]
    window[1 - above :, 1 - before :][: part.shape[0], : part.shape[1]] = part
    return window


def _to_features(polygons: Polygons, *, ground: Ground, in_degrees: bool) -> Features:
    """Convert polygons from pixel coordinates to those of the file, and measure their areas."""
    import shapely

    areas = ground.areas(polygons)
    if in_degrees and isinstance(ground, Footprint):
        return Features(shapely.to_wkb(ground.polygons_to_degrees(polygons)), areas)
    return Features(shapely.to_wkb(shapely.orient_polygons(shapely.transform(polygons, ground.to_map))), areas)
