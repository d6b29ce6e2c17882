"""Scenes: a GeoTIFF becomes a Cloud Optimized GeoTIFF with the same extent."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rio_cogeo.cogeo import cog_validate

from model.errors import ConfigError, DataError
from serving.geo.gdal import gdal
from serving.inference.scene import SceneReport
from tests.fixtures.progress import RecordedProgress
from tests.fixtures.project import PROJECT
from tests.fixtures.scenes import HALF_METRE, draw, noise, read_bands, uneven, write_rgb, write_scene


def refusal(source, out, **settings):
    """Check that a scene is refused and nothing left behind, and return the message."""
    before = sorted(out.parent.iterdir()) if out.parent.is_dir() else None
    with pytest.raises(DataError) as refused:
        draw(source, out, **settings)
    assert before is None or sorted(out.parent.iterdir()) == before
    return str(refused.value)


# The map


def test_a_scene_becomes_a_map_of_the_same_extent(scene, tmp_path):
    report = draw(scene, tmp_path / "deep" / "map.tif")
    with rasterio.open(tmp_path / "deep" / "map.tif") as file:
        assert (file.crs.to_epsg(), file.transform, file.shape, file.count) == (2180, HALF_METRE, (150, 200), 3)
        assert [kind.name for kind in file.colorinterp] == ["red", "green", "blue"] and file.dtypes[0] == "uint8"
        assert file.tags()["MODEL"] == "8f2c" and file.tags()["TIFFTAG_SOFTWARE"] == "sat2map"
        assert "TIFFTAG_DATETIME" not in file.tags()
        assert np.array_equal(file.read(), 255 - read_bands(scene))
    assert os.listdir(tmp_path / "deep") == ["map.tif"]
    assert (report.source, report.map, report.model) == ("scene.tif", "map.tif", "8f2c")
    assert (report.width, report.height, report.crs, report.bands) == (200, 150, "EPSG:2180", (1, 2, 3))
    assert (report.tiles, report.skipped, report.resumed, report.warnings) == (6 * 8, 0, 0, ())
    assert report.seams == pytest.approx(1, abs=0.05) and report.milliseconds > 0
    assert SceneReport.model_validate_json(report.model_dump_json()) == report


def test_the_time_of_the_photo_is_kept(tmp_path):
    source = write_rgb(tmp_path / "scene.tif", noise(3, 64, 64))
    with gdal(), rasterio.open(source, "r+") as file:
        file.update_tags(TIFFTAG_DATETIME="2024:06:01 10:30:00", TIFFTAG_ARTIST="me")
    draw(source, tmp_path / "map.tif")
    with rasterio.open(tmp_path / "map.tif") as file:
        assert file.tags()["TIFFTAG_DATETIME"] == "2024:06:01 10:30:00" and "TIFFTAG_ARTIST" not in file.tags()


@pytest.mark.parametrize("count", [3, 4])
def test_the_map_is_a_valid_cloud_optimized_geotiff(tmp_path, count):
    bands = noise(count, 700, 1300)
    source = write_rgb(tmp_path / "scene.tif", bands, **({"alpha": "YES"} if count == 4 else {}))
    draw(source, tmp_path / "map.tif", side=256)
    assert cog_validate(tmp_path / "map.tif", strict=True) == (True, [], [])
    with rasterio.open(tmp_path / "map.tif") as file:
        assert file.overviews(1) == [2, 4] and file.block_shapes[0] == (512, 512)
        assert file.profile["compress"] == "deflate"


def test_alpha_is_kept_and_empty_tiles_are_skipped(tmp_path):
    bands = noise(4, 150, 200)
    bands[3] = 255
    bands[3, :, :100] = 0
    bands[3, 0, 150] = 77
    report = draw(write_rgb(tmp_path / "scene.tif", bands, alpha="YES"), tmp_path / "map.tif")
    drawn = read_bands(tmp_path / "map.tif")
    assert np.array_equal(drawn[3], bands[3])
    assert np.array_equal(drawn[:3, :, 100:], 255 - bands[:3, :, 100:]) and not drawn[:3, :, :100].any()
    assert report.skipped == 6 * 3 and report.tiles == 6 * 5


def test_nodata_becomes_transparent(tmp_path):
    bands = noise(3, 150, 200, np.uint16, low=1)
    bands[:, :40] = 0
    report = draw(write_rgb(tmp_path / "scene.tif", bands, nodata=0), tmp_path / "map.tif")
    with rasterio.open(tmp_path / "map.tif") as file:
        assert file.nodata is None and file.colorinterp[3].name == "alpha"
        alpha = file.read(4)
    assert not alpha[:40].any() and (alpha[40:] == 255).all()
    assert report.skipped == 8 and len(report.levels) == 3


def test_an_empty_scene_becomes_an_empty_map(tmp_path):
    source = write_rgb(tmp_path / "scene.tif", np.zeros((3, 70, 70), np.uint8), nodata=0)
    report = draw(source, tmp_path / "map.tif", pytest.fail)
    assert not read_bands(tmp_path / "map.tif").any() and report.tiles == 0 and report.seams is None


def test_the_map_has_the_models_resolution(scene, tmp_path):
    report = draw(scene, tmp_path / "map.tif", resolution=1.0)
    with rasterio.open(tmp_path / "map.tif") as file:
        assert file.shape == (75, 100) and file.bounds == (500_000, 599_925, 500_100, 600_000)
    assert report.ground == pytest.approx((1, 1), rel=2e-3) and report.warnings == ()


def test_a_scene_without_a_coordinate_system_is_drawn_with_a_warning(tmp_path):
    source = write_rgb(tmp_path / "scene.tif", noise(3, 70, 70), crs=None, transform=rasterio.Affine.identity())
    report = draw(source, tmp_path / "map.tif")
    with gdal(), rasterio.open(tmp_path / "map.tif") as file:
        assert file.crs is None and file.transform.is_identity
    assert report.crs is None and report.ground is None
    assert report.warnings == (f"{tmp_path.name}/scene.tif has no coordinate system, and its map has none either.",)


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:2263", "+proj=laea +lat_0=52 +lon_0=10 +units=m"])
def test_coordinate_systems_survive_the_round_trip(tmp_path, crs):
    step = 1e-5 if crs == "EPSG:4326" else 1
    transform = rasterio.Affine(step, 0, 10, 0, -step, 50)
    source = write_rgb(tmp_path / "scene.tif", noise(3, 40, 40), crs=crs, transform=transform)
    draw(source, tmp_path / "map.tif")
    with rasterio.open(source) as before, rasterio.open(tmp_path / "map.tif") as after:
        assert after.crs == before.crs and after.transform == before.transform


def test_seams_are_blended_and_measured(tmp_path):
    source = write_rgb(tmp_path / "scene.tif", noise(3, 300, 300) // 8)
    assert draw(source, tmp_path / "map.tif", uneven, overlap=0).seams > 1.5
    assert draw(source, tmp_path / "map.tif", uneven).seams < 1.1


def test_progress_counts_rows_of_tiles(scene, tmp_path, capfd):
    progress = RecordedProgress()
    draw(scene, tmp_path / "map.tif", progress=progress)
    assert progress.totals == progress.counts == {"Drawing map.tif": 6} and progress.steps == ["Writing map.tif"]
    assert capfd.readouterr() == ("", "")


# Refused scenes and settings


def test_a_folder_that_cannot_be_written_is_reported(scene, tmp_path):
    (tmp_path / "file").touch()
    for out in (tmp_path / "file" / "map.tif", Path("/proc/nowhere/map.tif")):
        assert "can't be written (" in refusal(scene, out)


def test_names_of_other_formats_folders_and_the_scene_itself_are_refused(scene, tmp_path):
    assert (
        refusal(scene, tmp_path / "map.png")
        == "The map of a scene is a GeoTIFF; map.png has no name that ends in .tif or .tiff."
    )
    (tmp_path / "folder.tif").mkdir()
    assert refusal(scene, tmp_path / "folder.tif").endswith("folder.tif is a folder; name a file for the map.")
    assert "The map would overwrite its photo" in refusal(scene, scene)


def test_a_broken_scene_leaves_nothing(scene, tmp_path):
    content = scene.read_bytes()
    scene.write_bytes(content[: len(content) // 2])
    assert "scene.tif is truncated" in refusal(scene, tmp_path / "map.tif")


def test_settings_out_of_range_leave_nothing(scene, tmp_path):
    for settings in ({"overlap": 2}, {"resolution": -1}, {"bands": (9,)}):
        with pytest.raises(ConfigError):
            draw(scene, tmp_path / "map.tif", **settings)
    assert os.listdir(tmp_path) == ["scene.tif"]


def test_importing_the_module_does_not_load_rasterio():
    program = "import sys, json, serving.inference.scene; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=PROJECT)
    assert not {"rasterio", "scipy", "tensorflow", "pipelines"} & set(json.loads(done.stdout))


# Memory


BOMB = """
import resource, sys
from pathlib import Path
sys.path[:0] = {path!r}
from serving.inference.scene import draw_scene
report = draw_scene(lambda images: images, Path({source!r}), Path({out!r}), side=256, model="none", overlap=0)
print(report.width * report.height, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_scene(tmp_path):
    # Memory grows with the width, so the scene is as wide as the documentation allows; more rows only take time.
    width, height, source, out = 20_000, 5_000, tmp_path / "scene.tif", tmp_path / "map.tif"
    shape = {"height": height, "width": width, "count": 3, "dtype": "uint8"}
    profile = {"crs": "EPSG:2180", "transform": HALF_METRE, "tiled": True, "compress": "deflate"}
    with rasterio.open(source, "w", driver="GTiff", **shape, **profile) as file:
        block = np.full((3, 1000, width), 90, np.uint8)
        for top in range(0, height, 1000):
            file.write(block, window=rasterio.windows.Window(0, top, width, 1000))
    assert source.stat().st_size < 10_000_000
    program = BOMB.format(path=[str(PROJECT)], source=str(source), out=str(out))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    pixels, kilobytes = map(int, done.stdout.split())
    assert pixels == width * height and kilobytes < 1_000_000
    assert cog_validate(out) == (True, [], [])


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_scene_without_valid_pixels_becomes_an_empty_map(tmp_path, kind):
    scene = write_scene(tmp_path / "scene.tif", np.zeros((3, 80, 90), kind), nodata=0)
    report = draw(scene, tmp_path / "map.tif")
    assert not read_bands(tmp_path / "map.tif").any() and report.tiles == 0
    assert "scene.tif holds no valid pixel, so its map is empty; check its nodata value" in report.warnings[-1]
