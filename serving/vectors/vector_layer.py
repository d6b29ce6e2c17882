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
from serving.geo.geotiff import gdal, open_geotiff
from serving.vectors.classes import BACKGROUND, BLOCK, Codes, drop_blends, drop_specks, read_classes, windows
from serving.vectors.polygons import Polygons, dissolve, touches_edge, trace

FORMATS = {".gpkg": "GPKG", ".geojson": "GeoJSON"}
LAYER = "map"
SPECK = 25
"""Pixels below which an area is a speck, unless `min_area` is given."""
TOLERANCE = 1.5
MAX_TOLERANCE = 50.0
MAX_PIXELS = 600_000_000
"""Of a map: the class of each pixel is held in memory."""
OUTSIDE = 255
"""What lies beyond the edge of a map; no class has this code."""
DEGREES = "EPSG:4326"
DIGITS = 8
"""Decimals of degrees in GeoJSON: a millimetre."""
FINEST = 0.01
"""Metres of the smallest pixel that polygons in GeoJSON stay valid with."""


class ClassPolygons(Frozen):
    """The features of one class."""

    polygons: int
    area_m2: float


class VectorReport(Frozen):
    """What was written."""

    file: str
    crs: str
    min_pixels: int
    """Areas of fewer pixels went to the largest area beside them."""
    tolerance: float
    classes: dict[str, ClassPolygons]
    milliseconds: int


def check_vector_name(out: Path) -> str:
    """Return the GDAL driver for a file name.

    Raises:
        ConfigError: It ends in something else than .gpkg or .geojson.
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
    """Write the areas of a drawn map's classes as polygons: valid, without overlaps, with common borders.

    Each pixel has the class of the nearest colour; the blur of a border is none of its own (`vectors.classes`). Areas
    below `min_area` go to the largest area beside them; specks among specks may stay. Where the map is transparent
    there is no feature. A feature is one area in one piece. Memory: 1.5 GB for 20,000 x 20,000 pixels, 700,000 pieces.

    The one layer, `map`, has the attributes `class`, `colour` (the first of the class in the palette) and `area_m2`
    (on the ellipsoid, so also where a metre of the coordinate system is none, as in Web Mercator). A GeoPackage keeps
    the map's coordinate system; GeoJSON is in degrees of WGS 84, shells counterclockwise (RFC 7946).

    Args:
        map_file: A GeoTIFF of the colours, uint8 RGB, or RGB and alpha, of at most 600 million pixels.
        out: The file to write, .gpkg or .geojson; it appears whole or not at all.
        palette: The classes.
        classes: Those to write; None: all but `ground`, the background.
        min_area: In square metres; None: that of 25 pixels.
        tolerance: In pixels, as of `serving.vectors.polygons.trace`.
        progress: Receives the progress of reading, tracing and writing.

    Raises:
        ConfigError: An argument is out of range, or names a class that the palette does not have.
        DataError: The map can't be used, has no georeference, or `out` can't be written.
    """
    began = time.monotonic()
    driver = check_vector_name(out)
    wanted = _choose(palette, classes)
    _check_numbers(min_area, tolerance)
    with gdal():
        with open_geotiff(map_file) as dataset:
            _check_map(dataset, map_file)
            crs, footprint = dataset.crs, _find_footprint(dataset, map_file, driver)
            codes = read_classes(dataset, map_file, palette, progress=progress)
        least = SPECK if min_area is None else math.ceil(min(min_area / footprint.pixel.area, MAX_PIXELS))
        with progress.working("Clearing blurred borders and specks"):
            drop_blends(codes, palette)
            drop_specks(codes, least)
        place = partial(_place, footprint=footprint, in_degrees=driver == "GeoJSON")
        numbers = {name: number for number, name in enumerate(palette.classes, start=1) if name in wanted}
        features = _trace_map(codes, numbers, tolerance=tolerance, place=place, progress=progress)
    with progress.working(f"Writing {out.name}"):
        _write(features, palette, out, driver, DEGREES if driver == "GeoJSON" else crs.to_wkt())
    return VectorReport(
        file=out.name,
        crs=DEGREES if driver == "GeoJSON" else crs.to_string(),
        min_pixels=least,
        tolerance=tolerance,
        classes={
            name: ClassPolygons(polygons=len(found.areas), area_m2=float(found.areas.sum()))
            for name, found in features.items()
        },
        milliseconds=round(1000 * (time.monotonic() - began)),
    )


def _choose(palette: Palette, classes: Sequence[str] | None) -> frozenset[str]:
    if classes is None:
        return frozenset(palette.classes) - {BACKGROUND}
    unknown = [name for name in classes if name not in palette.classes]
    if unknown or not classes:
        told = f"{unknown[0]!r} is no class of this map" if unknown else "No class is named"
        raise ConfigError(f"{told}; it has {', '.join(palette.classes)}.")
    return frozenset(classes)


def _check_numbers(min_area: float | None, tolerance: float) -> None:
    if min_area is not None and not 0 <= min_area < math.inf:
        raise ConfigError(f"The smallest area can't be {min_area:g} square metres; give 0 or more.")
    if not 0 <= tolerance <= MAX_TOLERANCE:
        raise ConfigError(f"A tolerance of {tolerance:g} pixels can't be used; give 0 to {MAX_TOLERANCE:g}.")


def _check_map(dataset: Any, path: Path) -> None:  # noqa: ANN401 - a rasterio dataset
    from rasterio.enums import ColorInterp

    kinds = sorted(set(dataset.dtypes))
    alpha = dataset.colorinterp[3:] in ((), (ColorInterp.alpha,))
    if dataset.count < 3 or not alpha or kinds != ["uint8"]:
        raise DataError(
            f"{short_name(path)} has {dataset.count} band(s) of {', '.join(kinds)}; a drawn map has 3 of uint8, and "
            "maybe alpha."
        )
    if dataset.width * dataset.height > MAX_PIXELS:
        raise DataError(
            f"{short_name(path)} has {dataset.width}x{dataset.height} pixels; maps of at most {MAX_PIXELS} can become "
            "polygons: draw the scene in parts, or at a coarser resolution."
        )


@dataclass(frozen=True)
class _Features:
    """Polygons as they are written, and what they measure.

    Attributes:
        shapes: Well-known binary, which takes a fraction of the memory of geometries, (n,).
        areas: In square metres, (n,).
    """

    shapes: NDArray[np.object_]
    areas: NDArray[np.float64]


def _find_footprint(dataset: Any, path: Path, driver: str) -> Footprint:  # noqa: ANN401
    footprint = Footprint(dataset, short_name(path))
    if driver == "GeoJSON" and footprint.pixel.area < FINEST**2:
        raise DataError(
            f"{short_name(path)} has pixels of {footprint.pixel.mean:.3g} m, too fine for GeoJSON with {DIGITS} "
            "decimals; name a .gpkg file."
        )
    return footprint


def _trace_map(
    codes: Codes,
    wanted: Mapping[str, int],
    *,
    tolerance: float,
    place: Callable[[Polygons], _Features],
    progress: Progress,
) -> dict[str, _Features]:
    """Trace the wanted classes of a map, name -> code, window by window, and join what the windows cut."""
    found: dict[str, list[_Features]] = {name: [] for name in wanted}
    cut: dict[str, list[Polygons]] = {name: [] for name in wanted}
    height, width = codes.shape
    for top, left in progress.track(windows(height, width), "Tracing borders"):
        bottom, right = min(top + BLOCK, height), min(left + BLOCK, width)
        polygons, own = trace(_cut_out(codes, top, left), top=top, left=left, tolerance=tolerance)
        at_edge = touches_edge(polygons, (left, top, right, bottom))
        for name, code in wanted.items():
            found[name].append(place(polygons[(own == code) & ~at_edge]))
            cut[name].append(polygons[(own == code) & at_edge])
    for name, pieces in cut.items():
        found[name].append(place(dissolve(np.concatenate(pieces))))
    return {
        name: _Features(np.concatenate([part.shapes for part in parts]), np.concatenate([part.areas for part in parts]))
        for name, parts in found.items()
    }


def _cut_out(codes: Codes, top: int, left: int) -> Codes:
    """Return a window with one pixel around it, OUTSIDE where the map ends."""
    height, width = codes.shape
    bottom, right = min(top + BLOCK, height), min(left + BLOCK, width)
    window = np.full((bottom - top + 2, right - left + 2), OUTSIDE, np.uint8)
    above, before = min(top, 1), min(left, 1)
    part = codes[top - above : bottom + 1, left - before : right + 1]
    window[1 - above :, 1 - before :][: part.shape[0], : part.shape[1]] = part
    return window


def _place(polygons: Polygons, *, footprint: Footprint, in_degrees: bool) -> _Features:
    """Bring polygons from pixel coordinates to those of the file, and measure them."""
    import shapely

    def turn(points: Points) -> Points:
        return np.round(footprint.to_degrees(points), DIGITS) if in_degrees else points

    there = shapely.transform(polygons, footprint.to_map)
    areas = shapely.area(shapely.transform(there, footprint.to_metres))
    placed = shapely.orient_polygons(shapely.transform(there, turn))
    return _Features(shapely.to_wkb(placed), areas)


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
        raise DataError(f"{out} can't be written ({error}); choose another place, or make room.") from error
