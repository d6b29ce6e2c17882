"""`sat2map score` on the command line: where maps go, which model draws, the output, and the exit code."""

import json
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.bundle import MODEL_FILE
from tests.fixtures.scored_folders import score_command, score_environment
from tests.fixtures.surveys import noise_bands, write_survey


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


def test_a_folder_becomes_a_folder_of_maps(run_score, photos, bundle, tmp_path):
    done = run_score("my photos", "my maps", "--model", bundle)
    assert done.returncode == 0, done.stderr
    summary, *facts = done.stdout.splitlines()
    assert summary.startswith("Maps: 3 drawn in ") and summary.endswith(" images/s).")
    assert [line.split(maxsplit=1) for line in facts] == [
        ["Maps", "my maps"],
        ["Model", "runs:/1f0c, fp32 on CPUExecutionProvider"],
        ["Manifest", "my maps/manifest.csv"],
    ]
    for name in "abc":
        with Image.open(tmp_path / "my maps" / f"{name}.png") as drawn, Image.open(photos / f"{name}.png") as photo:
            assert np.array_equal(np.asarray(drawn), 255 - np.asarray(photo))
    again = run_score("my photos", "my maps", "--model", bundle)
    assert again.stdout.startswith("Maps: 0 drawn, 3 already there.\n")


@pytest.mark.parametrize("words", [["-o", "map.webp"], ["map.webp"], ["--out", "map.webp"]])
def test_a_single_map_has_the_format_of_its_name(run_score, photos, bundle, tmp_path, words):
    done = run_score(photos / "a.png", *words, "--model", bundle, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["out"], report["drawn"], report["manifest"]) == ("map.webp", 1, None)
    with Image.open(tmp_path / "map.webp") as drawn:
        assert (drawn.format, drawn.size) == ("WEBP", (50, 40))


def test_scenes_and_photos_have_reports_of_one_shape(run_score, photos, bundle, tmp_path):
    write_survey(tmp_path / "scene.tif", noise_bands(3, 40, 50))
    (tmp_path / "latest.tif").symlink_to("deep/map.tif")
    scene = json.loads(run_score("scene.tif", "-o", "latest.tif", "--model", bundle, "--json").stdout)
    report = json.loads(run_score("my photos", "maps", "--model", bundle, "--json").stdout)
    assert report.keys() - scene.keys() == {"provider"}
    for name in ("origin", "variant", "kept", "failed"):
        assert scene[name] == report[name]
    assert (scene["drawn"], report["drawn"], report["model"]) == (1, 3, report["origin"])
    assert scene["out"] == str(tmp_path / "deep" / "map.tif") and Path(scene["manifest"]).is_file()
    assert (tmp_path / "latest.tif").is_symlink() and scene["scene"]["map"] == "map.tif"


def test_several_sources_may_be_named(run_score, photos, bundle, tmp_path):
    (tmp_path / "list.txt").write_text("my photos/c.png\n")
    words = (photos / "a.png", photos / "b.png", "@list.txt", "maps", "--format", "jpeg", "--model", bundle)
    done = run_score(*words)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "maps").glob("*.jpg")) == ["a.jpg", "b.jpg", "c.jpg"]


def test_failures_give_exit_code_4_and_a_line_each(run_score, photos, bundle):
    (photos / "b.png").write_bytes(b"no photo")
    done = run_score("my photos", "maps", "--model", bundle)
    assert done.returncode == 4
    lines = [line for line in done.stderr.splitlines() if str(photos) in line]
    assert lines == [f"{photos}/b.png is of an unknown format; JPEG, PNG, WebP, TIFF, JPEG 2000 are allowed"]
    assert "Maps: 2 drawn in " in done.stdout and "1 failed." in done.stdout


def test_it_is_an_error_if_all_photos_fail(run_score, photos, bundle):
    for path in photos.iterdir():
        path.write_bytes(b"no photo")
    done = run_score("my photos", "maps", "--model", bundle)
    assert done.returncode == 2 and "Error: None of the photos can be drawn (3):" in done.stderr


def test_photos_are_scaled_with_resize(run_score, photos, bundle, tmp_path):
    assert run_score("my photos", "maps", "--model", bundle, "--resize").returncode == 0
    with Image.open(tmp_path / "maps" / "a.png") as drawn:
        assert drawn.size == (40, 32)


def test_mistakes_are_explained(run_score, photos, bundle):
    refused(run_score(), "No photos were named. Write: sat2map score PHOTOS MAPS.")
    refused(
        run_score("my photos"), "No folder was named for the maps of my photos. Write: sat2map score 'my photos' MAPS."
    )
    refused(run_score("my photos", "maps"), "No trained run in workspace; run `train` first")
    words = ("my photos", "maps", "--model")
    refused(run_score(*words, "nowhere"), "nowhere is not a bundle (bundle.json is missing)")
    refused(run_score(*words, bundle, "--run", "77"), "name two models; give one of them")
    refused(run_score(*words, "models:/sat2map"), "write models:/NAME@ALIAS or models:/NAME/VERSION")
    refused(run_score(*words, bundle, "--format", "gif"), "choose one of: jpeg, png, tiff, webp")
    refused(run_score(*words, bundle, "--variant", "int4"), "has no variant 'int4'; there are: fp32")
    refused(run_score("nowhere", "maps", "--model", bundle), "There is no nowhere: name photos")
    refused(run_score("my photos/a.png", "x.jpg", "--format", "png", "--model", bundle), "don't agree")
    with (bundle / MODEL_FILE).open("ab") as file:
        file.write(b"more")
    refused(run_score(*words, bundle), "is not the file that was exported (its sha256 differs)")
    assert not Path(photos.parent, "maps").exists()


def test_a_stopped_scoring_continues(bundle, tmp_path):
    (tmp_path / "photos").mkdir()
    for number in range(250):
        pixels = np.random.default_rng(number).integers(0, 256, (150, 150, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    words = score_command("photos", "maps", "--model", bundle, "--json")
    running = subprocess.Popen(words, cwd=tmp_path, env=score_environment(), stdout=-1, stderr=-1, text=True)
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "maps").glob("*.png"))) < 30:
        assert running.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    running.send_signal(signal.SIGINT)
    output, messages = running.communicate(timeout=60)
    stopped = json.loads(output)["error"]
    assert running.returncode == stopped["exit_code"] == 130 and stopped["kind"] == "stopped"
    assert "Traceback" not in messages
    assert messages.endswith("Stopped. Finished maps are kept: run the same command again to continue.\n")
    done = subprocess.run(words, cwd=tmp_path, env=score_environment(), capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    assert report["kept"] >= 25 and report["kept"] + report["drawn"] == 250


def test_the_origin_of_a_pulled_bundle_is_printed(run_score, photos, bundle):
    (bundle / "pulled.json").write_text(json.dumps({"name": "sat2map", "version": 3, "run_id": "1f0c", "sha256": ""}))
    assert "models:/sat2map/3, fp32" in run_score("my photos", "maps", "--model", bundle).stdout
    (bundle / "pulled.json").write_text("{}")
    refused(run_score("my photos", "maps", "--model", bundle), "pulled.json can't be read; pull the model again")
