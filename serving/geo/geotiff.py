"""GeoTIFF files, opened with GDAL's TIFF driver only."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from model.errors import DataError
from model.io.images import short_name

MAX_PIXELS = 4_000_000_000
MAX_SIDE = 100_000
"""Maximum height and width: a few hundred rows of the full width are held in memory."""
MAX_BLOCK_BYTES = 256 * 2**20
"""Maximum size of a tile or strip of a file: the decoder holds a complete one in memory."""
# Sidecar files are neither read nor written; the cache holds decoded pixels for a few rows of tiles only.
_GDAL = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",
    "GDAL_CACHEMAX": 256,
    "PROJ_NETWORK": "OFF",
}
_TIFF = rb"(II\*\0|MM\0\*|II\+\0\x08\0|MM\0\+\0\x08)"
_OTHER_CONTENT = {"a VRT": rb"\s*(<\?xml.*?\?>)?\s*<VRTDataset", "a web address": rb"\s*(https?|ftp|s3|gs)://|\s*/vsi"}


@contextmanager
def gdal() -> Iterator[None]:
    """Configure GDAL for a block: bounded cache, no network, no sidecar files."""
    import rasterio

    with rasterio.Env(**_GDAL), warnings.catch_warnings():
        # Imagery reports missing georeferences in a warning of its own.
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        yield


@contextmanager
def open_geotiff(path: Path, *, complete: bool = False) -> Iterator[Any]:
    """Open a GeoTIFF, inside `gdal()`, and yield its rasterio dataset.

    Args:
        path: The file; sidecar files are ignored.
        complete: Refuse a file with missing blocks, which TIFF allows for empty ones.

    Raises:
        DataError: The file is not a TIFF, is broken or too large, or lacks blocks that its directory lists.
    """
    import rasterio

    _check_signature(path)
    try:
        # An absolute Path: rasterio and GDAL would take a string for a web address, an archive or a sub-dataset too.
        dataset = rasterio.open(path.absolute(), driver="GTiff", sharing=False, GEOREF_SOURCES="INTERNAL")
    except gdal_errors() as error:
        raise DataError(
            f"{short_name(path)} is not a readable TIFF: it is broken or truncated ({error}); copy it again."
        ) from error
    with dataset:
        with metadata_errors(path):
            _check_size(dataset, path)
            _check_blocks(dataset, path, complete=complete)
        yield dataset


def gdal_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions that rasterio raises for files and coordinate systems that GDAL can't use."""
    # rasterio 1.4 passes on GDAL's errors about broken tags as they are, and their class is in no public module. Texts
    # in tags, such as coordinate systems, are decoded as UTF-8.
    from rasterio._err import CPLE_BaseError
    from rasterio.errors import CRSError, RasterioError

    return CPLE_BaseError, CRSError, RasterioError, UnicodeDecodeError


@contextmanager
def metadata_errors(path: Path) -> Iterator[None]:
    """Raise GDAL's errors about the tags or pixels of an opened file as a DataError."""
    # rasterio raises TypeError for pixel types that NumPy lacks, and ValueError for a palette without colours.
    unreadable: tuple[type[Exception], ...] = (*gdal_errors(), TypeError, ValueError)
    try:
        yield
    except unreadable as error:
        raise DataError(
            f"{short_name(path)} is broken: its metadata can't be read ({error}); copy it again."
        ) from error


def _check_signature(path: Path) -> None:
    """Check the first bytes before GDAL sees the file."""
    if not path.is_file() or str(path.absolute()).startswith("/vsi"):
        raise DataError(f"{short_name(path)} is missing or not a regular file; name a TIFF file.")
    try:
        with path.open("rb") as file:
            begin = file.read(256)
    except OSError as error:
        raise DataError(f"{short_name(path)} can't be opened ({error.strerror}); check its permissions.") from error
    if not re.match(_TIFF, begin):
        found = (name for name, pattern in _OTHER_CONTENT.items() if re.match(pattern, begin, re.DOTALL))
        kind = next(found, "of another format" if begin else "an empty file")
        raise DataError(f"{short_name(path)} is {kind}; a scene must be a TIFF file that holds its own pixels.")


def _check_size(dataset: Any, path: Path) -> None:  # noqa: ANN401
    import numpy as np

    height, width = dataset.shape
    if max(height, width) > MAX_SIDE or height * width > MAX_PIXELS:
        raise DataError(
            f"{short_name(path)} has {width}x{height} pixels; at most {MAX_PIXELS} are allowed, and {MAX_SIDE} a side: "
            "cut it into parts."
        )
    together = dataset.count if dataset.tags(ns="IMAGE_STRUCTURE").get("INTERLEAVE") == "PIXEL" else 1
    largest = max(
        rows * columns * np.dtype(kind).itemsize
        for (rows, columns), kind in zip(dataset.block_shapes, dataset.dtypes, strict=True)
    )
    if largest * together > MAX_BLOCK_BYTES:
        raise DataError(
            f"{short_name(path)} is stored in blocks of {largest * together} bytes; at most {MAX_BLOCK_BYTES} are "
            "allowed: store it in tiles (gdal_translate -co TILED=YES)."
        )


def _check_blocks(dataset: Any, path: Path, *, complete: bool) -> None:  # noqa: ANN401
    """Check that every block lies inside the file, so that an incomplete download fails at once and not after hours."""
    size = path.stat().st_size
    rows, columns = dataset.block_shapes[0]
    apart = dataset.tags(ns="IMAGE_STRUCTURE").get("INTERLEAVE") == "BAND"
    for band in range(1, (dataset.count if apart else 1) + 1):
        for y in range(-(-dataset.height // rows)):
            for x in range(-(-dataset.width // columns)):
                offset = dataset.get_tag_item(f"BLOCK_OFFSET_{x}_{y}", "TIFF", bidx=band)
                length = dataset.get_tag_item(f"BLOCK_SIZE_{x}_{y}", "TIFF", bidx=band)
                # A missing block has neither.
                end = int(offset) + int(length) if offset and length else size + complete
                if end > size:
                    raise DataError(
                        f"{short_name(path)} is truncated: rows from {y * rows} on lie beyond its end; copy it again."
                    )
