"""The ground of maps: on the Earth, on another body, or in the plane of a local coordinate system."""

import json
import math
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from model.errors import DataError
from serving.geo.antimeridian import Points, cut, longitude_range, wrap
from serving.geo.footprint import DEGREES, Footprint, PixelSize
from serving.geo.gdal import forget_errors, gdal_errors
from serving.geo.grid import Raster, crs_name

EARTH = 6_371_000.0
"""Mean radius in metres."""
EARTH_LIKE = 0.01
"""Largest relative difference between the radii of ellipsoids of the Earth."""
WIDE = 0.5
"""Angle, seen from the centre of a body, between centre and edge of a map from which no plane around it is used."""

SAMPLES = 65
WIDEST_GAP = 45.0
"""Widest gap in degrees between the longitudes of points of a map that surrounds the Earth."""


class Ground(Protocol):
    """The area that a map covers.

    Attributes:
        pixel: The size of the pixel at the centre.
    """

    pixel: PixelSize

    def to_map(self, points: Points) -> Points:
        """Convert pixel coordinates to the map's own coordinate system."""

    def areas(self, polygons: NDArray[np.object_]) -> Points:
        """Return the areas in square metres of shapely polygons in pixel coordinates."""


def find_ground(raster: Raster, name: str) -> Ground:
    """Return the ground of a raster; `name` is used in messages.

    Raises:
        DataError: The raster has no georeference, or lies outside the valid area of its coordinate system.
    """
    return find_plane(raster, name) or Footprint(raster, name)


def find_plane(raster: Raster, name: str) -> "Plane | None":
    """Return the ground of a raster whose coordinate system has no relation to degrees on the Earth; else None.

    Raises:
        DataError: It lies outside the valid area of its coordinate system.
    """
    if raster.crs is None or raster.transform.is_identity:
        return None
    system = _without_heights(raster.crs.to_dict(projjson=True))
    if system["type"].endswith("EngineeringCRS"):
        return Plane(raster, name, unit=_unit(system["coordinate_system"]["axis"][0].get("unit", "metre")))
    axes = _axes(system)
    return None if axes is None or abs(axes[0] / EARTH - 1) < EARTH_LIKE else _on_body(raster, name, system, axes)


class CoveredBox(NamedTuple):
    """The box around a part of a map, in degrees.

    Attributes:
        bounds: West, south, east and north; west is greater than east if the box crosses the antimeridian.
        geometry: The box as a GeoJSON geometry, cut there.
    """

    bounds: tuple[float, float, float, float]
    geometry: dict[str, Any]


def covered_box(raster: Raster) -> CoveredBox | None:
    """Return a box around the part of a raster in which its coordinate system is valid, or None if there is none.

    It is found from `SAMPLES` x `SAMPLES` points, for rasters whose edge can't be converted to degrees, such as a globe
    in the Mollweide projection.
    """
    import shapely
    from rasterio.warp import transform
    from shapely.geometry import mapping

    points = []
    for x in np.linspace(0, raster.width, SAMPLES):
        for y in np.linspace(0, raster.height, SAMPLES):
            at = raster.transform @ (x, y)
            try:
                (lon,), (lat,) = transform(raster.crs, DEGREES, [at[0]], [at[1]])
            except gdal_errors():
                forget_errors()
                continue
            if math.isfinite(lon) and abs(lat) <= 90:
                points.append((lon, lat))
    if not points:
        return None
    lons, lats = np.array(points).T
    lons = np.sort(wrap(lons))
    gaps = np.diff(lons, append=lons[0] + 360)
    last = int(gaps.argmax())
    # The box begins after the widest gap between longitudes, unless that is only one between samples.
    west, width = (lons[(last + 1) % len(lons)], 360 - gaps[last]) if gaps[last] > WIDEST_GAP else (-180.0, 360.0)
    south, north = lats.min(), lats.max()
    corners = [(west, south), (west + width, south), (west + width, north), (west, north), (west, south)]
    ring = np.array(corners, np.float64)
    west, east = longitude_range(ring)
    geometry = dict(mapping(shapely.orient_polygons(cut([ring]))))
    return CoveredBox((west, float(south), east, float(north)), geometry)


def _on_body(raster: Raster, name: str, system: dict[str, Any], axes: tuple[float, float]) -> "Plane":
    """Return the ground on the ellipsoid of another body with these semi-axes in metres."""
    size = np.array([raster.width, raster.height])
    degrees = Plane(raster, name, target=_as_crs(system.get("base_crs", system)))
    lons, lats = degrees.metres(size * np.array([[0.5, 0.5], [0.5, 0], [0.5, 1], [0, 0.5], [1, 0.5]])).T
    around = f"+lon_0={lons[0]} +a={axes[0]} +b={axes[1]} +units=m"
    lon, lat = np.radians(lons), np.radians(lats)
    nearness = np.sin(lat[0]) * np.sin(lat) + np.cos(lat[0]) * np.cos(lat) * np.cos(lon - lon[0])
    equal_area = "+proj=cea" if nearness.min() < math.cos(WIDE) else f"+proj=laea +lat_0={lats[0]}"
    return Plane(raster, name, target=f"{equal_area} {around}")


class Plane:
    """The ground of a map in a local (engineering) coordinate system, or on another body than the Earth.

    Attributes:
        pixel: The size of the pixel at the centre.
    """

    def __init__(self, raster: Raster, name: str, *, target: Any = None, unit: float = 1.0) -> None:  # noqa: ANN401
        """Find the plane of a raster; `name` is used in messages.

        Args:
            raster: A raster with a coordinate system and a transform.
            name: The raster's name.
            target: The coordinate system in which areas are true; None for the raster's own.
            unit: Number of metres in a unit of the raster's own.
        """
        self._name, self._crs, self._transform = name, raster.crs, raster.transform
        self._target, self._unit = target, unit
        middle = np.array([raster.width, raster.height]) / 2
        left, right, above, below = self.metres(middle + np.array([[-0.5, 0], [0.5, 0], [0, -0.5], [0, 0.5]]))
        across, down = right - left, below - above
        area = abs(float(across[0] * down[1] - across[1] * down[0]))
        self.pixel = PixelSize(math.hypot(*across), math.hypot(*down), area)

    def to_map(self, points: Points) -> Points:
        """Convert pixel coordinates to the map's own coordinate system."""
        a, b, c, d, e, f = self._transform[:6]
        x, y = points.T
        return np.stack([a * x + b * y + c, d * x + e * y + f], axis=1)

    def areas(self, polygons: NDArray[np.object_]) -> Points:
        """Return the areas in square metres of shapely polygons in pixel coordinates.

        Raises:
            DataError: One lies outside the valid area of the coordinate system.
        """
        import shapely

        return np.asarray(shapely.area(shapely.transform(polygons, self.metres)))

    def metres(self, pixels: Points) -> Points:
        """Convert pixel coordinates to the plane in which areas are true.

        Raises:
            DataError: The coordinate system is not valid there.
        """
        points = self.to_map(pixels)
        return points * self._unit if self._target is None else self._project(points)

    def _project(self, points: Points) -> Points:
        import rasterio.warp

        try:
            found = np.array(rasterio.warp.transform(self._crs, self._target, *points.T)).T
        except gdal_errors() as error:
            raise self._outside() from error
        if not np.isfinite(found).all():
            raise self._outside()
        return found

    def _outside(self) -> DataError:
        return DataError(
            f"{self._name} reaches beyond the area in which its coordinate system, {crs_name(self._crs)}, is valid; "
            "check its georeference."
        )


def _without_heights(system: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a coordinate system in PROJJSON that concerns positions."""
    while system["type"] in ("CompoundCRS", "BoundCRS"):
        system = system["components"][0] if system["type"] == "CompoundCRS" else system["source_crs"]
    return system


def _axes(system: dict[str, Any]) -> tuple[float, float] | None:
    """Return the semi-axes in metres of the ellipsoid of a coordinate system in PROJJSON, if it has one."""
    base = system.get("base_crs", system)
    ellipsoid = (base.get("datum") or base.get("datum_ensemble") or {}).get("ellipsoid")
    if ellipsoid is None:
        return None
    lengths = {key: _length(value) for key, value in ellipsoid.items() if key.endswith(("radius", "axis"))}
    major, flattening = lengths.get("radius") or lengths["semi_major_axis"], ellipsoid.get("inverse_flattening", 0)
    return major, lengths.get("semi_minor_axis", major * (1 - 1 / flattening if flattening else 1))


def _length(value: Any) -> float:  # noqa: ANN401 - a number, or an object with its unit
    return float(value["value"]) * _unit(value["unit"]) if isinstance(value, dict) else float(value)


def _unit(unit: Any) -> float:  # noqa: ANN401 - a name, or an object with a factor
    """Return the number of metres in a unit of PROJJSON, where a unit without a factor is the metre."""
    return float(unit["conversion_factor"]) if isinstance(unit, dict) else 1.0


def _as_crs(system: dict[str, Any]) -> Any:  # noqa: ANN401
    from rasterio.crs import CRS

    return CRS.from_user_input(json.dumps(system))
