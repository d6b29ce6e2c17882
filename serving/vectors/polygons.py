"""Polygons of the classes in a raster, without stair-steps and with exactly shared borders."""

from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.vectors.classes import Codes

Polygons = NDArray[np.object_]
"""Shapely polygons in pixel coordinates: x to the right, y down, the first pixel from (0, 0) to (1, 1)."""
Points = NDArray[np.float64]


def trace(codes: Codes, *, top: int, left: int, tolerance: float) -> tuple[Polygons, Codes]:
    """Trace the areas of each class in a window of a raster; areas that touch only at corners are separate.

    Borders follow the edges of pixels, so they consist of steps. Steps of one pixel are replaced by their midpoints,
    which turns the stairs of a slope into a line, and the result is simplified by the algorithm of Visvalingam and
    Whyatt (1993): a point is removed if its triangle with its neighbours is smaller than the square of `tolerance`.
    Both change a border for the areas on its two sides at once, and keep the points where three borders meet and the
    window's own edges, so neighbours share their borders, also with those of the next window.

    Args:
        codes: The window with a margin of one pixel, (h + 2, w + 2), with a different value beyond the raster.
        top: The window's first row in the raster.
        left: The window's first column in the raster.
        tolerance: Tolerance in pixels; 0 keeps all points.

    Returns:
        The valid polygons (n,), in the raster's pixel coordinates, and the class of each, (n,).
    """
    import shapely
    from rasterio.features import shapes

    found = list(shapes(np.ascontiguousarray(codes[1:-1, 1:-1]), connectivity=4))
    corners, rings, owners = _flatten([shape["coordinates"] for shape, _ in found])
    corners, rings, fixed = _add_nodes(corners, rings, codes)
    points, rings = _smooth_steps(corners, rings, fixed)
    polygons = _build(points + np.array([left, top]), rings, owners)
    if tolerance:
        polygons = shapely.coverage_simplify(polygons, tolerance, simplify_boundary=False)
    return polygons, np.array([value for _, value in found], np.uint8)


def touches_edge(polygons: Polygons, window: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    """Return which polygons reach the edge of a window (left, top, right, bottom), (n,)."""
    import shapely

    return np.asarray((shapely.bounds(polygons) == np.array(window)).any(axis=1))


def dissolve(polygons: Polygons) -> Polygons:
    """Merge polygons that share a border and return the results, each of one piece."""
    import shapely

    return np.asarray(shapely.get_parts(shapely.union_all(polygons)))


def _flatten(shapes: list[list[list[Any]]]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Flatten polygons of rings of points to all points (n, 2), the ring of each (n,) and the polygon of each ring."""
    rings = [ring[:-1] for shape in shapes for ring in shape]
    lengths = [len(ring) for ring in rings]
    points = np.array(list(chain.from_iterable(rings)), np.int64)
    owners = np.repeat(np.arange(len(shapes)), [len(shape) for shape in shapes])
    return points, np.repeat(np.arange(len(rings)), lengths), owners


def _add_nodes(
    points: NDArray[np.int64], rings: NDArray[np.int64], codes: Codes
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Add the points where other borders meet a straight side of a ring, and return which points must be kept.

    Polygonising omits these points from the ring that is straight there, but not from the others.
    """
    upper_left, upper_right = codes[:-1, :-1], codes[:-1, 1:]
    lower_left, lower_right = codes[1:, :-1], codes[1:, 1:]
    up, down = upper_left != upper_right, lower_left != lower_right
    left, right = upper_left != lower_left, upper_right != lower_right
    borders = up.astype(np.uint8) + down + left + right
    corners = (borders > 2) | ((up | down) & (left | right))

    ahead = points[_next(rings)] - points
    lengths = np.abs(ahead).sum(axis=1)
    at = np.repeat(np.arange(len(points)), lengths)
    along = np.arange(len(at)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    every = points[at] + np.sign(ahead)[at] * along[:, None]
    x, y = every.T
    kept = (along == 0) | corners[y, x]
    x, y = x[kept], y[kept]
    height, width = codes.shape[0] - 2, codes.shape[1] - 2
    fixed = (borders[y, x] > 2) | (x == 0) | (y == 0) | (x == width) | (y == height)
    return every[kept], rings[at][kept], fixed


def _smooth_steps(
    points: NDArray[np.int64], rings: NDArray[np.int64], fixed: NDArray[np.bool_]
) -> tuple[Points, NDArray[np.int64]]:
    """Replace the two ends of each step of one pixel by its midpoint.

    A step is an edge before and after which a border has the same direction. Borders stay at least half a pixel apart,
    so they can't cross.
    """
    following = _next(rings)
    before = np.empty_like(following)
    before[following] = np.arange(len(following))
    ahead = points[following] - points
    direction = np.sign(ahead)
    steps = (np.abs(ahead).sum(axis=1) == 1) & (direction[before] == direction[following]).all(axis=1)
    steps &= ~fixed & ~fixed[following]
    kept = np.stack([~steps & ~steps[before], steps], axis=1)
    candidates = np.stack([points.astype(np.float64), points + ahead / 2], axis=1)
    return candidates[kept], np.stack([rings, rings], axis=1)[kept]


def _next(rings: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the index of the point that follows each in its ring; (n,) ring numbers in ascending order."""
    following = np.arange(1, len(rings) + 1)
    starts = np.flatnonzero(np.diff(rings, prepend=-1))
    following[np.append(starts[1:], len(rings)) - 1] = starts
    return following


def _build(points: Points, rings: NDArray[np.int64], owners: NDArray[np.int64]) -> Polygons:
    """Build polygons from points (n, 2), the ring of each, and the polygon of each ring."""
    import shapely

    lengths = np.bincount(rings)
    starts = np.cumsum(lengths) - lengths
    closed = np.insert(points, starts + lengths, points[starts], axis=0)
    ring_ends = np.concatenate([[0], np.cumsum(lengths + 1)])
    polygon_ends = np.concatenate([[0], np.cumsum(np.bincount(owners))])
    polygons = shapely.from_ragged_array(shapely.GeometryType.POLYGON, closed, (ring_ends, polygon_ends))
    return np.asarray(polygons)
