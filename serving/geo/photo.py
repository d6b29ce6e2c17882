"""Photos in memory: images with their alpha, and raster files, read by the same rules as scenes."""

from dataclasses import dataclass, replace
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from model.io.formats import JPEG_2000, TIFF
from model.io.images import (
    MAX_PIXELS,
    PHOTOS,
    TooLarge,
    check_format,
    decode_with_alpha,
    find_unused_range,
    short_name,
)
from model.pixels import Pixels
from serving.geo.gdal import gdal
from serving.geo.imagery import NOTHING_VALID, open_imagery
from serving.geo.reflection import reflect
from serving.geo.sidecars import Held, find_sidecars

RASTERS = (TIFF, JPEG_2000)
"""Formats that are read by the rules of scenes."""
ROWS = 1024
"""Maximum number of rows read at once, which bounds the memory for values of many bytes."""


@dataclass(frozen=True, slots=True)
class DecodedPhoto:
    """A photo that was read.

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
    located: bool = False,
) -> DecodedPhoto:
    """Read a file completely. Safe for any number of threads.

    Args:
        content: Bytes of the file.
        path: Path of the file, for messages; sidecar files next to a `Path` are named in the warnings.
        bands: One or three band numbers of a raster file, from 1; None for the rule of `serving.geo.bands`.
        stretch: Two percentiles of a raster file that become black and white; None for the same rule.
        max_pixels: Maximum number of pixels, by default `MAX_PIXELS`.
        located: Whether the map could have a location, so that sidecar files with one are named too.

    Raises:
        ConfigError: A setting is out of range.
        TooLarge: The file has more pixels.
        DataError: The file is of another format, broken or truncated.
    """
    limit = MAX_PIXELS if max_pixels is None else max_pixels
    if check_format(path, content, (*PHOTOS, *RASTERS)) in RASTERS:
        photo = _read_raster(content, path, bands=bands, stretch=stretch, limit=limit, located=located)
    else:
        photo = _read_image(content, path, limit=limit, located=located)
    if photo.alpha is None or photo.alpha.any():
        return photo
    return replace(photo, warnings=(*photo.warnings, f"{short_name(path)} {NOTHING_VALID}"))


def _read_raster(
    content: bytes,
    path: PurePath,
    *,
    bands: tuple[int, ...] | None,
    stretch: tuple[float, float] | None,
    limit: int,
    located: bool,
) -> DecodedPhoto:
    with gdal(), open_imagery(path, content=content, bands=bands, stretch=stretch, located=located) as imagery:
        height, width = imagery.height, imagery.width
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
        opaque = not imagery.masked or bool((alpha == 255).all())
        return DecodedPhoto(pixels, None if opaque else alpha, tuple(imagery.warnings[imagery.ground_warnings :]))


def _read_image(content: bytes, path: PurePath, *, limit: int, located: bool) -> DecodedPhoto:
    image, transparency = decode_with_alpha(path, content, max_pixels=limit)
    warning = find_unused_range(path, content, image, transparency)
    pixels, alpha = np.asarray(image), None
    if transparency is not None and transparency.getextrema() != (255, 255):
        pixels, alpha = pixels.copy(), np.asarray(transparency)
        for top in range(0, len(pixels), ROWS):
            rows, valid = pixels[top : top + ROWS], alpha[top : top + ROWS] > 0
            rows[:] = reflect(rows, valid) if valid.any() else 0
    warnings = [warning] if warning else []
    if isinstance(path, Path):
        with gdal():
            warnings += find_sidecars(path, Held.image(image.width, image.height), located=located)
    return DecodedPhoto(pixels, alpha, tuple(warnings))
