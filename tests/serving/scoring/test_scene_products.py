"""`sat2map score scene.tif -o map.tif`: the map, the files next to it, and the output."""

import json
import os

import numpy as np
import pyogrio
import pytest
import rasterio
from affine import Affine
from rio_cogeo.cogeo import cog_validate

from model.spec import Palette
from serving.geo.gdal import gdal
from tests.fixtures.surveys import write_survey

PALETTE = Palette(classes={"road": ("#ffffff",), "water": ("#aad3df",), "ground": ("#f2efe9",)})


@pytest.fixture
def street_map():
    """Return a map of a lake and a road, (3, 96, 120)."""
    drawn = np.empty((96, 120, 3), np.uint8)
    drawn[:] = (242, 239, 233)
    drawn[10:60, 10:50] = (170, 211, 223)
    drawn[:, 70:78] = 255
    return np.moveaxis(drawn, -1, 0)


@pytest.fixture
def scene(tmp_path, street_map):
    """Return the scene whose negative is the map."""
    write_survey(tmp_path / "scene.tif", 255 - street_map)
    with gdal(), rasterio.open(tmp_path / "scene.tif", "r+") as file:
        file.update_tags(TIFFTAG_DATETIME="2024:06:01 10:30:00")
    return tmp_path / "scene.tif"


def refused(done, *words):
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.count("\n") == 1, done.stdout + done.stderr
    for word in words:
        assert word in done.stderr


def test_a_scene_becomes_a_map_polygons_an_item_and_a_manifest(run_score, scene, street_map, make_bundle, tmp_path):
    bundle = make_bundle(palette=PALETTE)
    done = run_score("scene.tif", "-o", "map.tif", "--vector", "map.geojson", "--model", bundle)
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


def test_the_json_output_holds_the_manifest(run_score, scene, make_bundle, tmp_path):
    done = run_score("scene.tif", "-o", "deep/map.tif", "--model", make_bundle(), "--json")
    manifest = json.loads((tmp_path / "deep/map.manifest.json").read_text())
    assert manifest.items() <= json.loads(done.stdout).items()
    assert sorted(os.listdir(tmp_path / "deep")) == ["map.manifest.json", "map.stac.json", "map.tif"]


def test_the_resolution_of_the_model_is_that_of_the_map(run_score, scene, make_bundle, tmp_path):
    bundle = make_bundle(resolution=4.0)
    assert run_score("scene.tif", "-o", "map.tif", "--model", bundle).returncode == 0
    assert run_score("scene.tif", "-o", "fine.tif", "--model", bundle, "--resolution", "1").returncode == 0
    for name, shape in (("map.tif", (48, 60)), ("fine.tif", (192, 240))):
        with gdal(), rasterio.open(tmp_path / name) as file:
            assert file.shape == shape and file.bounds == (400_000, 5_799_808, 400_240, 5_800_000)


def test_a_scene_without_a_georeference_is_drawn_with_a_warning(run_score, make_bundle, street_map, tmp_path):
    write_survey(tmp_path / "plain.tif", street_map, crs=None, transform=Affine.identity())
    done = run_score("plain.tif", "-o", "map.tif", "--model", make_bundle())
    assert done.returncode == 0 and "Warning: " in done.stderr, done.stderr
    assert json.loads((tmp_path / "map.stac.json").read_text())["geometry"] is None


def test_mistakes_are_found_before_anything_is_drawn(run_score, scene, make_bundle, tmp_path):
    bundle = make_bundle()
    words = ("scene.tif", "-o", "map.tif", "--model", bundle)
    refused(run_score(*words, "--vector", "map.gpkg"), "have no classes that could become polygons")
    refused(run_score(*words, "--vector", "map.shp"), "map.shp", ".gpkg or .geojson")
    refused(run_score(*words, "--bands", "red"), "--bands red is not a list of numbers")
    refused(run_score(*words, "--bands", "1.5"), "--bands 1.5 is not a list of band numbers")
    refused(run_score(*words, "--stretch", "2"), "--stretch 2 is not two percentiles; write them as 2,98.")
    refused(run_score(*words, "--resize", "--actors", "2"), "--resize and --actors have no effect on a single scene")
    refused(run_score("scene.tif", "maps", "--vector", "map.gpkg", "--model", bundle), "--vector has no effect here")
    refused(run_score("scene.tif", "maps", "--actors", "2", "--model", bundle), "has no effect without --distributed")
    assert sorted(os.listdir(tmp_path)) == ["bundle", "scene.tif"]
