"""Image files of photos and maps; tests/pipelines/data/test_pairs.py covers such files in a data set."""

import os
import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.errors import DataError
from model.io import images
from model.io.images import is_image_name, pixel_size, printable, read_bytes, short_name
from tests.fixtures.image_files import (
    HEIGHT,
    STORED,
    WIDTH,
    encoded,
    oriented,
    picture,
    pixels,
    png_header,
    rejection,
)


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG", "a.PnG", "a.webp", "a.b.tif", "a.gif", "a.heic", "x y.bmp"])
def test_a_name_with_an_image_suffix_is_an_image_name(name):
    assert is_image_name(name)


@pytest.mark.parametrize("name", [".a.jpg", "._a.png", "a", "jpg", ".png", "a.txt", "a.jpg.part", "a.json", "a.", ""])
def test_other_names_and_hidden_files_are_not_image_names(name):
    assert not is_image_name(name)


def test_paths_and_sizes_have_short_texts():
    assert short_name(Path("/a/b/c/x.png")) == "c/x.png"
    assert short_name(Path("x.png")) == "x.png" and short_name(Path("../x.png")) == "../x.png"
    assert pixel_size(picture()) == "12x8"


def test_line_breaks_and_control_characters_of_names_are_escaped():
    assert printable("Süd Straße/東京 #1.png") == "Süd Straße/東京 #1.png"
    assert short_name(Path("a\nb/c\x1b[31m\u2028.png")) == "a\\nb/c\\x1b[31m\\u2028.png"
    assert printable(os.fsdecode(b"caf\xe9.png")) == "caf\\udce9.png"


# Reading


def test_a_file_is_read_completely(tmp_path):
    (tmp_path / "x.png").write_bytes(bytes(range(256)) * 1000)
    assert read_bytes(tmp_path / "x.png") == bytes(range(256)) * 1000


def test_a_file_above_the_allowed_size_is_rejected(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "MAX_BYTES", 100)
    (tmp_path / "x.png").write_bytes(b"x" * 100)
    assert len(read_bytes(tmp_path / "x.png")) == 100
    (tmp_path / "x.png").write_bytes(b"x" * 101)
    with pytest.raises(DataError, match=r"/x\.png has 101 bytes; at most 100 are allowed"):
        read_bytes(tmp_path / "x.png")


REASONS = {
    "pipe.png": "is a pipe, socket or device, not a regular file",
    "socket.png": "is a pipe, socket or device, not a regular file",
    "folder.png": "is a folder, not a regular file",
    "nowhere.png": "is missing",
    "dangling.png": "is a link to far/x.png, which is missing",
    "loop.png": "is a link that leads back to itself",
    "n" * 300: "can't be opened (File name too long)",
}


def test_only_regular_files_are_opened_and_the_reason_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.png")
    os.mkdir("folder.png")
    os.symlink("far/x.png", "dangling.png")
    os.symlink("loop.png", "loop.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.png")
    for name, reason in REASONS.items():
        with pytest.raises(DataError) as refused:
            read_bytes(tmp_path / name)
        assert str(refused.value) == f"{tmp_path.name}/{name} {reason}"


def test_a_file_that_cannot_be_opened_is_rejected_with_the_reason(tmp_path, monkeypatch):
    (tmp_path / "x.png").touch()

    def deny(*_):
        raise PermissionError(13, "Permission denied")

    # Root may open any file, so the refusal is simulated.
    monkeypatch.setattr(Path, "open", deny)
    with pytest.raises(DataError, match=r"/x\.png can't be opened \(Permission denied\)"):
        read_bytes(tmp_path / "x.png")


# Decoding


@pytest.mark.parametrize(
    ("kind", "options", "difference"),
    [("PNG", {}, 0), ("WebP", {"lossless": True}, 0), ("JPEG", {"quality": 95, "subsampling": 0}, 8)],
)
def test_png_webp_and_jpeg_are_decoded(kind, options, difference):
    found = pixels(encoded(picture(), kind, **options))
    assert found.shape == (HEIGHT, WIDTH, 3) and found.std() > 20
    assert np.abs(found - np.asarray(picture())).max() <= difference


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_grey_and_palette_images_become_rgb(mode):
    image = picture(mode)
    assert np.array_equal(pixels(encoded(image)), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["CMYK", "L"])
def test_a_cmyk_or_grey_jpeg_is_decoded(mode):
    image = picture().convert(mode)
    assert np.abs(pixels(encoded(image, "JPEG", quality=95)) - np.asarray(image.convert("RGB")).astype(int)).max() < 20


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_a_half_transparent_image_is_blended_with_white(mode):
    image = picture("L" if mode == "LA" else "RGB").convert(mode)
    opaque = np.asarray(image.convert("RGB")).astype(int)
    image.putalpha(128)
    assert np.abs(pixels(encoded(image)) - (opaque + 255) / 2).max() <= 1.5


def test_a_transparent_colour_of_a_palette_is_white():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    assert pixels(encoded(image, transparency=0)).tolist() == [[[255, 255, 255], [40, 50, 60]]]


def test_sixteen_bits_are_reduced_to_the_upper_eight():
    deep = np.array([[0, 255, 256, 65535, 0x1234]], np.uint16)
    assert pixels(encoded(Image.fromarray(deep)))[0, :, 1].tolist() == [0, 0, 1, 255, 0x12]


@pytest.mark.parametrize("orientation", STORED)
def test_an_image_is_decoded_upright(orientation):
    stored, exif = oriented(orientation)
    assert np.array_equal(pixels(encoded(stored, exif=exif)), np.asarray(picture()))


# Rejections


def test_other_formats_are_rejected_by_their_first_bytes():
    assert rejection(b"GIF89a...", Path("/data/photos/x.jpg")) == (
        "photos/x.jpg is a GIF image; convert it to JPEG, PNG or WebP"
    )
    assert rejection(b"") == "photos/x.png is an empty file; copy or download it again"
    assert rejection(b" " + encoded(picture())) == "photos/x.png is of an unknown format; JPEG, PNG, WebP are allowed"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WebP"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_truncated_image_is_rejected_and_not_padded(kind, share):
    content = encoded(picture(size=(64, 64)), kind)
    assert rejection(content[: int(share * len(content))]).startswith("photos/x.png is broken or truncated (")


@pytest.mark.parametrize("start", [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP"])
def test_a_signature_without_an_image_is_rejected(start):
    for rest in (b"", b"\0" * 50, b"hello" * 50):
        assert "is broken or truncated" in rejection(start + rest)


def test_a_flipped_byte_in_a_png_is_detected():
    content = bytearray(encoded(picture()))
    content[content.index(b"IDAT") + 10] ^= 0xFF
    assert "is broken or truncated" in rejection(content)


def test_an_animation_is_rejected():
    frames = encoded(picture(), "WebP", save_all=True, append_images=[picture().rotate(180)])
    assert rejection(frames) == "photos/x.png is an animation; a single image is needed"


def test_the_number_of_pixels_is_checked_before_decoding(monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", WIDTH * HEIGHT)
    assert pixels(encoded(picture())).shape == (HEIGHT, WIDTH, 3)
    larger = encoded(picture(size=(WIDTH + 1, HEIGHT)))
    # Truncated after the header, which only decoding would detect.
    assert rejection(larger[:60]) == f"photos/x.png has 13x8 pixels; at most {WIDTH * HEIGHT} are allowed"


def test_a_decompression_bomb_is_rejected_by_its_header():
    bomb = png_header(100_000, 100_000)
    assert rejection(bomb) == "photos/x.png has 100000x100000 pixels; at most 64000000 are allowed"


@pytest.mark.parametrize("damage", [b"II\xff\xff\xff\xff", b"", b"hello"])
def test_damaged_exif_is_ignored(damage):
    plain = encoded(picture(), "JPEG")
    assert np.array_equal(pixels(encoded(picture(), "JPEG", exif=b"Exif\0\0" + damage)), pixels(plain))


def test_an_unknown_orientation_is_ignored():
    exif = Image.Exif()
    exif[0x0112] = 99
    assert np.array_equal(pixels(encoded(picture(), exif=exif)), np.asarray(picture()))
