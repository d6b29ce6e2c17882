"""Strips of a map become a Cloud Optimized GeoTIFF."""

import numpy as np
import pytest
import rasterio
from affine import Affine

from serving.geo.cog import BLOCK, encode_strip, join_strips
from serving.geo.gdal import gdal

WIDTH = 600


def join(folder, parts):
    """Write strips, join them, and return the map, (bands, H, W)."""
    strips = []
    for number, rows in enumerate(parts):
        strips.append(folder / f"strip-{number}.tif")
        with gdal():
            strips[-1].write_bytes(encode_strip(rows, note="{}"))
    shape = (sum(map(len, parts)), WIDTH, parts[0].shape[2])
    with gdal():
        join_strips(strips, folder / "map.tif", shape=shape, crs=None, transform=Affine.identity(), tags={"MODEL": "m"})
        with rasterio.open(folder / "map.tif") as dataset:
            assert dataset.tags()["MODEL"] == "m" and dataset.overviews(1)
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
