"""The command line in subprocesses: mistakes end with one clear message, exit code 2, and no files."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from tests.fixtures.project import PROJECT

TINY = ["--set", "network.image_size=32 network.depth=5 network.width=2 training.epochs=1"]


@pytest.fixture
def sat2map(tmp_path):
    def call(*words, **environment):
        return subprocess.run(
            [sys.executable, "-m", "pipelines", *words],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(PROJECT), "COLUMNS": "100"} | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    return call


@pytest.fixture
def save(tmp_path):
    random = np.random.default_rng(0)

    def save(name, width=64, height=32):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8)).save(path)
        return path

    return save


def files(folder):
    return {path.relative_to(folder) for path in folder.rglob("*")}


def assert_refused(done, folder, before, *words):
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr
    assert files(folder) == before


def test_a_missing_folder_is_refused(sat2map, tmp_path):
    done = sat2map("prepare", *TINY, "--set", "data.source=nowhere")
    assert_refused(done, tmp_path, set(), f"There is no folder {tmp_path}/nowhere")


def test_the_complete_flow_with_a_missing_folder_leaves_no_run(sat2map, tmp_path):
    done = sat2map("main", *TINY, "--set", "data.source=nowhere")
    assert done.returncode == 2
    assert f"There is no folder {tmp_path}/nowhere" in done.stderr
    assert not (tmp_path / "workspace").exists()
    assert not (tmp_path / "mlruns").exists()


def test_an_empty_folder_is_refused(sat2map, tmp_path):
    (tmp_path / "empty").mkdir()
    before = files(tmp_path)
    done = sat2map("prepare", *TINY, "--set", "data.source=empty")
    assert_refused(done, tmp_path, before, "There are no pairs in", "empty (found: nothing)", "train/ and val/")


def test_square_images_are_refused(sat2map, tmp_path, save):
    for number in range(4):
        save(f"square/{number}.png", 32, 32)
    before = files(tmp_path)
    done = sat2map("prepare", *TINY, "--set", "data.source=square")
    assert_refused(done, tmp_path, before, "32x32", "twice as wide as high")


def test_a_truncated_photo_is_reported_and_the_others_are_used(sat2map, tmp_path, save):
    for number in range(16):
        save(f"pairs/train/{number}.jpg")
    for number in range(4):
        save(f"pairs/val/{number}.jpg")
    broken = tmp_path / "pairs/train/7.jpg"
    broken.write_bytes(broken.read_bytes()[:-300])
    done = sat2map("prepare", *TINY, "--set", "data.source=pairs")
    assert done.returncode == 0, done.stderr
    assert "15 training pairs, 4 held out, 1 rejected." in done.stdout
    assert "rejected train/7: is broken or truncated" in done.stdout
    assert "train/7,is broken" in (tmp_path / "workspace/rejected.csv").read_text()


def test_images_that_are_not_used_and_the_layout_are_named(sat2map, save):
    for number in range(4):
        save(f"pairs/train/{number}.png")
        save(f"pairs/previews/{number}.png")
    done = sat2map("prepare", *TINY, "--set", "data.source=pairs")
    assert done.returncode == 0 and "  Found     side-by-side images in train/; held out by name\n" in done.stdout
    few = "Warning: 1 training pair doesn't fill a batch of 4; lower training.batch_size.\n"
    assert done.stderr.startswith(
        f"Not used: previews/ 4 images: outside train/.\n{few}1 pair: configuration few-pairs"
    )


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("training.speed=9", ["training.speed is not a setting; allowed here: epochs, steps, minutes, batch_size"]),
        ("training.batch_size=0", ["training.batch_size", "greater than or equal to 1 (found 0)"]),
        ("training.workers=3", ["Batch size 4 can't be divided over 3 workers; use a multiple of 3"]),
        ("network.image_size=100", ["image_size 100 can't be halved 7 times", "use a multiple of 128"]),
        ("nonsense", ["'nonsense' is not a setting; write section.key=value"]),
    ],
)
def test_an_invalid_setting_is_refused(sat2map, tmp_path, setting, words):
    assert_refused(sat2map("prepare", "--set", setting), tmp_path, set(), *words)


def test_a_configuration_file_with_an_unknown_key_is_refused(sat2map, tmp_path):
    (tmp_path / "mine.yaml").write_text("training:\n  epoch: 3\n")
    done = sat2map("train", "--config", "mine.yaml")
    assert_refused(done, tmp_path, files(tmp_path), "training.epoch is not a setting")


def test_an_unknown_verb_is_refused(sat2map, tmp_path):
    assert_refused(sat2map("paint"), tmp_path, set(), "No such command 'paint'")


def test_an_unreachable_tracking_server_is_refused(sat2map, tmp_path, save):
    for part in ("train", "val"):
        for number in range(4):
            save(f"pairs/{part}/{number}.png")
    before = files(tmp_path)
    start = time.monotonic()
    done = sat2map("main", *TINY, "--set", "data.source=pairs", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert time.monotonic() - start < 60
    assert_refused(done, tmp_path, before, "The MLflow server at http://127.0.0.1:9 does not answer")


def test_each_verb_names_the_missing_verb_before_it(sat2map, tmp_path):
    for verb, words in {
        "export": "run `train` first",
        "evaluate": "run `train` first",
        "register": "run `train` first",
    }.items():
        assert_refused(sat2map(verb, *TINY), tmp_path, set(), words)
    (tmp_path / "photos").mkdir()
    assert_refused(sat2map("score", "photos", "maps"), tmp_path, files(tmp_path), "run `train` first")


def test_an_unknown_run_is_refused(sat2map, tmp_path):
    assert_refused(sat2map("export", "--run", "77"), tmp_path, set(), "No run '77' in workspace; known runs: none")


def test_more_workers_than_the_machine_has_are_refused(sat2map, tmp_path, save):
    for part in ("train", "val"):
        for number in range(4):
            save(f"pairs/{part}/{number}.png")
    words = [*TINY, "--set", "data.source=pairs training.start_from=none training.cpus_per_worker=500"]
    assert sat2map("prepare", *words).returncode == 0
    # MLflow and Ray give deprecation warnings, at which the setting would end them.
    done = sat2map("train", *words, PYTHONWARNINGS="error")
    assert done.returncode == 2
    assert "1 workers with 500 CPUs each were requested and the cluster has" in done.stderr


def test_json_is_machine_readable(sat2map, save):
    for part in ("train", "val"):
        for number in range(4):
            save(f"pairs/{part}/{number}.png")
    done = sat2map("prepare", *TINY, "--set", "data.source=pairs", "--json")
    assert done.returncode == 0, done.stderr
    index = json.loads(done.stdout)
    assert [pair["name"] for pair in index["val"]] == ["val/0", "val/1", "val/2", "val/3"]


@pytest.mark.parametrize("verb", ["main", "prepare", "train", "export", "evaluate", "register", "score"])
def test_help_lists_the_shared_options(sat2map, verb):
    done = sat2map(verb, "--help")
    assert done.returncode == 0
    assert "--set" in done.stdout
    assert "--json" in done.stdout
