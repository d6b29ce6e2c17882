"""TIFF files in memory as photos, read by the same rules as scenes."""

from dataclasses import dataclass
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray

from model.io.images import MAX_PIXELS, TooLarge, short_name
from model.pixels import Pixels
from serving.geo.gdal import gdal
from serving.geo.imagery import NOTHING_VALID, open_imagery

ROWS = 1024
"""Maximum number of rows read at once, which bounds the memory for values of many bytes."""


@dataclass(frozen=True, slots=True)
class RasterPhoto:
    """A photo that was read from a raster file.

    Attributes:
        pixels: uint8 (h, w, 3), upright. Invalid pixels are filled by reflecting the valid ones, or black if no valid
            one is near.
        alpha: uint8 (h, w), 0 where the file has no valid pixel; None if all pixels are opaque.
        warnings: Sentences for the user about the pixels.
    """

    pixels: Pixels
    alpha: NDArray[np.uint8] | None
    warnings: tuple[str, ...]


def read_photo(
    content: bytes,
    path: PurePath,
    *,
    bands: tuple[int, ...] | None = None,
    stretch: tuple[float, float] | None = None,
    max_pixels: int | None = None,
) -> RasterPhoto:
    """Read a raster file completely. Safe for any number of threads.

    Args:
        content: Bytes of the file.
        path: Path of the file, for messages.
        bands: One or three band numbers, from 1; None for the rule of `serving.geo.bands`.
        stretch: Two percentiles that become black and white; None for the same rule.
        max_pixels: Maximum number of pixels, by default `MAX_PIXELS`.

    Raises:
        ConfigError: A setting is out of range.
        TooLarge: The file has more pixels.
        DataError: The file is of another format, broken or truncated.
    """
    with gdal(), open_imagery(path, content=content, bands=bands, stretch=stretch) as imagery:
        height, width = imagery.height, imagery.width
        limit = MAX_PIXELS if max_pixels is None else max_pixels
        if height * width > limit:
            raise TooLarge(f"{short_name(path)} has {width}x{height} pixels; at most {limit} are allowed")
        pixels = np.zeros((height, width, 3), np.uint8)
        alpha = np.full((height, width), 255, np.uint8)
        for top in range(0, height, ROWS):
            window = (top, 0, min(ROWS, height - top), width)
            photo = imagery.read(*window)
            if photo is not None:
                pixels[top : top + ROWS] = photo
            if imagery.masked:
                alpha[top : top + ROWS] = imagery.alpha(*window)
        if not alpha.any():
            imagery.warnings.append(f"{short_name(path)} {NOTHING_VALID}")
        opaque = not imagery.masked or bool((alpha == 255).all())
        return RasterPhoto(pixels, None if opaque else alpha, tuple(imagery.warnings[imagery.ground_warnings :]))
