"""The borders of classes in a raster, as polygons without stair-steps that share them exactly."""

from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.vectors.classes import Codes

Polygons = NDArray[np.object_]
"""Shapely polygons in pixel coordinates: x to the right, y down, the first pixel from (0, 0) to (1, 1)."""
Points = NDArray[np.float64]


def trace(codes: Codes, *, top: int, left: int, tolerance: float) -> tuple[Polygons, Codes]:
    """Draw around each area of one class in a window of a raster; areas that touch at corners alone are apart.

    Borders run along pixels, so they are made of steps. A step of one pixel becomes its middle, which turns the
    stairs of a slope into a line, and what is left is simplified by Visvalingam and Whyatt (1993): a point goes if
    the triangle with its neighbours is smaller than the square of `tolerance`. Both see a border from its two sides
    at once, and leave the points where three borders meet, and the window's own edges: so neighbours share their
    borders, also with those of the next window.

    Args:
        codes: (h + 2, w + 2), the window and one pixel around it, of another value where the raster ends.
        top: The window's first row in the raster.
        left: Its first column.
        tolerance: In pixels; 0 keeps all points.

    Returns:
        The polygons (n,), valid, in the raster's pixel coordinates; and the class of each, (n,).
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
    """Tell which polygons (n,) reach the edge of a window (left, top, right, bottom)."""
    import shapely

    return np.asarray((shapely.bounds(polygons) == np.array(window)).any(axis=1))


def dissolve(polygons: Polygons) -> Polygons:
    """Join polygons that share a border, and give back those that come of it, each in one piece."""
    import shapely

    return np.asarray(shapely.get_parts(shapely.union_all(polygons)))


def _flatten(shapes: list[list[list[Any]]]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Lay out polygons of rings of points: all points (n, 2), the ring of each (n,), the polygon of each ring."""
    rings = [ring[:-1] for shape in shapes for ring in shape]
    lengths = [len(ring) for ring in rings]
    points = np.array(list(chain.from_iterable(rings)), np.int64)
    owners = np.repeat(np.arange(len(shapes)), [len(shape) for shape in shapes])
    return points, np.repeat(np.arange(len(rings)), lengths), owners


def _add_nodes(
    points: NDArray[np.int64], rings: NDArray[np.int64], codes: Codes
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Add the points where other borders meet a ring on its straight; tell which points must stay.

    Polygonising leaves them out of the ring that goes straight on there, and has them in the others.
    """
    upper_left, upper_right = codes[:-1, :-1], codes[:-1, 1:]
    lower_left, lower_right = codes[1:, :-1], codes[1:, 1:]
    up, down = upper_left != upper_right, lower_left != lower_right
    left, right = upper_left != lower_left, upper_right != lower_right
    borders = up.astype(np.uint8) + down + left + right
    turns = (borders > 2) | ((up | down) & (left | right))

    ahead = points[_next(rings)] - points
    lengths = np.abs(ahead).sum(axis=1)
    at = np.repeat(np.arange(len(points)), lengths)
    along = np.arange(len(at)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    every = points[at] + np.sign(ahead)[at] * along[:, None]
    x, y = every.T
    kept = (along == 0) | turns[y, x]
    x, y = x[kept], y[kept]
    height, width = codes.shape[0] - 2, codes.shape[1] - 2
    fixed = (borders[y, x] > 2) | (x == 0) | (y == 0) | (x == width) | (y == height)
    return every[kept], rings[at][kept], fixed


def _smooth_steps(
    points: NDArray[np.int64], rings: NDArray[np.int64], fixed: NDArray[np.bool_]
) -> tuple[Points, NDArray[np.int64]]:
    """Put the middle of each step of one pixel in the place of its two ends.

    A step is an edge before and after which a border goes the same way. Borders come no nearer to each other than
    half a pixel by it, so they can't cross.
    """
    following = _next(rings)
    before = np.empty_like(following)
    before[following] = np.arange(len(following))
    ahead = points[following] - points
    way = np.sign(ahead)
    steps = (np.abs(ahead).sum(axis=1) == 1) & (way[before] == way[following]).all(axis=1)
    steps &= ~fixed & ~fixed[following]
    kept = np.stack([~steps & ~steps[before], steps], axis=1)
    places = np.stack([points.astype(np.float64), points + ahead / 2], axis=1)
    return places[kept], np.stack([rings, rings], axis=1)[kept]


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
