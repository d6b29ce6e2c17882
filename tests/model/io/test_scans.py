"""TIFF images of pairs."""

import struct

import numpy as np
import pytest
import rasterio
from PIL import Image

from model.io.images import SCANS
from tests.fixtures.image_files import STORED, encoded, oriented, picture, pixels, rejection
from tests.fixtures.scenes import as_photo, noise, write_scene


def tiff_header(tags):
    """Return a little-endian TIFF without pixels from tags (number, type, value), the type being SHORT or LONG."""
    entries = [struct.pack("<HHII", number, kind, 1, value) for number, kind, value in sorted(tags)]
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(entries) + bytes(64)


SHORT, LONG = 3, 4
HEADER = [(258, SHORT, 8), (259, SHORT, 5), (262, SHORT, 1), (277, SHORT, 1)]


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK"])
def test_a_tiff_of_any_mode_and_compression_is_decoded(mode, compression):
    image = picture().convert(mode)
    assert np.array_equal(pixels(encoded(image, "TIFF", compression=compression), formats=SCANS), image.convert("RGB"))


def test_a_big_tiff_is_decoded():
    assert np.array_equal(pixels(encoded(picture(), "TIFF", big_tiff=True), formats=SCANS), picture())


def test_sixteen_bits_of_a_tiff_are_reduced_to_the_upper_eight():
    deep = np.array([[0, 255, 256, 65535, 0x1234]], np.uint16)
    assert pixels(encoded(Image.fromarray(deep), "TIFF"), formats=SCANS)[0, :, 1].tolist() == [0, 0, 1, 255, 0x12]


@pytest.mark.parametrize("orientation", STORED)
def test_a_tiff_is_decoded_upright(orientation):
    stored, exif = oriented(orientation)
    assert np.array_equal(pixels(encoded(stored, "TIFF", exif=exif), formats=SCANS), np.asarray(picture()))


@pytest.mark.parametrize(
    ("dtype", "described"),
    [(np.float32, "floating-point values of 32 bits"), (np.int32, "signed values of 32 bits")],
)
def test_values_without_a_known_range_are_rejected(dtype, described):
    scan = encoded(Image.fromarray(np.arange(12, dtype=dtype).reshape(3, 4)), "TIFF")
    assert rejection(scan, formats=SCANS) == (
        f"photos/x.png has {described}; 8 or 16 bits without a sign are allowed: scale them first"
    )


def test_sixteen_bits_with_a_sign_are_not_called_32():
    header = [(256, SHORT, 2), (257, SHORT, 2), (258, SHORT, 16), (259, SHORT, 1), (262, SHORT, 1), (277, SHORT, 1)]
    scan = tiff_header([*header, (273, LONG, 200), (278, SHORT, 2), (279, LONG, 8), (339, SHORT, 2)])
    assert rejection(scan, formats=SCANS).startswith("photos/x.png has signed values of 16 bits; 8 or 16 bits without")


@pytest.mark.parametrize(
    ("bands", "kind", "options"),
    [
        (5, np.uint8, {}),
        (1, np.float64, {}),
        (3, np.float32, {"photometric": "RGB"}),
        (3, np.uint8, {"photometric": "RGB", "compress": "webp"}),
        (3, np.uint8, {"photometric": "RGB", "compress": "lerc"}),
    ],
)
def test_sound_tiffs_that_are_not_read_are_not_called_broken(tmp_path, capfd, bands, kind, options):
    path = write_scene(tmp_path / "x.tif", noise(bands, 40, 50).astype(kind), **options)
    assert rejection(path.read_bytes(), formats=SCANS) == (
        "photos/x.png is a TIFF image of a kind that is not read; convert it to a PNG image"
    )
    assert capfd.readouterr().err == ""


def test_levels_with_a_sign_are_rejected(tmp_path):
    path = write_scene(tmp_path / "x.tif", noise(1, 40, 50).astype(np.int8))
    assert "has signed values of 8 bits" in rejection(path.read_bytes(), formats=SCANS)


def test_overviews_are_no_pages(tmp_path):
    bands = noise(3, 200, 300)
    with rasterio.open(write_scene(tmp_path / "x.tif", bands, photometric="RGB", tiled=True), "r+") as file:
        file.build_overviews([2, 4])
    assert np.array_equal(pixels((tmp_path / "x.tif").read_bytes(), formats=SCANS), as_photo(bands))


def test_a_tiff_of_several_pages_is_rejected():
    pages = encoded(picture(), "TIFF", save_all=True, append_images=[picture()] * 3)
    assert rejection(pages, formats=SCANS) == "photos/x.png has several pages; a single image is needed"


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data", "ignore:Truncated File Read")
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9])
def test_a_truncated_tiff_is_rejected_and_not_padded(compression, share):
    content = encoded(picture(size=(64, 64)), "TIFF", compression=compression)
    assert "is broken or truncated" in rejection(content[: int(share * len(content))], formats=SCANS)


def test_a_tiff_with_a_false_size_is_rejected_before_memory_is_allocated():
    size = [(256, LONG, 30), (257, LONG, 30)]
    tiles = [(322, LONG, 60_000), (323, LONG, 60_000), (324, LONG, 100), (325, LONG, 40)]
    assert rejection(tiff_header([*HEADER, *size, *tiles]), formats=SCANS) == (
        "photos/x.png has tiles of 60000x60000 pixels; at most 64000000 are allowed"
    )
    bomb = [(256, LONG, 60_000), (257, LONG, 60_000), (273, LONG, 100), (278, LONG, 60_000), (279, LONG, 40)]
    assert rejection(tiff_header([*HEADER, *bomb]), formats=SCANS) == (
        "photos/x.png has 60000x60000 pixels; at most 64000000 are allowed"
    )
