"""GeoTIFFs as photos: resolution, bands, levels, nodata; and files that are not what they say."""

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from PIL import Image
from rasterio.control import GroundControlPoint

from model.errors import ConfigError, DataError
from serving.geo import geotiff
from serving.geo.geotiff import gdal
from serving.geo.imagery import open_imagery

HALF_METRE = rasterio.Affine(0.5, 0, 500_000, 0, -0.5, 600_000)


def noise(count, height=64, width=80, kind=np.uint8, seed=0):
    limit = np.iinfo(kind).max + 1 if np.issubdtype(kind, np.integer) else 1000
    return np.random.default_rng(seed).integers(0, limit, (count, height, width)).astype(kind)


@pytest.fixture
def write(tmp_path):
    """Return a function that writes bands (n, h, w) as a GeoTIFF, half a metre a pixel in Poland."""

    def write(bands, *, name="scene.tif", **profile):
        path = tmp_path / name
        count, height, width = bands.shape
        profile = {"crs": "EPSG:2180", "transform": HALF_METRE} | profile
        with (
            gdal(),
            rasterio.open(
                path, "w", driver="GTiff", height=height, width=width, count=count, dtype=bands.dtype, **profile
            ) as file,
        ):
            file.write(bands)
        return path

    return write


def photo_of(path, **settings):
    """Return the whole photo, its alpha and the opened imagery."""
    with gdal(), open_imagery(path, **settings) as imagery:
        whole = (0, 0, imagery.height, imagery.width)
        return imagery.read(*whole), imagery.alpha(*whole), imagery


def refusal(path, **settings):
    with gdal(), pytest.raises(DataError) as refused, open_imagery(path, **settings):
        pass
    return str(refused.value)


def as_photo(bands):
    return np.moveaxis(bands, 0, -1)


# Bands and levels


def test_three_bands_of_8_bits_are_the_photo(write):
    bands = noise(3)
    photo, alpha, imagery = photo_of(write(bands))
    assert np.array_equal(photo, as_photo(bands)) and (alpha == 255).all()
    assert not imagery.masked and imagery.colours.levels is None and imagery.warnings == []


def test_one_band_is_repeated_and_so_is_the_first_of_two(write):
    bands = noise(2)
    for count in (1, 2):
        photo, _, imagery = photo_of(write(bands[:count]))
        assert np.array_equal(photo, as_photo(bands[[0, 0, 0]])) and imagery.colours.bands == (1,)


def test_of_many_bands_those_called_red_green_and_blue_are_taken(write):
    bands = noise(5)
    path = write(bands, photometric="MINISBLACK")
    assert photo_of(path)[2].colours.bands == (1, 2, 3)
    with rasterio.open(path, "r+") as file:
        kinds = rasterio.enums.ColorInterp
        file.colorinterp = [kinds.blue, kinds.green, kinds.red, kinds.undefined, kinds.undefined]
    photo, _, imagery = photo_of(path)
    assert imagery.colours.bands == (3, 2, 1) and np.array_equal(photo, as_photo(bands[[2, 1, 0]]))


def test_bands_can_be_named(write):
    bands = noise(5)
    path = write(bands, photometric="MINISBLACK")
    assert np.array_equal(photo_of(path, bands=(5, 2, 4))[0], as_photo(bands[[4, 1, 3]]))
    assert np.array_equal(photo_of(path, bands=(4,))[0], as_photo(bands[[3, 3, 3]]))


@pytest.mark.parametrize("bands", [(), (1, 2), (0, 1, 2), (1, 2, 6)])
def test_bands_that_are_not_there_are_told(write, bands):
    with gdal(), pytest.raises(ConfigError, match="name one or three of 1 to 5"):
        photo_of(write(noise(5)), bands=bands)


@pytest.mark.parametrize("kind", [np.uint16, np.int16, np.float32])
def test_more_than_8_bits_are_stretched_between_percentiles(write, kind):
    bands = noise(3, kind=kind)
    photo, _, imagery = photo_of(write(bands))
    low, high = np.percentile(bands.reshape(3, -1), (2, 98), axis=1)
    assert np.allclose(imagery.colours.levels, np.stack([low, high], axis=1))
    expected = (bands - low[:, None, None]) / (high - low)[:, None, None] * 255
    assert np.array_equal(photo, as_photo(np.rint(expected.clip(0, 255)).astype(np.uint8)))


def test_a_stretch_can_be_chosen_for_8_bits_too(write):
    bands = noise(1) // 2
    photo, _, imagery = photo_of(write(bands), stretch=(0, 100))
    assert imagery.colours.levels.tolist() == [[0, 127]] and photo.max() == 255


def test_percentiles_leave_out_what_is_nodata(write):
    bands = noise(3, kind=np.uint16) // 64 + 100
    bands[:, :, :40] = 65535
    *_, imagery = photo_of(write(bands, nodata=65535))
    assert imagery.colours.levels.max() < 1200


@pytest.mark.parametrize("stretch", [(98, 2), (-1, 50), (0, 101), (5, 5)])
def test_percentiles_out_of_range_are_told(write, stretch):
    with gdal(), pytest.raises(ConfigError, match="take two rising percentages"):
        photo_of(write(noise(3)), stretch=stretch)


def test_one_value_everywhere_is_black(write):
    assert not photo_of(write(np.full((3, 40, 40), 777, np.uint16)))[0].any()


def test_a_16_bit_scene_without_a_valid_pixel_is_told(write):
    message = refusal(write(np.full((3, 40, 40), 5, np.uint16), nodata=5))
    assert message.endswith("scene.tif has no valid pixel, and so no levels to stretch.")


def test_complex_numbers_are_told(write):
    assert "hold complex numbers" in refusal(write(noise(1).astype(np.complex64)))


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "LA", "RGBA", "RGB"])
def test_plain_tiffs_look_as_pillow_shows_them(tmp_path, mode):
    smooth = np.linspace(0, 255, 64 * 80 * 3).reshape(64, 80, 3).astype(np.uint8)
    image = Image.fromarray(smooth).convert(mode)
    if mode == "P":
        image = Image.fromarray(smooth).quantize(16)
    image.save(tmp_path / "plain.tif")
    photo, alpha, imagery = photo_of(tmp_path / "plain.tif")
    assert np.abs(photo.astype(int) - np.asarray(image.convert("RGB"))).max() <= 1
    assert (alpha == 255).all() and imagery.masked == (mode in ("LA", "RGBA"))
    assert imagery.warnings == [f"{tmp_path.name}/plain.tif has no coordinate system, and its map has none either."]


def test_where_white_is_zero_it_is_turned(tmp_path):
    image = Image.fromarray(as_photo(noise(3))).convert("L")
    image.save(tmp_path / "white.tif", tiffinfo={262: 0})
    assert np.array_equal(photo_of(tmp_path / "white.tif")[0][..., 0], np.asarray(image))


def test_four_bits_are_spread_over_the_levels(write):
    bands = noise(1) // 16
    assert np.array_equal(photo_of(write(bands, nbits=4))[0], as_photo((bands * 17)[[0, 0, 0]]))


# Nodata and alpha


def holed(count):
    bands = noise(count).clip(1)
    bands[:, :, :30] = 0
    return bands


def test_nodata_is_transparent_and_filled_for_the_drawing(write):
    bands = holed(3)
    photo, alpha, imagery = photo_of(write(bands, nodata=0))
    assert imagery.masked and (alpha[:, :30] == 0).all() and (alpha[:, 30:] == 255).all()
    assert np.array_equal(photo[:, 30:], as_photo(bands)[:, 30:])
    # The photo is mirrored at its edge.
    assert np.array_equal(photo[:, 20:30], photo[:, 40:30:-1])


def test_a_window_of_nodata_is_nothing(write):
    path = write(holed(3), nodata=0)
    with gdal(), open_imagery(path) as imagery:
        assert imagery.read(0, 0, 64, 30) is None
        assert imagery.read(0, 0, 64, 31) is not None


def test_alpha_is_kept_level_by_level(write):
    bands = noise(4)
    photo, alpha, imagery = photo_of(write(bands, photometric="RGB", alpha="YES"))
    assert np.array_equal(alpha, bands[3]) and imagery.colours.bands == (1, 2, 3)
    assert np.array_equal(photo[alpha > 0], as_photo(bands[:3])[alpha > 0])


def test_alpha_of_16_bits_is_brought_to_8(write):
    bands = noise(4, kind=np.uint16)
    bands[3, 0, :4] = 0, 1, 257, 65535
    alpha = photo_of(write(bands, photometric="RGB", alpha="YES"))[1]
    assert alpha[0, :4].tolist() == [0, 1, 1, 255]


def test_a_coarser_pixel_that_is_valid_in_part_is_drawn(write):
    bands = noise(3).clip(1)
    bands[:, :, :31] = 0
    photo, alpha, _ = photo_of(write(bands, nodata=0), resolution=1.0)
    assert not alpha[:, :15].any() and (alpha[:, 15:] == 255).all() and photo.min() > 0


def test_alpha_of_coarser_pixels_is_the_mean(write):
    bands = noise(4)
    bands[3] = 0
    bands[3, :, 31:] = 200
    alpha = photo_of(write(bands, photometric="RGB", alpha="YES"), resolution=1.0)[1]
    assert not alpha[:, :15].any() and (alpha[:, 15] == 100).all() and (alpha[:, 16:] == 200).all()


def test_an_internal_mask_counts(write):
    path = write(noise(3))
    mask = np.full((64, 80), 255, np.uint8)
    mask[:20] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
        file.write_mask(mask)
    assert np.array_equal(photo_of(path)[1], mask)


def test_what_is_no_number_is_nodata(write):
    bands = noise(3, kind=np.float32)
    bands[1, :10] = np.nan
    bands[2, 10:12] = np.inf
    photo, alpha, _ = photo_of(write(bands))
    assert (alpha[:12] == 0).all() and (alpha[12:] == 255).all() and photo[12:].std() > 50


# Ground resolution


def test_the_scene_is_read_at_the_models_resolution(write):
    photo, _, imagery = photo_of(write(noise(3, 200, 300)), resolution=1.0)
    assert imagery.pixel[:2] == pytest.approx((0.5, 0.5), rel=2e-3)
    assert (imagery.height, imagery.width) == photo.shape[:2] == (100, 150)
    assert imagery.map_pixel[:2] == pytest.approx((1, 1), rel=2e-3) and imagery.warnings == []
    # The extent stays.
    assert imagery.transform @ (150, 100) == pytest.approx(HALF_METRE @ (300, 200))
    assert imagery.transform @ (0, 0) == (500_000, 600_000)


def test_coarser_is_averaged_and_not_picked_from(write):
    stripes = np.zeros((3, 200, 200), np.uint8)
    stripes[:, :, ::2] = 255
    assert np.abs(photo_of(write(stripes), resolution=1.0)[0][:, 2:-2].astype(int) - 127).max() < 10


def test_windows_are_cut_from_one_and_the_same_photo(write):
    path = write(noise(3, 300, 300))
    with gdal(), open_imagery(path, resolution=0.83) as imagery:
        whole = imagery.read(0, 0, imagery.height, imagery.width)
        for top, left, height, width in ((0, 0, 50, 50), (31, 77, 64, 64), (100, 3, 80, 100)):
            window = imagery.read(top, left, height, width).astype(int)
            assert np.abs(window - whole[top : top + height, left : left + width]).max() <= 1


@pytest.mark.parametrize(
    ("crs", "pixel", "metres"),
    [
        # One second of arc at 60 degrees north: 55.8 km and 111.4 km a degree.
        ("EPSG:4326", (1 / 3600, 60.0), (55.80 / 3.6, 111.41 / 3.6)),
        # Mercator metres are about twice the ground's there.
        ("EPSG:3857", (10.0, 8_399_737.9), (5.0126, 5.0042)),
        # US survey feet, in New York.
        ("EPSG:2263", (3.0, 200_000.0), (0.9144, 0.9144)),
    ],
)
def test_metres_are_those_on_the_ground(write, crs, pixel, metres):
    step, y = pixel
    x = 1_000_000 if crs == "EPSG:2263" else 20
    transform = rasterio.Affine(step, 0, x, 0, -step, y + 32 * step)
    *_, imagery = photo_of(write(noise(3), crs=crs, transform=transform))
    assert imagery.pixel[:2] == pytest.approx(metres, rel=1e-3)


def test_a_mercator_scene_is_resampled_by_metres_on_the_ground(write):
    # Pixels of 2 Mercator metres at 60 degrees north: one metre on the ground.
    transform = rasterio.Affine(2, 0, 1_500_000, 0, -2, 8_399_737.9 + 200)
    path = write(noise(3, 200, 300), crs="EPSG:3857", transform=transform)
    photo, _, imagery = photo_of(path, resolution=1.0)
    assert photo.shape == (200, 301, 3) and imagery.warnings == []
    assert imagery.map_pixel[:2] == pytest.approx((1, 1), rel=3e-3)
    photo, _, imagery = photo_of(path, resolution=2.0)
    assert photo.shape == (100, 150, 3) and imagery.map_pixel[:2] == pytest.approx((2, 2), rel=3e-3)
    assert imagery.transform @ (150, 100) == pytest.approx(transform @ (300, 200))


def test_a_turned_scene_keeps_its_turn(write):
    transform = HALF_METRE @ rasterio.Affine.rotation(30)
    *_, imagery = photo_of(write(noise(3, 200, 200), transform=transform), resolution=1.0)
    assert (imagery.height, imagery.width) == (100, 100)
    assert imagery.transform @ (100, 50) == pytest.approx(transform @ (200, 100))


def test_far_off_is_told(write):
    path = write(noise(3))
    assert photo_of(path, resolution=0.99)[2].warnings == []
    (warning,) = photo_of(path, resolution=1.5)[2].warnings
    assert warning.endswith(
        "scene.tif has pixels of 0.5 m; the model was trained on 1.5 m, 3.0 times off: what looks different is drawn "
        "badly."
    )
    assert "more than 16 times off" in refusal(path, resolution=20)


@pytest.mark.parametrize("resolution", [0, -1, float("nan"), float("inf")])
def test_a_resolution_that_is_none_is_told(write, resolution):
    with gdal(), pytest.raises(ConfigError, match="give the metres on the ground"):
        photo_of(write(noise(3)), resolution=resolution)


def test_without_a_coordinate_system_the_resolution_can_not_be_met(write):
    photo, _, imagery = photo_of(write(noise(3), crs=None, transform=rasterio.Affine.identity()), resolution=1.0)
    assert photo.shape == (64, 80, 3) and imagery.crs is None
    assert [warning.split("scene.tif ")[1] for warning in imagery.warnings] == [
        "has no coordinate system, and its map has none either.",
        "is drawn in its own pixels, which may not be 1 m.",
    ]


def test_a_coordinate_system_without_a_transform_gives_no_metres(write):
    *_, imagery = photo_of(write(noise(3), transform=rasterio.Affine.identity()))
    assert imagery.pixel is None and imagery.warnings[0].endswith("has no transform, and its map has none either.")


def test_a_coordinate_system_of_its_own_gives_no_metres(write):
    own = 'LOCAL_CS["building site",UNIT["metre",1]]'
    photo, _, imagery = photo_of(write(noise(3), crs=own), resolution=1.0)
    assert imagery.pixel is None and photo.shape == (64, 80, 3)
    assert "The ground resolution of" in imagery.warnings[0] and "drawn in its own pixels" in imagery.warnings[1]


def test_control_points_are_no_georeference(write):
    points = [GroundControlPoint(row, col, col, row) for row, col in ((0, 0), (0, 80), (64, 0), (64, 80))]
    path = write(noise(3), crs=None, transform=rasterio.Affine.identity())
    with rasterio.open(path, "r+") as file:
        file.gcps = points, rasterio.crs.CRS.from_epsg(4326)
    assert "no coordinate system" in photo_of(path)[2].warnings[0]


# Files that are not what they say


def test_a_vrt_that_poses_as_a_tiff_is_refused_before_gdal_sees_it(write, tmp_path):
    write(noise(3))
    vrt = tmp_path / "poser.tif"
    rasterio.shutil.copy(tmp_path / "scene.tif", vrt, driver="VRT")
    assert refusal(vrt).endswith("poser.tif is a VRT; a scene must be a TIFF file that holds its own pixels")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "an empty file"),
        (b"https://example.org/scene.tif", "a web address"),
        (b"/vsicurl/https://example.org/scene.tif", "a web address"),
        (b'<?xml version="1.0"?>\n<VRTDataset>', "a VRT"),
        (b"\xff\xd8\xff\xe0", "of another format"),
    ],
)
def test_other_content_is_told(tmp_path, content, kind):
    (tmp_path / "poser.tif").write_bytes(content)
    assert f"poser.tif is {kind};" in refusal(tmp_path / "poser.tif")


def test_addresses_and_sub_datasets_are_no_files(write, tmp_path):
    path = write(noise(3))
    for address in (f"GTIFF_DIR:1:{path}", f"/vsizip/{path}", "https://example.org/scene.tif"):
        assert refusal(tmp_path.__class__(address)).endswith("is missing or not a regular file; name a TIFF file")


def test_files_beside_the_scene_are_not_read(write, tmp_path):
    path = write(noise(3), crs=None, transform=rasterio.Affine.identity())
    (tmp_path / "scene.tfw").write_text("0.5\n0\n0\n-0.5\n500000\n600000\n")
    (tmp_path / "scene.tif.aux.xml").write_text("<PAMDataset><SRS>EPSG:2180</SRS></PAMDataset>")
    *_, imagery = photo_of(path)
    assert imagery.crs is None and imagery.transform.is_identity


def test_a_truncated_file_is_told_at_once(write):
    path = write(noise(3, 512, 512), tiled=True, blockxsize=256, blockysize=256)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "scene.tif is truncated: rows from" in refusal(path)
    path.write_bytes(whole[:6])
    assert "is not a readable TIFF: it is broken or truncated" in refusal(path)


def test_broken_pixels_are_told_with_their_rows(write):
    path = write(noise(3, 512, 512), compress="deflate", tiled=True, blockxsize=256, blockysize=256)
    content = bytearray(path.read_bytes())
    content[-60_000:] = bytes(60_000)
    path.write_bytes(content)
    with gdal(), open_imagery(path) as imagery:
        assert imagery.read(0, 0, 256, 256) is not None
        with pytest.raises(DataError, match=r"scene.tif is broken or truncated in rows 256 to 512"):
            imagery.read(256, 256, 256, 256)


def test_a_scene_of_too_many_pixels_is_refused(write, monkeypatch):
    path = write(noise(3))
    monkeypatch.setattr(geotiff, "MAX_PIXELS", 5000)
    assert "scene.tif has 80x64 pixels; at most 5000 are allowed" in refusal(path)


def test_a_map_of_too_many_pixels_is_refused(write, monkeypatch):
    path = write(noise(3))
    monkeypatch.setattr("serving.geo.imagery.MAX_PIXELS", 8000)
    assert "at 0.25 m a pixel would be 160x128 pixels; at most 8000" in refusal(path, resolution=0.25)


def test_one_huge_block_is_refused(tmp_path):
    path = tmp_path / "bomb.tif"
    shape = {"height": 20_000, "width": 20_000, "count": 1, "dtype": "uint8"}
    layout = {"tiled": True, "blockxsize": 16_400, "blockysize": 16_400, "sparse_ok": True}
    with gdal(), rasterio.open(path, "w", driver="GTiff", **shape, **layout):
        pass
    assert "stored in blocks of 268960000 bytes; at most 268435456 are allowed" in refusal(path)


def test_of_several_pages_the_first_is_drawn(tmp_path):
    pages = [Image.fromarray(as_photo(noise(3, seed=seed))) for seed in (1, 2)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    photo, _, imagery = photo_of(tmp_path / "pages.tif")
    assert np.array_equal(photo, np.asarray(pages[0]))
    assert imagery.warnings[1].endswith("pages.tif has 2 pages; the first is drawn.")


def test_spaces_and_letters_of_all_kinds_are_fine_in_a_name(write):
    bands = noise(3)
    assert np.array_equal(photo_of(write(bands, name="zdjęcie łąki #1?.tif"))[0], as_photo(bands))
