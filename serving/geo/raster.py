"""GeoTIFF files, opened with GDAL's TIFF driver only."""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePath
from typing import Any

from model.errors import DataError
from model.io.images import short_name
from serving.geo.gdal import gdal_errors, metadata_errors, reason

MAX_PIXELS = 4_000_000_000
MAX_SIDE = 100_000
"""Maximum height and width: a few hundred rows of the full width are held in memory."""
MAX_BLOCK_BYTES = 256 * 2**20
"""Maximum size of a tile or strip of a file: the decoder holds a complete one in memory."""
_TIFF = rb"(II\*\0|MM\0\*|II\+\0\x08\0|MM\0\+\0\x08)"
_OTHER_CONTENT = {"a VRT": rb"\s*(<\?xml.*?\?>)?\s*<VRTDataset", "a web address": rb"\s*(https?|ftp|s3|gs)://|\s*/vsi"}


@contextmanager
def open_raster(path: PurePath, *, content: bytes | None = None, complete: bool = False) -> Iterator[Any]:
    """Open a GeoTIFF, inside `gdal()`, and yield its rasterio dataset.

    Args:
        path: The file; sidecar files are ignored.
        content: The content of the file, if it is not to be read from a disk.
        complete: Refuse a file with missing blocks, which TIFF allows for empty ones.

    Raises:
        DataError: The file is not a TIFF, is broken or too large, or lacks blocks that its directory lists.
    """
    begin, size = _read_begin(Path(path)) if content is None else (content[:256], len(content))
    _check_signature(path, begin)
    with ExitStack() as stack:
        try:
            dataset = stack.enter_context(_open(Path(path), content))
        except gdal_errors() as error:
            raise DataError(
                f"{short_name(path)} is not a readable TIFF: it is broken or truncated ({reason(error)}); copy it "
                "again."
            ) from error
        with metadata_errors(path):
            _check_size(dataset, path)
            _check_blocks(dataset, path, size, complete=complete)
        yield dataset


@contextmanager
def _open(path: Path, content: bytes | None) -> Iterator[Any]:
    import rasterio

    options = {"driver": "GTiff", "sharing": False, "GEOREF_SOURCES": "INTERNAL"}
    if content is None:
        # An absolute Path: rasterio and GDAL would take a string for a web address, an archive or a sub-dataset too.
        with rasterio.open(path.absolute(), **options) as dataset:
            yield dataset
    else:
        with rasterio.MemoryFile(content) as memory, memory.open(**options) as dataset:
            yield dataset


def _read_begin(path: Path) -> tuple[bytes, int]:
    """Return the first bytes of a file and its size."""
    if not path.is_file() or str(path.absolute()).startswith("/vsi"):
        raise DataError(f"{short_name(path)} is missing or not a regular file; name a TIFF file.")
    try:
        with path.open("rb") as file:
            return file.read(256), path.stat().st_size
    except OSError as error:
        raise DataError(f"{short_name(path)} can't be opened ({error.strerror}); check its permissions.") from error


def _check_signature(path: PurePath, begin: bytes) -> None:
    """Check the first bytes before GDAL sees the file."""
    if not re.match(_TIFF, begin):
        found = (name for name, pattern in _OTHER_CONTENT.items() if re.match(pattern, begin, re.DOTALL))
        kind = next(found, "of another format" if begin else "an empty file")
        raise DataError(f"{short_name(path)} is {kind}; a scene must be a TIFF file that holds its own pixels.")


def _check_size(dataset: Any, path: PurePath) -> None:  # noqa: ANN401
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


def _check_blocks(dataset: Any, path: PurePath, size: int, *, complete: bool) -> None:  # noqa: ANN401
    """Check that every block lies inside the file, so that an incomplete download fails at once and not after hours."""
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
