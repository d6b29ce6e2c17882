"""The ground that a georeferenced raster covers: its outline in degrees, its pixels in metres."""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.errors import DataError
from serving.geo.gdal import gdal_errors

DEGREES = "OGC:CRS84"
"""WGS 84, longitude first (RFC 7946, section 4)."""
EDGE = 16
"""Segments of each edge of the outline: a straight line in one coordinate system is curved in another."""

Points = NDArray[np.float64]
"""(n, 2): x and y, or longitude and latitude."""


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


def measure_pixel(dataset: Any) -> PixelSize | None:  # noqa: ANN401 - a rasterio dataset
    """Measure the pixel at the centre of a raster on the ground, whatever its coordinate system, rotation or shear.

    The units of the coordinate system don't matter: a metre of EPSG:3857 is half a metre on the ground at 60 degrees
    latitude. The pixel is measured in Lambert's azimuthal equal-area projection around the centre (Snyder 1987,
    chapter 24), where the scale is true. At 60 degrees latitude the sides of pixels from 1 mm to 11 km differ from
    geodesics on WGS 84 by less than 1e-8 m or 4e-8 of their length, whichever is greater. Pixels away from the centre
    may have another size: in EPSG:3857 at 60 degrees, by 0.3 % at 10 km to the north.

    Returns:
        The size, or None if the raster has no georeference, or one that can't be converted to degrees.
    """
    from rasterio.warp import transform

    if dataset.crs is None or dataset.transform.is_identity:
        return None
    x, y = dataset.width / 2, dataset.height / 2
    pixels = [(x, y), (x - 0.5, y), (x + 0.5, y), (x, y - 0.5), (x, y + 0.5)]
    points = list(zip(*(dataset.transform @ pixel for pixel in pixels), strict=True))
    try:
        lons, lats = transform(dataset.crs, DEGREES, *points)
        plane = np.array(transform(dataset.crs, _equal_area(lons[0], lats[0]), *points))
    except gdal_errors():  # For instance, a local coordinate system has no relation to degrees.
        return None
    _, left, right, above, below = plane.T
    across, down = right - left, below - above
    size = PixelSize(math.hypot(*across), math.hypot(*down), abs(float(across[0] * down[1] - across[1] * down[0])))
    return size if all(0 < value < math.inf for value in size) else None


class Footprint:
    """The ground covered by a georeferenced raster.

    Attributes:
        outline: The edge in degrees, (n, 2), counterclockwise seen from above; the last point is the first.
        pixel: The size of the pixel at the centre.
    """

    def __init__(self, dataset: Any, name: str) -> None:  # noqa: ANN401 - a rasterio dataset
        """Find the footprint of an opened raster; `name` is used in messages.

        Raises:
            DataError: The raster has no georeference, its coordinate system can't be converted to degrees, or it
                crosses the antimeridian or a pole, where degrees jump.
        """
        if dataset.crs is None or dataset.transform.is_identity:
            missing = "coordinate system" if dataset.crs is None else "transform"
            raise DataError(
                f"{name} has no {missing}, so its location is unknown; georeference it first "
                "(gdal_edit -a_srs, -a_ullr)."
            )
        self._name, self._crs, self._transform = name, dataset.crs, dataset.transform
        width, height = dataset.width, dataset.height
        self.outline = self.to_degrees(self.to_map(_rectangle(width, height)))
        if np.ptp(self.outline[:, 0]) > 180:
            raise DataError(
                f"{name} crosses the antimeridian or surrounds a pole (longitudes from {self.outline[:, 0].min():g} "
                f"to {self.outline[:, 0].max():g}); cut the scene at 180 degrees first."
            )
        if _area(self.outline) < 0:
            self.outline = self.outline[::-1]
        pixel = measure_pixel(dataset)
        if pixel is None:
            raise DataError(f"The pixels of {name} have no size on the ground; check its georeference.")
        self.pixel = pixel
        lon, lat = self.to_degrees(self.to_map(np.array([[width / 2, height / 2]])))[0].tolist()
        self._plane = _equal_area(lon, lat)

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

    def _project(self, points: Points, target: str) -> Points:
        import rasterio.warp

        try:
            # In parts, because rasterio converts the points to lists.
            parts = np.array_split(points, len(points) // 100_000 + 1)
            found = np.concatenate([np.array(rasterio.warp.transform(self._crs, target, *part.T)).T for part in parts])
        except gdal_errors() as error:
            raise DataError(f"The coordinate system of {self._name} can't be used: {error}") from error
        if not np.isfinite(found).all():
            raise DataError(
                f"{self._name} lies outside the valid area of its coordinate system; check its georeference."
            )
        return found


def _equal_area(lon: float, lat: float) -> str:
    """Return Lambert's azimuthal equal-area projection around a point (Snyder 1987, chapter 24)."""
    return f"+proj=laea +lat_0={lat} +lon_0={lon} +datum=WGS84 +units=m"


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
