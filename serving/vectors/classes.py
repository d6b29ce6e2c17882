"""The class of every pixel of a drawn map, told by its colour."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.errors import DataError
from model.io.images import short_name
from model.io.progress import SILENT, Progress
from model.palette import cells, nearest_classes
from model.spec import Palette

Codes = NDArray[np.uint8]
"""A class a pixel, counted from 1 in the palette's order."""
BACKGROUND = "ground"
"""The class between the others."""
NOTHING = 0
"""The code of pixels where there is no map."""
BLOCK = 2048
"""Height and width of the windows that a map is read in."""
BLUR = 4
"""Pixels that a blurred border is wide, at most."""


def read_classes(
    dataset: Any,  # noqa: ANN401 - a rasterio dataset
    path: Path,
    palette: Palette,
    *,
    progress: Progress = SILENT,
) -> Codes:
    """Return the class of every pixel of an opened map, (H, W): that of the nearest colour, Euclidean in RGB.

    Args:
        dataset: A map as `serving.geo.geotiff.open_geotiff` opens it: uint8 RGB, or RGB and alpha.
        path: Its file, for messages.
        palette: The classes.
        progress: Receives the progress of reading.

    Raises:
        DataError: The file is broken.
    """
    import rasterio.errors
    from rasterio.windows import Window

    height, width = dataset.shape
    codes = np.empty((height, width), np.uint8)
    table = nearest_classes(palette)
    for top, left in progress.track(windows(height, width), "Reading the map"):
        part = codes[top : top + BLOCK, left : left + BLOCK]
        window = Window(left, top, part.shape[1], part.shape[0])
        try:
            colours = np.moveaxis(dataset.read((1, 2, 3), window=window), 0, -1)
            visible = dataset.dataset_mask(window=window) > 0
        except rasterio.errors.RasterioIOError as error:
            raise DataError(f"{short_name(path)} is broken or truncated below row {top} ({error})") from error
        part[:] = np.where(visible, table[cells(colours)] + 1, NOTHING)
    return codes


def windows(height: int, width: int) -> list[tuple[int, int]]:
    """Return the top and left of all windows of `BLOCK` pixels, row by row."""
    return [(top, left) for top in range(0, height, BLOCK) for left in range(0, width, BLOCK)]


def drop_blends(codes: Codes, palette: Palette) -> None:
    """Draw the border of two classes in the middle of what is but its blur, in place.

    On the way from one colour to another a blurred border can look like a third class: between a park and open
    ground like a building. Such a strip has, along a row or a column, at most `BLUR` pixels, different classes at
    its two ends, and a class that a blend of their colours looks like; half of it goes to either. A strip between
    two areas of one class stays, such as a road, and so does one of a colour that is no blend, or of the background:
    a house may stand so near a road.
    """
    looks = _blends(palette)
    for start in range(0, codes.shape[0], BLOCK):
        _halve_runs(codes[start : start + BLOCK], looks)
    for start in range(0, codes.shape[1], BLOCK):
        _halve_runs(codes[:, start : start + BLOCK].T, looks)


def _blends(palette: Palette) -> NDArray[np.bool_]:
    """Tell by code whether a blend of one class and another looks like a third: (n + 1, n + 1, n + 1)."""
    table = nearest_classes(palette)
    classes = [np.array([list(bytes.fromhex(colour[1:])) for colour in own]) for own in palette.classes.values()]
    looks = np.zeros((len(classes) + 1,) * 3, np.bool_)
    share = np.linspace(0, 1, 33)[:, None, None, None]
    for one, ours in enumerate(classes, start=1):
        for other, theirs in enumerate(classes, start=1):
            blends = np.rint(ours[:, None] * share + theirs * (1 - share)).astype(np.uint8)
            looks[one, other, table[cells(blends)] + 1] = True
            looks[one, other, [one, other]] = False
    if BACKGROUND in palette.classes:
        looks[:, :, list(palette.classes).index(BACKGROUND) + 1] = False
    return looks


def _halve_runs(codes: Codes, looks: NDArray[np.bool_]) -> None:
    """Share out short runs along the rows of a view of codes, in place."""
    rows = np.ascontiguousarray(codes)
    changes = rows[:, 1:] != rows[:, :-1]
    for length in range(1, min(BLUR, rows.shape[1] - 2) + 1):
        runs = changes[:, :-length] & changes[:, length:]
        for inside in range(1, length):
            runs &= ~changes[:, inside : inside - length]
        y, x = np.nonzero(runs)
        before, after = rows[y, x], rows[y, x + length + 1]
        blend = looks[before, after, rows[y, x + 1]]
        y, x, before, after = y[blend], x[blend], before[blend], after[blend]
        for step in range(length):
            codes[y, x + 1 + step] = before if 2 * step < length else after


def drop_specks(codes: Codes, pixels: int) -> None:
    """Give areas of fewer pixels to the largest area beside them, in place (GDAL's sieve, neighbours by edges)."""
    from rasterio.features import sieve

    if pixels > 1:
        sieve(codes, min(pixels, codes.size), out=codes, connectivity=4)
