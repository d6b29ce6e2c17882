"""Images that are stored turned or mirrored are read upright, unless they have a location."""

import struct
from pathlib import PurePath

import numpy as np
import pytest
import rasterio
from PIL import Image, ImageOps

from serving.geo.gdal import gdal
from serving.geo.imagery import open_imagery
from serving.geo.photo import read_photo
from tests.fixtures.scenes import as_photo, draw, noise, read_bands, read_scene, write_scene


@pytest.fixture
def make_turned(tmp_path):
    """Return a function that writes bands as a TIFF with an orientation."""

    def make(bands, number, **profile):
        path = write_scene(tmp_path / "turned.tif", bands, photometric="RGB", **profile)
        content = bytearray(path.read_bytes())
        # GDAL doesn't write the tag: SampleFormat, which says that integers are unsigned, becomes Orientation. Tags are
        # sorted, but readers don't insist on that.
        at = content.index(struct.pack("<HH", 339, 3))
        content[at : at + 12] = struct.pack("<HHIHH", 274, 3, 1, number, 0)
        path.write_bytes(content)
        return path

    return make


PLAIN = {"crs": None, "transform": rasterio.Affine.identity()}


@pytest.mark.parametrize("number", range(1, 9))
def test_photos_and_scenes_are_upright_as_in_pillow(tmp_path, number):
    bands = noise(3)
    exif = Image.Exif()
    exif[274] = number
    Image.fromarray(as_photo(bands)).save(tmp_path / "turned.tif", exif=exif)
    with Image.open(tmp_path / "turned.tif") as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    photo, alpha, imagery = read_scene(tmp_path / "turned.tif")
    assert np.array_equal(photo, expected) and alpha.shape == expected.shape[:2] == (imagery.height, imagery.width)
    assert np.array_equal(read_photo((tmp_path / "turned.tif").read_bytes(), PurePath("turned.tif")).pixels, expected)


@pytest.mark.parametrize("number", range(1, 9))
def test_windows_are_parts_of_the_upright_photo(make_turned, number):
    bands = noise(4).clip(1)
    path = make_turned(bands, number, alpha="YES", **PLAIN)
    with gdal(), open_imagery(path) as imagery:
        everything = (0, 0, imagery.height, imagery.width)
        photo, alpha = imagery.read(*everything), imagery.alpha(*everything)
        window = (11, 23, 30, 17)
        assert np.array_equal(imagery.read(*window), photo[11:41, 23:40])
        assert np.array_equal(imagery.alpha(*window), alpha[11:41, 23:40])


def test_the_map_of_a_turned_scene_is_upright(make_turned, tmp_path):
    bands = noise(3)
    draw(make_turned(bands, 6, **PLAIN), tmp_path / "map.tif", function=lambda tiles: tiles)
    assert np.array_equal(as_photo(read_bands(tmp_path / "map.tif")), np.rot90(as_photo(bands), -1))


def test_a_scene_with_a_location_keeps_its_grid(make_turned):
    bands = noise(3)
    photo, _, imagery = read_scene(make_turned(bands, 6))
    assert np.array_equal(photo, as_photo(bands)) and (imagery.height, imagery.width) == (64, 80)


@pytest.mark.parametrize("number", [0, 9, 65535])
def test_an_orientation_that_means_nothing_is_upright_and_reported(make_turned, number):
    bands = noise(3)
    photo, _, imagery = read_scene(make_turned(bands, number, **PLAIN))
    assert np.array_equal(photo, as_photo(bands))
    assert imagery.warnings[-1].endswith(f"has Orientation {number}, which means nothing; it is drawn as stored.")


def test_an_orientation_that_means_nothing_has_no_effect_on_a_scene_with_a_location(make_turned):
    assert read_scene(make_turned(noise(3), 0))[2].warnings == []


def test_an_orientation_may_be_a_byte(make_turned):
    path = make_turned(noise(3), 6, **PLAIN)
    short, byte = struct.pack("<HHIHH", 274, 3, 1, 6, 0), struct.pack("<HHIB3x", 274, 1, 1, 6)
    assert path.read_bytes().count(short) == 1
    path.write_bytes(path.read_bytes().replace(short, byte))
    assert np.array_equal(read_scene(path)[0], np.rot90(as_photo(noise(3)), -1))
