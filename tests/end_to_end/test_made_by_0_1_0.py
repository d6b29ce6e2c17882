"""Files made by version 0.1.0: runs, checkpoints, bundles and registered versions still work."""

import json
import shutil
import sqlite3
from contextlib import closing

import numpy as np
import pytest
from PIL import Image

from model.bundle import Bundle
from pipelines.data.sample.painter import paint, scene_seed
from pipelines.metrics.scores import Scores
from pipelines.run_folder import RunFolder
from pipelines.workspace import Workspace
from tests.fixtures.project import PROJECT

MADE = PROJECT / "tests/fixtures/made_by_0_1_0"
ROOT = "/tmp/made"
"""Folder in which the files were made, as it appears in them."""
RUN = (MADE / "workspace/latest").read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a copy of the files with their paths adapted, and the database built from its dump."""
    folder = tmp_path_factory.mktemp("made") / "copy"
    shutil.copytree(MADE, folder)
    for path in folder.rglob("*"):
        if path.suffix in (".json", ".sql") or path.name == "MLmodel":
            path.write_text(path.read_text().replace(ROOT, str(folder)))
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        database.executescript((folder / "mlflow.sql").read_text())
    return folder


@pytest.fixture
def sat2map(folder, run_here, monkeypatch):
    """Return a function that runs a verb in the copy, with --json, and returns its result."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")

    def call(*words):
        done = run_here(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return call


@pytest.fixture
def run(folder):
    return Workspace(folder / "workspace").run()


def pixels(path):
    return np.asarray(Image.open(path))


def test_scenes_are_painted_as_before():
    for number in range(1, 9):
        scene = paint(scene_seed(0, 0, number), size=32)
        before = pixels(MADE / f"workspace/sample-v1-32px-8+4-seed0/train/{number:04}.png")
        assert np.array_equal(before, np.concatenate([scene.photo, scene.street_map], axis=1))


def test_a_run_is_evaluated_with_the_same_scores(sat2map, run):
    before = json.loads((run.evaluation / "scores.json").read_text())
    scores = Scores.model_validate(sat2map("evaluate"))
    assert scores.run_id == RUN and scores.model_sha256 == before["model_sha256"]
    for name in ("l1", "psnr", "ssim"):
        assert scores.model[name].value == pytest.approx(before["model"][name]["value"], rel=1e-4)


def test_score_draws_the_same_maps(sat2map, folder, tmp_path):
    photos = sorted((folder / "workspace/sample-v1-32px-8+4-seed0/val").iterdir())
    (tmp_path / "photos").mkdir()
    for path in photos:
        Image.open(path).crop((0, 0, 32, 32)).save(tmp_path / "photos" / path.name)
    report = sat2map("score", str(tmp_path / "photos"), str(tmp_path / "maps"))
    assert report["drawn"] == 4 and report["model"] == f"runs:/{RUN}"
    for path in photos:
        before = pixels(MADE / "workspace/runs" / RUN / "evaluation/maps/val" / path.name)
        assert np.array_equal(pixels(tmp_path / "maps" / path.name), before)


def test_a_registered_version_is_pulled(sat2map, tmp_path):
    sat2map("pull", "1", "--out", str(tmp_path / "pulled"))
    bundle, made = Bundle.open(tmp_path / "pulled"), Bundle.open(MADE / "workspace/runs" / RUN / "bundle")
    assert bundle.manifest == made.manifest
    assert bundle.verified().read_bytes() == made.verified().read_bytes()


def test_a_registered_version_is_promoted(sat2map):
    # Two epochs do not beat the baselines.
    promotion = sat2map("promote", "1", "--set", "promotion.beats=[]")
    assert (promotion["decision"], promotion["version"], promotion["champion"]) == ("promoted", 1, None)


def test_a_run_is_exported_again(sat2map, run):
    before = Bundle.open(MADE / "workspace/runs" / RUN / "bundle").manifest
    manifest = sat2map("export")
    assert manifest["run_id"] == RUN and manifest["signature"] == before.signature.model_dump(mode="json")
    assert manifest["parity"]["max_difference"] <= before.parity.limit


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`use_.*` is deprecated")  # Ray Train sets these settings itself.
def test_a_training_is_resumed_from_its_checkpoint(sat2map, run):
    steps = RunFolder(MADE / "workspace/runs" / RUN).record().steps
    record = sat2map("train", "--resume", RUN, "--set", "training.epochs=3")
    assert (record["run_id"], record["steps"]) == (RUN, steps * 3 // 2)
    assert run.record().config.training.epochs == 3
    assert any(path.name == "step-00000006" for path in run.checkpoints.iterdir())
