"""Orientations of stored images (TIFF 6.0, section 8; the same numbers as in EXIF)."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Orientation(NamedTuple):
    """The steps that make a stored image upright: rows and columns swap, then they are reversed."""

    swapped: bool = False
    rows_reversed: bool = False
    columns_reversed: bool = False

    def shape(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width of the upright image, or of the stored one if given those of the upright."""
        return (width, height) if self.swapped else (height, width)

    def stored_window(self, window: tuple[int, int, int, int], shape: tuple[int, int]) -> tuple[int, int, int, int]:
        """Return the stored window (top, left, height, width) of a window of the upright image of `shape`."""
        top, left, height, width = window
        if self.rows_reversed:
            top = shape[0] - top - height
        if self.columns_reversed:
            left = shape[1] - left - width
        return (left, top, width, height) if self.swapped else (top, left, height, width)

    def turn(self, stored: NDArray[Any]) -> NDArray[Any]:
        """Return a stored window (..., h, w) upright."""
        upright = np.swapaxes(stored, -1, -2) if self.swapped else stored
        return upright[..., :: -1 if self.rows_reversed else 1, :: -1 if self.columns_reversed else 1]


UPRIGHT = Orientation()
ORIENTATIONS = {
    2: Orientation(columns_reversed=True),
    3: Orientation(rows_reversed=True, columns_reversed=True),
    4: Orientation(rows_reversed=True),
    5: Orientation(swapped=True),
    6: Orientation(swapped=True, columns_reversed=True),
    7: Orientation(swapped=True, rows_reversed=True, columns_reversed=True),
    8: Orientation(swapped=True, rows_reversed=True),
}
"""The orientations by their numbers; 1, and any other number, is upright."""
