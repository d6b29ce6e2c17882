"""The class of every pixel of a drawn map, by its colour."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.errors import DataError
from model.io.images import short_name
from model.io.progress import SILENT, Progress
from model.palette import cells, nearest_classes
from model.spec import Palette
from serving.geo.gdal import gdal_errors, reason

Codes = NDArray[np.uint8]
"""The class of each pixel, numbered from 1 in the palette's order."""
BACKGROUND = "ground"
"""The class of everything between the others."""
NOTHING = 0
"""The code of transparent pixels."""
BLOCK = 2048
"""Height and width of the windows in which a map is read."""
BLUR = 4
"""Maximum width of a blurred border in pixels."""


def read_classes(
    dataset: Any,  # noqa: ANN401 - a rasterio dataset
    path: Path,
    palette: Palette,
    *,
    progress: Progress = SILENT,
) -> Codes:
    """Return the class of every pixel of an opened map, (H, W): that of the nearest colour, by RGB distance.

    Args:
        dataset: A map opened by `serving.geo.raster.open_raster`: uint8 RGB, or RGB and alpha.
        path: The map's file, for messages.
        palette: The classes.
        progress: Receives the progress of reading.

    Raises:
        DataError: The file is broken.
    """
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
        except gdal_errors() as error:
            raise DataError(
                f"{short_name(path)} is broken or truncated below row {top} ({reason(error)}); draw the scene again."
            ) from error
        part[:] = np.where(visible, table[cells(colours)] + 1, NOTHING)
    return codes


def windows(height: int, width: int) -> list[tuple[int, int]]:
    """Return the top left corners (top, left) of all windows of `BLOCK` pixels, row by row."""
    return [(top, left) for top in range(0, height, BLOCK) for left in range(0, width, BLOCK)]


def remove_blur(codes: Codes, palette: Palette) -> None:
    """Divide the strip of a third class along a blurred border between its two neighbours, in place.

    A blend of two colours can look like a third class: the border between a park and open ground like a building.
    Such a strip has, along a row or a column, at most `BLUR` pixels, different classes at its two ends, and a class
    that resembles a blend of their colours; each neighbour gets half of it. Other strips are kept: those between two
    areas of the same class, such as roads; those of a colour that is not a blend; and those of the background, because
    a house may stand that close to a road.
    """
    resembles = _find_blends(palette)
    for start in range(0, codes.shape[0], BLOCK):
        _divide_runs(codes[start : start + BLOCK], resembles)
    for start in range(0, codes.shape[1], BLOCK):
        _divide_runs(codes[:, start : start + BLOCK].T, resembles)


def _find_blends(palette: Palette) -> NDArray[np.bool_]:
    """Return for the codes of three classes whether a blend of the first two resembles the third, (n + 1,) * 3."""
    table = nearest_classes(palette)
    classes = [np.array([list(bytes.fromhex(colour[1:])) for colour in own]) for own in palette.classes.values()]
    resembles = np.zeros((len(classes) + 1,) * 3, np.bool_)
    share = np.linspace(0, 1, 33)[:, None, None, None]
    for one, ours in enumerate(classes, start=1):
        for other, theirs in enumerate(classes, start=1):
            blends = np.rint(ours[:, None] * share + theirs * (1 - share)).astype(np.uint8)
            resembles[one, other, table[cells(blends)] + 1] = True
            resembles[one, other, [one, other]] = False
    if BACKGROUND in palette.classes:
        resembles[:, :, list(palette.classes).index(BACKGROUND) + 1] = False
    return resembles


def _divide_runs(codes: Codes, resembles: NDArray[np.bool_]) -> None:
    """Divide short runs along the rows of a view of codes between their neighbours, in place."""
    rows = np.ascontiguousarray(codes)
    changes = rows[:, 1:] != rows[:, :-1]
    for length in range(1, min(BLUR, rows.shape[1] - 2) + 1):
        runs = changes[:, :-length] & changes[:, length:]
        for inside in range(1, length):
            runs &= ~changes[:, inside : inside - length]
        y, x = np.nonzero(runs)
        before, after = rows[y, x], rows[y, x + length + 1]
        blend = resembles[before, after, rows[y, x + 1]]
        y, x, before, after = y[blend], x[blend], before[blend], after[blend]
        for step in range(length):
            codes[y, x + 1 + step] = before if 2 * step < length else after


def remove_small_areas(codes: Codes, pixels: int) -> None:
    """Merge areas of fewer than `pixels` pixels into their largest neighbour, in place (GDAL's sieve, 4-connected)."""
    from rasterio.features import sieve

    if pixels > 1:
        sieve(codes, min(pixels, codes.size), out=codes, connectivity=4)
