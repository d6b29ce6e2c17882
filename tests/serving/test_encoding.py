"""Maps as image files, decoded by Pillow."""

import io

import numpy as np
import pytest
from PIL import Image

from model.errors import DataError
from serving.encoding import OTHER_SUFFIXES, SUFFIXES, encode, suffix


def pixels(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def decoded(content):
    image = Image.open(io.BytesIO(content))
    image.load()
    return image


@pytest.mark.parametrize("format", ["png", "tiff"])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (32, 48), (255, 257)])
def test_png_and_tiff_keep_every_pixel(format, size):
    image = decoded(encode(pixels(*size), format))
    assert (image.format, image.mode) == (format.upper(), "RGB")
    assert np.array_equal(np.asarray(image), pixels(*size))


def test_a_png_of_a_view_has_the_pixels_of_the_view():
    image = pixels(20, 30)
    assert np.array_equal(np.asarray(decoded(encode(image[3:17, 5:25], "png"))), image[3:17, 5:25])


def test_a_png_of_flat_colours_is_small():
    flat = np.full((256, 256, 3), (240, 235, 225), np.uint8)
    flat[100:120] = 255
    assert len(encode(flat, "png")) < 3000


@pytest.mark.parametrize("format", ["jpeg", "webp"])
def test_jpeg_and_webp_are_similar_and_small(format):
    smooth = np.asarray(Image.fromarray(pixels(8, 8)).resize((128, 128), Image.Resampling.BICUBIC))
    content = encode(smooth, format)
    assert np.abs(np.asarray(decoded(content)).astype(int) - smooth).mean() < 4
    assert len(content) < smooth.size / 8


@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "tiff"])
def test_the_same_pixels_give_the_same_bytes(format):
    assert encode(pixels(40, 40), format) == encode(pixels(40, 40), format) != encode(pixels(40, 40, 1), format)


@pytest.mark.parametrize("format", ["png", "tiff"])
def test_png_and_tiff_keep_alpha(format):
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 4), dtype=np.uint8)
    found = decoded(encode(image, format))
    assert found.mode == "RGBA" and np.array_equal(np.asarray(found), image)


def test_webp_keeps_alpha_and_jpeg_is_blended_with_white():
    image = np.zeros((16, 48, 4), np.uint8)
    image[:, 16:32, 3], image[:, 32:, 3] = 128, 255
    assert np.array_equal(np.asarray(decoded(encode(image, "webp")))[..., 3], image[..., 3])
    blended = np.asarray(decoded(encode(image, "jpeg"))).astype(int)
    for columns, level in ((slice(0, 16), 255), (slice(16, 32), 127), (slice(32, 48), 0)):
        assert np.abs(blended[:, columns] - level).max() <= 3


@pytest.mark.parametrize(("format", "side"), [("jpeg", 65_501), ("webp", 16_384)])
def test_a_size_that_a_format_does_not_support_is_refused(format, side):
    assert decoded(encode(np.zeros((1, side - 1, 3), np.uint8), format)).width == side - 1
    with pytest.raises(
        DataError, match=f"A map of {side} pixels a side can't be a {format} file, .* at most {side - 1}; use"
    ):
        encode(np.zeros((1, side, 3), np.uint8), format)


def test_each_format_has_a_suffix():
    for format in ("png", "jpeg", "webp", "tiff"):
        assert SUFFIXES[suffix(format)] == format
    assert suffix("jpeg") == ".jpg"


def test_the_suffixes_of_other_files_are_not_those_of_maps_or_versions():
    assert not OTHER_SUFFIXES & SUFFIXES.keys()
    assert {".jp2", ".gif", ".bmp", ".avif", ".heic", ".svg", ".pdf", ".img", ".vrt", ".nc", ".gpkg"} < OTHER_SUFFIXES
    assert not {".v2", ".1", ".2026", ".old", ".new", ".maps", ".d"} & OTHER_SUFFIXES
