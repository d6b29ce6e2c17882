"""`sat2map score --style crisp`: maps in the exact colours of their classes, of photos, folders and scenes."""

import csv
import json

import numpy as np
import pytest
import rasterio
from PIL import Image

from serving.geo.gdal import gdal
from serving.vectors.crisp import crisp
from tests.fixtures.painted_maps import PALETTE, blobs
from tests.fixtures.surveys import write_survey
from tests.serving.vectors.test_crisp import drawn


@pytest.fixture
def street_map():
    """Return a map of blobs as a network draws it, uint8 (200, 150, 3)."""
    return drawn(blobs(1, (200, 150), sigma=5), noise=8)


@pytest.fixture
def bundle(make_bundle):
    """Return a bundle whose model draws the negative, with the classes of the map."""
    return make_bundle(palette=PALETTE)


@pytest.fixture
def photo(street_map, tmp_path):
    """Return a photo whose negative is the map."""
    Image.fromarray(255 - street_map).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def pixels(file):
    return np.asarray(Image.open(file))


def test_the_map_of_a_photo_is_crisp(run_score, bundle, photo, tmp_path):
    for style in ("plain", "crisp"):
        done = run_score("photo.png", "-o", f"{style}.png", "--style", style, "--model", bundle)
        assert done.returncode == 0, done.stderr
    plain = pixels(tmp_path / "plain.png")
    assert np.array_equal(pixels(tmp_path / "crisp.png"), crisp(plain, PALETTE))


def test_transparent_parts_of_a_photo_stay_transparent(run_score, bundle, street_map, tmp_path):
    alpha = np.full((200, 150, 1), 255, np.uint8)
    alpha[:50] = 0
    Image.fromarray(np.dstack([255 - street_map, alpha])).save(tmp_path / "photo.png")
    assert run_score("photo.png", "-o", "map.png", "--style", "crisp", "--model", bundle).returncode == 0
    found = pixels(tmp_path / "map.png")
    assert np.array_equal(found[..., 3:], alpha) and not found[:50].any()


def test_maps_of_another_style_are_drawn_again(run_score, bundle, photo, tmp_path):
    drawn_now = []
    for style in ("crisp", "crisp", "plain", "crisp"):
        done = run_score("photo.png", "maps", "--style", style, "--model", bundle, "--json")
        drawn_now.append(json.loads(done.stdout)["drawn"])
    assert drawn_now == [1, 0, 1, 1]
    with (tmp_path / "maps/manifest.csv").open(newline="") as file:
        assert [row["settings"] for row in csv.DictReader(file)] == ["png overlap=0.25 crisp"]


@pytest.mark.parametrize("out", ["map.tif", "maps"])
def test_the_map_of_a_scene_is_crisp_as_a_whole(run_score, bundle, street_map, tmp_path, out):
    bands = np.moveaxis(255 - street_map.clip(0, 254), -1, 0).copy()
    bands[:, :, :40] = 0
    write_survey(tmp_path / "scene.tif", bands, nodata=0)
    form = ["--format", "tiff"] if out == "maps" else []
    done = run_score("scene.tif", out, *form, "--style", "crisp", "--model", bundle)
    assert done.returncode == 0, done.stderr
    found_file = tmp_path / out if form == [] else tmp_path / "maps/scene.tif"
    assert run_score("scene.tif", "-o", "plain.tif", "--model", bundle).returncode == 0
    with gdal(), rasterio.open(found_file) as found, rasterio.open(tmp_path / "plain.tif") as plain:
        *colours, alpha = found.read()
        rgb, visible = np.moveaxis(plain.read([1, 2, 3]), 0, -1), plain.read(4) > 0
        assert found.overviews(1) == plain.overviews(1) and np.array_equal(alpha > 0, visible)
    assert not visible.all()
    assert np.array_equal(np.moveaxis(colours, 0, -1), crisp(rgb, PALETTE, visible=visible))
    manifests = [
        json.loads(file.with_suffix(".manifest.json").read_text()) for file in (found_file, tmp_path / "plain")
    ]
    assert [manifest["style"] for manifest in manifests] == ["crisp", "plain"]


def test_impossible_styles_are_refused_before_the_drawing(run_score, bundle, make_bundle, photo, street_map, tmp_path):
    write_survey(tmp_path / "scene.tif", np.moveaxis(255 - street_map, -1, 0))
    done = run_score("photo.png", "-o", "map.png", "--style", "fancy", "--model", bundle)
    assert (done.returncode, done.stderr) == (
        2,
        "Error: --style fancy is not a style of maps; choose plain or crisp.\n",
    )
    other = make_bundle(name="other")
    for words in (("photo.png", "-o", "map.png"), ("scene.tif", "-o", "map.tif")):
        done = run_score(*words, "--style", "crisp", "--model", other)
        assert done.returncode == 2 and "have no classes to be drawn in crisp colours" in done.stderr
    assert not (tmp_path / "map.png").exists() and not (tmp_path / "map.tif").exists()
