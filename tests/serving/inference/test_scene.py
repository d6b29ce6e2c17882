"""Whole scenes: a GeoTIFF becomes a Cloud Optimized GeoTIFF, whatever stops the run in between."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rio_cogeo.cogeo import cog_validate

from model.errors import ConfigError, DataError
from serving.geo.geotiff import gdal
from serving.inference.scene import SceneReport, draw_scene
from tests.fixtures.progress import RecordedProgress
from tests.fixtures.project import PROJECT

SIDE = 32
HALF_METRE = rasterio.Affine(0.5, 0, 500_000, 0, -0.5, 600_000)


def negative(images):
    return 255 - images


def moody(images):
    """Draw every tile lighter or darker as a whole."""
    mood = images.reshape(len(images), -1).sum(axis=1) % 150
    return (images // 8 + mood[:, None, None, None] + 50).astype(np.uint8)


def noise(count, height, width, kind=np.uint8):
    values = np.random.default_rng(0).integers(1, np.iinfo(kind).max, (count, height, width))
    return values.astype(kind)


def write(path, bands, **profile):
    """Write bands (n, h, w) as a GeoTIFF, half a metre a pixel in Poland."""
    count, height, width = bands.shape
    profile = {"crs": "EPSG:2180", "transform": HALF_METRE, "photometric": "RGB"} | profile
    shape = {"height": height, "width": width, "count": count, "dtype": bands.dtype}
    with gdal(), rasterio.open(path, "w", driver="GTiff", **shape, **profile) as file:
        file.write(bands)
    return path


@pytest.fixture
def scene(tmp_path):
    """Return a scene of 150x200 pixels."""
    return write(tmp_path / "scene.tif", noise(3, 150, 200))


def draw(source, out, function=negative, **settings):
    return draw_scene(function, source, out, **{"side": SIDE, "model": "8f2c"} | settings)


def read(path):
    with gdal(), rasterio.open(path) as file:
        return file.read()


def refusal(source, out, **settings):
    """Draw what should be refused, see that nothing is left behind, and return the message."""
    before = sorted(out.parent.iterdir()) if out.parent.is_dir() else None
    with pytest.raises(DataError) as refused:
        draw(source, out, **settings)
    assert before is None or sorted(out.parent.iterdir()) == before
    return str(refused.value)


# The map


def test_a_scene_becomes_a_map_of_the_same_place(scene, tmp_path):
    report = draw(scene, tmp_path / "deep" / "map.tif")
    with rasterio.open(tmp_path / "deep" / "map.tif") as file:
        assert (file.crs.to_epsg(), file.transform, file.shape, file.count) == (2180, HALF_METRE, (150, 200), 3)
        assert [kind.name for kind in file.colorinterp] == ["red", "green", "blue"] and file.dtypes[0] == "uint8"
        assert file.tags()["MODEL"] == "8f2c" and file.tags()["TIFFTAG_SOFTWARE"] == "sat2map"
        assert "TIFFTAG_DATETIME" not in file.tags()
        assert np.array_equal(file.read(), 255 - read(scene))
    assert os.listdir(tmp_path / "deep") == ["map.tif"]
    assert (report.source, report.map, report.model) == ("scene.tif", "map.tif", "8f2c")
    assert (report.width, report.height, report.crs, report.bands) == (200, 150, "EPSG:2180", (1, 2, 3))
    assert (report.tiles, report.skipped, report.resumed, report.warnings) == (6 * 8, 0, 0, ())
    assert report.seams == pytest.approx(1, abs=0.05) and report.milliseconds > 0
    assert SceneReport.model_validate_json(report.model_dump_json()) == report


def test_when_the_photo_was_taken_goes_along(tmp_path):
    source = write(tmp_path / "scene.tif", noise(3, 64, 64))
    with gdal(), rasterio.open(source, "r+") as file:
        file.update_tags(TIFFTAG_DATETIME="2024:06:01 10:30:00", TIFFTAG_ARTIST="me")
    draw(source, tmp_path / "map.tif")
    with rasterio.open(tmp_path / "map.tif") as file:
        assert file.tags()["TIFFTAG_DATETIME"] == "2024:06:01 10:30:00" and "TIFFTAG_ARTIST" not in file.tags()


@pytest.mark.parametrize("count", [3, 4])
def test_the_map_is_a_valid_cloud_optimized_geotiff(tmp_path, count):
    bands = noise(count, 700, 1300)
    source = write(tmp_path / "scene.tif", bands, alpha="YES") if count == 4 else write(tmp_path / "scene.tif", bands)
    draw(source, tmp_path / "map.tif", side=256)
    assert cog_validate(tmp_path / "map.tif", strict=True) == (True, [], [])
    with rasterio.open(tmp_path / "map.tif") as file:
        assert file.overviews(1) == [2, 4] and file.block_shapes[0] == (512, 512)
        assert file.profile["compress"] == "deflate"


def test_alpha_is_kept_and_what_is_empty_is_not_drawn(tmp_path):
    bands = noise(4, 150, 200)
    bands[3] = 255
    bands[3, :, :100] = 0
    bands[3, 0, 150] = 77
    report = draw(write(tmp_path / "scene.tif", bands, alpha="YES"), tmp_path / "map.tif")
    drawn = read(tmp_path / "map.tif")
    assert np.array_equal(drawn[3], bands[3])
    assert np.array_equal(drawn[:3, :, 100:], 255 - bands[:3, :, 100:]) and not drawn[:3, :, :100].any()
    assert report.skipped == 6 * 3 and report.tiles == 6 * 5


def test_nodata_comes_out_transparent(tmp_path):
    bands = noise(3, 150, 200, np.uint16)
    bands[:, :40] = 0
    report = draw(write(tmp_path / "scene.tif", bands, nodata=0), tmp_path / "map.tif")
    with rasterio.open(tmp_path / "map.tif") as file:
        assert file.nodata is None and file.colorinterp[3].name == "alpha"
        alpha = file.read(4)
    assert not alpha[:40].any() and (alpha[40:] == 255).all()
    assert report.skipped == 8 and len(report.levels) == 3


def test_a_scene_of_nothing_becomes_an_empty_map(tmp_path):
    source = write(tmp_path / "scene.tif", np.zeros((3, 70, 70), np.uint8), nodata=0)
    report = draw(source, tmp_path / "map.tif", pytest.fail)
    assert not read(tmp_path / "map.tif").any() and report.tiles == 0 and report.seams is None


def test_the_map_has_the_models_resolution(scene, tmp_path):
    report = draw(scene, tmp_path / "map.tif", resolution=1.0)
    with rasterio.open(tmp_path / "map.tif") as file:
        assert file.shape == (75, 100) and file.bounds == (500_000, 599_925, 500_100, 600_000)
    assert report.ground == pytest.approx((1, 1), rel=2e-3) and report.warnings == ()


def test_a_scene_without_a_coordinate_system_is_drawn_with_a_warning(tmp_path):
    source = write(tmp_path / "scene.tif", noise(3, 70, 70), crs=None, transform=rasterio.Affine.identity())
    report = draw(source, tmp_path / "map.tif")
    with gdal(), rasterio.open(tmp_path / "map.tif") as file:
        assert file.crs is None and file.transform.is_identity
    assert report.crs is None and report.ground is None
    assert report.warnings == (f"{tmp_path.name}/scene.tif has no coordinate system, and its map has none either.",)


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:2263", "+proj=laea +lat_0=52 +lon_0=10 +units=m"])
def test_coordinate_systems_survive_the_round_trip(tmp_path, crs):
    step = 1e-5 if crs == "EPSG:4326" else 1
    transform = rasterio.Affine(step, 0, 10, 0, -step, 50)
    source = write(tmp_path / "scene.tif", noise(3, 40, 40), crs=crs, transform=transform)
    draw(source, tmp_path / "map.tif")
    with rasterio.open(source) as before, rasterio.open(tmp_path / "map.tif") as after:
        assert after.crs == before.crs and after.transform == before.transform


def test_seams_are_blended_and_measured(tmp_path):
    source = write(tmp_path / "scene.tif", noise(3, 300, 300) // 8)
    assert draw(source, tmp_path / "map.tif", moody, overlap=0).seams > 1.5
    assert draw(source, tmp_path / "map.tif", moody).seams < 1.1


def test_progress_counts_rows_of_tiles(scene, tmp_path, capfd):
    progress = RecordedProgress()
    draw(scene, tmp_path / "map.tif", progress=progress)
    assert progress.totals == progress.counts == {"Drawing map.tif": 6} and progress.steps == ["Writing map.tif"]
    assert capfd.readouterr() == ("", "")


# Stops


PROGRAM = """
import sys, time
import numpy as np
from pathlib import Path
sys.path[:0] = {path!r}
from tests.serving.inference.test_scene import draw, moody

def slow(images):
    time.sleep(0.02)
    return moody(images)

draw(Path({source!r}), Path({out!r}), slow)
"""


def started(source, out):
    program = PROGRAM.format(path=[str(PROJECT)], source=str(source), out=str(out))
    return subprocess.Popen([sys.executable, "-W", "ignore", "-c", program], stderr=subprocess.PIPE, text=True)


def wait_for_strips(folder, count, process):
    patience = time.monotonic() + 60
    while len(list(folder.glob(".map.tif-*/strip-*.tif"))) < count:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < patience
        time.sleep(0.005)


def test_a_killed_run_goes_on_and_ends_as_if_it_had_not_been(tmp_path):
    source = write(tmp_path / "scene.tif", noise(3, 600, 200))
    whole = draw(source, tmp_path / "whole.tif", moody)
    out = tmp_path / "map.tif"
    for strips in (3, 9):
        process = started(source, out)
        wait_for_strips(tmp_path, strips, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL and not out.exists()
    tiles = []

    def counted(images):
        tiles.append(len(images))
        return moody(images)

    report = draw(source, out, counted)
    assert np.array_equal(read(out), read(tmp_path / "whole.tif"))
    assert (report.tiles, report.seams) == (whole.tiles, whole.seams)
    assert report.resumed >= 9 * 20 and sum(tiles) <= whole.tiles - 8 * 8
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.tif", "scene.tif", "whole.tif"]


def stopping(after):
    """Return something that draws some batches and then fails."""
    calls = []

    def draw(images):
        calls.append(1)
        if len(calls) > after:
            raise KeyboardInterrupt
        return moody(images)

    return draw


def stopped(source, out, after=4, **settings):
    with pytest.raises(KeyboardInterrupt):
        draw(source, out, stopping(after), **settings)
    (folder,) = out.parent.glob(f".{out.name}-*")
    return folder


def test_an_earlier_map_stays_until_the_new_one_is_whole(scene, tmp_path):
    (tmp_path / "map.tif").write_bytes(b"what was good")
    stopped(scene, tmp_path / "map.tif")
    assert (tmp_path / "map.tif").read_bytes() == b"what was good"
    assert draw(scene, tmp_path / "map.tif", moody).resumed > 0
    assert read(tmp_path / "map.tif").shape == (3, 150, 200)


@pytest.mark.parametrize("change", [{"model": "other"}, {"overlap": 0.5}, {"bands": (3, 2, 1)}, {"resolution": 1.0}])
def test_strips_of_other_settings_are_not_gone_on_with(scene, tmp_path, change):
    folder = stopped(scene, tmp_path / "map.tif")
    assert draw(scene, tmp_path / "map.tif", moody, **change).resumed == 0
    assert not folder.exists()


def test_strips_of_another_scene_are_not_gone_on_with(scene, tmp_path):
    stopped(scene, tmp_path / "map.tif")
    write(scene, noise(3, 150, 200) // 2)
    assert draw(scene, tmp_path / "map.tif").resumed == 0
    assert np.array_equal(read(tmp_path / "map.tif"), 255 - read(scene))


@pytest.mark.parametrize("damage", [b"", b"II*\0" + bytes(100), "half"])
def test_a_strip_that_is_not_whole_is_drawn_again(scene, tmp_path, damage):
    folder = stopped(scene, tmp_path / "map.tif")
    first, second, *_ = sorted(folder.glob("strip-*.tif"))
    content = second.read_bytes()
    second.write_bytes(content[: len(content) // 2] if damage == "half" else damage)
    with gdal(), rasterio.open(first) as file:
        height = file.height
    assert draw(scene, tmp_path / "map.tif", moody).resumed == height
    draw(scene, tmp_path / "whole.tif", moody)
    assert np.array_equal(read(tmp_path / "map.tif"), read(tmp_path / "whole.tif"))


def test_a_stop_before_the_first_strip_leaves_nothing(scene, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        draw(scene, tmp_path / "map.tif", stopping(0))
    assert os.listdir(tmp_path) == ["scene.tif"]


def test_two_runs_do_not_draw_one_map(scene, tmp_path):
    process = started(write(tmp_path / "large.tif", noise(3, 3000, 200)), tmp_path / "map.tif")
    try:
        wait_for_strips(tmp_path, 1, process)
        with pytest.raises(DataError, match="Another process is drawing"):
            draw(tmp_path / "large.tif", tmp_path / "map.tif")
    finally:
        process.kill()
        process.communicate()


FULL = """
import resource, sys
from pathlib import Path
sys.path[:0] = {path!r}
from tests.serving.inference.test_scene import draw
from model.errors import DataError
resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))
try:
    draw(Path({source!r}), Path({out!r}))
except DataError as error:
    print(error)
"""


@pytest.mark.parametrize(("size", "kept"), [(10_000, "0 of 150 rows"), (60_000, "all rows")])
def test_a_full_disk_is_told_and_the_run_goes_on_when_there_is_room(scene, tmp_path, size, kept):
    out = tmp_path / "map.tif"
    program = FULL.format(path=[str(PROJECT)], source=str(scene), out=str(out), size=size)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=100)
    assert f"{kept} are drawn and kept there: free some space and run again to resume." in done.stdout, done.stderr
    assert not out.exists()
    assert draw(scene, out).resumed == (150 if kept == "all rows" else 0)
    assert np.array_equal(read(out), 255 - read(scene)) and sorted(os.listdir(tmp_path)) == ["map.tif", "scene.tif"]


# What is refused


def test_a_place_that_can_not_be_written_is_told(scene, tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "map.tif", Path("/proc/nowhere/map.tif")):
        assert "can't be written (" in refusal(scene, place)


def test_names_of_other_formats_folders_and_the_scene_itself_are_refused(scene, tmp_path):
    assert refusal(scene, tmp_path / "map.png") == "The map of a scene is a GeoTIFF; map.png must end in .tif or .tiff."
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


def test_importing_it_loads_no_rasterio():
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
    # As wide as the largest that is promised, where memory is by the width; its height would only take time.
    width, height, source, out = 20_000, 5_000, tmp_path / "scene.tif", tmp_path / "map.tif"
    shape = {
        "height": height,
        "width": width,
        "count": 3,
        "dtype": "uint8",
        "crs": "EPSG:2180",
        "transform": HALF_METRE,
    }
    with rasterio.open(source, "w", driver="GTiff", tiled=True, compress="deflate", **shape) as file:
        block = np.full((3, 1000, width), 90, np.uint8)
        for top in range(0, height, 1000):
            file.write(block, window=rasterio.windows.Window(0, top, width, 1000))
    assert source.stat().st_size < 10_000_000
    program = BOMB.format(path=[str(PROJECT)], source=str(source), out=str(out))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    pixels, kilobytes = map(int, done.stdout.split())
    assert pixels == width * height and kilobytes < 1_000_000
    assert cog_validate(out) == (True, [], [])
