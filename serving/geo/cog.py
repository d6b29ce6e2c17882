"""Cloud Optimized GeoTIFFs: encoded strips of a map, and the file that they are joined to."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from model.errors import DataError
from model.io.images import short_name
from model.pixels import Pixels
from serving.geo.gdal import gdal_errors
from serving.geo.raster import open_raster

BLOCK = 512
"""Side of a map's blocks in pixels, the default of GDAL's COG driver."""
_TEMPORARY = {"compress": "ZSTD", "zstd_level": 1, "predictor": 2, "interleave": "pixel", "photometric": "RGB"}
"""Options of files that are deleted once the map is complete: twice as fast as DEFLATE, and no larger."""


def encode_strip(rows: Pixels, *, note: str) -> bytes:
    """Return rows of a map, uint8 (h, W, 3 or 4), as a compressed TIFF file with a note in its tags."""
    import numpy as np
    from rasterio.io import MemoryFile

    height, width, count = rows.shape
    profile = {"driver": "GTiff", "height": height, "width": width, "count": count, "dtype": "uint8"}
    with MemoryFile() as memory:
        with memory.open(**profile, **_TEMPORARY) as dataset:
            dataset.write(np.moveaxis(rows, -1, 0))
            dataset.update_tags(NOTE=note)
        return bytes(memory.getbuffer())


def read_note(strip: Path) -> str:
    """Return the note in a strip that `encode_strip` made, inside `gdal()`.

    Raises:
        DataError: The file is truncated or broken, or has no note.
    """
    with open_raster(strip) as dataset:
        note = dataset.tags().get("NOTE")
    if note is None:
        raise DataError(f"{short_name(strip)} is not a strip of a map: it has no note.")
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
    """Join strips of one folder, in order from top to bottom, to a Cloud Optimized GeoTIFF, inside `gdal()`.

    The file of `shape` (height, width, 3 or 4) is tiled, compressed without loss, and has averaged overviews. All
    pixels are first copied to a temporary file in the folder: from a VRT of the strips, GDAL takes three times as long.

    Raises:
        OSError: The file can't be written.
    """
    import rasterio.shutil

    mosaic = strips[0].with_name("mosaic.tif")
    write_errors: tuple[type[Exception], ...] = (DataError, OSError, *gdal_errors())
    try:
        georeference = {"crs": crs, "transform": None if transform.is_identity else transform}
        _write_mosaic(strips, mosaic, shape=shape, tags=tags, **georeference)
        # GDAL doesn't report every write that fails.
        with open_raster(mosaic, complete=True) as dataset:
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
        with open_raster(target, complete=True):
            pass
    except write_errors as error:
        raise OSError(f"{target.name}: {error}") from error


def _write_mosaic(
    strips: Sequence[Path],
    mosaic: Path,
    *,
    shape: tuple[int, int, int],
    tags: Mapping[str, str],
    **georeference: Any,  # noqa: ANN401 - rasterio's and affine's
) -> None:
    """Write strips into a tiled file."""
    import rasterio
    from rasterio.windows import Window

    height, width, count = shape
    profile = {"driver": "GTiff", "height": height, "width": width, "count": count, "dtype": "uint8"}
    # Blocks are no larger than the map, rounded up to a multiple of 16, which TIFF requires.
    down, across = (min(BLOCK, math.ceil(length / 16) * 16) for length in (height, width))
    layout = {"tiled": True, "blockxsize": across, "blockysize": down, "bigtiff": "IF_SAFER", "num_threads": "ALL_CPUS"}
    alpha = {"alpha": "NON-PREMULTIPLIED"} if count == 4 else {}
    with rasterio.open(mosaic.absolute(), "w", **profile, **layout, **_TEMPORARY, **alpha, **georeference) as dataset:
        dataset.update_tags(**tags)
        top = 0
        for rows in _block_rows(strips, down):
            dataset.write(rows, window=Window(0, top, width, rows.shape[1]))
            top += rows.shape[1]


def _block_rows(strips: Sequence[Path], down: int) -> Iterator[Pixels]:
    """Yield the rows of strips, (bands, h, W), in complete blocks: a block written twice takes up space twice."""
    import numpy as np

    held: list[Pixels] = []
    for strip in strips:
        with open_raster(strip) as dataset:
            held.append(dataset.read())
        rows = np.concatenate(held, axis=1)
        count = rows.shape[1] // down * down
        if count:
            yield rows[:, :count]
        held = [rows[:, count:]]
    if held[0].size:
        yield held[0]
