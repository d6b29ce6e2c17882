"""Scenes scored again, also after a kill or on a full disk: finished maps are kept, unfinished ones are resumed."""

import json
import signal
import subprocess
import sys
import time

import numpy as np

from tests.fixtures.scenes import read_bands
from tests.fixtures.scored_folders import rows, score_command, score_environment, stamp, without_times
from tests.fixtures.surveys import draw_scenes, noise_bands, write_survey


def test_finished_maps_are_kept_unless_inputs_changed(bundle, survey, maps):
    assert draw_scenes(bundle, survey, maps).drawn == 3
    before, old_rows = stamp(maps / "east.tif"), rows(maps)
    assert draw_scenes(bundle, survey, maps).kept == 3
    assert stamp(maps / "east.tif") == before and rows(maps) == old_rows
    report = draw_scenes(bundle, survey, maps, bands=(3, 2, 1))
    # The settings of scenes do not concern the photo.
    assert (report.drawn, report.kept) == (2, 1)
    assert np.array_equal(read_bands(maps / "east.tif"), 255 - read_bands(survey / "east.tif")[::-1])
    (maps / "west.tif").write_bytes(b"altered")
    write_survey(survey / "east.tif", noise_bands(3, 70, 90, seed=5))
    report = draw_scenes(bundle, survey, maps, bands=(3, 2, 1))
    assert (report.drawn, report.kept) == (2, 1)
    assert np.array_equal(read_bands(maps / "east.tif"), 255 - read_bands(survey / "east.tif")[::-1])


def test_after_a_kill_finished_maps_are_kept_and_the_unfinished_scene_is_resumed(
    run_score, survey, make_bundle, tmp_path, maps
):
    write_survey(survey / "long.tif", noise_bands(3, 6000, 300))
    words = ("survey", "--format", "tiff", "--json", "--model", make_bundle(), "-o")
    assert run_score(*words, "undisturbed").returncode == 0
    process = subprocess.Popen(
        score_command(*words, "maps"), cwd=tmp_path, env=score_environment(), stdout=-1, stderr=-1
    )
    deadline = time.monotonic() + 60
    while len(list(maps.glob(".long.tif-*/strip-*.tif"))) < 5:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL and not (maps / "manifest.csv").exists()
    before = stamp(maps / "east.tif")
    done = run_score(*words, "maps")
    assert done.returncode == 0, done.stderr
    # East and the photo; west comes after long.
    assert json.loads(done.stdout)["kept"] == 2 and stamp(maps / "east.tif") == before
    assert json.loads((maps / "long.manifest.json").read_text())["scene"]["resumed"] > 0
    assert without_times(maps) == without_times(tmp_path / "undisturbed")
    for name in ("east.tif", "long.tif", "west.tif", "photo.tif"):
        assert (maps / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()
    assert not list(maps.glob(".*"))


FULL = """
import resource, sys
from pathlib import Path
from tests.fixtures.surveys import draw_scenes
from model.bundle import Bundle
from model.errors import StorageError
resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
try:
    draw_scenes(Bundle.open(Path({bundle!r})), {survey!r}, {maps!r})
except StorageError as error:
    print(error)
"""


def test_a_full_disk_stops_the_scoring_and_finished_maps_are_kept(bundle, survey, maps):
    write_survey(survey / "a.tif", np.full((3, 40, 40), 9, np.uint8))
    program = FULL.format(bundle=str(bundle.folder), survey=str(survey), maps=str(maps))
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=score_environment(), capture_output=True, text=True, check=True, timeout=100)
    assert done.stdout.endswith("are drawn and kept there: free some space and run again to resume.\n"), done.stderr
    report = draw_scenes(bundle, survey, maps)
    assert (report.drawn, report.kept, report.failed) == (2, 2, ())
