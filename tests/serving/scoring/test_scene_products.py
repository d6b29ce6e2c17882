"""`score scene.tif -o map.tif` as people type it: the map, what lies beside it, and what is said."""

import json
import os
import subprocess
import sys

import numpy as np
import pyogrio
import pytest
import rasterio
from affine import Affine
from rio_cogeo.cogeo import cog_validate

from model.spec import Palette
from serving.geo.geotiff import gdal
from tests.fixtures.project import PROJECT

PALETTE = Palette(classes={"road": ("#ffffff",), "water": ("#aad3df",), "ground": ("#f2efe9",)})


@pytest.fixture
def sat2map(tmp_path):
    """Return a function that runs the command line in a folder of its own."""

    def call(*words):
        command = [sys.executable, "-m", "pipelines", "score", *map(str, words)]
        surroundings = os.environ | {"PYTHONPATH": str(PROJECT)}
        return subprocess.run(
            command, cwd=tmp_path, env=surroundings, capture_output=True, text=True, check=False, timeout=120
        )

    return call


@pytest.fixture
def street_map():
    """Return a map of a lake beside a road, (3, 96, 120)."""
    drawn = np.empty((96, 120, 3), np.uint8)
    drawn[:] = (242, 239, 233)
    drawn[10:60, 10:50] = (170, 211, 223)
    drawn[:, 70:78] = 255
    return np.moveaxis(drawn, -1, 0)


@pytest.fixture
def scene(tmp_path, street_map):
    """Write the scene whose negative is the map."""
    place = {"crs": "EPSG:32633", "transform": Affine(2, 0, 400_000, 0, -2, 5_800_000), "photometric": "RGB"}
    with (
        gdal(),
        rasterio.open(
            tmp_path / "scene.tif", "w", driver="GTiff", height=96, width=120, count=3, dtype="uint8", **place
        ) as file,
    ):
        file.write(255 - street_map)
        file.update_tags(TIFFTAG_DATETIME="2024:06:01 10:30:00")
    return tmp_path / "scene.tif"


def refused(done, *words):
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.count("\n") == 1, done.stdout + done.stderr
    for word in words:
        assert word in done.stderr


def test_a_scene_becomes_a_map_with_polygons_an_item_and_a_manifest(sat2map, scene, street_map, make_bundle, tmp_path):
    bundle = make_bundle(palette=PALETTE)
    done = sat2map("scene.tif", "-o", "map.tif", "--vector", "map.geojson", "--model", bundle)
    assert done.returncode == 0, done.stderr
    assert cog_validate(tmp_path / "map.tif", strict=True)[0]
    with gdal(), rasterio.open(tmp_path / "map.tif") as file:
        assert np.array_equal(file.read(), street_map) and file.crs.to_epsg() == 32633
    areas = pyogrio.raw.read(tmp_path / "map.geojson", columns=["class"])[3][0]
    assert sorted(areas) == ["road", "water"]
    item = json.loads((tmp_path / "map.stac.json").read_text())
    assert item["properties"]["datetime"] == "2024-06-01T10:30:00Z" and {*item["assets"]} == {"map", "vector"}
    manifest = json.loads((tmp_path / "map.manifest.json").read_text())
    assert manifest["scene"]["tiles"] == 20 and manifest["scene"]["seams"] is not None
    assert item["properties"]["sat2map:model_sha256"] == manifest["model"]["sha256"]
    for words in (
        "Scene: 120x96 pixels, 2 m per pixel, 20 tiles drawn in",
        "1 road",
        "1 water",
        "map.stac.json",
        "Seams",
    ):
        assert words in done.stdout, done.stdout


def test_json_is_the_manifest(sat2map, scene, make_bundle, tmp_path):
    done = sat2map("scene.tif", "-o", "deep/map.tif", "--model", make_bundle(), "--json")
    assert json.loads(done.stdout) == json.loads((tmp_path / "deep/map.manifest.json").read_text())
    assert sorted(os.listdir(tmp_path / "deep")) == ["map.manifest.json", "map.stac.json", "map.tif"]


def test_the_resolution_of_the_model_is_that_of_the_map(sat2map, scene, make_bundle, tmp_path):
    bundle = make_bundle(resolution=4.0)
    assert sat2map("scene.tif", "-o", "map.tif", "--model", bundle).returncode == 0
    assert sat2map("scene.tif", "-o", "fine.tif", "--model", bundle, "--resolution", "1").returncode == 0
    for name, shape in (("map.tif", (48, 60)), ("fine.tif", (192, 240))):
        with gdal(), rasterio.open(tmp_path / name) as file:
            assert file.shape == shape and file.bounds == (400_000, 5_799_808, 400_240, 5_800_000)


def test_a_scene_that_lies_nowhere_is_drawn_and_warned_of(sat2map, make_bundle, street_map, tmp_path):
    with (
        gdal(),
        rasterio.open(
            tmp_path / "plain.tif", "w", driver="GTiff", height=96, width=120, count=3, dtype="uint8", photometric="RGB"
        ) as file,
    ):
        file.write(street_map)
    done = sat2map("plain.tif", "-o", "map.tif", "--model", make_bundle())
    assert done.returncode == 0 and "Warning: " in done.stderr, done.stderr
    assert json.loads((tmp_path / "map.stac.json").read_text())["geometry"] is None


def test_what_can_t_be_done_is_told_before_anything_is_drawn(sat2map, scene, make_bundle, tmp_path):
    bundle = make_bundle()
    words = ("scene.tif", "-o", "map.tif", "--model", bundle)
    refused(sat2map(*words, "--vector", "map.gpkg"), "have no classes that could become polygons")
    refused(sat2map(*words, "--vector", "map.shp"), "map.shp", ".gpkg or .geojson")
    refused(sat2map(*words, "--bands", "red"), "--bands red are not numbers")
    refused(sat2map(*words, "--bands", "1.5"), "--bands 1.5 are not band numbers")
    refused(sat2map(*words, "--stretch", "2"), "has 1 numbers; give two percentiles")
    refused(sat2map(*words, "--resize", "--actors", "2"), "--resize, --actors can't be used here: a scene is drawn")
    refused(sat2map("scene.tif", "maps", "--vector", "map.gpkg", "--model", bundle), "--vector can't be used here")
    refused(sat2map("scene.tif", "maps", "--actors", "2", "--model", bundle), "they need --distributed")
    assert sorted(os.listdir(tmp_path)) == ["bundle", "scene.tif"]
