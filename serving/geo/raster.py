"""GeoTIFF and JPEG 2000 files, opened with GDAL's drivers for these two formats only."""

import io
import re
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePath
from typing import IO, Any

from model.errors import DataError
from model.io.formats import BEGIN, JPEG_2000, TIFF, UNKNOWN, identify
from model.io.images import short_name
from serving.geo.gdal import check_path, forget_errors, gdal_errors, metadata_errors, reason
from serving.geo.headers import COMPRESSION, SUB_PAGES, Tags, check_codestream, find_full_page, read_tags

MAX_PIXELS = 4_000_000_000
MAX_SIDE = 100_000
"""Maximum height and width: a few hundred rows of the full width are held in memory."""
MAX_BLOCK_BYTES = 256 * 2**20
"""Maximum size of a tile or strip of a file: the decoder holds a complete one in memory."""
_DRIVERS = {TIFF: "GTiff", JPEG_2000: "JP2OpenJPEG"}
"""GDAL's drivers for the formats that are read."""
_CODECS = {
    6: "old-style JPEG",
    34661: "JBIG",
    34712: "JPEG 2000",
    34887: "LERC",
    34892: "lossy JPEG (DNG)",
    34925: "LZMA",
    34926: "an early kind of Zstandard",
    34933: "PNG",
    34934: "JPEG XR",
    50000: "Zstandard",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
}
"""The compressions of TIFF that not every GDAL can read."""
_HARMLESS = re.compile(r'for "(Orientation|ResolutionUnit|XResolution|YResolution)"|tag is not read from file')
"""Errors about tags that don't change the pixels."""


@contextmanager
def open_raster(path: PurePath, *, content: bytes | None = None, complete: bool = False) -> Iterator[Any]:
    """Open a GeoTIFF or a JPEG 2000 file, inside `gdal()`, and yield its rasterio dataset.

    Args:
        path: The file; sidecar files are ignored.
        content: The content of the file, if it is not to be read from a disk.
        complete: Refuse a TIFF with missing blocks, which are allowed for empty ones.

    Raises:
        DataError: The file is of another format, broken or too large, lacks parts that its headers list, or is
            compressed in a way that this GDAL can't read.
    """
    with _open_file(path, content) as (file, size):
        driver = _find_driver(path, file.read(BEGIN))
        file.seek(0)
        if driver == "JP2OpenJPEG":
            _check_complete(path, file, size)
    with ExitStack() as stack:
        try:
            dataset = stack.enter_context(_open(Path(path), content, driver))
        except gdal_errors() as error:
            raise DataError(_explain(path, content, error)) from error
        forget_errors()
        with metadata_errors(path):
            _check_size(dataset, path)
            if driver == "JP2OpenJPEG":
                _clear_missing_transform(dataset)
            else:
                _check_blocks(dataset, path, size, complete=complete)
        yield dataset


def read_header(path: PurePath, content: bytes | None = None) -> Tags:
    """Return the tags of a TIFF; a JPEG 2000 file has none."""
    try:
        with _open_file(path, content) as (file, _):
            return read_tags(file)
    except (struct.error, OverflowError, ValueError):
        return {}


def check_first_page(path: PurePath, content: bytes | None = None) -> None:
    """Check that the first page of a TIFF, which is drawn, is no reduced image or mask of another.

    Raises:
        DataError: It is one.
    """
    tags = read_header(path, content)
    try:
        with _open_file(path, content) as (file, _):
            full = find_full_page(file)
    except (struct.error, OverflowError, ValueError):
        return
    begins = f"{short_name(path)} begins with a reduced image or a mask"
    if full is None and SUB_PAGES in tags:
        raise DataError(f"{begins}, as raw photos of cameras do; export it as a TIFF in full size.")
    if full is not None and full > 1:
        raise DataError(
            f"{begins}; extract the full one, page {full} (gdal_translate GTIFF_DIR:{full}:IN.tif OUT.tif)."
        )


def count_pages(dataset: Any) -> int:  # noqa: ANN401
    """Return the number of pages of an opened file if it has several, apart from overviews and masks; else 0.

    Raises:
        rasterio's errors: The list of pages is broken.
    """
    pages = len(dataset.subdatasets)
    try:
        # The first call that raises what GDAL found in the list.
        _ = dataset.colorinterp
    except gdal_errors() as error:
        if not _HARMLESS.search(str(error)):
            raise
        forget_errors()
    return pages


@contextmanager
def _open_file(path: PurePath, content: bytes | None) -> Iterator[tuple[IO[bytes], int]]:
    """Yield a file, opened for reading, and its size."""
    if content is not None:
        yield io.BytesIO(content), len(content)
        return
    file = Path(path)
    check_path(file)
    if not file.is_file():
        raise DataError(f"{short_name(path)} is missing or not a regular file; name a TIFF or JPEG 2000 file.")
    try:
        opened = file.open("rb")
    except OSError as error:
        raise DataError(f"{short_name(path)} can't be opened ({error.strerror}); check its permissions.") from error
    with opened:
        yield opened, file.stat().st_size


@contextmanager
def _open(path: Path, content: bytes | None, driver: str) -> Iterator[Any]:
    import rasterio

    options = {"driver": driver, "sharing": False, "GEOREF_SOURCES": "INTERNAL"}
    if content is None:
        # An absolute Path: rasterio and GDAL would take a string for a web address, an archive or a sub-dataset too.
        with rasterio.open(path.absolute(), **options) as dataset:
            yield dataset
    else:
        with rasterio.MemoryFile(content) as memory, memory.open(**options) as dataset:
            yield dataset


def _find_driver(path: PurePath, begin: bytes) -> str:
    """Return the name of GDAL's driver by the first bytes of a file, before GDAL sees it."""
    import rasterio

    found = identify(begin)
    driver = _DRIVERS.get(found)
    if driver is None:
        advice = found.advice or "convert it to a GeoTIFF (gdal_translate)"
        if found == UNKNOWN:
            advice = "a scene is a TIFF or JPEG 2000 file"
        raise DataError(f"{short_name(path)} is {found.name}; {advice}.")
    if driver not in rasterio.Env().drivers():
        raise DataError(
            f"{short_name(path)} is a JPEG 2000 file, which this installation of GDAL can't read; convert it to a TIFF "
            "(gdal_translate), or install rasterio from PyPI."
        )
    return driver


def _check_complete(path: PurePath, file: IO[bytes], size: int) -> None:
    try:
        check_codestream(file, size)
    except DataError as error:
        raise DataError(f"{short_name(path)} is broken or truncated: {error}; copy it again.") from error


def _explain(path: PurePath, content: bytes | None, error: Exception) -> str:
    """Return a sentence about a file that GDAL can't open."""
    cause = reason(error)
    name = short_name(path)
    if isinstance(error, UnicodeDecodeError):
        return (
            f"A text in the tags of {name}, such as the name of its coordinate system, is not UTF-8; write it anew "
            "(gdal_translate -a_srs EPSG:CODE)."
        )
    if "missing codec" in cause:
        number = (read_header(path, content).get(COMPRESSION) or (0,))[0]
        codec = _CODECS.get(number, f"method {number}")
        return (
            f"{name} is compressed with {codec}, which can't be read here; convert it, where it can be read, with "
            "gdal_translate -co COMPRESS=LZW."
        )
    return f"{name} is broken or truncated ({cause}); copy it again."


def _clear_missing_transform(dataset: Any) -> None:  # noqa: ANN401
    """Set the transform of a JPEG 2000 file that has none to the identity; from rasterio 1.4 it is a random one."""
    import rasterio
    import rasterio.shutil

    with rasterio.MemoryFile(ext=".vrt") as description:
        rasterio.shutil.copy(dataset, description.name, driver="VRT")
        if b"<GeoTransform>" not in description.read():
            dataset._transform = [0.0, 1.0, 0.0, 0.0, 0.0, 1.0]


def _check_size(dataset: Any, path: PurePath) -> None:  # noqa: ANN401
    import numpy as np

    height, width = dataset.shape
    if max(height, width) > MAX_SIDE or height * width > MAX_PIXELS:
        raise DataError(
            f"{short_name(path)} has {width}x{height} pixels; at most {MAX_PIXELS} are allowed, and {MAX_SIDE} a side: "
            "cut it into parts."
        )
    # Not by reading all of these tags, which takes forever for some broken JPEG 2000 files.
    together = dataset.count if dataset.get_tag_item("INTERLEAVE", "IMAGE_STRUCTURE") == "PIXEL" else 1
    largest = max(
        rows * columns * (4 if kind == "complex_int16" else np.dtype(kind).itemsize)
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
    apart = dataset.get_tag_item("INTERLEAVE", "IMAGE_STRUCTURE") == "BAND"
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
