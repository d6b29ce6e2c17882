"""Image files one at a time; tests/pipelines/data/test_pairs.py shows what becomes of such files in a data set."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.errors import DataError
from model.io import images
from model.io.images import SCANS, decode, is_image_name, pixel_size, read_bytes, short_name

WIDTH, HEIGHT = 12, 8
FILE = Path("photos/x.png")


def picture(mode="RGB", size=(WIDTH, HEIGHT)):
    """Return noise, but smooth enough for JPEG to keep it."""
    width, height = size
    rough = np.random.default_rng(0).integers(0, 256, (3, 3, 3), dtype=np.uint8)
    return Image.fromarray(rough).resize((width, height), Image.Resampling.BILINEAR).convert(mode)


def encoded(image, kind="PNG", **options):
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


def pixels(content, **options):
    image = decode(FILE, content, **options)
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


def refused(content, path=FILE, **options):
    with pytest.raises(DataError) as stopped:
        decode(path, content, **options)
    return str(stopped.value)


# Names


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG", "a.PnG", "a.webp", "a.b.tif", "a.gif", "a.heic", "x y.bmp"])
def test_a_file_with_an_images_suffix_claims_to_be_one(name):
    assert is_image_name(name)


@pytest.mark.parametrize("name", [".a.jpg", "._a.png", "a", "jpg", ".png", "a.txt", "a.jpg.part", "a.json", "a.", ""])
def test_other_files_and_hidden_ones_do_not(name):
    assert not is_image_name(name)


def test_words_for_paths_and_sizes():
    assert short_name(Path("/a/b/c/x.png")) == "c/x.png"
    assert pixel_size(picture()) == "12x8"


# Bytes


def test_a_file_is_read_whole(tmp_path):
    (tmp_path / "x.png").write_bytes(bytes(range(256)) * 1000)
    assert read_bytes(tmp_path / "x.png") == bytes(range(256)) * 1000


def test_a_file_of_the_allowed_size_is_read_and_a_larger_one_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "MAX_BYTES", 100)
    (tmp_path / "x.png").write_bytes(b"x" * 100)
    assert len(read_bytes(tmp_path / "x.png")) == 100
    (tmp_path / "x.png").write_bytes(b"x" * 101)
    with pytest.raises(DataError, match=r"/x\.png has 101 bytes; at most 100 are allowed"):
        read_bytes(tmp_path / "x.png")


def test_what_is_no_regular_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    for name in ("pipe.png", "folder.png", "nowhere.png"):
        with pytest.raises(DataError, match=rf"/{name} is missing or not a regular file"):
            read_bytes(tmp_path / name)


def test_a_file_that_can_not_be_opened_says_why(tmp_path, monkeypatch):
    (tmp_path / "x.png").touch()

    def deny(*_):
        raise PermissionError(13, "Permission denied")

    # Root may open anything, so the system's refusal is put on.
    monkeypatch.setattr(Path, "open", deny)
    with pytest.raises(DataError, match=r"/x\.png can't be opened \(Permission denied\)"):
        read_bytes(tmp_path / "x.png")


# Pixels


@pytest.mark.parametrize(
    ("kind", "options", "difference"),
    [("PNG", {}, 0), ("WebP", {"lossless": True}, 0), ("JPEG", {"quality": 95, "subsampling": 0}, 8)],
)
def test_the_three_formats_are_decoded(kind, options, difference):
    found = pixels(encoded(picture(), kind, **options))
    assert found.shape == (HEIGHT, WIDTH, 3) and found.std() > 20
    assert np.abs(found - np.asarray(picture())).max() <= difference


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_grey_and_palettes_are_repeated_into_rgb(mode):
    image = picture(mode)
    assert np.array_equal(pixels(encoded(image)), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_half_transparent_is_half_white(mode):
    image = picture("L" if mode == "LA" else "RGB").convert(mode)
    opaque = np.asarray(image.convert("RGB")).astype(int)
    image.putalpha(128)
    assert np.abs(pixels(encoded(image)) - (opaque + 255) / 2).max() <= 1.5


def test_a_transparent_colour_of_a_palette_is_white():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    assert pixels(encoded(image, transparency=0)).tolist() == [[[255, 255, 255], [40, 50, 60]]]


def test_sixteen_bits_are_cut_to_the_upper_eight():
    deep = np.array([[0, 255, 256, 65535, 0x1234]], np.uint16)
    assert pixels(encoded(Image.fromarray(deep)))[0, :, 1].tolist() == [0, 0, 1, 255, 0x12]


TURNED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("orientation", TURNED)
def test_an_image_comes_out_upright(orientation):
    """Stored turned the other way than its EXIF says to turn it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = picture().transpose(TURNED[orientation])
    assert np.array_equal(pixels(encoded(stored, exif=exif)), np.asarray(picture()))


# Refusals


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "an empty file"),
        (b"GIF89a...", "GIF"),
        (b"BM......", "BMP"),
        (b"II*\0....", "TIFF"),
        (b"MM\0*....", "TIFF"),
        (b"II+\0....", "TIFF"),
        (b"hello", "of an unknown format"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "of an unknown format"),
        (b"RIFF....WAVE", "of an unknown format"),
        (b" " + encoded(picture()), "of an unknown format"),
    ],
)
def test_other_formats_are_named_by_their_first_bytes(content, found):
    assert refused(content, Path("/data/photos/x.jpg")) == f"photos/x.jpg is {found}; JPEG, PNG, WebP are allowed"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WebP"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_truncated_image_is_refused_and_not_filled_up(kind, share):
    content = encoded(picture(size=(64, 64)), kind)
    assert refused(content[: int(share * len(content))]).startswith("photos/x.png is broken or truncated (")


@pytest.mark.parametrize("start", [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP"])
def test_a_signature_alone_makes_no_image(start):
    for rest in (b"", b"\0" * 50, b"hello" * 50):
        assert "is broken or truncated" in refused(start + rest)


def test_a_flipped_byte_in_a_png_is_found():
    content = bytearray(encoded(picture()))
    content[content.index(b"IDAT") + 10] ^= 0xFF
    assert "is broken or truncated" in refused(content)


def test_an_animation_is_refused():
    frames = encoded(picture(), "WebP", save_all=True, append_images=[picture().rotate(180)])
    assert refused(frames) == "photos/x.png is an animation; a single image is needed"


def test_the_pixels_are_bounded_before_they_are_decoded(monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", WIDTH * HEIGHT)
    assert pixels(encoded(picture())).shape == (HEIGHT, WIDTH, 3)
    larger = encoded(picture(size=(WIDTH + 1, HEIGHT)))
    # Cut behind the header: that it is broken would show only when it is decoded.
    assert refused(larger[:60]) == f"photos/x.png has 13x8 pixels; at most {WIDTH * HEIGHT} are allowed"


def test_a_bomb_is_refused_by_its_header():
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    assert refused(bomb) == "photos/x.png has 100000x100000 pixels; at most 64000000 are allowed"


@pytest.mark.parametrize("damage", [b"II\xff\xff\xff\xff", b"", b"hello"])
def test_damaged_exif_turns_nothing(damage):
    plain = encoded(picture(), "JPEG")
    assert np.array_equal(pixels(encoded(picture(), "JPEG", exif=b"Exif\0\0" + damage)), pixels(plain))


def test_an_orientation_that_does_not_exist_turns_nothing():
    exif = Image.Exif()
    exif[0x0112] = 99
    assert np.array_equal(pixels(encoded(picture(), exif=exif)), np.asarray(picture()))


# Scans: TIFF, where it is allowed


def bits(tags):
    """Return a little-endian TIFF of its tags alone: (number, kind: 3 short or 4 long, value)."""
    entries = [struct.pack("<HHII", number, kind, 1, value) for number, kind, value in sorted(tags)]
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(entries) + bytes(64)


SHORT, LONG = 3, 4
HEADER = [(258, SHORT, 8), (259, SHORT, 5), (262, SHORT, 1), (277, SHORT, 1)]


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK"])
def test_a_scan_of_any_kind_of_pixel_is_decoded(mode, compression):
    image = picture().convert(mode)
    assert np.array_equal(pixels(encoded(image, "TIFF", compression=compression), formats=SCANS), image.convert("RGB"))


def test_a_large_scans_kind_of_file_is_decoded_and_the_upper_bits_are_kept():
    assert np.array_equal(pixels(encoded(picture(), "TIFF", big_tiff=True), formats=SCANS), picture())
    deep = np.array([[0, 255, 256, 65535, 0x1234]], np.uint16)
    assert pixels(encoded(Image.fromarray(deep), "TIFF"), formats=SCANS)[0, :, 1].tolist() == [0, 0, 1, 255, 0x12]


@pytest.mark.parametrize("mode", ["CMYK", "L"])
def test_a_jpeg_for_print_or_in_grey_is_decoded(mode):
    image = picture().convert(mode)
    assert np.abs(pixels(encoded(image, "JPEG", quality=95)) - np.asarray(image.convert("RGB")).astype(int)).max() < 20


@pytest.mark.parametrize("orientation", TURNED)
def test_a_scan_comes_out_upright(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = picture().transpose(TURNED[orientation])
    assert np.array_equal(pixels(encoded(stored, "TIFF", exif=exif), formats=SCANS), np.asarray(picture()))


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_numbers_without_a_known_range_are_refused(dtype):
    scan = encoded(Image.fromarray(np.arange(12, dtype=dtype).reshape(3, 4)), "TIFF")
    assert refused(scan, formats=SCANS) == (
        "photos/x.png has numbers of 32 bits; 8 or 16 bits are allowed: scale them first"
    )


def test_several_pages_are_refused_however_many():
    pages = encoded(picture(), "TIFF", save_all=True, append_images=[picture()] * 3)
    assert refused(pages, formats=SCANS) == "photos/x.png has several pages; a single image is needed"


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data", "ignore:Truncated File Read")
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9])
def test_a_truncated_scan_is_refused_and_not_filled_up(compression, share):
    content = encoded(picture(size=(64, 64)), "TIFF", compression=compression)
    assert "is broken or truncated" in refused(content[: int(share * len(content))], formats=SCANS)


def test_a_scan_whose_header_lies_is_refused_before_memory_is_asked_for():
    size = [(256, LONG, 30), (257, LONG, 30)]
    tiles = [(322, LONG, 60_000), (323, LONG, 60_000), (324, LONG, 100), (325, LONG, 40)]
    assert refused(bits([*HEADER, *size, *tiles]), formats=SCANS) == (
        "photos/x.png has tiles of 60000x60000 pixels; at most 64000000 are allowed"
    )
    bomb = [(256, LONG, 60_000), (257, LONG, 60_000), (273, LONG, 100), (278, LONG, 60_000), (279, LONG, 40)]
    assert refused(bits([*HEADER, *bomb]), formats=SCANS) == (
        "photos/x.png has 60000x60000 pixels; at most 64000000 are allowed"
    )
