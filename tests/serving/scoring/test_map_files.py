"""The files next to a map: none that describes another map, and none of someone else is lost."""

import json
import shutil

import numpy as np
import pytest
import rasterio
from PIL import Image

from model.bundle import OpenedModel
from model.errors import DataError
from serving.inference.scene import SceneReading
from serving.scoring import scene_products
from tests.fixtures.scored_folders import draw
from tests.fixtures.surveys import noise_bands, write_survey


@pytest.fixture
def scene(tmp_path):
    """Return a scene."""
    return write_survey(tmp_path / "scene.tif", noise_bands(3, 40, 50))


def draw_scene(bundle, scene, name):
    settings = scene_products.SceneSettings(SceneReading())
    return scene_products.score_scene(OpenedModel(bundle, bundle.read_origin()), scene, scene.with_name(name), settings)


def names(folder):
    return {path.name for path in folder.iterdir()} - {"bundle"}


def test_a_photos_map_removes_the_description_of_an_earlier_scene(bundle, scene, tmp_path):
    draw_scene(bundle, scene, "map.tif")
    (tmp_path / "map.tif.aux.xml").write_text("<PAMDataset><SRS>EPSG:2056</SRS></PAMDataset>")
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(tmp_path / "photo.jpg")
    (tmp_path / "other.stac.json").write_text("{}")
    draw(bundle, tmp_path / "photo.jpg", tmp_path / "map.tif", format="tiff")
    assert names(tmp_path) == {"scene.tif", "photo.jpg", "map.tif", "other.stac.json"}


def test_maps_that_differ_in_their_suffix_only_cannot_share_a_manifest(bundle, scene, tmp_path):
    draw_scene(bundle, scene, "map.tif")
    before = (tmp_path / "map.manifest.json").read_bytes()
    with pytest.raises(DataError) as refused:
        draw_scene(bundle, scene, "map.tiff")
    assert str(refused.value) == (
        f"{tmp_path / 'map.manifest.json'} describes map.tif and would be replaced by that of map.tiff; choose a name "
        "that differs in more than its suffix."
    )
    assert (tmp_path / "map.manifest.json").read_bytes() == before and not (tmp_path / "map.tiff").exists()
    (tmp_path / "map.tif").unlink()
    draw_scene(bundle, scene, "map.tiff")
    assert json.loads((tmp_path / "map.manifest.json").read_text())["scene"]["map"] == "map.tiff"


@pytest.mark.parametrize("name", ["map.manifest.json", "map.stac.json"])
@pytest.mark.parametrize("content", ["{}", "mine", '{"properties": {}, "assets": {}}'])
def test_files_of_someone_else_are_refused_before_the_drawing(bundle, scene, tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError) as refused:
        draw_scene(bundle, scene, "map.tif")
    assert str(refused.value) == (
        f"{tmp_path / name} is not a file of sat2map and would be replaced; move it, or name another map."
    )
    assert (tmp_path / name).read_text() == content and names(tmp_path) == {"scene.tif", name}


@pytest.mark.parametrize("suffix", [".manifest.json", ".stac.json", ".tif.aux.xml", ".tif.ovr", ".tif.msk"])
def test_folders_in_the_way_are_refused_before_the_drawing(bundle, scene, tmp_path, suffix):
    name = f"map{suffix}"
    (tmp_path / name).mkdir()
    with pytest.raises(DataError) as refused:
        draw_scene(bundle, scene, "map.tif")
    assert str(refused.value) == (
        f"{tmp_path / name} is a folder where a file of the map belongs; move it, or name another map."
    )
    assert names(tmp_path) == {"scene.tif", name}


def test_in_a_folder_of_maps_it_is_a_row(bundle, scene, tmp_path):
    (tmp_path / "scenes").mkdir()
    for name in ("a.tif", "b.tif"):
        shutil.copy(scene, tmp_path / "scenes" / name)
    draw(bundle, tmp_path / "scenes", tmp_path / "maps", format="tiff")
    (tmp_path / "maps" / "a.stac.json").write_text("mine")
    for name in ("a.tif", "b.tif"):
        with rasterio.open(tmp_path / "scenes" / name, "r+") as dataset:
            dataset.update_tags(CHANGED="yes")
    report = draw(bundle, tmp_path / "scenes", tmp_path / "maps", format="tiff")
    assert report.drawn == 1 and "a.stac.json is not a file of sat2map" in report.failed[0].error


def test_the_first_bytes_decide_what_becomes_a_scene(bundle, scene, tmp_path):
    (tmp_path / "in").mkdir()
    shutil.copy(scene, tmp_path / "in" / "scene.jpg")
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(tmp_path / "in" / "photo.tif", "JPEG")
    report = draw(bundle, tmp_path / "in", tmp_path / "maps", format="tiff")
    assert report.drawn == 2
    with rasterio.open(tmp_path / "maps" / "scene.tif") as dataset:
        assert dataset.crs.to_epsg() == 32633
    with Image.open(tmp_path / "maps" / "photo.tif") as photo:
        assert photo.size == (40, 30)
