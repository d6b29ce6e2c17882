"""The ground that a georeferenced raster covers: its outline in degrees, its pixels in metres."""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.errors import DataError
from serving.geo.antimeridian import DIGITS, POLE, Points, cut, longitude_range, unwrap, wrap
from serving.geo.gdal import forget_errors, gdal_errors
from serving.geo.grid import Raster, crs_name, find_gap, locate

DEGREES = "OGC:CRS84"
"""WGS 84, longitude first (RFC 7946, section 4)."""
EDGE = 16
"""Segments of each edge of the outline: a straight line in one coordinate system is curved in another."""
CURVE = 0.1
"""Largest distance in pixels between a straight line of the raster and its segments in degrees."""
ROUNDS = 24
"""Maximum number of times that a segment is halved."""
POLAR = 0.25
"""Distance in degrees from a pole below which the oblique projection is not computed with enough digits."""


class PixelSize(NamedTuple):
    """Size on the ground of a pixel: the lengths of its sides in metres and its area in square metres."""

    across: float
    down: float
    area: float

    @property
    def mean(self) -> float:
        """Geometric mean of the two sides, in metres."""
        return math.sqrt(self.across * self.down)

    def scaled(self, across: float, down: float) -> "PixelSize":
        """Return the size of a pixel whose sides are `across` and `down` times as long."""
        return PixelSize(self.across * across, self.down * down, self.area * across * down)


def measure_pixel(raster: Raster) -> PixelSize | None:
    """Measure the pixel at the centre of a raster on the ground, whatever its coordinate system, rotation or shear.

    The units of the coordinate system don't matter: a metre of EPSG:3857 is half a metre on the ground at 60 degrees
    latitude. The pixel is measured in Lambert's azimuthal equal-area projection around the centre (Snyder 1987,
    chapter 24), where the scale is true. At 60 degrees latitude the sides of pixels from 1 mm to 11 km differ from
    geodesics on WGS 84 by less than 1e-8 m or 4e-8 of their length, whichever is greater. Pixels away from the centre
    may have another size: in EPSG:3857 at 60 degrees, by 0.3 % at 10 km to the north. Without a transform, the pixel is
    located by the ground control points or RPCs, if there are any.

    Returns:
        The size, or None if the raster has no georeference, or one that can't be converted to degrees.
    """
    from rasterio.warp import transform

    x, y = raster.width / 2, raster.height / 2
    crs, points = locate(raster, [(x, y), (x - 0.5, y), (x + 0.5, y), (x, y - 0.5), (x, y + 0.5)])
    if crs is None:
        return None
    try:
        lons, lats = transform(crs, DEGREES, *points.T)
        plane = np.array(transform(crs, _true_scale(lons[0], lats[0]), *points.T))
    except gdal_errors():  # For instance, a local coordinate system has no relation to degrees.
        forget_errors()
        return None
    _, left, right, above, below = plane.T
    across, down = right - left, below - above
    size = PixelSize(math.hypot(*across), math.hypot(*down), abs(float(across[0] * down[1] - across[1] * down[0])))
    return size if all(0 < value < math.inf for value in size) else None


def has_degrees(crs: Any) -> bool:  # noqa: ANN401 - rasterio's
    """Return whether a coordinate system can be converted to degrees; a local one has no relation to them."""
    from rasterio._err import CPLE_NotSupportedError
    from rasterio.warp import transform

    try:
        transform(crs, DEGREES, [0], [0])
    except gdal_errors() as error:
        forget_errors()
        return not isinstance(error, CPLE_NotSupportedError)
    return True


class Footprint:
    """The ground covered by a georeferenced raster.

    Attributes:
        pixel: The size of the pixel at the centre.
        outline: The edge in degrees, (n, 2), counterclockwise seen from above; the last point is the first. Longitudes
            exceed 180 beyond the antimeridian, and a pole inside is connected by a cut.
        bounds: West, south, east and north in degrees; west is greater than east if the raster crosses the
            antimeridian (RFC 7946, section 5.2).
    """

    def __init__(self, raster: Raster, name: str) -> None:
        """Find the footprint of a raster; `name` is used in messages.

        Raises:
            DataError: The raster has no georeference, or its coordinate system can't be converted to degrees.
        """
        if gap := find_gap(raster, name):
            raise DataError(f"{gap.found}, so its location is unknown; {gap.advice}.")
        self._name, self._crs, self._transform = name, raster.crs, raster.transform
        self._geographic = bool(raster.crs.is_geographic)
        width, height = raster.width, raster.height
        self._size, self._wide = np.array([width, height]), False
        centres = self.to_degrees(self.to_map(_rectangle(width - 1, height - 1) + 0.5))
        if np.abs(centres[:, 1]).max() > 90 + 1e-6:
            raise self._outside()
        pixel = measure_pixel(raster)
        if pixel is None:
            raise DataError(f"The pixels of {name} have no size on the ground; check its georeference.")
        self.pixel = pixel
        middle = np.array([width / 2, height / 2])
        lon, lat = self.to_degrees(self.to_map(middle[None]))[0].tolist()
        self._plane = _equal_area(lon, lat)
        self._mirrored = _area(self.to_metres(self.to_map(_rectangle(1, 1) + middle))) < 0
        edge = _rectangle(width, height)
        degrees, _ = self._follow(edge[::-1] if self._mirrored else edge, np.array([0, len(edge)]))
        self.outline = unwrap(degrees, geographic=self._geographic)
        polar = not self._geographic and np.abs(self.outline[:, 1]).max() == 90
        self._wide = not polar and bool(np.ptp(self.outline[:, 0]) > 180)
        west, east = longitude_range(self.outline)
        self.bounds = west, float(self.outline[:, 1].min()), east, float(self.outline[:, 1].max())

    def to_map(self, points: Points) -> Points:
        """Convert pixel coordinates to the raster's own coordinate system."""
        a, b, c, d, e, f = self._transform[:6]
        x, y = points.T
        return np.stack([a * x + b * y + c, d * x + e * y + f], axis=1)

    def to_degrees(self, points: Points) -> Points:
        """Convert points of the raster's coordinate system to degrees.

        Raises:
            DataError: The coordinate system is not valid there, or has no relation to degrees.
        """
        return self._project(points, DEGREES)

    def to_metres(self, points: Points) -> Points:
        """Convert points of the raster's coordinate system to metres in a plane with true areas.

        Raises:
            DataError: As `to_degrees`.
        """
        return self._project(points, self._plane)

    def shape(self) -> Any:  # noqa: ANN401 - shapely has no types
        """Return the area in degrees, a shapely Polygon, or a MultiPolygon if the antimeridian cuts it."""
        import shapely

        return shapely.orient_polygons(cut([self.outline]))

    def geojson(self) -> dict[str, Any]:
        """Return `shape` as a GeoJSON geometry."""
        from shapely.geometry import mapping

        return dict(mapping(self.shape()))

    def polygons_to_degrees(self, polygons: NDArray[np.object_]) -> NDArray[np.object_]:
        """Convert shapely polygons from pixel coordinates to degrees, rounded to `DIGITS` decimals.

        Those that cross the antimeridian become MultiPolygons.

        Raises:
            DataError: As `to_degrees`.
        """
        import shapely

        if not len(polygons):
            return polygons
        facing = shapely.orient_polygons(polygons, exterior_cw=not self._mirrored)
        _, pixels, (rings, owners) = shapely.to_ragged_array(facing)
        degrees, rings = self._follow(pixels, rings)
        first = rings[owners][:-1]
        turns = np.floor((np.minimum.reduceat(degrees[:, 0], first) + 180) / 360)
        degrees[:, 0] -= np.repeat(360 * turns, np.diff(np.append(first, len(degrees))))
        jumps = np.abs(np.diff(degrees[:, 0], append=degrees[-1:, 0])) > 180
        jumps[rings[1:] - 1] = False
        jumps |= (degrees[:, 0] > 180) | (np.abs(degrees[:, 1]) > 90 - POLE)
        found = np.asarray(shapely.from_ragged_array(shapely.GeometryType.POLYGON, degrees, (rings, owners)))
        for number in np.flatnonzero(np.logical_or.reduceat(jumps, first)):
            parts = [degrees[rings[at] : rings[at + 1]] for at in range(owners[number], owners[number + 1])]
            found[number] = cut(
                [unwrap(ring, geographic=self._geographic, hole=at > 0) for at, ring in enumerate(parts)]
            )
        return np.asarray(shapely.orient_polygons(found))

    def areas(self, polygons: NDArray[np.object_]) -> Points:
        """Return the areas in square metres of shapely polygons in pixel coordinates.

        Raises:
            DataError: As `to_degrees`.
        """
        import shapely

        if self._wide:
            plane = "+proj=cea +datum=WGS84 +units=m"
            degrees = self.polygons_to_degrees(polygons)
            metres = shapely.transform(degrees, lambda points: self._project(points, plane, source=DEGREES))
        else:
            metres = shapely.transform(polygons, lambda points: self.to_metres(self.to_map(points)))
        return np.asarray(shapely.area(metres))

    def _follow(self, pixels: Points, rings: NDArray[np.int64]) -> tuple[Points, NDArray[np.int64]]:
        """Convert closed rings from pixel coordinates to rounded degrees; points are added where lines are curved.

        A chord of length L that covers D degrees of longitude is at most L D / 8 away from its circle of latitude.

        Args:
            pixels: The points of all rings, (n, 2).
            rings: The number of the first point of each ring, and n.
        """
        degrees = self.to_degrees(self.to_map(pixels))
        for _ in range(ROUNDS):
            sides = np.diff(pixels, axis=0)
            turns = np.abs(np.radians(wrap(np.diff(degrees[:, 0]))))
            halved = (turns * np.hypot(*sides.T) / 8 > CURVE) & (not self._geographic)
            if self._wide:
                # A line of more than 180 degrees would look like a jump.
                halved |= (np.abs(sides) / self._size).max(axis=1) > 1 / EDGE
            halved[rings[1:-1] - 1] = False
            at = np.flatnonzero(halved)
            if not len(at):
                break
            middles = (pixels[at] + pixels[at + 1]) / 2
            pixels = np.insert(pixels, at + 1, middles, axis=0)
            degrees = np.insert(degrees, at + 1, self.to_degrees(self.to_map(middles)), axis=0)
            rings = rings + np.searchsorted(at + 1, rings)
        degrees[:, 1] = degrees[:, 1].clip(-90, 90)
        return np.ascontiguousarray(degrees.round(DIGITS)), rings

    def _project(self, points: Points, target: str, source: Any = None) -> Points:  # noqa: ANN401 - rasterio's
        import rasterio.warp

        try:
            # In parts, because rasterio converts the points to lists.
            parts = np.array_split(points, len(points) // 100_000 + 1)
            source = source or self._crs
            found = np.concatenate([np.array(rasterio.warp.transform(source, target, *part.T)).T for part in parts])
        except gdal_errors() as error:
            if has_degrees(self._crs):
                raise self._outside() from error
            raise DataError(
                f"The coordinate system of {self._name}, {crs_name(self._crs)}, can't be converted to degrees; check "
                "its georeference."
            ) from error
        if not np.isfinite(found).all():
            raise self._outside()
        return found

    def _outside(self) -> DataError:
        system = crs_name(self._crs)
        return DataError(
            f"{self._name} reaches beyond the area in which its coordinate system, {system}, is valid; cut it to that "
            "area, or check its georeference."
        )


def _equal_area(lon: float, lat: float) -> str:
    """Return Lambert's azimuthal equal-area projection around a point (Snyder 1987, chapter 24), or a pole near it."""
    lat = lat if abs(lat) < 90 - POLAR else math.copysign(90, lat)
    return f"+proj=laea +lat_0={lat} +lon_0={lon} +datum=WGS84 +units=m"


def _true_scale(lon: float, lat: float) -> str:
    """Return a projection whose scale is true at a point: near a pole the stereographic one, which keeps all digits."""
    if abs(lat) < 90 - POLAR:
        return _equal_area(lon, lat)
    return f"+proj=stere +lat_0={math.copysign(90, lat)} +lon_0={lon} +datum=WGS84 +units=m"


def _rectangle(width: int, height: int) -> Points:
    """Return points around a raster in pixel coordinates, `EDGE` segments a side; the last point is the first."""
    along = np.linspace(0, 1, EDGE, endpoint=False)
    zero, one = np.zeros(EDGE), np.ones(EDGE)
    x = np.concatenate([zero, along, one, 1 - along, [0]])
    y = np.concatenate([along, one, 1 - along, zero, [0]])
    return np.stack([x * width, y * height], axis=1)


def _area(ring: Points) -> float:
    """Return the area inside a closed ring, positive if it runs counterclockwise."""
    x, y = (ring - ring[0]).T
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) / 2)
