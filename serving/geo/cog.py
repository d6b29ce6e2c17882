"""Cloud Optimized GeoTIFFs: encoded strips of a map, and the file that they are joined to."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from model.errors import DataError
from model.io.images import short_name
from model.pixels import Pixels
from serving.geo.gdal import gdal_errors
from serving.geo.grid import Grid
from serving.geo.raster import open_raster

BLOCK = 512
"""Usual side of a map's blocks in pixels, the default of GDAL's COG driver."""
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


def read_strip(strip: Path) -> Pixels:
    """Return the rows of a strip, uint8 (h, W, 3 or 4), inside `gdal()`.

    Raises:
        DataError: The file is truncated or broken.
    """
    import numpy as np

    with open_raster(strip) as dataset:
        return np.ascontiguousarray(np.moveaxis(dataset.read(), 0, -1))


def join_strips(
    strips: Sequence[Path],
    target: Path,
    *,
    grid: Grid,
    bands: int,
    tags: Mapping[str, str],
) -> None:
    """Join strips of one folder, in order from top to bottom, to a Cloud Optimized GeoTIFF, inside `gdal()`.

    The file of 3 or 4 bands is tiled, compressed without loss, and has averaged overviews. All pixels are first copied
    to a temporary file in the folder: from a VRT of the strips, GDAL takes three times as long.

    Raises:
        OSError: The file can't be written.
    """
    import rasterio.shutil

    mosaic = strips[0].with_name("mosaic.tif")
    write_errors: tuple[type[Exception], ...] = (DataError, OSError, *gdal_errors())
    try:
        _write_mosaic(strips, mosaic, grid=grid, bands=bands, tags=tags)
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
                **choose_blocks(grid.width, grid.height),
            )
        with open_raster(target, complete=True):
            pass
    except write_errors as error:
        raise OSError(f"{target.name}: {error}") from error


def choose_blocks(width: int, height: int) -> dict[str, str]:
    """Return GDAL's options for the blocks and overviews of a map.

    An image that is wider or higher than `BLOCK` and exactly as wide as its blocks looks like one without tiles to
    validators of Cloud Optimized GeoTIFFs, and an overview as wide as the map looks like none.
    """
    if width == 1:
        return {"OVERVIEWS": "NONE"}
    levels = range(math.ceil(math.log2(max(width, height) / BLOCK))) if max(width, height) > BLOCK else ()
    # GDAL rounds down; other programs round up.
    large = {size for level in levels for size in (width >> level, math.ceil(width / 2**level))}
    side = next((side for side in (BLOCK, 256, 128) if side not in large), 128)
    wider = sum(width >> level > side for level in levels)
    return {"BLOCKSIZE": str(side)} | ({"OVERVIEW_COUNT": str(wider - 1)} if side in large else {})


def _write_mosaic(
    strips: Sequence[Path],
    mosaic: Path,
    *,
    grid: Grid,
    bands: int,
    tags: Mapping[str, str],
) -> None:
    """Write strips into a tiled file."""
    import rasterio
    from rasterio.windows import Window

    width, height = grid.width, grid.height
    profile = {"driver": "GTiff", "height": height, "width": width, "count": bands, "dtype": "uint8"}
    # Blocks are no larger than the map, rounded up to a multiple of 16, which TIFF requires.
    down, across = (min(BLOCK, math.ceil(length / 16) * 16) for length in (height, width))
    layout = {"tiled": True, "blockxsize": across, "blockysize": down, "bigtiff": "IF_SAFER", "num_threads": "ALL_CPUS"}
    alpha = {"alpha": "NON-PREMULTIPLIED"} if bands == 4 else {}
    with rasterio.open(mosaic.absolute(), "w", **profile, **layout, **_TEMPORARY, **alpha) as dataset:
        grid.write_to(dataset)
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
