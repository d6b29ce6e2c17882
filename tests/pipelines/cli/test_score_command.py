"""`score` as people type it: where maps go, which model draws, what is said, and the exit code."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.bundle import MODEL_FILE
from tests.fixtures.project import PROJECT


@pytest.fixture
def sat2map(tmp_path):
    """Return a function that runs the command line in a folder of its own."""

    def call(*words):
        return subprocess.run(
            command(*words), cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False, timeout=120
        )

    return call


def command(*words):
    return [sys.executable, "-m", "pipelines", *map(str, words)]


def environment():
    return os.environ | {"PYTHONPATH": str(PROJECT), "COLUMNS": "100"}


@pytest.fixture
def photos(tmp_path):
    """Return a folder of three photos."""
    folder = tmp_path / "my photos"
    folder.mkdir()
    for number, name in enumerate("abc"):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 50, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def bundle(make_bundle):
    """Return the folder of a bundle whose maps are the negatives of the photos."""
    return make_bundle()


def refused(done, *words):
    assert (done.returncode, done.stdout) == (2, ""), done.stdout + done.stderr
    assert "Error: " in done.stderr and "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


def test_a_folder_becomes_a_folder_of_maps(sat2map, photos, bundle, tmp_path):
    done = sat2map("score", "my photos", "my maps", "--model", bundle)
    assert done.returncode == 0, done.stderr
    said, *facts = done.stdout.splitlines()
    assert said.startswith("Maps: 3 drawn in ") and said.endswith(" images/s).")
    assert [line.split(maxsplit=1) for line in facts] == [
        ["Maps", "my maps"],
        ["Model", "runs:/1f0c, fp32 on CPUExecutionProvider"],
        ["Manifest", "my maps/manifest.csv"],
    ]
    for name in "abc":
        with Image.open(tmp_path / "my maps" / f"{name}.png") as drawn, Image.open(photos / f"{name}.png") as photo:
            assert np.array_equal(np.asarray(drawn), 255 - np.asarray(photo))
    assert "Maps: 0 drawn" in (again := sat2map("score", "my photos", "my maps", "--model", bundle)).stdout
    assert "3 already there." in again.stdout


@pytest.mark.parametrize("words", [["-o", "map.webp"], ["map.webp"], ["--out", "map.webp"]])
def test_a_photo_becomes_a_file_of_the_format_that_its_name_says(sat2map, photos, bundle, tmp_path, words):
    done = sat2map("score", photos / "a.png", *words, "--model", bundle, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["out"], report["drawn"], report["manifest"]) == ("map.webp", 1, None)
    with Image.open(tmp_path / "map.webp") as drawn:
        assert (drawn.format, drawn.size) == ("WEBP", (50, 40))


def test_several_sources_may_be_named_as_a_shell_expands_them(sat2map, photos, bundle, tmp_path):
    (tmp_path / "list.txt").write_text("my photos/c.png\n")
    done = sat2map(
        "score", photos / "a.png", photos / "b.png", "@list.txt", "maps", "--format", "jpeg", "--model", bundle
    )
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "maps").glob("*.jpg")) == ["a.jpg", "b.jpg", "c.jpg"]


def test_some_that_fail_make_exit_code_4_and_a_line_each(sat2map, photos, bundle):
    (photos / "b.png").write_bytes(b"no photo")
    done = sat2map("score", "my photos", "maps", "--model", bundle)
    assert done.returncode == 4
    told = [line for line in done.stderr.splitlines() if str(photos) in line]
    assert told == [f"{photos}/b.png: my photos/b.png is of an unknown format; JPEG, PNG, WebP, TIFF are allowed"]
    assert "Maps: 2 drawn in " in done.stdout and "1 failed." in done.stdout


def test_if_all_fail_it_is_an_error(sat2map, photos, bundle):
    for path in photos.iterdir():
        path.write_bytes(b"no photo")
    done = sat2map("score", "my photos", "maps", "--model", bundle)
    assert done.returncode == 2 and "Error: None of the photos can be drawn (3):" in done.stderr


def test_a_photo_is_scaled_if_asked(sat2map, photos, bundle, tmp_path):
    assert sat2map("score", "my photos", "maps", "--model", bundle, "--resize").returncode == 0
    with Image.open(tmp_path / "maps" / "a.png") as drawn:
        assert drawn.size == (40, 32)


def test_mistakes_are_told_in_a_sentence(sat2map, photos, bundle):
    refused(sat2map("score"), "No photos were named. Write: sat2map score PHOTOS MAPS.")
    refused(sat2map("score", "my photos"), "No folder was named for the maps of my photos. Write: sat2map score 'my photos' MAPS.")
    refused(sat2map("score", "my photos", "maps"), "No trained run in workspace; run `train` first")
    place = ("my photos", "maps", "--model")
    refused(sat2map("score", *place, "nowhere"), "nowhere is not a bundle (bundle.json is missing)")
    refused(sat2map("score", *place, bundle, "--run", "77"), "name two models; give one of them")
    refused(sat2map("score", *place, "models:/sat2map"), "write models:/NAME@ALIAS or models:/NAME/VERSION")
    refused(sat2map("score", *place, bundle, "--format", "gif"), "choose one of: jpeg, png, tiff, webp")
    refused(sat2map("score", *place, bundle, "--variant", "int4"), "has no variant 'int4'; there are: fp32")
    refused(sat2map("score", "nowhere", "maps", "--model", bundle), "There is no nowhere: name photos")
    refused(sat2map("score", "my photos/a.png", "x.jpg", "--format", "png", "--model", bundle), "don't agree")
    with (bundle / MODEL_FILE).open("ab") as file:
        file.write(b"more")
    refused(sat2map("score", *place, bundle), "is not the file that was exported (its sha256 differs)")
    assert not Path(photos.parent, "maps").exists()


def test_a_stopped_scoring_goes_on(bundle, tmp_path):
    (tmp_path / "photos").mkdir()
    for number in range(250):
        pixels = np.random.default_rng(number).integers(0, 256, (150, 150, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    words = command("score", "photos", "maps", "--model", bundle, "--json")
    running = subprocess.Popen(words, cwd=tmp_path, env=environment(), stdout=-1, stderr=-1, text=True)
    patience = time.monotonic() + 60
    while len(list((tmp_path / "maps").glob("*.png"))) < 30:
        assert running.poll() is None and time.monotonic() < patience
        time.sleep(0.005)
    running.send_signal(signal.SIGINT)
    said, complaint = running.communicate(timeout=60)
    assert (running.returncode, said) == (130, "")
    assert "Traceback" not in complaint
    assert complaint.endswith("Stopped. Finished maps are kept: run the same command again to continue.\n")
    done = subprocess.run(words, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    assert report["kept"] >= 25 and report["kept"] + report["drawn"] == 250


def test_the_origin_of_a_pulled_bundle_is_told(sat2map, photos, bundle):
    (bundle / "pulled.json").write_text(json.dumps({"name": "sat2map", "version": 3, "run_id": "1f0c", "sha256": ""}))
    assert "models:/sat2map/3, fp32" in sat2map("score", "my photos", "maps", "--model", bundle).stdout
    (bundle / "pulled.json").write_text("{}")
    refused(sat2map("score", "my photos", "maps", "--model", bundle), "pulled.json can't be read; pull the model again")
