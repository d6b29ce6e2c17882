"""Formats of files by their first bytes."""

import io
import time

import pytest
from PIL import Image

from model.io.formats import BEGIN, JPEG_2000, UNKNOWN, identify

FTYP = b"\0\0\0\x1cftyp"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *[("JPEG", "a JPEG image"), ("PNG", "a PNG image"), ("WEBP", "a WebP image"), ("TIFF", "a TIFF image")],
        *[("GIF", "a GIF image"), ("BMP", "a BMP image"), ("AVIF", "an AVIF image"), ("JPEG2000", "a JPEG 2000 image")],
        *[("PDF", "a PDF document"), ("EPS", "a PostScript drawing"), ("ICO", "an icon"), ("PPM", "a PNM image")],
        *[("DDS", "a DDS image"), ("QOI", "a QOI image")],
    ],
)
def test_files_that_pillow_writes_are_recognised(kind, name):
    target = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(target, kind)
    assert identify(target.getvalue()).name == name


@pytest.mark.parametrize(
    ("begin", "name", "advice"),
    [
        (b"", "an empty file", "copy or download it again"),
        (bytes(9), "a file that begins with zeros", "copy or download it again"),
        (b"II+\0\x08\0", "a TIFF image", ""),
        (b"\xff\x4f\xff\x51\0", JPEG_2000.name, ""),
        (FTYP + b"heic\0\0\0\0mif1", "a HEIC image", ""),
        (FTYP + b"isom", "a video", "save one of its frames as an image"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image", ""),
        (b"\xff\x0a\xfa", "a JPEG XL image", ""),
        (b"8BPS\0\1", "a Photoshop file", "export it as a PNG image"),
        (b"CDF\x02", "a NetCDF file", "convert it to a GeoTIFF (gdal_translate)"),
        (b"EHFA_HEADER_TAG", "an Erdas Imagine file", "convert it to a GeoTIFF (gdal_translate)"),
        (b"PK\x03\x04", "an archive", "unpack it"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer", "fetch the file itself (git lfs pull)"),
        (b"<?xml version='1.0'?>\n<!-- x --><svg/>", "an SVG drawing", "export it as a PNG image"),
        (b"<!DOCTYPE svg PUBLIC 'x'>\n<svg/>", "an SVG drawing", "export it as a PNG image"),
        (b"\n <!-- a --> <!doctype HTML>", "an HTML page", "download the image itself"),
        (b"<html lang=en>", "an HTML page", "download the image itself"),
        (b"<?xml version='1.0'?><Error/>", "an XML document", "download the image itself"),
        (b"<VRTDataset rasterXSize='9'>", "a VRT", "convert it to a GeoTIFF (gdal_translate)"),
        (b'{"error": 404}', "a JSON document", "download the image itself"),
        (b"https://example.org/x.tif", "a web address", "download the image itself"),
        (b"hello", UNKNOWN.name, ""),
        (b"RIFF....WAVE", UNKNOWN.name, ""),
        (b"BM is no bitmap", UNKNOWN.name, ""),
    ],
)
def test_other_files_are_recognised_and_there_is_advice(begin, name, advice):
    assert identify(begin) == (name, advice)


def test_a_format_has_a_short_name():
    assert JPEG_2000.short == "JPEG 2000" and identify(b"GIF89a").short == "GIF"


@pytest.mark.parametrize("part", [b"<!---->", b" ", b"<?xml", b"<!DOCTYPE x>", b"\0", b"<", b"<!-- --> "])
def test_no_content_takes_long(part):
    began = time.perf_counter()
    identify(part * BEGIN)
    assert time.perf_counter() - began < 0.2
