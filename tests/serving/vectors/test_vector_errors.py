"""Errors of writing polygons: what is refused leaves earlier files as they were."""

import os
import subprocess
import sys

import pytest
import rasterio
from affine import Affine

from model.errors import ConfigError, DataError
from serving.vectors.vector_layer import write_vectors
from tests.fixtures.painted_maps import HALF_METRES, PALETTE, blobs, read_layer, town


def refusal(kind, map_file, out, **options):
    """Check that nothing is written and return the message."""
    before = sorted(out.parent.iterdir())
    with pytest.raises(kind) as refused:
        write_vectors(map_file, out, PALETTE, **options)
    assert sorted(out.parent.iterdir()) == before
    return str(refused.value)


@pytest.mark.parametrize("name", ["map.shp", "map", "map.json", "gpkg", ".."])
def test_other_formats_are_refused(paint, tmp_path, name):
    message = refusal(ConfigError, paint(town()), tmp_path / name)
    assert message == f"Polygons can't be written as {name!r}; name a file that ends in .gpkg or .geojson."


@pytest.mark.parametrize(("name", "driver"), [("map.gpkg", "GPKG"), ("map.geojson", "GeoJSON")])
def test_variables_that_switch_drivers_off_have_no_effect(tmp_path, name, driver):
    check = "import sys; from pathlib import Path; from serving.geo.gdal import gdal; "
    check += "from serving.vectors.vector_file import check_vector_file as check\nwith gdal(): check(Path(sys.argv[1]))"
    command = [sys.executable, "-c", check, tmp_path / name]
    skips = {"OGR_SKIP": driver, "GDAL_SKIP": driver}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ | skips)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"classes": ["road", "rail"]},
            "'rail' is not a class of this map; choose from road, water, park, building, ground.",
        ),
        ({"classes": []}, "No class is given; choose from road, water, park, building, ground."),
        ({"min_area": -1.0}, "A minimum area of -1 square metres can't be used; give 0 or more."),
        ({"min_area": float("nan")}, "A minimum area of nan square metres can't be used; give 0 or more."),
        ({"tolerance": -0.5}, "A tolerance of -0.5 pixels can't be used; give 0 to 50."),
        ({"tolerance": float("inf")}, "A tolerance of inf pixels can't be used; give 0 to 50."),
    ],
)
def test_arguments_out_of_range_are_refused(paint, tmp_path, options, message):
    assert refusal(ConfigError, paint(town()), tmp_path / "map.gpkg", **options) == message


@pytest.mark.parametrize("name", ["map.gpkg", "map.geojson"])
def test_a_map_without_georeference_is_refused(paint, tmp_path, name):
    map_file = paint(town(), crs=None, transform=Affine.identity())
    message = refusal(DataError, map_file, tmp_path / name)
    assert "map.tif has no coordinate system, so its location is unknown" in message


def test_other_rasters_and_files_are_refused(paint, tmp_path):
    out = tmp_path / "map.gpkg"
    profile = {"driver": "GTiff", "height": 8, "width": 8, "crs": "EPSG:32633", "transform": HALF_METRES}
    profile["photometric"] = "MINISBLACK"
    for count, kind, message in (
        (1, "uint8", "1 band(s) of uint8"),
        (3, "uint16", "3 band(s) of uint16"),
        (4, "uint8", "4 band(s) of uint8"),
    ):
        with rasterio.open(tmp_path / "other.tif", "w", count=count, dtype=kind, **profile):
            pass
        assert f"other.tif has {message}" in refusal(DataError, tmp_path / "other.tif", out)
    assert "gone.tif is missing" in refusal(DataError, tmp_path / "gone.tif", out)
    (tmp_path / "text.tif").write_text("no map")
    assert "text.tif is of an unknown format" in refusal(DataError, tmp_path / "text.tif", out)


def test_a_map_too_large_for_memory_is_refused_before_it_is_read(tmp_path):
    profile = {"driver": "GTiff", "count": 3, "dtype": "uint8", "crs": "EPSG:32633", "transform": HALF_METRES}
    layout = {"tiled": True, "blockxsize": 2048, "blockysize": 2048, "sparse_ok": True}
    with rasterio.open(tmp_path / "large.tif", "w", height=30_000, width=30_000, **profile, **layout):
        pass
    message = refusal(DataError, tmp_path / "large.tif", tmp_path / "map.gpkg")
    assert "large.tif has 30000x30000 pixels; maps of at most 600000000 can become polygons" in message


def test_pixels_too_fine_for_the_decimals_of_geojson_are_refused(paint, tmp_path):
    fine = Affine(0.001, 0, 500000, 0, -0.001, 5540000)
    message = refusal(DataError, paint(town(), transform=fine), tmp_path / "map.geojson")
    assert message.endswith("has pixels of 0.001 m, too fine for GeoJSON with 8 decimals; name a .gpkg file.")
    write_vectors(paint(town(), transform=fine), tmp_path / "map.gpkg", PALETTE)
    assert len(set(read_layer(tmp_path / "map.gpkg")[2]["class"])) == 4


def test_a_broken_map_leaves_earlier_polygons(paint, tmp_path):
    map_file = paint(blobs(3, (600, 600)), compress="deflate")
    write_vectors(map_file, tmp_path / "map.gpkg", PALETTE)
    before = (tmp_path / "map.gpkg").read_bytes()
    content = bytearray(map_file.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    map_file.write_bytes(content)
    assert "is broken or truncated" in refusal(DataError, map_file, tmp_path / "map.gpkg")
    assert (tmp_path / "map.gpkg").read_bytes() == before


def test_a_folder_that_cannot_be_written_is_reported(paint, tmp_path):
    (tmp_path / "file").touch()
    map_file = paint(town())
    with pytest.raises(
        DataError, match=r"file/map\.gpkg can't be written \(.*\): a file is in the way; choose another folder"
    ):
        write_vectors(map_file, tmp_path / "file" / "map.gpkg", PALETTE)


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from model.errors import DataError
from model.spec import Palette
from serving.vectors.vector_layer import write_vectors
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    write_vectors(Path(sys.argv[1]), Path(sys.argv[2]), Palette.model_validate_json(sys.argv[3]))
except DataError as error:
    print(error)
"""


@pytest.mark.parametrize("name", ["map.gpkg", "map.geojson"])
def test_a_full_disk_is_reported_and_leaves_nothing(paint, tmp_path, name):
    out = tmp_path / "out" / name
    command = [sys.executable, "-c", FULL_DISK, paint(blobs(4, (500, 500))), out, PALETTE.model_dump_json()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert f"{name} can't be written (" in done.stdout and done.stdout.endswith("free some space.\n")
    assert list(out.parent.iterdir()) == []
