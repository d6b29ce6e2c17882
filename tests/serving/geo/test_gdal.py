"""GDAL's configuration: its own data, silence, and its errors as short sentences."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
import rasterio
from rasterio._err import CPLE_AppDefinedError
from rasterio.errors import CRSError, RasterioIOError

from serving.geo.gdal import MAX_REASON, gdal, reason
from serving.geo.imagery import open_imagery
from tests.fixtures.project import PROJECT
from tests.fixtures.scenes import as_photo, noise, opening_error, read_scene, write_rgb, write_scene


def run(program, **variables):
    """Run a Python program in a process of its own, and return its output and its errors."""
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | variables, cwd=PROJECT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


LOCATE = """
from threading import Thread
from serving.geo.gdal import gdal
def work():
    with gdal():
        import rasterio
        from rasterio.warp import transform
        (lon,), (lat,) = transform(rasterio.CRS.from_epsg(2180), "OGC:CRS84", [500_000], [600_000])
        print(round(lon, 3), round(lat, 3), rasterio.env.getenv()["GDAL_DATA"].endswith("gdal_data"))
for _ in range(2):
    thread = Thread(target=work)
    thread.start()
    thread.join()
    work()
"""


@pytest.mark.parametrize("variable", ["PROJ_DATA", "PROJ_LIB", "GDAL_DATA"])
def test_data_of_another_installation_are_not_used(tmp_path, variable):
    (tmp_path / "proj.db").write_text("of another version")
    assert run(LOCATE, **{variable: str(tmp_path)}) == ("19.0 53.265 True\n" * 4, "")


OPEN = """
from pathlib import Path
from serving.geo.gdal import gdal
from serving.geo.imagery import open_imagery
with gdal(), open_imagery(Path("SCENE")) as imagery:
    print(round(imagery.pixel.mean, 6))
"""


@pytest.mark.parametrize("variables", [{}, {"PROJ_DATA": "/nowhere"}])
def test_units_of_a_coordinate_system_need_no_data_that_are_not_found(tmp_path, variables):
    system = rasterio.CRS.from_proj4("+proj=laea +lat_0=52 +lon_0=10 +units=km +ellps=GRS80")
    path = write_scene(tmp_path / "scene.tif", noise(3), crs=system, transform=rasterio.Affine(1e-3, 0, 0, 0, -1e-3, 0))
    assert run(OPEN.replace("SCENE", str(path)), **variables) == ("1.0\n", "")


READ = """
from threading import Thread
from pathlib import Path
from model.errors import DataError
from serving.geo.gdal import gdal
from serving.geo.imagery import open_imagery
def read():
    try:
        imagery.read(0, 0, 256, 256)
    except DataError as error:
        print(error)
with gdal(), open_imagery(Path("SCENE")) as imagery:
    thread = Thread(target=read)
    thread.start()
    thread.join()
    read()
"""


@pytest.mark.parametrize("compression", ["lzw", "deflate", "zstd", "webp", "lerc"])
def test_broken_pixels_are_one_sentence_in_every_thread_and_nothing_on_stderr(tmp_path, compression):
    path = write_scene(tmp_path / "scene.tif", noise(3, 256, 256), compress=compression, tiled=True, blockxsize=256)
    content = bytearray(path.read_bytes())
    content[len(content) // 4 : -500] = b"\xff" * (len(content) - 500 - len(content) // 4)
    path.write_bytes(content)
    output, errors = run(READ.replace("SCENE", str(path)))
    first, second = output.splitlines()
    assert first == second and errors == ""
    assert first.startswith(f"{tmp_path.name}/scene.tif is broken or truncated in rows 0 to 256 (")
    assert "exception" not in first and "vsimem" not in first and first.count("scene.tif") == 1


def test_reason_is_the_innermost_cause():
    cause = CPLE_AppDefinedError(1, 1, "/far/away/scene.tif:Using code not yet in table")
    error = RasterioIOError("Read failed. See previous exception for details.")
    error.__cause__ = cause
    assert reason(error) == "Using code not yet in table"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/tmp/a b/x.tif: TIFFReadDirectory:Failed", "Failed"),
        ("_TIFFVSetField:/tmp/a b/x.tif: Bad value 0", "Bad value 0"),
        ("ZSTDDecode:/tmp/x.tif: Error in ZSTD_decompressStream(): Data corruption", "Data corruption"),
        ("LERCPreDecode:lerc_decode() failed", "its data can't be decoded"),
        ("TIFFReadEncodedStrip() failed.", "its data can't be decoded"),
        ("WebPDecode:Unrecognized error", "its data can't be decoded"),
        ("/vsimem/1f/1f.tif, band 1:\n  IReadBlock failed.", "band 1: IReadBlock failed"),
        ("Reprojection failed, err = 2050, further errors will be suppressed", "it is not valid at this location"),
        ("'/a b/x.tif' not recognized as being in a supported file format.", "its header can't be read"),
        ("Invalid coordinate (err = 2049)", "Invalid coordinate"),
        (
            'Cannot find coordinate operations from `{\n  "$schema": "https://proj.org"}\' to `OGC:CRS84\'',
            "no conversion to another coordinate system is known",
        ),
        ('No system in {"type": "EngineeringCRS"}', "No system in"),
    ],
)
def test_reasons_are_short_and_name_no_file(text, expected):
    assert reason(CRSError(text)) == expected


def test_long_reasons_are_cut():
    text = reason(CRSError("word " * 100))
    assert len(text) == MAX_REASON and text.endswith("word wo...")


def test_texts_that_are_not_utf_8_are_named(tmp_path):
    path = write_scene(tmp_path / "scene.tif", noise(1), crs='LOCAL_CS["Strasse",UNIT["metre",1]]')
    content = path.read_bytes()
    path.write_bytes(content.replace(b"Strasse", b"Stra\xdfe|"))
    expected = "A text in the tags of .*scene.tif, such as the name of its coordinate system, is not UTF-8"
    assert re.match(expected, opening_error(path))
    assert content.count(b"Strasse") == 1


def test_other_texts_that_are_not_utf_8_are_no_matter(tmp_path):
    bands = noise(3)
    path = write_scene(tmp_path / "scene.tif", bands)
    with rasterio.open(path, "r+") as file:
        file.update_tags(TIFFTAG_IMAGEDESCRIPTION="Strasse", TIFFTAG_DATETIME="2024:06:01 12:00:00")
    path.write_bytes(path.read_bytes().replace(b"Strasse", b"Stra\xdfe|"))
    photo, _, imagery = read_scene(path)
    assert np.array_equal(photo, as_photo(bands)) and imagery.taken == {"TIFFTAG_DATETIME": "2024:06:01 12:00:00"}


def test_blocks_that_were_decoded_are_kept_for_the_next_windows(tmp_path):
    bands = noise(3, 256, 512)
    path = write_rgb(tmp_path / "scene.tif", bands, tiled=True, blockxsize=256, blockysize=256, compress="deflate")
    with gdal(), open_imagery(path) as imagery:
        imagery.read(0, 0, 64, 512)
        # Whatever is read from now on comes from the cache.
        os.truncate(path, 0)
        assert np.array_equal(imagery.read(100, 0, 64, 512), as_photo(bands)[100:164])


CHECK = """
import os
from pathlib import Path
from model.errors import DataError
from serving.geo.gdal import check_path
for name in (b"plain.tif", "\\xfc.tif".encode(), b"\\xfc.tif"):
    try:
        check_path(Path(os.fsdecode(name)))
    except DataError as error:
        print(ascii(str(error)))
"""
LOCALE = r"'\xfc.tif is a name in UTF-8, but Python reads names as ascii here; set PYTHONUTF8=1.'"
RENAME = r"'\\xfc.tif is not a name in UTF-8; rename it.'"


@pytest.mark.parametrize(("utf_8", "expected"), [("0", f"{LOCALE}\n{RENAME}\n"), ("1", f"{RENAME}\n")])
def test_names_that_python_does_not_read_as_utf_8_are_told_from_those_that_are_none(utf_8, expected):
    variables = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": utf_8}
    assert run(CHECK, **variables) == (expected, "")
