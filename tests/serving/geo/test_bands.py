"""Bands and levels: the values of a GeoTIFF that become red, green and blue."""

import numpy as np
import pytest
import rasterio
from PIL import Image

from model.errors import ConfigError
from serving.geo.gdal import gdal
from tests.fixtures.scenes import as_photo, noise, opening_error, read_scene, write_scene


def test_three_bands_of_8_bits_are_the_photo(make_scene):
    bands = noise(3)
    photo, alpha, imagery = read_scene(make_scene(bands))
    assert np.array_equal(photo, as_photo(bands)) and (alpha == 255).all()
    assert not imagery.masked and imagery.colours.levels is None and imagery.warnings == []


def test_a_single_band_is_repeated_and_so_is_the_first_of_two(make_scene):
    bands = noise(2)
    for count in (1, 2):
        photo, _, imagery = read_scene(make_scene(bands[:count]))
        assert np.array_equal(photo, as_photo(bands[[0, 0, 0]])) and imagery.colours.bands == (1,)


def test_bands_marked_red_green_and_blue_are_chosen(make_scene):
    bands = noise(5)
    path = make_scene(bands, photometric="MINISBLACK")
    assert read_scene(path)[2].colours.bands == (1, 2, 3)
    with rasterio.open(path, "r+") as file:
        kinds = rasterio.enums.ColorInterp
        file.colorinterp = [kinds.blue, kinds.green, kinds.red, kinds.undefined, kinds.undefined]
    photo, _, imagery = read_scene(path)
    assert imagery.colours.bands == (3, 2, 1) and np.array_equal(photo, as_photo(bands[[2, 1, 0]]))


def test_bands_can_be_chosen(make_scene):
    bands = noise(5)
    path = make_scene(bands, photometric="MINISBLACK")
    assert np.array_equal(read_scene(path, bands=(5, 2, 4))[0], as_photo(bands[[4, 1, 3]]))
    assert np.array_equal(read_scene(path, bands=(4,))[0], as_photo(bands[[3, 3, 3]]))


@pytest.mark.parametrize("bands", [(), (1, 2), (0, 1, 2), (1, 2, 6)])
def test_missing_bands_are_refused(make_scene, bands):
    with gdal(), pytest.raises(ConfigError, match="name one or three of 1 to 5"):
        read_scene(make_scene(noise(5)), bands=bands)


@pytest.mark.parametrize("kind", [np.uint16, np.int16, np.float32])
def test_more_than_8_bits_are_stretched_between_percentiles(make_scene, kind):
    bands = noise(3, kind=kind)
    photo, _, imagery = read_scene(make_scene(bands))
    low, high = np.percentile(bands.reshape(3, -1), (2, 98), axis=1)
    assert np.allclose(imagery.colours.levels, np.stack([low, high], axis=1))
    expected = (bands - low[:, None, None]) / (high - low)[:, None, None] * 255
    assert np.array_equal(photo, as_photo(np.rint(expected.clip(0, 255)).astype(np.uint8)))


def test_a_stretch_can_be_set_for_8_bits_too(make_scene):
    bands = noise(1) // 2
    photo, _, imagery = read_scene(make_scene(bands), stretch=(0, 100))
    assert imagery.colours.levels.tolist() == [[0, 127]] and photo.max() == 255


def test_percentiles_ignore_nodata(make_scene):
    bands = noise(3, kind=np.uint16) // 64 + 100
    bands[:, :, :40] = 65535
    *_, imagery = read_scene(make_scene(bands, nodata=65535))
    assert imagery.colours.levels.max() < 1200


@pytest.mark.parametrize("stretch", [(98, 2), (-1, 50), (0, 101), (5, 5)])
def test_percentiles_out_of_range_are_refused(make_scene, stretch):
    with gdal(), pytest.raises(ConfigError, match="give two rising percentages of 0 to 100"):
        read_scene(make_scene(noise(3)), stretch=stretch)


def test_a_scene_of_one_value_is_black(make_scene):
    assert not read_scene(make_scene(np.full((3, 40, 40), 777, np.uint16)))[0].any()


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32, np.float32])
def test_a_scene_without_valid_pixels_is_empty(make_scene, kind):
    photo, alpha, _ = read_scene(make_scene(np.full((3, 40, 40), 5, kind), nodata=5))
    assert photo is None and not alpha.any()


def test_levels_of_a_scene_with_few_valid_pixels_are_found(make_scene, monkeypatch):
    monkeypatch.setattr("serving.geo.bands.SAMPLE_SIDE", 32)
    bands = np.zeros((3, 1100, 700), np.uint16)
    bands[:, 800, 300:310] = np.arange(1000, 2000, 100)
    path = make_scene(bands, nodata=0)
    with rasterio.open(path, "r+") as file:
        # Overviews of the nearest pixels have none of the valid ones.
        file.build_overviews([2, 4, 8, 16, 32], rasterio.enums.Resampling.nearest)
        assert not file.read(1, out_shape=(32, 20)).any()
    photo, alpha, imagery = read_scene(path)
    assert imagery.colours.levels[0].tolist() == pytest.approx([1018, 1882])
    assert alpha[800, 300:310].all() and alpha.sum() == 10 * 255 and photo[800, 305].tolist() == [142] * 3


@pytest.mark.parametrize("kind", [np.complex64, np.complex128])
def test_complex_numbers_are_refused(make_scene, kind):
    message = opening_error(make_scene(noise(1).astype(kind)))
    assert f"scene.tif holds complex numbers ({np.dtype(kind).name}), which have no colours" in message


def test_complex_numbers_that_numpy_lacks_are_refused(tmp_path):
    shape = {"driver": "GTiff", "width": 40, "height": 40, "count": 1, "dtype": "complex_int16"}
    with gdal(), rasterio.open(tmp_path / "radar.tif", "w", **shape):
        pass
    assert "radar.tif holds complex numbers (complex_int16)" in opening_error(tmp_path / "radar.tif")


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "LA", "RGBA", "RGB"])
def test_plain_tiffs_look_as_pillow_shows_them(tmp_path, mode):
    smooth = np.linspace(0, 255, 64 * 80 * 3).reshape(64, 80, 3).astype(np.uint8)
    image = Image.fromarray(smooth).convert(mode)
    if mode == "P":
        image = Image.fromarray(smooth).quantize(16)
    image.save(tmp_path / "plain.tif")
    photo, alpha, imagery = read_scene(tmp_path / "plain.tif")
    assert np.abs(photo.astype(int) - np.asarray(image.convert("RGB"))).max() <= 1
    assert (alpha == 255).all() and imagery.masked == (mode in ("LA", "RGBA"))
    assert imagery.warnings == [f"{tmp_path.name}/plain.tif has no coordinate system, and its map has none either."]


def test_inverted_greys_are_turned(tmp_path):
    image = Image.fromarray(as_photo(noise(3))).convert("L")
    image.save(tmp_path / "white.tif", tiffinfo={262: 0})
    assert np.array_equal(read_scene(tmp_path / "white.tif")[0][..., 0], np.asarray(image))


def test_four_bits_are_spread_over_all_levels(make_scene):
    bands = noise(1) // 16
    assert np.array_equal(read_scene(make_scene(bands, nbits=4))[0], as_photo((bands * 17)[[0, 0, 0]]))


def test_inks_that_gdal_does_not_convert_are_inverted(tmp_path):
    bands = noise(4, kind=np.uint16)
    write_scene(tmp_path / "inks.tif", bands, photometric="CMYK")
    photo, _, imagery = read_scene(tmp_path / "inks.tif")
    plain = read_scene(write_scene(tmp_path / "plain.tif", bands[:3]))[0]
    assert np.array_equal(photo, 255 - plain) and imagery.warnings[0].endswith("without black: convert it to RGB.")


def test_a_local_coordinate_system_does_not_spoil_the_reading_of_unmarked_bands(make_scene):
    path = make_scene(noise(4, kind=np.uint16), crs='LOCAL_CS["site",UNIT["metre",1]]')
    imagery = read_scene(path)[2]
    assert imagery.colours.bands == (1, 2, 3) and "conver" in imagery.warnings[0]
