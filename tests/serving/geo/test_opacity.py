"""Alpha bands of any range, masks, and the nodata of drawn bands."""

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.enums import ColorInterp

from serving.geo import opacity
from serving.geo.gdal import gdal
from serving.geo.imagery import open_imagery
from tests.fixtures.scenes import as_photo, noise, read_scene

# Ranges of alpha


def with_alpha(levels, kind):
    """Return three bands of noise and an alpha band whose first row has the levels, and is else full of the last."""
    bands = noise(4).clip(1).astype(kind)
    bands[3] = levels[-1]
    bands[3, 0, : len(levels)] = levels
    return bands


@pytest.mark.parametrize(
    ("kind", "levels", "expected", "layout"),
    [
        (np.uint16, (0, 1, 128, 255), (0, 1, 128, 255), {}),
        (np.uint16, (0, 1, 2048, 4095), (0, 1, 128, 255), {}),
        (np.uint16, (0, 1, 2048, 4095), (0, 1, 128, 255), {"nbits": 12}),
        (np.uint16, (0, 257, 1000, 2000), (0, 33, 125, 250), {"nbits": 11}),
        (np.uint16, (0, 1, 255), (0, 1, 255), {"nbits": 11}),
        (np.uint16, (0, 257, 32896, 65535), (0, 1, 128, 255), {}),
        (np.uint16, (0, 257, 5140), (0, 1, 20), {}),
        (np.int16, (-32768, -1, 0, 255), (0, 0, 0, 255), {}),
        (np.int16, (-5, 0, 32767), (0, 0, 255), {}),
        (np.int8, (-1, 0, 64, 127), (0, 0, 129, 255), {}),
        (np.uint8, (0, 1), (0, 255), {}),
        (np.uint8, (0, 7, 15), (0, 119, 255), {"nbits": 4}),
        (np.uint8, (0, 1), (0, 255), {"nbits": 1}),
        (np.uint8, (0, 100, 200), (0, 100, 200), {}),
        (np.uint32, (0, 65535), (0, 255), {}),
        (np.uint32, (0, 2**31, 2**32 - 1), (0, 128, 255), {}),
        (np.int32, (-1, 0, 100, 255), (0, 0, 100, 255), {}),
        (np.float32, (0, 0.5, 1), (0, 128, 255), {}),
        (np.float32, (0, 0.5, 1.02), (0, 128, 255), {}),
        (np.float32, (np.nan, -1, 0.25), (0, 0, 64), {}),
        (np.float32, (np.nan, 128, 255), (0, 128, 255), {}),
        (np.float64, (-np.inf, 257, 65535), (0, 1, 255), {}),
        (np.float64, (0, 1, np.inf), (0, 255, 255), {}),
    ],
)
def test_opaque_is_opaque_in_any_range(make_scene, kind, levels, expected, layout):
    path = make_scene(with_alpha(levels, kind), photometric="RGB", alpha="YES", **layout)
    alpha = read_scene(path)[1]
    assert alpha.dtype == np.uint8 and alpha[0, : len(levels)].tolist() == list(expected)
    assert (alpha[1:] == expected[-1]).all()


def test_the_range_is_that_of_the_whole_band(make_scene, monkeypatch):
    monkeypatch.setattr(opacity, "MIN_ROWS", 16)
    bands = with_alpha((255,), np.uint16)
    bands[3, -1, -1] = 65535
    with gdal(), open_imagery(make_scene(bands, photometric="RGB", alpha="YES")) as imagery:
        assert (imagery.alpha(0, 0, 20, 20) == 1).all() and imagery.alpha(60, 70, 4, 10)[-1, -1] == 255


@pytest.mark.parametrize(
    ("kind", "level", "full", "faint", "layout"),
    [
        (np.uint16, 10000, 65535, True, {}),
        (np.uint16, 40000, 65535, False, {}),
        (np.uint8, 100, 255, True, {}),
        (np.uint8, 2, 255, True, {}),
        (np.uint8, 130, 255, False, {}),
        (np.uint8, 1, 1, False, {}),
        (np.uint8, 5, 15, True, {"nbits": 4}),
        (np.int8, 60, 127, True, {}),
        (np.float32, 100, 255, True, {}),
        (np.float32, 0.3, 1, True, {}),
    ],
)
def test_an_alpha_band_far_below_opaque_is_reported(make_scene, kind, level, full, faint, layout):
    path = make_scene(with_alpha((0, level), kind), photometric="RGB", alpha="YES", **layout)
    warnings = read_scene(path)[2].warnings
    assert [f"reaches {level} where {full} is opaque" in warning for warning in warnings] == [True] * faint


def test_grey_and_alpha_of_16_bits(make_scene):
    bands = with_alpha((0, 4095), np.uint16)[2:]
    path = make_scene(bands, photometric="MINISBLACK", alpha="YES")
    _, alpha, imagery = read_scene(path)
    assert imagery.colours.bands == (1,) and alpha[0, :2].tolist() == [0, 255]


def test_colours_multiplied_by_alpha_are_divided(make_scene):
    original = noise(3)
    alpha = np.repeat(np.arange(64)[:, None] * 4 + 3, 80, axis=1)
    multiplied = np.rint(original * alpha / 255).astype(np.uint8)
    bands = np.concatenate([multiplied, alpha[None].astype(np.uint8)])
    photo, read, _ = read_scene(make_scene(bands, photometric="RGB", alpha="PREMULTIPLIED"))
    assert np.array_equal(read, alpha)
    difference = np.abs(photo.astype(int) - as_photo(original))
    assert difference.max() <= 255 / 3 / 2 + 1 and difference[32:].max() <= 1
    assert np.array_equal(read_scene(make_scene(bands, photometric="RGB", alpha="YES"))[0], as_photo(multiplied))


def test_levels_are_those_of_the_divided_colours(make_scene):
    original = noise(3, kind=np.uint16)
    alpha = np.full((1, 64, 80), 32768)
    alpha[0, 0] = 65535
    bands = np.concatenate([original * (alpha / 65535), alpha]).astype(np.uint16)
    imagery = read_scene(make_scene(bands, photometric="RGB", alpha="PREMULTIPLIED"))[2]
    expected = np.percentile(original.reshape(3, -1), (2, 98), axis=1).T
    assert np.allclose(imagery.colours.levels, expected, atol=3)


# Masks and nodata


def test_only_drawn_bands_decide_what_is_empty(make_scene):
    bands = noise(4, kind=np.uint16).clip(1)
    bands[:3, :20] = 0
    path = make_scene(bands, nodata=0)
    alpha = read_scene(path)[1]
    assert not alpha[:20].any() and (alpha[20:] == 255).all()
    assert (read_scene(path, bands=(4,))[1] == 255).all()


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_pixel_is_empty_where_all_drawn_bands_are_nodata(make_scene, kind):
    bands = noise(3, kind=kind).clip(1)
    bands[0, :20] = 0
    bands[1:, 10:30] = 0
    alpha = read_scene(make_scene(bands, nodata=0))[1]
    assert not alpha[10:20].any() and (alpha[:10] == 255).all() and (alpha[20:] == 255).all()


@pytest.mark.parametrize("nodata", [-9999.0, np.nan])
def test_nodata_of_floats(make_scene, nodata):
    bands = noise(4, kind=np.float32)
    bands[:3, :20] = nodata
    alpha = read_scene(make_scene(bands, nodata=nodata))[1]
    assert not alpha[:20].any() and (alpha[20:] == 255).all()


def test_nodata_beyond_the_range_of_the_values_is_ignored(make_scene):
    bands = noise(3)
    path = make_scene(bands, nodata=255)
    # The nodata value is stored as a text.
    content = path.read_bytes()
    assert content.count(b"255\0") == 1
    path.write_bytes(content.replace(b"255\0", b"999\0"))
    photo, alpha, imagery = read_scene(path)
    assert np.array_equal(photo, as_photo(bands)) and (alpha == 255).all() and not imagery.masked


def test_alpha_and_nodata_are_combined(make_scene):
    bands = noise(4).clip(1)
    bands[:3, :20] = 0
    bands[3] = 200
    bands[3, 40:] = 0
    alpha = read_scene(make_scene(bands, photometric="RGB", alpha="YES", nodata=0))[1]
    assert not alpha[:20].any() and (alpha[20:40] == 200).all() and not alpha[40:].any()


@pytest.mark.parametrize(("levels", "expected"), [((0, 1), (0, 255)), ((0, 1, 255), (0, 1, 255)), ((0, 0), (0, 0))])
def test_masks_of_8_bits_may_hold_ones(tmp_path, levels, expected):
    mask = np.resize(np.array(levels, np.uint8), (64, 80))
    pages = [Image.fromarray(as_photo(noise(3))), Image.fromarray(mask)]
    pages[1].encoderinfo = {"tiffinfo": {254: 4}}
    pages[0].save(tmp_path / "scene.tif", save_all=True, append_images=pages[1:])
    alpha = read_scene(tmp_path / "scene.tif")[1]
    assert np.array_equal(alpha, np.resize(np.array(expected, np.uint8), (64, 80)))


@pytest.mark.parametrize("resolution", [None, 0.35, 1])
@pytest.mark.parametrize(("kind", "nodata"), [(np.uint8, 0), (np.int16, -32768), (np.float32, -9999)])
def test_a_mask_and_nodata_are_combined(make_scene, kind, nodata, resolution):
    bands = (noise(3) // 2 + 9).astype(kind)
    bands[:, :20] = nodata
    bands[0, 20:30] = nodata
    path = make_scene(bands, photometric="RGB", nodata=nodata)
    mask = np.full((64, 80), 255, np.uint8)
    mask[40:] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
        file.write_mask(mask)
        file.build_overviews([2], rasterio.enums.Resampling.average)
    photo, alpha, imagery = read_scene(path, resolution=resolution)
    rows = imagery.height / 64
    assert not alpha[: int(20 * rows)].any() and not alpha[int(40 * rows) + 1 :].any()
    assert (alpha[int(20 * rows) + 1 : int(40 * rows)] == 255).all() and imagery.masked
    # Nodata is not mixed with colours.
    assert photo[..., 1:].min() >= (9 if kind is np.uint8 else 0)


def test_a_mask_counts_whatever_bands_are_drawn(make_scene):
    path = make_scene(noise(5, kind=np.uint16), photometric="MINISBLACK")
    mask = np.full((64, 80), 255, np.uint8)
    mask[:20] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
        file.write_mask(mask)
    for bands in (None, (5,), (4, 2, 1)):
        assert np.array_equal(read_scene(path, bands=bands)[1], mask)


# Palettes


@pytest.fixture
def make_palette(tmp_path):
    """Return a function that writes numbers as a palette with the given colours."""

    def make(numbers, colours, **profile):
        path = tmp_path / "palette.tif"
        shape = {"height": numbers.shape[0], "width": numbers.shape[1], "count": 1, "dtype": numbers.dtype}
        with gdal(), rasterio.open(path, "w", driver="GTiff", photometric="PALETTE", **shape, **profile) as file:
            file.write(numbers, 1)
            file.write_colormap(1, colours)
        return path

    return make


COLOURS = {0: (9, 9, 9, 255), 1: (200, 30, 30, 255), 5: (30, 200, 30, 255)}


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("bands", [None, (1,), (1, 1, 1)])
def test_palettes_are_looked_up(make_palette, kind, bands):
    numbers = np.array([[0, 1, 5, 3]] * 4, kind)
    photo, _, imagery = read_scene(make_palette(numbers, COLOURS), bands=bands)
    assert photo[0].tolist() == [[9, 9, 9], [200, 30, 30], [30, 200, 30], [0, 0, 0]] and imagery.colours.bands == (1,)


def test_nodata_of_a_palette_is_transparent(make_palette):
    numbers = np.array([[0, 1, 5, 1]] * 4, np.uint8)
    _, alpha, imagery = read_scene(make_palette(numbers, COLOURS, nodata=5))
    assert alpha[0].tolist() == [255, 255, 0, 255] and imagery.masked


def test_transparent_colours_of_a_palette():
    from serving.geo.bands import Colours

    table = np.array([[1, 1, 1], [2, 2, 2], [0, 0, 0]], np.uint8)
    colours = Colours((1,), palette=table, palette_alpha=np.array([0, 255, 255], np.uint8))
    values = np.array([[[0, 1, 2, 250]]], np.uint8)
    assert colours.alpha(values).tolist() == [[0, 255, 255, 255]] and colours(values)[0, 3].tolist() == [0, 0, 0]


def test_a_palette_without_a_table_is_grey(make_scene):
    for kind in (np.uint8, np.uint16):
        path = make_scene(noise(1, kind=kind))
        with rasterio.open(path, "r+") as file:
            file.colorinterp = [ColorInterp.palette]
        photo, _, imagery = read_scene(path)
        assert (imagery.colours.levels is None) == (kind is np.uint8)
        assert (photo == photo[..., :1]).all() and photo.std() > 50


def test_a_stretch_of_a_palette_is_reported(make_palette):
    path = make_palette(np.zeros((40, 40), np.uint8), COLOURS)
    warnings = read_scene(path, stretch=(0, 50))[2].warnings
    assert any(text.startswith("--stretch has no effect on") for text in warnings)
    assert not any("--stretch" in text for text in read_scene(path)[2].warnings)
