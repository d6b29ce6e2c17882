"""TIFF and JPEG 2000 photos that become PNG, JPEG or WebP maps: they are read by the rules of scenes."""

import numpy as np
import pytest
import rasterio
from PIL import Image

from serving.geo.gdal import gdal
from tests.fixtures.scenes import read_bands
from tests.fixtures.scored_folders import draw, errors, negative, noise, pixels, rows
from tests.fixtures.surveys import draw_scenes, noise_bands, write_survey

EMPTY_ROWS = 10


@pytest.fixture
def photos(tmp_path):
    """Return an empty folder."""
    (tmp_path / "photos").mkdir()
    return tmp_path / "photos"


def as_photo(bands):
    return np.moveaxis(bands, 0, -1)


def write_jp2(path, bands, **profile):
    """Write bands (n, h, w) as a lossless JPEG 2000 file."""
    count, height, width = bands.shape
    shape = {"count": count, "height": height, "width": width, "dtype": bands.dtype}
    with (
        gdal(),
        rasterio.open(path, "w", driver="JP2OpenJPEG", QUALITY=100, REVERSIBLE="YES", **shape, **profile) as file,
    ):
        file.write(bands)
    return path


@pytest.fixture
def partly_empty(photos):
    """Return a TIFF whose upper rows are nodata."""
    bands = noise_bands(3, 60, 80)
    bands[bands == 0] = 1
    bands[:, :EMPTY_ROWS] = 0
    return write_survey(photos / "part.tif", bands, nodata=0)


@pytest.mark.parametrize("format", ["png", "webp"])
def test_empty_pixels_are_transparent_and_black(bundle, partly_empty, maps, format):
    draw(bundle, partly_empty, maps, format=format)
    with Image.open(maps / f"part.{format}") as drawn:
        assert drawn.mode == "RGBA"
        found = np.asarray(drawn)
    assert not found[:EMPTY_ROWS, :, 3].any() and (found[EMPTY_ROWS:, :, 3] == 255).all()
    if format == "png":
        assert not found[:EMPTY_ROWS].any()
        assert np.array_equal(found[EMPTY_ROWS:, :, :3], 255 - as_photo(read_bands(partly_empty))[EMPTY_ROWS:])


def test_empty_pixels_of_a_jpeg_are_white(bundle, partly_empty, maps):
    draw(bundle, partly_empty, maps, format="jpeg")
    assert pixels(maps / "part.jpg")[: EMPTY_ROWS - 2].min() > 220


@pytest.mark.parametrize(("name", "kind"), [("part.png", "PNG"), ("part.webp", "WEBP")])
@pytest.mark.parametrize("format", ["png", "tiff"])
def test_maps_of_transparent_images_are_transparent(bundle, photos, maps, name, kind, format):
    image = noise(1)
    image.putalpha(255)
    image.paste((9, 9, 9, 0), (0, 0, image.width, EMPTY_ROWS))
    image.save(photos / name, kind, lossless=True)
    draw(bundle, photos, maps, format=format)
    found = as_photo(read_bands(next(maps.glob("part.*"))))
    assert not found[:EMPTY_ROWS].any() and (found[EMPTY_ROWS:, :, 3] == 255).all()
    assert np.array_equal(found[EMPTY_ROWS:, :, :3], negative(noise(1))[EMPTY_ROWS:])


def test_a_scaled_photo_has_a_scaled_alpha(bundle, partly_empty, maps):
    draw(bundle, partly_empty, maps, resize=True)
    with Image.open(maps / "part.png") as drawn:
        assert drawn.size == (43, 32) and drawn.mode == "RGBA"
        assert np.asarray(drawn)[0, 0, 3] == 0 and np.asarray(drawn)[-1, -1, 3] == 255


def test_bands_and_stretch_are_those_of_all_tiffs(bundle, photos, maps):
    noise(1).save(photos / "plain.png")
    bands = noise_bands(5, 40, 50, np.uint16)
    write_survey(photos / "five.tif", bands, photometric="MINISBLACK")
    draw_scenes(bundle, photos, maps, format="png", bands=(5, 1, 3), stretch=(0, 100))
    expected = as_photo(bands[[4, 0, 2]]).astype(float)
    low, high = expected.min(axis=(0, 1)), expected.max(axis=(0, 1))
    expected = 255 - 255 * (expected - low) / (high - low)
    assert np.abs(pixels(maps / "five.png") - expected).max() <= 1.5
    assert rows(maps)["five.tif"]["settings"] == "png overlap=0.25 scene bands=5,1,3 stretch=0,100"
    assert rows(maps)["plain.png"]["settings"] == "png overlap=0.25"
    assert draw_scenes(bundle, photos, maps, format="png", bands=(5, 1, 3), stretch=(0, 100)).kept == 2
    assert draw_scenes(bundle, photos, maps, format="png", bands=(1, 2, 3), stretch=(0, 100)).kept == 1


def test_warnings_about_a_photo_are_in_the_report_and_in_its_outcome(bundle, photos, maps):
    noise(5).save(photos / "pages.tif", save_all=True, append_images=[noise(6)])
    Image.fromarray(np.full((40, 50), 4095, np.uint16)).save(photos / "twelve.png")
    outcomes = []
    report = draw(bundle, photos, maps, on_outcome=outcomes.append)
    assert report.warnings == tuple(warning for outcome in outcomes for warning in outcome.warnings)
    first, second = report.warnings
    assert first.startswith("photos/pages.tif has 2 pages") and "all values are below 4096" in second
    assert np.array_equal(pixels(maps / "pages.png"), negative(noise(5)))


def test_a_mask_next_to_a_photo_is_named_but_not_a_location(bundle, photos, maps):
    path = write_survey(photos / "masked.tif", noise_bands(3, 40, 50))
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as file:
        file.write_mask(np.zeros((40, 50), np.uint8))
    write_survey(photos / "plain.tif", noise_bands(3, 40, 50), crs=None, transform=None)
    (photos / "plain.tfw").write_text("0.5\n0\n0\n-0.5\n500000.25\n599999.75\n")
    (warning,) = [text for text in draw(bundle, photos, maps).warnings if "next to it" in text]
    assert "masked.tif.msk (a mask)" in warning


def test_the_format_of_a_photo_is_that_of_its_content(bundle, photos, maps):
    bands = noise_bands(3, 40, 50)
    write_survey(photos / "tiff.jpg", bands)
    noise(3).save(photos / "png.tif", "PNG")
    report = draw(bundle, photos, maps)
    assert np.array_equal(pixels(maps / "tiff.png"), 255 - as_photo(bands))
    assert np.array_equal(pixels(maps / "png.png"), negative(noise(3)))
    assert report.warnings[-1].startswith("1 of the photos is georeferenced")


def test_a_georeferenced_tiff_of_another_name_is_not_stripped_of_its_location(bundle, photos, maps):
    write_survey(photos / "tiff.jpg", noise_bands(3, 40, 50))
    noise(3).save(photos / "plain.png")
    assert errors(draw_scenes(bundle, photos, maps)) == {}
    with gdal(), rasterio.open(maps / "tiff.tif") as drawn:
        assert drawn.crs.to_epsg() == 32633


@pytest.mark.parametrize(
    ("name", "kind", "advice"),
    [
        ("x.tif", "TIFF", "; with --format tiff, TIFFs of any size are drawn"),
        ("x.png", "PNG", ": convert it to a TIFF; with --format tiff, TIFFs of any size are drawn"),
    ],
)
def test_a_photo_that_is_too_large_may_be_drawn_as_a_scene(bundle, photos, maps, monkeypatch, name, kind, advice):
    monkeypatch.setattr("model.io.images.MAX_BYTES", 5000)
    noise(1, (60, 60)).save(photos / name, kind)
    noise(2, (2, 2)).save(photos / "small.webp", lossless=True)
    size = (photos / name).stat().st_size
    assert errors(draw(bundle, photos, maps)) == {
        name: f"photos/{name} has {size} bytes; at most 5000 are allowed{advice}"
    }


# JPEG 2000


def test_a_jpeg_2000_photo_becomes_a_png(bundle, photos, maps):
    bands = noise_bands(3, 40, 50)
    write_jp2(photos / "x.jp2", bands)
    Image.fromarray(as_photo(bands)).save(photos / "bare.j2k", "JPEG2000", no_jp2=True)
    assert draw(bundle, photos, maps).failed == ()
    for name in ("x.png", "bare.png"):
        assert np.array_equal(pixels(maps / name), 255 - as_photo(bands))


@pytest.mark.parametrize("single", [True, False])
def test_a_jpeg_2000_file_is_a_scene_if_its_map_is_a_tiff(run_score, make_bundle, photos, tmp_path, single):
    bands, transform = noise_bands(3, 70, 90), rasterio.Affine(2, 0, 400_000, 0, -2, 5_800_000)
    write_jp2(photos / "x.jp2", bands, crs="EPSG:32633", transform=transform)
    words = ("photos/x.jp2", "-o", "maps/x.tif") if single else ("photos", "maps", "--format", "tiff")
    done = run_score(*words, "--model", make_bundle())
    assert done.returncode == 0, done.stderr
    with gdal(), rasterio.open(tmp_path / "maps" / "x.tif") as drawn:
        assert (drawn.crs.to_epsg(), drawn.transform) == (32633, transform)
    assert np.array_equal(read_bands(tmp_path / "maps" / "x.tif"), 255 - bands)
    assert (tmp_path / "maps" / "x.manifest.json").is_file()
