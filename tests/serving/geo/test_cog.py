"""Strips of a map become a Cloud Optimized GeoTIFF."""

from unittest.mock import ANY

import numpy as np
import pytest
import rasterio
from affine import Affine
from rio_cogeo.cogeo import cog_validate

from serving.geo.cog import BLOCK, encode_strip, join_strips
from serving.geo.gdal import gdal
from serving.geo.grid import Grid

WIDTH = 600


def join(folder, parts):
    """Write strips, join them, and return the map, (bands, H, W)."""
    strips = []
    for number, rows in enumerate(parts):
        strips.append(folder / f"strip-{number}.tif")
        with gdal():
            strips[-1].write_bytes(encode_strip(rows, note="{}"))
    _, width, bands = parts[0].shape
    grid = Grid(width, sum(map(len, parts)), None, Affine.identity(), ([], None), None)
    with gdal():
        join_strips(strips, folder / "map.tif", grid=grid, bands=bands, tags={"MODEL": "m"})
        with rasterio.open(folder / "map.tif") as dataset:
            assert dataset.tags()["MODEL"] == "m"
            return dataset.read()


@pytest.mark.parametrize("bands", [3, 4])
@pytest.mark.parametrize("heights", [(7,), (BLOCK, 100), (BLOCK - 12, 12, 3), (300, 300, 900, 41)])
def test_no_row_is_lost_between_blocks_and_strips(tmp_path, heights, bands):
    random = np.random.default_rng(3)
    parts = [random.integers(0, 256, (height, WIDTH, bands), dtype=np.uint8) for height in heights]
    assert np.array_equal(join(tmp_path, parts), np.moveaxis(np.concatenate(parts), -1, 0))


def test_temporary_files_are_compressed(tmp_path):
    join(tmp_path, [np.full((2 * BLOCK, WIDTH, 3), 200, np.uint8)])
    assert max(path.stat().st_size for path in tmp_path.iterdir()) < 20_000


@pytest.mark.parametrize("height", [1, 512, 513, 1100, 2100, 5000])
@pytest.mark.parametrize("width", [1, 2, 3, 15, 17, 256, 511, 512, 513, 1024, 1025, 2048])
def test_maps_of_every_size_are_valid(tmp_path, width, height):
    join(tmp_path, [np.full((height, width, 3), 200, np.uint8)])
    # Validators recommend overviews for a column of more than 512 pixels, and call one of the same width an error.
    strict = width > 1 or height <= 512
    assert cog_validate(tmp_path / "map.tif", strict=strict, quiet=True) == (True, [], [] if strict else [ANY])
    with rasterio.open(tmp_path / "map.tif") as file:
        overviews = file.overviews(1)
    assert bool(overviews) == (max(width, height) > 512 and width > 1)
    for level in range(len(overviews)):
        with rasterio.open(tmp_path / "map.tif", overview_level=level) as file:
            assert file.shape != (height, width)
