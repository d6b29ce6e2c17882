"""Areas in degrees, cut at the antimeridian and closed at the poles (RFC 7946, section 3.1.9).

A closed ring of longitudes and latitudes has the area on its left, as seen from above. It crosses the antimeridian
where its longitude jumps, however wide it is, and surrounds a pole if its longitude changes by 360 degrees around it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
"""(n, 2): x and y, or longitude and latitude."""
DIGITS = 8
"""Decimals of degrees in files, about a millimetre."""
POLE = 1e-9
"""Distance in degrees from a pole at which a longitude has no meaning."""


def wrap(longitudes: Points) -> Points:
    """Return longitudes, or differences of longitudes, from -180 up to but not including 180."""
    return (longitudes + 180) % 360 - 180


def unwrap(ring: Points, *, geographic: bool, hole: bool = False) -> Points:
    """Return a ring whose longitudes don't jump and may exceed 180, and which includes the pole that it surrounds.

    Args:
        ring: Longitudes and latitudes, (n, 2); the last point is the first.
        geographic: Whether the poles are edges of the raster, as in a system of degrees, and not points.
        hole: Whether the ring is a hole, so that it surrounds what is not in the area.
    """
    points = ring[:-1]
    poles = np.zeros(len(points), np.bool_) if geographic else np.abs(points[:, 1]) > 90 - POLE
    # No other part of the ring lies between its point nearest to a pole and that pole.
    first = int(np.argmax(np.where(poles, -1, np.abs(points[:, 1]))))
    points, poles = np.roll(points, -first, axis=0), np.roll(poles, -first)
    kept = np.flatnonzero(~poles)
    # From each point to the next, the first again at the end; points at a pole are replaced by two on their meridians.
    through = np.diff(np.append(kept, len(points))) > 1
    points = np.concatenate([points[kept], points[kept[:1]]])
    steps, north = wrap(np.diff(points[:, 0])), points[:-1, 1] > 0
    through |= (np.abs(steps) > 180 - 1e-6) & ~np.full(len(steps), geographic)
    # With the area on the left, the way past the north pole leads west, and past the south pole east.
    steps[through & north & (steps > 0)] -= 360
    steps[through & ~north & (steps < 0)] += 360
    turns = np.rint((steps - np.diff(points[:, 0])) / 360)
    longitudes = points[:, 0] + 360 * np.concatenate([[0], np.cumsum(turns)])
    corners = np.stack([longitudes, points[:, 1]], axis=1)
    if abs(longitudes[-1] - longitudes[0]) > 180:
        pole = 90.0 if (longitudes[-1] > longitudes[0]) != hole else -90.0
        corners = np.concatenate([corners, [[longitudes[-1], pole], [longitudes[0], pole]], corners[:1]])
    at = np.flatnonzero(through)
    past = np.stack(
        [np.append(longitudes[at], longitudes[at + 1]), np.tile(np.where(north[at], 90.0, -90.0), 2)], axis=1
    )
    return np.insert(corners, np.tile(at + 1, 2), past, axis=0)


def cut(rings: Sequence[Points]) -> Any:  # noqa: ANN401 - shapely has no types
    """Return the polygon, or multipolygon, of an unwrapped shell and its holes from -180 to 180 degrees."""
    import shapely

    shell, *holes = (_fold(ring) for ring in rings)
    return shapely.difference(shell, shapely.union_all(holes)) if holes else shell


def longitude_range(ring: Points) -> tuple[float, float]:
    """Return the western and eastern longitude of an unwrapped ring, the first greater if it crosses 180 degrees."""
    west, east = ring[:, 0].min(), ring[:, 0].max()
    if east - west >= 360:
        return -180.0, 180.0
    east_end = float(wrap(east))
    return float(wrap(west)), 180.0 if east_end == -180 else east_end


def _fold(ring: Points) -> Any:  # noqa: ANN401
    """Return the area inside an unwrapped ring from -180 to 180 degrees."""
    import shapely

    polygon = shapely.make_valid(shapely.Polygon(ring))
    turns = range(int(np.floor((ring[:, 0].min() + 180) / 360)), int(np.ceil((ring[:, 0].max() + 180) / 360)))
    parts = [
        shapely.transform(
            shapely.intersection(polygon, shapely.box(360 * turn - 180, -90, 360 * turn + 180, 90)),
            lambda points, turn=turn: (points - [360 * turn, 0]).round(DIGITS),
        )
        for turn in turns
    ]
    return _only_polygons(shapely.union_all(parts))


def _only_polygons(geometry: Any) -> Any:  # noqa: ANN401
    """Return a geometry without points and lines, which remain of areas that touch the antimeridian."""
    import shapely

    parts = shapely.get_parts(shapely.get_parts(geometry))
    polygons = parts[shapely.get_dimensions(parts) == 2]
    return polygons[0] if len(polygons) == 1 else shapely.multipolygons(polygons)
