"""Interrupted drawing of scenes: whatever stops a run, the next one resumes with the same result."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import rasterio

from model.errors import DataError
from serving.geo.gdal import gdal
from tests.fixtures.project import PROJECT
from tests.fixtures.scenes import draw, noise, read_bands, uneven, write_rgb

PROGRAM = """
import sys, time
import numpy as np
from pathlib import Path
sys.path[:0] = {path!r}
from tests.fixtures.scenes import draw, uneven

def slow(images):
    time.sleep(0.02)
    return uneven(images)

draw(Path({source!r}), Path({out!r}), slow)
"""


def start_drawing(source, out):
    """Start a process that draws slowly."""
    program = PROGRAM.format(path=[str(PROJECT)], source=str(source), out=str(out))
    return subprocess.Popen([sys.executable, "-W", "ignore", "-c", program], stderr=subprocess.PIPE, text=True)


def wait_for_strips(folder, count, process):
    """Wait until a process has written `count` strips."""
    deadline = time.monotonic() + 60
    while len(list(folder.glob(".map.tif-*/strip-*.tif"))) < count:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_killed_run_resumes_with_the_same_result(tmp_path):
    source = write_rgb(tmp_path / "scene.tif", noise(3, 600, 200))
    uninterrupted = draw(source, tmp_path / "uninterrupted.tif", uneven)
    out = tmp_path / "map.tif"
    for strips in (3, 9):
        process = start_drawing(source, out)
        wait_for_strips(tmp_path, strips, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL and not out.exists()
    tiles = []

    def counted(images):
        tiles.append(len(images))
        return uneven(images)

    report = draw(source, out, counted)
    assert np.array_equal(read_bands(out), read_bands(tmp_path / "uninterrupted.tif"))
    assert (report.tiles, report.seams) == (uninterrupted.tiles, uninterrupted.seams)
    assert report.resumed >= 9 * 20 and sum(tiles) <= uninterrupted.tiles - 8 * 8
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.tif", "scene.tif", "uninterrupted.tif"]


def interrupted_after(batches):
    """Return a function that draws some batches and is then interrupted."""
    calls = []

    def draw(images):
        calls.append(1)
        if len(calls) > batches:
            raise KeyboardInterrupt
        return uneven(images)

    return draw


def interrupt(source, out):
    """Interrupt the drawing of a map and return the folder of its finished strips."""
    with pytest.raises(KeyboardInterrupt):
        draw(source, out, interrupted_after(4))
    (folder,) = out.parent.glob(f".{out.name}-*")
    return folder


def test_an_earlier_map_stays_until_the_new_one_is_complete(scene, tmp_path):
    (tmp_path / "map.tif").write_bytes(b"an earlier map")
    interrupt(scene, tmp_path / "map.tif")
    assert (tmp_path / "map.tif").read_bytes() == b"an earlier map"
    assert draw(scene, tmp_path / "map.tif", uneven).resumed > 0
    assert read_bands(tmp_path / "map.tif").shape == (3, 150, 200)


@pytest.mark.parametrize("change", [{"model": "other"}, {"overlap": 0.5}, {"bands": (3, 2, 1)}, {"resolution": 1.0}])
def test_strips_of_other_settings_are_not_resumed(scene, tmp_path, change):
    folder = interrupt(scene, tmp_path / "map.tif")
    assert draw(scene, tmp_path / "map.tif", uneven, **change).resumed == 0
    assert not folder.exists()


def test_strips_of_another_scene_are_not_resumed(scene, tmp_path):
    interrupt(scene, tmp_path / "map.tif")
    write_rgb(scene, noise(3, 150, 200) // 2)
    assert draw(scene, tmp_path / "map.tif").resumed == 0
    assert np.array_equal(read_bands(tmp_path / "map.tif"), 255 - read_bands(scene))


@pytest.mark.parametrize("damage", [b"", b"II*\0" + bytes(100), "half"])
def test_a_truncated_strip_is_drawn_again(scene, tmp_path, damage):
    folder = interrupt(scene, tmp_path / "map.tif")
    first, second, *_ = sorted(folder.glob("strip-*.tif"))
    content = second.read_bytes()
    second.write_bytes(content[: len(content) // 2] if damage == "half" else damage)
    with gdal(), rasterio.open(first) as file:
        height = file.height
    assert draw(scene, tmp_path / "map.tif", uneven).resumed == height
    draw(scene, tmp_path / "uninterrupted.tif", uneven)
    assert np.array_equal(read_bands(tmp_path / "map.tif"), read_bands(tmp_path / "uninterrupted.tif"))


def test_a_stop_before_the_first_strip_leaves_nothing(scene, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        draw(scene, tmp_path / "map.tif", interrupted_after(0))
    assert os.listdir(tmp_path) == ["scene.tif"]


def test_two_runs_do_not_draw_the_same_map(scene, tmp_path):
    process = start_drawing(write_rgb(tmp_path / "large.tif", noise(3, 3000, 200)), tmp_path / "map.tif")
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
from tests.fixtures.scenes import draw
from model.errors import DataError
resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))
try:
    draw(Path({source!r}), Path({out!r}))
except DataError as error:
    print(error)
"""


@pytest.mark.parametrize(("size", "kept"), [(10_000, "0 of 150 rows"), (60_000, "all rows")])
def test_a_full_disk_is_reported_and_the_run_resumes_later(scene, tmp_path, size, kept):
    out = tmp_path / "map.tif"
    program = FULL.format(path=[str(PROJECT)], source=str(scene), out=str(out), size=size)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=100)
    assert f"{kept} are drawn and kept there: free some space and run again to resume." in done.stdout, done.stderr
    assert not out.exists()
    assert draw(scene, out).resumed == (150 if kept == "all rows" else 0)
    assert np.array_equal(read_bands(out), 255 - read_bands(scene))
    assert sorted(os.listdir(tmp_path)) == ["map.tif", "scene.tif"]


def test_maps_of_the_longest_names_are_drawn_and_resumed(tmp_path):
    source = write_rgb(tmp_path / "scene.tif", noise(3, 300, 60))
    out, calls = tmp_path / f"{'ä' * 119}.tif", []

    def stop_after_some(images):
        calls.append(len(images))
        if sum(calls) > 20:
            raise KeyboardInterrupt
        return 255 - images

    with pytest.raises(KeyboardInterrupt):
        draw(source, out, stop_after_some)
    assert draw(source, out).resumed > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scene.tif", out.name]
