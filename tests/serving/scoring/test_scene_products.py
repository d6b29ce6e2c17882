"""`sat2map score scene.tif -o map.tif`: the map, the files next to it, and the output."""

import json
import os

import numpy as np
import pyogrio
import pytest
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint
from rio_cogeo.cogeo import cog_validate

from model.bundle import Bundle, OpenedModel
from model.errors import ConfigError, DataError
from model.spec import Palette
from serving.geo.gdal import gdal
from serving.inference.scene import SceneReading
from serving.scoring import scene_products
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


def test_a_world_file_next_to_a_map_without_location_is_named(run_score, make_bundle, street_map, tmp_path):
    write_survey(tmp_path / "plain.tif", 255 - street_map, crs=None, transform=None)
    (tmp_path / "map.tfw").write_text("1\n0\n0\n-1\n700000\n5000000\n")
    done = run_score("plain.tif", "-o", "map.tif", "--model", make_bundle(palette=PALETTE))
    warning = "Warning: map.tif lies next to map.tfw, whose location other programs take for that of the map.\n"
    assert done.returncode == 0 and warning in done.stderr


def test_mistakes_are_found_before_anything_is_drawn(run_score, scene, make_bundle, tmp_path):
    bundle = make_bundle()
    words = ("scene.tif", "-o", "map.tif", "--model", bundle)
    refused(run_score(*words, "--vector", "map.gpkg"), "have no classes that could become polygons")
    refused(run_score(*words, "--vector", "map.shp"), "map.shp", ".gpkg or .geojson")
    refused(run_score(*words, "--classes", "road"), "--classes has no effect without --vector")
    refused(
        run_score("scene.tif", "-o", os.fsdecode(b"m\xfc.tif"), "--model", bundle),
        r"m\xfc.tif is not a name in UTF-8; rename it.",
    )
    refused(run_score("scene.tif", "-o", "/vsimem/x.tif", "--model", bundle), "names a virtual file of GDAL")
    refused(run_score(*words, "--bands", "red"), "--bands red is not a list of numbers")
    refused(run_score(*words, "--bands", "1.5"), "--bands 1.5 is not one band number or three; write them")
    refused(run_score(*words, "--stretch", "2"), "--stretch 2 is not two rising percentiles of 0 to 100;")
    refused(run_score(*words, "--resize", "--actors", "2"), "--resize and --actors have no effect on a single scene")
    refused(run_score("scene.tif", "maps", "--vector", "map.gpkg", "--model", bundle), "--vector has no effect here")
    refused(run_score("scene.tif", "maps", "--actors", "2", "--model", bundle), "has no effect without --distributed")
    assert sorted(os.listdir(tmp_path)) == ["bundle", "scene.tif"]


def score_here(bundle, source, *, vector, classes=None):
    """Score a scene in this process."""
    settings = scene_products.SceneSettings(SceneReading(), vector, classes)
    model = OpenedModel(bundle, bundle.read_origin())
    return scene_products.score_scene(model, source, source.with_name("map.tif"), settings)


def test_polygons_that_cannot_be_made_are_refused_before_the_drawing(scene, make_bundle, street_map, tmp_path):
    bundle = Bundle.open(make_bundle(palette=PALETTE))
    write_survey(tmp_path / "plain.tif", street_map, crs=None, transform=Affine.identity())
    write_survey(tmp_path / "site.tif", street_map, crs='LOCAL_CS["site",UNIT["metre",1]]')
    write_survey(tmp_path / "fine.tif", street_map, transform=Affine(1e-3, 0, 4e5, 0, -1e-3, 5.8e6))
    write_survey(tmp_path / "points.tif", street_map, crs=None, transform=Affine.identity())
    with gdal(), rasterio.open(tmp_path / "points.tif", "r+") as file:
        points = [GroundControlPoint(row, col, 11 + col / 1e5, 48 - row / 1e5) for row in (0, 96) for col in (0, 120)]
        file.gcps = points, rasterio.crs.CRS.from_epsg(4326)
    (tmp_path / "text.gpkg").write_text("no GeoPackage")
    (tmp_path / "mine.geojson").write_text('{"type": "FeatureCollection", "name": "parcels", "features": []}')
    before = sorted(os.listdir(tmp_path))
    for source, vector, classes, words in (
        ("plain.tif", "map.gpkg", None, "has no coordinate system, so its location is unknown; georeference it first"),
        ("points.tif", "map.gpkg", None, "warp it first (gdalwarp -t_srs EPSG:CODE IN OUT)"),
        (
            "site.tif",
            "map.geojson",
            None,
            "site, which can't be converted to the degrees of GeoJSON",
        ),
        ("fine.tif", "map.geojson", None, "too fine for GeoJSON"),
        ("scene.tif", "text.gpkg", None, "is not a GeoPackage"),
        ("scene.tif", "mine.geojson", None, "holds something else than the polygons of a map; name another file"),
        ("scene.tif", "text.gpkg/map.gpkg", None, "can't be written (Not a directory): a file is in the way"),
        ("scene.tif", "bundle", None, "Polygons can't be written as 'bundle'"),
        ("scene.tif", "map.gpkg", ("rail",), "'rail' is not a class of this map; choose from road, water, ground."),
    ):
        with pytest.raises((DataError, ConfigError)) as refusal:
            score_here(bundle, tmp_path / source, vector=tmp_path / vector, classes=classes)
        assert words in str(refusal.value)
        assert sorted(os.listdir(tmp_path)) == before


def test_files_with_the_location_are_named_if_polygons_need_it(make_bundle, street_map, tmp_path):
    bundle = Bundle.open(make_bundle(palette=PALETTE))
    scene = write_survey(tmp_path / "plain.tif", street_map, crs=None, transform=Affine.identity())
    (tmp_path / "plain.tfw").write_text("2\n0\n0\n-2\n400000\n5800000\n")
    (tmp_path / "plain.prj").write_text(rasterio.crs.CRS.from_epsg(32633).to_wkt())
    with pytest.raises(DataError) as refusal:
        score_here(bundle, scene, vector=tmp_path / "map.gpkg")
    prj = tmp_path / "plain.prj"
    assert str(refusal.value).partition("plain.tif ")[2] == (
        "has no coordinate system, so its location is unknown. Files next to it are not read: plain.tfw (a location) "
        f"and plain.prj (a coordinate system); put them inside with: gdal_translate -a_srs {prj} {scene} "
        f"{tmp_path}/plain_inside.tif"
    )


def test_a_map_is_described_even_if_its_polygons_fail(scene, make_bundle, tmp_path, monkeypatch):
    bundle = Bundle.open(make_bundle(palette=PALETTE))

    def fail(*_, **__):
        described = json.loads((tmp_path / "map.manifest.json").read_text())
        assert described["vectors"] is None and "vector" not in json.loads((tmp_path / "map.stac.json").read_text())
        raise DataError("the disk is full")

    monkeypatch.setattr(scene_products, "write_vectors", fail)
    with pytest.raises(DataError, match="the disk is full"):
        score_here(bundle, scene, vector=tmp_path / "map.gpkg")
    files = {path.name for path in tmp_path.iterdir()} - {"bundle", "scene.tif"}
    assert files == {"map.tif", "map.manifest.json", "map.stac.json"}


def test_a_new_map_gets_rid_of_what_belongs_to_an_earlier_one(scene, make_bundle, street_map, tmp_path):
    bundle = Bundle.open(make_bundle(palette=PALETTE))
    for vector in ("map.geojson", "map.geojson"):
        score_here(bundle, scene, vector=tmp_path / vector)
    (tmp_path / "map.tif.aux.xml").write_text("<PAMDataset><SRS>EPSG:2056</SRS></PAMDataset>")
    (tmp_path / "map.tif.ovr").write_bytes(scene.read_bytes())
    beyond = write_survey(tmp_path / "beyond.tif", street_map, crs="IAU_2015:49910")
    assert "There is no STAC item." in score_here(bundle, beyond, vector=None).warnings[-1]
    left = {path.name for path in tmp_path.iterdir()} - {"bundle", "scene.tif", "beyond.tif"}
    assert left == {"map.tif", "map.manifest.json", "map.geojson"}
