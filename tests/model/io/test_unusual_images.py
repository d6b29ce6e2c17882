"""Sound images of unusual kinds: they are decoded or named, and never called broken."""

import imagecodecs
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from model.io.images import decode_with_alpha, find_unused_range
from tests.fixtures.image_files import FILE, encoded, picture, pixels, rejection

GREY, COLOURS = np.asarray(picture("L")), np.asarray(picture())


def deep(levels, factor=257):
    """Return 8-bit levels as 16-bit ones."""
    return levels.astype(np.uint16) * np.uint16(factor)


@pytest.mark.parametrize("compressed", [False, True])
def test_long_texts_and_profiles_of_a_png_are_skipped(compressed):
    info = PngInfo()
    info.add_itxt("history", "x" * 3_000_000, zip=compressed)
    info.add_text("comment", "y" * 3_000_000, zip=compressed)
    content = encoded(picture(), pnginfo=info, icc_profile=bytes(3_000_000))
    assert np.array_equal(pixels(content), COLOURS)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {"progressive": True}),
        ("JPEG", {"icc_profile": bytes(100_000)}),
        ("MPO", {"save_all": True, "append_images": [picture()]}),
        ("WebP", {"icc_profile": bytes(100_000), "lossless": True}),
    ],
)
def test_unusual_files_are_decoded(kind, options):
    assert np.abs(pixels(encoded(picture(), kind, **options)) - COLOURS).mean() < 12


def test_a_lossless_jpeg_is_decoded():
    assert np.array_equal(pixels(imagecodecs.jpeg8_encode(COLOURS, lossless=True)), COLOURS)


def test_bytes_after_the_end_are_ignored():
    for kind in ("PNG", "JPEG", "WebP"):
        content = encoded(picture(), kind)
        assert np.array_equal(pixels(content + b"junk"), pixels(content))


def test_a_jpeg_of_12_bits_is_named():
    content = imagecodecs.jpeg8_encode(deep(GREY, 16), bitspersample=12)
    assert rejection(content) == "photos/x.png is a JPEG image of 12 bits a channel; convert it to one of 8 bits"


@pytest.mark.parametrize("channels", ["grey", "rgb", "rgba"])
def test_pngs_of_16_bits_keep_their_upper_8(channels):
    levels = {"grey": GREY, "rgb": COLOURS, "rgba": np.dstack([COLOURS, np.full_like(GREY, 255)])}[channels]
    expected = levels[..., :3] if levels.ndim == 3 else np.dstack([levels] * 3)
    assert np.array_equal(pixels(imagecodecs.png_encode(deep(levels))), expected)


def test_a_transparent_value_of_16_bits_is_white():
    levels = np.array([[256, 512]], np.uint16)
    assert pixels(encoded(Image.fromarray(levels), transparency=512))[0, :, 0].tolist() == [1, 255]


# 16 bits with unused ones


def warning(content):
    return find_unused_range(FILE, content, *decode_with_alpha(FILE, content))


@pytest.mark.parametrize("levels", [GREY, COLOURS])
def test_12_bits_in_a_png_of_16_give_a_warning(levels):
    levels = levels.copy()
    levels.flat[0] = 255
    assert warning(imagecodecs.png_encode(deep(levels, 16))) == (
        "photos/x.png has 16 bits a channel, but all values are below 4096, so it is almost black; convert it to a "
        "TIFF (gdal_translate), whose values are stretched."
    )


def test_transparent_pixels_do_not_hide_that_others_are_dark():
    levels = np.full((4, 5, 4), 4000, np.uint16)
    levels[..., 3] = 65535
    levels[0] = 65535, 65535, 65535, 0
    assert "all values are below 4096" in warning(imagecodecs.png_encode(levels))


def test_images_that_use_their_bits_give_no_warning():
    for content in (imagecodecs.png_encode(deep(COLOURS)), encoded(picture()), encoded(Image.new("RGB", (2, 2)))):
        assert warning(content) == ""
