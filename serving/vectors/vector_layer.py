"""Drawn maps as polygons: each area of a class of the palette becomes a feature of a GIS layer."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.errors import ConfigError, DataError
from model.io.files import new_file
from model.io.images import short_name
from model.io.progress import SILENT, Progress
from model.spec import Frozen, Palette
from serving.geo.footprint import Footprint, Points
from serving.geo.gdal import gdal, metadata_errors
from serving.geo.raster import open_raster
from serving.vectors.classes import BACKGROUND, BLOCK, Codes, read_classes, remove_blur, remove_small_areas, windows
from serving.vectors.polygons import Polygons, dissolve, touches_edge, trace

FORMATS = {".gpkg": "GPKG", ".geojson": "GeoJSON"}
LAYER = "map"
MIN_PIXELS = 25
"""Default minimum area in pixels; smaller areas are merged into a neighbour."""
TOLERANCE = 1.5
MAX_TOLERANCE = 50.0
MAX_PIXELS = 600_000_000
"""Maximum size of a map: the class of each pixel is held in memory."""
OUTSIDE = 255
"""Code of the area beyond the edge of a map, which no class has."""
DEGREES = "EPSG:4326"
DIGITS = 8
"""Decimals of degrees in GeoJSON, about a millimetre."""
MIN_PIXEL_SIZE = 0.01
"""Smallest pixel in metres with which polygons in GeoJSON stay valid."""


class ClassPolygons(Frozen):
    """The features of one class."""

    polygons: int
    area_m2: float


class VectorReport(Frozen):
    """The result of `write_vectors`."""

    file: str
    crs: str
    min_pixels: int
    """Areas of fewer pixels were merged into their largest neighbour."""
    tolerance: float
    classes: dict[str, ClassPolygons]
    milliseconds: int


def check_vector_name(out: Path) -> str:
    """Return the GDAL driver for a file name.

    Raises:
        ConfigError: The name doesn't end in .gpkg or .geojson.
    """
    driver = FORMATS.get(out.suffix.lower())
    if driver is None:
        raise ConfigError(f"Polygons can't be written as {out.name!r}; name a file that ends in .gpkg or .geojson.")
    return driver


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
    below `min_area` are merged into their largest neighbour, unless all neighbours are that small. Transparent parts
    have no features. Each feature is a single polygon. Memory: 1.5 GB for 20,000 x 20,000 pixels, 700,000 polygons.

    The only layer, `map`, has the attributes `class`, `colour` (the class's first colour in the palette) and `area_m2`
    (on the ellipsoid, so correct in Web Mercator too). A GeoPackage keeps the map's coordinate system; GeoJSON is in
    degrees of WGS 84, with counterclockwise shells (RFC 7946).

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
    driver = check_vector_name(out)
    chosen = _choose_classes(palette, classes)
    _check_numbers(min_area, tolerance)
    with gdal():
        with open_raster(map_file) as dataset:
            with metadata_errors(map_file):
                _check_map(dataset, map_file)
            crs, footprint = dataset.crs, _find_footprint(dataset, map_file, driver)
            codes = read_classes(dataset, map_file, palette, progress=progress)
        min_pixels = MIN_PIXELS if min_area is None else math.ceil(min(min_area / footprint.pixel.area, MAX_PIXELS))
        with progress.working("Removing blurred borders and small areas"):
            remove_blur(codes, palette)
            remove_small_areas(codes, min_pixels)
        to_features = partial(_to_features, footprint=footprint, in_degrees=driver == "GeoJSON")
        numbers = {name: number for number, name in enumerate(palette.classes, start=1) if name in chosen}
        features = _trace_map(codes, numbers, tolerance=tolerance, to_features=to_features, progress=progress)
    with progress.working(f"Writing {out.name}"):
        _write(features, palette, out, driver, DEGREES if driver == "GeoJSON" else crs.to_wkt())
    return VectorReport(
        file=out.name,
        crs=DEGREES if driver == "GeoJSON" else crs.to_string(),
        min_pixels=min_pixels,
        tolerance=tolerance,
        classes={name: found.summary() for name, found in features.items()},
        milliseconds=round(1000 * (time.monotonic() - began)),
    )


def _choose_classes(palette: Palette, classes: Sequence[str] | None) -> frozenset[str]:
    if classes is None:
        return frozenset(palette.classes) - {BACKGROUND}
    unknown = [name for name in classes if name not in palette.classes]
    if unknown or not classes:
        found = f"{unknown[0]!r} is not a class of this map" if unknown else "No class is given"
        raise ConfigError(f"{found}; choose from {', '.join(palette.classes)}.")
    return frozenset(classes)


def _check_numbers(min_area: float | None, tolerance: float) -> None:
    if min_area is not None and not 0 <= min_area < math.inf:
        raise ConfigError(f"A minimum area of {min_area:g} square metres can't be used; give 0 or more.")
    if not 0 <= tolerance <= MAX_TOLERANCE:
        raise ConfigError(f"A tolerance of {tolerance:g} pixels can't be used; give 0 to {MAX_TOLERANCE:g}.")


def _check_map(dataset: Any, path: Path) -> None:  # noqa: ANN401 - a rasterio dataset
    from rasterio.enums import ColorInterp

    kinds = sorted(set(dataset.dtypes))
    alpha = dataset.colorinterp[3:] in ((), (ColorInterp.alpha,))
    if dataset.count < 3 or not alpha or kinds != ["uint8"]:
        raise DataError(
            f"{short_name(path)} has {dataset.count} band(s) of {', '.join(kinds)}; give a drawn map, which has 3 of "
            "uint8, or 4 with alpha."
        )
    if dataset.width * dataset.height > MAX_PIXELS:
        raise DataError(
            f"{short_name(path)} has {dataset.width}x{dataset.height} pixels; maps of at most {MAX_PIXELS} can become "
            "polygons: draw the scene in parts or at a coarser resolution."
        )


@dataclass(frozen=True)
class _Features:
    """Polygons ready to be written, and their areas.

    Attributes:
        shapes: Polygons as well-known binary (n,), which takes a fraction of the memory of geometries.
        areas: Areas in square metres, (n,).
    """

    shapes: NDArray[np.object_]
    areas: NDArray[np.float64]

    def summary(self) -> ClassPolygons:
        """Return the number of polygons and their total area."""
        return ClassPolygons(polygons=len(self.areas), area_m2=float(self.areas.sum()))


def _find_footprint(dataset: Any, path: Path, driver: str) -> Footprint:  # noqa: ANN401
    footprint = Footprint(dataset, short_name(path))
    if driver == "GeoJSON" and footprint.pixel.area < MIN_PIXEL_SIZE**2:
        raise DataError(
            f"{short_name(path)} has pixels of {footprint.pixel.mean:.3g} m, too fine for GeoJSON with {DIGITS} "
            "decimals; name a .gpkg file."
        )
    return footprint


def _trace_map(
    codes: Codes,
    chosen: Mapping[str, int],
    *,
    tolerance: float,
    to_features: Callable[[Polygons], _Features],
    progress: Progress,
) -> dict[str, _Features]:
    """Trace the chosen classes of a map, name -> code, window by window, and merge polygons cut by the windows."""
    found: dict[str, list[_Features]] = {name: [] for name in chosen}
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
    return {
        name: _Features(np.concatenate([part.shapes for part in parts]), np.concatenate([part.areas for part in parts]))
        for name, parts in found.items()
    }


def _window_with_margin(codes: Codes, top: int, left: int) -> Codes:
    """Return a window with a margin of one pixel, OUTSIDE where the map ends."""
    height, width = codes.shape
    bottom, right = min(top + BLOCK, height), min(left + BLOCK, width)
    window = np.full((bottom - top + 2, right - left + 2), OUTSIDE, np.uint8)
    above, before = min(top, 1), min(left, 1)
    part = codes[top - above : bottom + 1, left - before : right + 1]
    window[1 - above :, 1 - before :][: part.shape[0], : part.shape[1]] = part
    return window


def _to_features(polygons: Polygons, *, footprint: Footprint, in_degrees: bool) -> _Features:
    """Convert polygons from pixel coordinates to those of the file, and measure their areas."""
    import shapely

    def to_file(points: Points) -> Points:
        return np.round(footprint.to_degrees(points), DIGITS) if in_degrees else points

    on_map = shapely.transform(polygons, footprint.to_map)
    areas = shapely.area(shapely.transform(on_map, footprint.to_metres))
    in_file = shapely.orient_polygons(shapely.transform(on_map, to_file))
    return _Features(shapely.to_wkb(in_file), areas)


def _write(features: Mapping[str, _Features], palette: Palette, out: Path, driver: str, crs: str) -> None:
    import pyogrio

    counts = [len(found.areas) for found in features.values()]
    fields = {
        "class": np.repeat(np.array(list(features), object), counts),
        "colour": np.repeat(np.array([palette.classes[name][0] for name in features], object), counts),
        "area_m2": np.concatenate([found.areas for found in features.values()]),
    }
    options = {"RFC7946": "YES", "COORDINATE_PRECISION": str(DIGITS)} if driver == "GeoJSON" else {}
    try:
        with new_file(out) as draft:
            draft.unlink()
            pyogrio.raw.write(
                draft,
                np.concatenate([found.shapes for found in features.values()]),
                list(fields.values()),
                list(fields),
                layer=LAYER,
                driver=driver,
                geometry_type="Polygon",
                crs=crs,
                **options,
            )
    except (OSError, pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise DataError(f"{out} can't be written ({error}); choose another folder or free some space.") from error
