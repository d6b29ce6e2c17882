"""Tiling of images larger than the network: overlapping tiles are drawn and blended without seams.

A pixel is the weighted mean of all tiles over it. Weights are a raised cosine (Hann window): one in the middle of a
tile and almost zero at its edges, where a U-Net sees the least context and two tiles differ most.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from model.errors import ConfigError, DataError
from model.io.prefetch import run_ahead
from model.pixels import Pixels
from model.translator import BATCH, Translate
from serving.inference.seams import Lines, Seams, find_lines, measure_steps

Read = Callable[[int, int, int, int], Pixels | None]
"""Returns a window (top, left, height, width) of a photo, uint8 (height, width, 3), or None if it is empty."""
Weights = NDArray[np.float32]

OVERLAP = 0.25
"""Default minimum overlap of neighbouring tiles, as a fraction of their side."""
MAX_OVERLAP = 0.75


@dataclass(frozen=True)
class Strip:
    """Finished rows of a map.

    Attributes:
        top: The first row's position in the map.
        rows: uint8 (h, W, 3); zero where no tile was drawn.
        drawn: Number of tiles drawn for these rows.
        skipped: Number of empty tiles left out.
        seams: Steps within these rows, and between them and the row above.
    """

    top: int
    rows: Pixels
    drawn: int
    skipped: int
    seams: Seams

    @property
    def end(self) -> int:
        """The position after the last row."""
        return self.top + len(self.rows)


def draw_tiles(
    read: Read,
    draw: Translate,
    *,
    height: int,
    width: int,
    side: int,
    overlap: float = OVERLAP,
    start: int = 0,
    batch: int = BATCH,
) -> Iterator[Strip]:
    """Draw an image of any size from top to bottom; only one row of tiles is held in memory.

    Args:
        read: Returns windows of the photo, none larger than a tile. It is called in the order of the tiles, in a
            thread of its own, some windows ahead of the drawing.
        draw: Draws tiles, uint8 (N, side, side, 3).
        height: Height of the photo and the map in pixels.
        width: Width of the photo and the map in pixels.
        side: Side of a tile. A smaller photo is extended by reflection, and its map cropped.
        overlap: Minimum overlap of neighbouring tiles, as a fraction of `side`; tiles are spread evenly, so the
            actual overlap is often greater.
        start: The `end` of the strip to resume after. If `draw` is deterministic, the following strips are identical
            to those of an uninterrupted run; the row of tiles above is drawn again for that.
        batch: Number of tiles in a call of `draw`.

    Raises:
        ConfigError: `overlap` is out of range.
        DataError: The image is empty, or no strip ends at `start`.
    """
    tops, lefts = tile_starts(height, side, overlap), tile_starts(width, side, overlap)
    ends = [*tops[1:], height]
    if start and start not in ends:
        raise DataError(f"No strip of tiles ends at row {start}; resume at the end of a strip.")
    size = min(side, height), min(side, width)
    canvas = _Canvas(size[0], width, side)
    lines = find_lines(tops, side, height), find_lines(lefts, side, width)
    # The row of tiles above `start` is needed for blending and for the steps from the last row before it.
    rows_of_tiles = [(top, end) for top, end in zip(tops, ends, strict=True) if top + side >= start]
    with ThreadPoolExecutor(1, "read") as reader:
        windows = run_ahead(
            reader,
            lambda corner: read(*corner, *size),
            ((top, left) for top, _ in rows_of_tiles for left in lefts),
            2 * batch,
        )
        for top, end in rows_of_tiles:
            row = islice(windows, len(lefts))
            drawn = canvas.add_row(_draw_row(zip(lefts, row, strict=True), draw, side=side, batch=batch))
            rows, seams = canvas.finish(top, end - top, lines)
            if top >= start:
                yield Strip(top, rows, drawn, len(lefts) - drawn, seams)


def draw_large(photo: Pixels, draw: Translate, *, side: int, overlap: float = OVERLAP) -> tuple[Pixels, Seams]:
    """Draw a photo in memory, uint8 (H, W, 3) of any size, and return its map, of the same shape, and its seams.

    Raises:
        ConfigError, DataError: As in `draw_tiles`.
    """

    def read(top: int, left: int, height: int, width: int) -> Pixels:
        return photo[top : top + height, left : left + width]

    height, width = photo.shape[:2]
    drawn, seams = np.empty_like(photo), Seams()
    for strip in draw_tiles(read, draw, height=height, width=width, side=side, overlap=overlap):
        drawn[strip.top : strip.end] = strip.rows
        seams += strip.seams
    return drawn, seams


def tile_starts(length: int, side: int, overlap: float = OVERLAP) -> list[int]:
    """Return the starts of tiles along an axis: the fewest with enough overlap, spread evenly from end to end.

    Raises:
        ConfigError: `overlap` is out of range.
        DataError: `length` is not positive.
    """
    if length < 1:
        raise DataError(f"An image of {length} pixels a side can't be drawn; give at least one pixel.")
    if not 0 <= overlap <= MAX_OVERLAP:
        raise ConfigError(f"Tiles can't overlap by {overlap:g} of their side; give 0 to {MAX_OVERLAP}.")
    free = max(0, length - side)
    steps = math.ceil(free / (side - round(overlap * side)))
    return [round(free * step / steps) for step in range(steps + 1)] if steps else [0]


def hann(side: int) -> Weights:
    """Return the weights of a tile's pixels along an axis: a raised cosine, positive everywhere, float32 (side,)."""
    return (np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2).astype(np.float32)


def _draw_row(
    windows: Iterable[tuple[int, Pixels | None]], draw: Translate, *, side: int, batch: int
) -> Iterator[tuple[int, Pixels]]:
    """Yield the starts of the tiles in a row and their maps, from left to right."""
    present = ((left, photo) for left, photo in windows if photo is not None)
    while tiles := list(islice(present, batch)):
        height, width = tiles[0][1].shape[:2]
        margin = ((0, side - height), (0, side - width), (0, 0))
        photos = np.stack([np.pad(photo, margin, mode="reflect") for _, photo in tiles])
        yield from zip((left for left, _ in tiles), draw(photos)[:, :height, :width], strict=True)


class _Canvas:
    """Accumulator of the rows under the current row of tiles: weighted sums of colours, and the weights."""

    def __init__(self, height: int, width: int, side: int) -> None:
        self._sums = np.zeros((height, width, 3), np.float32)
        self._weights = np.zeros((height, width), np.float32)
        self._window = np.outer(hann(side), hann(side))[:height, :width]
        self._above: tuple[NDArray[np.int16], NDArray[np.bool_]] | None = None

    def add_row(self, tiles: Iterator[tuple[int, Pixels]]) -> int:
        """Add a row of tiles and return their number."""
        count = 0
        for left, drawn in tiles:
            right = left + drawn.shape[1]
            self._sums[:, left:right] += drawn * self._window[..., None]
            self._weights[:, left:right] += self._window
            count += 1
        return count

    def finish(self, top: int, height: int, lines: tuple[Lines, Lines]) -> tuple[Pixels, Seams]:
        """Return the upper rows, which no further tile covers, with their seams, and move the other rows up."""
        weights = self._weights[:height]
        covered = weights > 0
        mean = self._sums[:height] / np.where(covered, weights, 1)[..., None]
        rows = np.rint(mean, out=mean).astype(np.uint8)
        seams = self._measure(rows, covered, top, lines)
        for array in (self._sums, self._weights):
            rest = len(array) - height
            array[:rest] = array[height:].copy()
            array[rest:] = 0
        return rows, seams

    def _measure(self, rows: Pixels, covered: NDArray[np.bool_], top: int, lines: tuple[Lines, Lines]) -> Seams:
        levels = rows.astype(np.int16)
        across = measure_steps(levels, covered, lines[1], axis=1)
        if self._above is not None:
            levels = np.concatenate([self._above[0], levels])
            covered = np.concatenate([self._above[1], covered])
            top -= 1
        self._above = levels[-1:], covered[-1:]
        return across + measure_steps(levels, covered, lines[0].part(top, len(levels) - 1), axis=0)
