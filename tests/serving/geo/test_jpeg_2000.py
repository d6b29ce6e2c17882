"""JPEG 2000 files, the format of Sentinel-2, as scenes and photos."""

from pathlib import PurePath

import numpy as np
import pytest
import rasterio

from serving.geo.gdal import gdal
from serving.geo.headers import is_georeferenced
from serving.geo.imagery import open_imagery
from serving.geo.photo import read_photo
from tests.fixtures.scenes import HALF_METRE, as_photo, draw, noise, opening_error, read_bands, read_scene

LOSSLESS = {"quality": "100", "reversible": "YES"}


@pytest.fixture
def make_jp2(tmp_path):
    """Return a function that writes bands as a JPEG 2000 file, by default with a location in Poland."""

    def make(bands, name="scene.jp2", **profile):
        located = {"crs": "EPSG:2180", "transform": HALF_METRE}
        shape = dict(zip(("count", "height", "width"), bands.shape, strict=True)) | {"dtype": bands.dtype}
        options = LOSSLESS | located | profile
        with gdal(), rasterio.open(tmp_path / name, "w", driver="JP2OpenJPEG", **shape, **options) as file:
            file.write(bands)
        return tmp_path / name

    return make


def test_a_scene_has_its_pixels_and_its_location(make_jp2):
    bands = noise(3)
    path = make_jp2(bands)
    photo, alpha, imagery = read_scene(path)
    assert np.array_equal(photo, as_photo(bands)) and (alpha == 255).all() and imagery.warnings == []
    assert imagery.grid.crs.to_epsg() == 2180 and imagery.grid.transform == HALF_METRE
    assert is_georeferenced(path) and is_georeferenced(path.read_bytes())


@pytest.mark.parametrize(("kind", "bits"), [(np.uint16, 12), (np.uint16, 16), (np.int16, 16)])
def test_deep_values_are_stretched(make_jp2, kind, bits):
    bands = noise(3, kind=kind) // 2 ** (16 - bits)
    photo, _, imagery = read_scene(make_jp2(bands, nbits=bits))
    assert np.allclose(imagery.colours.levels, np.percentile(bands.reshape(3, -1), (2, 98), axis=1).T)
    assert photo.std() > 60


def test_alpha_is_kept(make_jp2):
    bands = noise(4).clip(1)
    photo, alpha, imagery = read_scene(make_jp2(bands, alpha="YES"))
    assert np.array_equal(alpha, bands[3]) and imagery.colours.bands == (1, 2, 3)
    assert np.array_equal(photo, as_photo(bands[:3]))


def test_windows_across_tiles(make_jp2):
    bands = noise(3, 300, 300)
    with gdal(), open_imagery(make_jp2(bands, blockxsize=128, blockysize=128)) as imagery:
        assert np.array_equal(imagery.read(100, 60, 90, 100), as_photo(bands)[100:190, 60:160])


def test_the_map_of_a_scene_is_a_geotiff(make_jp2, tmp_path):
    bands = noise(3)
    draw(make_jp2(bands), tmp_path / "map.tif")
    assert np.array_equal(read_bands(tmp_path / "map.tif"), 255 - bands)
    with rasterio.open(tmp_path / "map.tif") as file:
        assert file.crs.to_epsg() == 2180 and file.transform == HALF_METRE


@pytest.mark.parametrize(("name", "codec"), [("plain.jp2", "JP2"), ("plain.j2k", "J2K"), ("plain.tif", "J2K")])
def test_a_file_without_location_has_none(make_jp2, name, codec):
    bands = noise(3)
    path = make_jp2(bands, name, crs=None, transform=None, codec=codec, geojp2="NO", gmljp2="NO")
    photo, _, imagery = read_scene(path)
    assert np.array_equal(photo, as_photo(bands)) and imagery.grid.transform.is_identity and imagery.grid.crs is None
    assert imagery.warnings == [f"{path.parent.name}/{name} has no coordinate system, and its map has none either."]
    assert not is_georeferenced(path)


def test_a_coordinate_system_without_a_grid_is_no_location(make_jp2):
    path = make_jp2(noise(3), transform=None, gmljp2="NO")
    assert not is_georeferenced(path) and read_scene(path)[2].grid.transform.is_identity


def test_a_photo_is_read_from_memory(make_jp2):
    bands = noise(3)
    assert np.array_equal(read_photo(make_jp2(bands).read_bytes(), PurePath("photo.jp2")).pixels, as_photo(bands))


def test_a_truncated_file_is_refused_at_once(make_jp2):
    path = make_jp2(noise(3, 300, 300), blockxsize=128, blockysize=128)
    content = path.read_bytes()
    for length in (40, 200, len(content) // 2, len(content) - 2000, len(content) - 1):
        path.write_bytes(content[:length])
        message = opening_error(path)
        assert message.endswith(
            "scene.jp2 is broken or truncated: some of its tiles lie beyond its end; copy it again."
        )
    path.write_bytes(content)
    read_scene(path)


def test_gdal_without_the_driver_is_named(make_jp2, monkeypatch):
    path = make_jp2(noise(3))
    monkeypatch.setattr(rasterio.Env, "drivers", lambda _: {"GTiff": "GeoTIFF"})
    assert "scene.jp2 is a JPEG 2000 file, which this installation of GDAL can't read; convert" in opening_error(path)
