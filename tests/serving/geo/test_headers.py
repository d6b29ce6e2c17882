"""Detection of georeferenced TIFFs, with tags written by rasterio; broken files raise no error."""

import io
import struct

import numpy as np
import pytest
import rasterio
from PIL import Image

from serving.geo.gdal import gdal
from serving.geo.headers import is_georeferenced

GRID = rasterio.Affine(2, 0, 400_000, 0, -2, 5_800_000)
ROTATED = GRID @ rasterio.Affine.rotation(20)


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a small TIFF with rasterio."""

    def write(crs="EPSG:32633", transform=GRID, **options):
        path = tmp_path / "scene.tif"
        shape = {"height": 40, "width": 50, "count": 4, "dtype": "uint16"}
        with gdal(), rasterio.open(path, "w", driver="GTiff", crs=crs, transform=transform, **shape, **options) as file:
            file.write(np.ones((4, 40, 50), np.uint16))
        return path

    return write


@pytest.mark.parametrize("options", [{}, {"BIGTIFF": "YES"}, {"ENDIANNESS": "BIG"}, {"transform": ROTATED}])
def test_a_geotiff_is_recognised(write, options):
    path = write(**options)
    assert is_georeferenced(path) and is_georeferenced(path.read_bytes())


def test_a_big_endian_bigtiff_is_recognised(write):
    assert is_georeferenced(write(BIGTIFF="YES", ENDIANNESS="BIG"))


@pytest.mark.parametrize("options", [{"crs": None}, {"transform": None}])
def test_half_a_georeference_is_not_enough(write, options):
    assert not is_georeferenced(write(**options))


@pytest.mark.parametrize("kind", ["TIFF", "PNG", "JPEG"])
def test_plain_photos_are_not_georeferenced(kind):
    target = io.BytesIO()
    Image.new("RGB", (40, 50)).save(target, kind)
    assert not is_georeferenced(target.getvalue())


def test_broken_and_missing_files_are_not_georeferenced(write, tmp_path):
    content = write().read_bytes()
    assert not any(is_georeferenced(content[:length]) for length in range(40))
    for fragment in (
        b"",
        b"II",
        b"II*\0",
        b"II*\0\xff\xff\xff\xff",
        b"II+\0\x08\0\0\0" + b"\xff" * 8,
        b"MM\0*" + bytes(12),
    ):
        assert not is_georeferenced(fragment)
    # The number of tags is limited.
    assert not is_georeferenced(b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 2**63) + bytes(100))
    assert not is_georeferenced(tmp_path / "nowhere.tif") and not is_georeferenced(tmp_path)
