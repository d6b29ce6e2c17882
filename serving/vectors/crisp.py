"""Crisp maps: a drawing snapped to the colours of its palette, with anti-aliased borders.

A network's maps are soft: colours vary within an area, and borders are blurred. Here every pixel gets a class, as it
does for polygons (`serving.vectors.classes`), and the exact colour of that class. At borders, each of 4 x 4 points in a
pixel gets the nearest colour of the classes that meet there, and the pixel their mean: borders stay where they were
drawn, without steps.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.palette import cells, nearest_classes
from model.pixels import Pixels
from model.spec import Palette
from serving.inference.finishing import MARGIN
from serving.vectors.classes import NOTHING, Codes, remove_blur

MIN_PIXELS = 12
"""Areas of fewer pixels are noise rather than buildings."""
ROWS = 256
"""Rows that are made crisp at a time, which bounds the memory."""
POINTS = (-3 / 8, -1 / 8, 1 / 8, 3 / 8)
"""Positions of the points in a pixel, from its centre."""


def crisp(drawn: Pixels, palette: Palette, *, visible: NDArray[np.bool_] | None = None) -> Pixels:
    """Return a drawing in the colours of its palette.

    Args:
        drawn: A drawn map, uint8 (H, W, 3). Pixels that are `serving.inference.finishing.MARGIN` apart do not influence
            each other.
        palette: Its classes and their colours.
        visible: The pixels that are not transparent, (H, W); None for all. The others become black.

    Returns:
        The map, uint8 (H, W, 3); off the borders it has colours of the palette only.
    """
    table, snapped = nearest_classes(palette), np.empty_like(drawn)
    for top in range(0, len(drawn), ROWS):
        start, end = max(0, top - MARGIN), top + ROWS + MARGIN
        codes: Codes = table[cells(drawn[start:end])] + np.uint8(1)
        part = _crisp(drawn[start:end], codes, palette, None if visible is None else visible[start:end])
        snapped[top : top + ROWS] = part[top - start :][:ROWS]
    return snapped


def _crisp(drawn: Pixels, codes: Codes, palette: Palette, visible: NDArray[np.bool_] | None) -> Pixels:
    if visible is not None:
        codes[~visible] = NOTHING
    remove_blur(codes, palette)
    _fill_small_areas(codes)
    colours = np.array([list(bytes.fromhex(one[1:])) for own in palette.classes.values() for one in own], np.float32)
    owners = np.array([code for code, own in enumerate(palette.classes.values(), start=1) for _ in own], np.uint32)
    # Which colours each pixel may have, (h, W, K).
    allowed = (_find_meeting(codes)[..., None] >> owners) & 1 > 0
    surroundings = np.pad(drawn, ((1, 1), (1, 1), (0, 0)), mode="edge").astype(np.float32)
    snapped = _snap(surroundings, allowed, colours)
    if visible is not None:
        snapped[~visible] = 0
    return snapped


def _fill_small_areas(codes: Codes) -> None:
    """Give the pixels of small areas the class of the nearest other area, in place.

    Unlike `remove_small_areas`, which asks for the largest neighbour, it is the same in any part of a map.
    """
    from scipy import ndimage

    small = np.zeros(codes.shape, np.bool_)
    for code in np.unique(codes[codes != NOTHING]):
        areas, _ = ndimage.label(codes == code)
        sizes = np.bincount(areas.ravel())
        sizes[0] = MIN_PIXELS
        small |= (sizes < MIN_PIXELS)[areas]
    others = ~small & (codes != NOTHING)
    if small.any() and others.any():
        nearest = ndimage.distance_transform_edt(~others, return_distances=False, return_indices=True)
        codes[small] = codes[tuple(nearest[:, small])]


def _find_meeting(codes: Codes) -> NDArray[np.uint32]:
    """Return the classes of each pixel and its eight neighbours, as bits: (H, W)."""
    bits = np.pad(np.uint32(1) << codes.astype(np.uint32), 1, mode="edge")
    for axis in (0, 1):
        length = bits.shape[axis] - 2
        before, own, after = (np.take(bits, np.arange(start, start + length), axis) for start in range(3))
        bits = before | own | after
    return bits


def _snap(surroundings: NDArray[np.float32], allowed: NDArray[np.bool_], colours: NDArray[np.float32]) -> Pixels:
    """Return rows in their allowed colours; `surroundings` has a margin of one pixel, (h + 2, W + 2, 3)."""
    single = allowed.argmax(axis=-1)
    snapped = colours[single]
    y, x = np.nonzero(allowed.sum(axis=-1) > 1)
    barred = np.where(allowed[y, x], np.float32(0), np.float32(np.inf))
    total = np.zeros((len(y), 3), np.float32)
    for point in _points(surroundings, y, x):
        # Distances without the square of the point, which is the same for all colours.
        distances = (colours**2).sum(axis=-1) - 2 * (point @ colours.T) + barred
        total += colours[distances.argmin(axis=-1)]
    snapped[y, x] = total / len(POINTS) ** 2
    pixels: Pixels = np.rint(snapped).astype(np.uint8)
    return pixels


def _points(surroundings: NDArray[np.float32], y: NDArray[np.intp], x: NDArray[np.intp]) -> Iterator[NDArray[Any]]:
    """Yield the bilinearly interpolated colours of each of the points in chosen pixels, (N, 3)."""
    for down in POINTS:
        for right in POINTS:
            rows, columns = y + 1 + (1 if down > 0 else -1), x + 1 + (1 if right > 0 else -1)
            beside, above = surroundings[y + 1, columns], surroundings[rows, x + 1]
            near = (1 - abs(right)) * surroundings[y + 1, x + 1] + abs(right) * beside
            far = (1 - abs(right)) * above + abs(right) * surroundings[rows, columns]
            yield (1 - abs(down)) * near + abs(down) * far
