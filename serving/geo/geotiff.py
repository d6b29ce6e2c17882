"""GeoTIFF files: opened with nothing but GDAL's TIFF driver, and written as Cloud Optimized GeoTIFFs."""

import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from model.errors import DataError
from model.io.images import short_name
from model.pixels import Pixels

MAX_PIXELS = 4_000_000_000
MAX_SIDE = 100_000
"""Of height and width: memory is a few hundred rows of the whole width."""
MAX_BLOCK_BYTES = 256 * 2**20
"""Of a tile or strip of the file: the decoder has one in memory whole."""

BLOCK = 512
"""Pixels a side of a map's blocks: what Cloud Optimized GeoTIFFs of GDAL's have."""
_FOR_NOW = {"compress": "ZSTD", "zstd_level": 1, "predictor": 2, "interleave": "pixel", "photometric": "RGB"}
"""Of files that are gone when the map is whole: twice as fast as DEFLATE, and no larger."""

# A file beside the photo is never read, nor is one written; what is decoded is kept for a few rows of tiles only.
_GDAL = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",
    "GDAL_CACHEMAX": 256,
    "PROJ_NETWORK": "OFF",
}
_TIFF = rb"(II\*\0|MM\0\*|II\+\0\x08\0|MM\0\+\0\x08)"
_POSERS = {"a VRT": rb"\s*(<\?xml.*?\?>)?\s*<VRTDataset", "a web address": rb"\s*(https?|ftp|s3|gs)://|\s*/vsi"}


@contextmanager
def gdal() -> Iterator[None]:
    """Run GDAL with bounded memory, without the network and without files beside the named ones."""
    import rasterio

    with rasterio.Env(**_GDAL), warnings.catch_warnings():
        # What has no georeference is told in our own words.
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        yield


@contextmanager
def open_geotiff(path: Path, *, whole: bool = False) -> Iterator[Any]:
    """Open a GeoTIFF, inside `gdal()`, and yield its rasterio dataset.

    Args:
        path: The file; nothing beside it is read.
        whole: Every block must be there, which a file may otherwise leave out as empty.

    Raises:
        DataError: It is no TIFF, is too large, or does not hold all that its directory lists.
    """
    import rasterio

    _check_signature(path)
    try:
        # A Path, and absolute: rasterio and GDAL take a string as a web address, an archive or a sub-dataset too.
        dataset = rasterio.open(path.absolute(), driver="GTiff", sharing=False, GEOREF_SOURCES="INTERNAL")
    except rasterio.errors.RasterioIOError as error:
        raise DataError(f"{short_name(path)} is no readable TIFF: it is broken or truncated ({error})") from error
    with dataset:
        _check_size(dataset, path)
        _check_blocks(dataset, path, whole=whole)
        yield dataset


def _check_signature(path: Path) -> None:
    """Look at the first bytes before GDAL does."""
    if not path.is_file() or str(path.absolute()).startswith("/vsi"):
        raise DataError(f"{short_name(path)} is missing or no regular file")
    try:
        with path.open("rb") as file:
            begin = file.read(256)
    except OSError as error:
        raise DataError(f"{short_name(path)} can't be opened ({error.strerror})") from error
    if not re.match(_TIFF, begin):
        found = (name for name, pattern in _POSERS.items() if re.match(pattern, begin, re.DOTALL))
        kind = next(found, "of another format" if begin else "an empty file")
        raise DataError(f"{short_name(path)} is {kind}; a scene must be a TIFF file that holds its own pixels")


def _check_size(dataset: Any, path: Path) -> None:  # noqa: ANN401
    import numpy as np

    height, width = dataset.shape
    if max(height, width) > MAX_SIDE or height * width > MAX_PIXELS:
        raise DataError(
            f"{short_name(path)} has {width}x{height} pixels; at most {MAX_PIXELS} are allowed, and {MAX_SIDE} a side"
        )
    together = dataset.count if dataset.tags(ns="IMAGE_STRUCTURE").get("INTERLEAVE") == "PIXEL" else 1
    largest = max(
        rows * columns * np.dtype(kind).itemsize
        for (rows, columns), kind in zip(dataset.block_shapes, dataset.dtypes, strict=True)
    )
    if largest * together > MAX_BLOCK_BYTES:
        raise DataError(
            f"{short_name(path)} is stored in blocks of {largest * together} bytes; at most {MAX_BLOCK_BYTES} are "
            "allowed: store it in tiles (gdal_translate -co TILED=YES)"
        )


def _check_blocks(dataset: Any, path: Path, *, whole: bool) -> None:  # noqa: ANN401
    """See that every block lies inside the file: so a download that broke off is told at once, not after hours."""
    size = path.stat().st_size
    rows, columns = dataset.block_shapes[0]
    apart = dataset.tags(ns="IMAGE_STRUCTURE").get("INTERLEAVE") == "BAND"
    for band in range(1, (dataset.count if apart else 1) + 1):
        for y in range(-(-dataset.height // rows)):
            for x in range(-(-dataset.width // columns)):
                offset = dataset.get_tag_item(f"BLOCK_OFFSET_{x}_{y}", "TIFF", bidx=band)
                length = dataset.get_tag_item(f"BLOCK_SIZE_{x}_{y}", "TIFF", bidx=band)
                # An empty block has neither.
                end = int(offset) + int(length) if offset and length else size + whole
                if end > size:
                    raise DataError(f"{short_name(path)} is truncated: rows from {y * rows} on lie beyond its end")


def encode_strip(rows: Pixels, *, note: str) -> bytes:
    """Return rows of a map, uint8 (h, W, 3 or 4), as a compressed TIFF file that carries a note."""
    import numpy as np
    from rasterio.io import MemoryFile

    height, width, count = rows.shape
    profile = {"driver": "GTiff", "height": height, "width": width, "count": count, "dtype": "uint8"}
    with MemoryFile() as memory:
        with memory.open(**profile, **_FOR_NOW) as dataset:
            dataset.write(np.moveaxis(rows, -1, 0))
            dataset.update_tags(NOTE=note)
        return bytes(memory.getbuffer())


def read_note(strip: Path) -> str:
    """Return the note in a strip that `encode_strip` made, inside `gdal()`.

    Raises:
        DataError: The file is not whole, or it has no note.
    """
    with open_geotiff(strip) as dataset:
        note = dataset.tags().get("NOTE")
    if note is None:
        raise DataError(f"{short_name(strip)} is no strip of a map")
    return str(note)


def join_strips(
    strips: Sequence[Path],
    target: Path,
    *,
    shape: tuple[int, int, int],
    crs: Any,  # noqa: ANN401 - rasterio's
    transform: Any,  # noqa: ANN401 - affine's
    tags: Mapping[str, str],
) -> None:
    """Join strips, from top to bottom and in one folder, to a Cloud Optimized GeoTIFF, inside `gdal()`.

    Its shape is (height, width, 3 or 4). It is tiled, compressed without loss, and has overviews by averaging. For the
    moment all pixels lie beside it: of a VRT of the strips, GDAL takes three times as long to make it.

    Raises:
        OSError: The file can't be written.
    """
    import rasterio.shutil

    mosaic = strips[0].with_name("mosaic.tif")
    try:
        place = {"crs": crs, "transform": None if transform.is_identity else transform}
        _write_mosaic(strips, mosaic, shape=shape, tags=tags, **place)
        # GDAL does not tell of every write that failed, of all blocks of this file for instance.
        with open_geotiff(mosaic, whole=True) as dataset:
            rasterio.shutil.copy(
                dataset,
                target.absolute(),
                driver="COG",
                COMPRESS="DEFLATE",
                PREDICTOR="2",
                BIGTIFF="IF_SAFER",
                OVERVIEW_RESAMPLING="AVERAGE",
                NUM_THREADS="ALL_CPUS",
            )
        with open_geotiff(target, whole=True):
            pass
    except Exception as error:  # GDAL's errors have no public class.
        raise OSError(f"{target.name}: {error}") from error


def _write_mosaic(
    strips: Sequence[Path],
    mosaic: Path,
    *,
    shape: tuple[int, int, int],
    tags: Mapping[str, str],
    **place: Any,  # noqa: ANN401 - rasterio's and affine's
) -> None:
    """Write strips into one tiled file."""
    import rasterio
    from rasterio.windows import Window

    height, width, count = shape
    profile = {"driver": "GTiff", "height": height, "width": width, "count": count, "dtype": "uint8"}
    # Blocks no larger than the map: 16 pixels are their unit.
    down, across = (min(BLOCK, math.ceil(length / 16) * 16) for length in (height, width))
    layout = {"tiled": True, "blockxsize": across, "blockysize": down, "bigtiff": "IF_SAFER", "num_threads": "ALL_CPUS"}
    alpha = {"alpha": "NON-PREMULTIPLIED"} if count == 4 else {}
    with rasterio.open(mosaic.absolute(), "w", **profile, **layout, **_FOR_NOW, **alpha, **place) as whole:
        whole.update_tags(**tags)
        top = 0
        for rows in _whole_blocks(strips, down):
            whole.write(rows, window=Window(0, top, width, rows.shape[1]))
            top += rows.shape[1]


def _whole_blocks(strips: Sequence[Path], down: int) -> Iterator[Pixels]:
    """Yield the rows of strips, (bands, h, W), in whole blocks: one that is written twice takes its place twice."""
    import numpy as np

    held: list[Pixels] = []
    for strip in strips:
        with open_geotiff(strip) as dataset:
            held.append(dataset.read())
        rows = np.concatenate(held, axis=1)
        whole = rows.shape[1] // down * down
        if whole:
            yield rows[:, :whole]
        held = [rows[:, whole:]]
    if held[0].size:
        yield held[0]
