"""Images larger than the network: cut into tiles that overlap, drawn, and blended without seams.

Every tile counts by a raised-cosine window (Hann), one in its middle and next to nothing at its edges, where a
U-Net sees least around a pixel and two tiles differ most; a pixel is the weighted mean of all tiles over it.
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
"""From (top, left, height, width) to that window of a photo, uint8 (height, width, 3); None: nothing to draw there."""
Weights = NDArray[np.float32]

OVERLAP = 0.25
"""Part of a tile's side that two neighbours share at least."""
MAX_OVERLAP = 0.75


@dataclass(frozen=True)
class Strip:
    """Finished rows of a map.

    Attributes:
        top: The map's row at which they begin.
        rows: uint8 (h, W, 3); zero where no tile was drawn.
        drawn: Tiles drawn for them.
        skipped: Tiles left out, because there was nothing to draw.
        seams: Steps in these rows, and between them and the row above.
    """

    top: int
    rows: Pixels
    drawn: int
    skipped: int
    seams: Seams

    @property
    def end(self) -> int:
        """The row after the last."""
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
    """Draw an image of any size from top to bottom; memory is one row of tiles, whatever the height.

    Args:
        read: Gives the windows of the photo, none larger than a tile, in the order of the tiles. It is called in a
            thread of its own, which is some windows ahead of the drawing.
        draw: Draws tiles, uint8 (N, side, side, 3).
        height: Of the photo and of the map, in pixels.
        width: Likewise.
        side: Of a tile. A photo smaller than that is continued by reflection, and the map is cut to its size.
        overlap: Part of a tile's side that neighbours share at least; tiles are spread evenly, so it is often more.
        start: The `end` of the strip after which to go on. What follows is as in an uninterrupted run, bit for bit,
            if `draw` is; the row of tiles above is drawn once more for it.
        batch: Tiles in one call of `draw`.

    Raises:
        ConfigError: `overlap` is out of range.
        DataError: The image is empty, or no strip ends at `start`.
    """
    tops, lefts = tile_starts(height, side, overlap), tile_starts(width, side, overlap)
    ends = [*tops[1:], height]
    if start and start not in ends:
        raise DataError(f"No strip of tiles ends at row {start}; go on after one that was drawn.")
    size = min(side, height), min(side, width)
    canvas = _Canvas(size[0], width, side)
    lines = find_lines(tops, side, height), find_lines(lefts, side, width)
    # The last row before `start` is needed too, for the steps from it.
    wanted = [(top, end) for top, end in zip(tops, ends, strict=True) if top + side >= start]
    with ThreadPoolExecutor(1, "read") as reader:
        windows = run_ahead(
            reader, lambda place: read(*place, *size), ((top, left) for top, _ in wanted for left in lefts), 2 * batch
        )
        for top, end in wanted:
            row = islice(windows, len(lefts))
            drawn = canvas.add_row(_draw_row(zip(lefts, row, strict=True), draw, side=side, batch=batch))
            rows, seams = canvas.finish(top, end - top, lines)
            if top >= start:
                yield Strip(top, rows, drawn, len(lefts) - drawn, seams)


def draw_large(photo: Pixels, draw: Translate, *, side: int, overlap: float = OVERLAP) -> tuple[Pixels, Seams]:
    """Draw a photo that is in memory, uint8 (H, W, 3) of any size; return the map, of the same shape, and its seams.

    Raises:
        ConfigError, DataError: As `draw_tiles`.
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
    """Return where tiles begin along an axis: the fewest that overlap enough, spread evenly from end to end.

    Raises:
        ConfigError: `overlap` is out of range.
        DataError: `length` is not positive.
    """
    if length < 1:
        raise DataError(f"An image of {length} pixels a side can't be drawn; it needs at least one.")
    if not 0 <= overlap <= MAX_OVERLAP:
        raise ConfigError(f"Tiles can't overlap by {overlap:g} of their side; allowed are 0 to {MAX_OVERLAP}.")
    free = max(0, length - side)
    steps = math.ceil(free / (side - round(overlap * side)))
    return [round(free * step / steps) for step in range(steps + 1)] if steps else [0]


def hann(side: int) -> Weights:
    """Return the weights of a tile's pixels along an axis: a raised cosine, positive everywhere, float32 (side,)."""
    return (np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2).astype(np.float32)


def _draw_row(
    windows: Iterable[tuple[int, Pixels | None]], draw: Translate, *, side: int, batch: int
) -> Iterator[tuple[int, Pixels]]:
    """Yield where the tiles of one row begin, and their drawings, from left to right."""
    there = ((left, photo) for left, photo in windows if photo is not None)
    while tiles := list(islice(there, batch)):
        height, width = tiles[0][1].shape[:2]
        margin = ((0, side - height), (0, side - width), (0, 0))
        photos = np.stack([np.pad(photo, margin, mode="reflect") for _, photo in tiles])
        yield from zip((left for left, _ in tiles), draw(photos)[:, :height, :width], strict=True)


class _Canvas:
    """The rows under the current row of tiles: weighted sums of colours, and the weights."""

    def __init__(self, height: int, width: int, side: int) -> None:
        self._sums = np.zeros((height, width, 3), np.float32)
        self._weights = np.zeros((height, width), np.float32)
        self._window = np.outer(hann(side), hann(side))[:height, :width]
        self._above: tuple[NDArray[np.int16], NDArray[np.bool_]] | None = None

    def add_row(self, tiles: Iterator[tuple[int, Pixels]]) -> int:
        """Add a row of tiles and return how many there were."""
        count = 0
        for left, drawn in tiles:
            right = left + drawn.shape[1]
            self._sums[:, left:right] += drawn * self._window[..., None]
            self._weights[:, left:right] += self._window
            count += 1
        return count

    def finish(self, top: int, height: int, lines: tuple[Lines, Lines]) -> tuple[Pixels, Seams]:
        """Return the upper rows, to which nothing comes any more, with their steps, and move the others up."""
        weights = self._weights[:height]
        covered = weights > 0
        mean = self._sums[:height] / np.where(covered, weights, 1)[..., None]
        rows = np.rint(mean, out=mean).astype(np.uint8)
        seams = self._measure(rows, covered, top, lines)
        for kept in (self._sums, self._weights):
            rest = len(kept) - height
            kept[:rest] = kept[height:].copy()
            kept[rest:] = 0
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
