"""Where a raster lies on the ground: coordinates in degrees, areas in square metres."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.errors import DataError

DEGREES = "OGC:CRS84"
"""WGS 84, longitude first (RFC 7946, section 4)."""
EDGE = 16
"""Pieces that an edge of the outline is cut into: straight in one coordinate system is bent in another."""

Points = NDArray[np.float64]
"""(n, 2): x and y, or longitude and latitude."""


class Footprint:
    """The place of a georeferenced raster.

    Attributes:
        outline: Its edge in degrees, (n, 2), counterclockwise seen from above, the last point is the first.
        pixel_area: Square metres of the pixel at its centre.
    """

    def __init__(self, dataset: Any, name: str) -> None:  # noqa: ANN401 - a rasterio dataset
        """Find it.

        Raises:
            DataError: The raster has no georeference, its coordinate system can't be turned into degrees, or it
                lies across the antimeridian or a pole, where degrees jump.
        """
        if dataset.crs is None or dataset.transform.is_identity:
            missing = "coordinate system" if dataset.crs is None else "transform"
            raise DataError(
                f"{name} has no {missing}, so what it shows lies nowhere; take a georeferenced scene, or give it "
                "its place first (gdal_edit -a_srs, -a_ullr)."
            )
        self._name, self._crs, self._transform = name, dataset.crs, dataset.transform
        width, height = dataset.width, dataset.height
        self.outline = self.to_degrees(self.to_map(_rectangle(width, height)))
        if np.ptp(self.outline[:, 0]) > 180:
            raise DataError(
                f"{name} lies across the antimeridian or around a pole (longitudes from {self.outline[:, 0].min():g} "
                f"to {self.outline[:, 0].max():g}); cut the scene at 180 degrees first."
            )
        if _area(self.outline) < 0:
            self.outline = self.outline[::-1]
        lon, lat = self.to_degrees(self.to_map(np.array([[width / 2, height / 2]])))[0].tolist()
        # Lambert's azimuthal projection keeps areas, on the ellipsoid too (Snyder 1987, chapter 24).
        self._equal_area = f"+proj=laea +lat_0={lat} +lon_0={lon} +datum=WGS84 +units=m"
        pixel = self.to_map(np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]) + np.array([width // 2, height // 2]))
        self.pixel_area = abs(_area(self.to_metres(pixel)))

    def to_map(self, points: Points) -> Points:
        """Turn pixel coordinates into the raster's own coordinate system."""
        a, b, c, d, e, f = self._transform[:6]
        x, y = points.T
        return np.stack([a * x + b * y + c, d * x + e * y + f], axis=1)

    def to_degrees(self, points: Points) -> Points:
        """Turn points of the raster's coordinate system into degrees.

        Raises:
            DataError: That can't be done.
        """
        return self._project(points, DEGREES)

    def to_metres(self, points: Points) -> Points:
        """Turn points of the raster's coordinate system into metres of a plane in which areas are true.

        Raises:
            DataError: That can't be done.
        """
        return self._project(points, self._equal_area)

    def _project(self, points: Points, target: str) -> Points:
        import rasterio.warp

        try:
            # Some at a time, because rasterio makes lists of them.
            parts = np.array_split(points, len(points) // 100_000 + 1)
            found = np.concatenate([np.array(rasterio.warp.transform(self._crs, target, *part.T)).T for part in parts])
        except Exception as error:  # GDAL's errors have no public class.
            raise DataError(f"The coordinate system of {self._name} can't be used: {error}") from error
        if not np.isfinite(found).all():
            raise DataError(f"{self._name} lies where its coordinate system is not valid; check its georeference.")
        return found


def metres_per_pixel(ground: Footprint) -> float:
    """Return the side of a square of a pixel's area at the centre, in metres, rounded to a millimetre."""
    return round(math.sqrt(ground.pixel_area), 3)


def _rectangle(width: int, height: int) -> Points:
    """Walk around a raster in pixel coordinates, with points between its corners; the last point is the first."""
    along = np.linspace(0, 1, EDGE, endpoint=False)
    zero, one = np.zeros(EDGE), np.ones(EDGE)
    x = np.concatenate([zero, along, one, 1 - along, [0]])
    y = np.concatenate([along, one, 1 - along, zero, [0]])
    return np.stack([x * width, y * height], axis=1)


def _area(ring: Points) -> float:
    """Return the area inside a closed ring, positive if it runs counterclockwise."""
    x, y = (ring - ring[0]).T
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) / 2)
