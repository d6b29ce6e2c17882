"""Registered versions, on SQLite and on a server with PostgreSQL: files, tags, description, and refusals."""

import os
import shutil
import subprocess
import sys

import mlflow
import numpy as np
import onnxruntime
import pytest
from PIL import Image

from model.bundle import MODEL_FILE
from model.errors import BundleError, MissingStepError, TrackingError
from model.io.files import sha256
from model.pixels import to_tensor
from pipelines.data.dataset import load_all
from pipelines.data.pairs import PairIndex
from pipelines.registry import model_card, versions
from pipelines.registry.artifacts import Artifacts
from pipelines.registry.register import register
from pipelines.registry.versions import find
from pipelines.report.sheets import GAP, TITLE
from pipelines.run_folder import RunFolder
from tests.fixtures import runs

OWN_FILES = {
    *("bundle.json", "generator.int8.onnx", "generator.keras", "discriminator.keras", "pairs.json"),
    *("report.html", "scores.json", "sheet.png"),
}


@pytest.fixture(scope="module")
def registered(mlflow_folder):
    """Register a small run once."""
    run = runs.make_run(runs.configure(mlflow_folder, "shown"))
    return run, register(run)


def test_a_version_is_the_challenger_and_its_tags_name_its_origin(registered):
    run, made = registered
    version = mlflow.MlflowClient().get_model_version_by_alias("shown", "challenger")
    assert (made.version, made.uri) == (int(version.version), "models:/shown@challenger") == (1, made.uri)
    assert version.run_id == run.run_id == made.run_id
    manifest = run.open_bundle().manifest
    assert version.tags["model.sha256"] == manifest.sha256
    assert version.tags["data.fingerprint"] == PairIndex.load(run.pairs_file).fingerprint
    assert version.tags["git.revision"] == "838b6f8" and version.tags["data.held_out_pairs"] == "3"
    assert float(version.tags["parity.max_difference"]) == 1e-6


def test_a_version_contains_all_files_byte_for_byte(registered, tmp_path):
    run, _ = registered
    artifacts = find("shown", 1).artifacts()
    sizes = artifacts.sizes()
    own = {path for path in sizes if path.startswith("sat2map/")}
    assert own == {f"sat2map/{name}" for name in {*OWN_FILES, "card.png"}}
    assert {"MLmodel", "model.onnx", "input_example.json", "requirements.txt"} <= set(sizes)
    originals = {path.name: path for path in run.path.rglob("*") if path.name in OWN_FILES}
    originals["model.onnx"] = run.bundle / MODEL_FILE
    for path, size in sizes.items():
        if original := originals.get(path.rpartition("/")[2]):
            artifacts.fetch(path, tmp_path / "file", limit=size)
            assert (tmp_path / "file").read_bytes() == original.read_bytes(), path


def test_signature_and_example_match_the_tensors(registered):
    model = mlflow.models.get_model_info("models:/shown@challenger")
    (photo,), (street_map,) = model.signature.inputs.inputs, model.signature.outputs.inputs
    assert (photo.name, photo.shape, photo.type) == ("photo", (-1, 32, 32, 3), np.dtype("float32"))
    assert (street_map.name, street_map.shape) == ("map", (-1, 32, 32, 3))
    assert set(model.flavors) == {"onnx", "python_function"}
    assert model.saved_input_example_info is not None


def test_mlflow_serves_the_registered_model(registered, tmp_path):
    run, _ = registered
    folder = mlflow.artifacts.download_artifacts("models:/shown@challenger", dst_path=str(tmp_path))
    photos, maps = load_all(PairIndex.load(run.pairs_file).val[:1], side=32, direction="photo_to_map")
    drawn = mlflow.pyfunc.load_model(folder).predict({"photo": to_tensor(photos)})
    np.testing.assert_allclose(drawn["map"], to_tensor(maps), atol=1e-6)
    session = onnxruntime.InferenceSession(f"{folder}/model.onnx", providers=["CPUExecutionProvider"])
    assert np.array_equal(session.run(None, {"photo": to_tensor(photos)})[0], drawn["map"])


def test_the_run_knows_the_model(registered):
    run, _ = registered
    (output,) = mlflow.MlflowClient().get_run(run.run_id).outputs.model_outputs
    model = mlflow.MlflowClient().get_logged_model(output.model_id)
    assert model.status == "READY" and model.source_run_id == run.run_id
    assert mlflow.MlflowClient().get_run(run.run_id).info.status == "FINISHED"


@pytest.mark.parametrize(
    ("file", "verb"),
    [
        ("bundle", "export"),
        ("evaluation/scores.json", "evaluate"),
        ("evaluation/report.html", "evaluate"),
        ("evaluation/sheet.png", "evaluate"),
        ("generator.keras", "train"),
    ],
)
def test_registering_requires_all_earlier_steps(registered, tmp_path, file, verb):
    run, _ = registered
    copy = RunFolder(tmp_path / run.run_id)
    shutil.copytree(run.path, copy.path)
    (shutil.rmtree if file == "bundle" else type(copy.path).unlink)(copy.path / file)
    with pytest.raises(MissingStepError, match=f"run `{verb}` first|first run: sat2map {verb} --run"):
        register(copy)
    assert versions.aliases("shown") == {"challenger": 1}


def test_incompatible_scores_are_refused(registered, tmp_path):
    run, _ = registered
    copy = RunFolder(tmp_path / run.run_id)
    shutil.copytree(run.path, copy.path)
    (copy.evaluation / "scores.json").write_text('{"ssim": 0.5}')
    with pytest.raises(MissingStepError, match="incompatible with this version of sat2map; run `evaluate` again"):
        register(copy)


def test_no_version_is_created_if_the_store_alters_the_model(mlflow_folder, monkeypatch):
    run = runs.make_run(runs.configure(mlflow_folder, "altered"))
    fetch = Artifacts.fetch

    def flipped(self, path, file, *, limit):
        fetch(self, path, file, limit=limit)
        file.write_bytes(file.read_bytes()[:-1] + b"?")

    monkeypatch.setattr(Artifacts, "fetch", flipped)
    with pytest.raises(TrackingError, match=r"artifact store altered model\.onnx"):
        register(run)
    with pytest.raises(MissingStepError, match="has no model 'altered'"):
        find("altered", 1)


KILLED = """
import os, sys
from pathlib import Path
import mlflow
from pipelines.registry.register import register
from pipelines.run_folder import RunFolder
real = getattr(mlflow.MlflowClient, sys.argv[2])
def die(*words, **named):
    os.kill(os.getpid(), 9)
setattr(mlflow.MlflowClient, sys.argv[2], die)
register(RunFolder(Path(sys.argv[1])))
"""


@pytest.mark.parametrize(
    "moment",
    ["finalize_logged_model", pytest.param("log_model_artifacts", marks=pytest.mark.slow)],
)
def test_a_killed_registration_leaves_no_version_without_its_files(mlflow_folder, moment):
    name = f"killed in {moment}"
    run = runs.make_run(runs.configure(mlflow_folder, name))
    words = [sys.executable, "-c", KILLED, str(run.path), moment]
    environment = dict(os.environ) | {"PYTHONPATH": ":".join(sys.path)}
    assert subprocess.run(words, cwd=mlflow_folder, env=environment, capture_output=True, check=False).returncode == -9
    with pytest.raises(MissingStepError, match="has no model"):
        find(name, "challenger")
    assert register(run).version == 1


@pytest.mark.parametrize(
    ("which", "message"),
    [
        ("champion", "no alias 'champion' in the registry; aliases: challenger is version 1"),
        (7, "no version '7' in the registry"),
        ("0", "no version '0'"),
    ],
)
def test_an_unknown_version_is_refused_with_the_known_aliases(registered, which, message):
    with pytest.raises(MissingStepError, match=message):
        find("shown", which)


def test_an_unreachable_server_is_reported_without_its_password(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    with pytest.raises(TrackingError, match=r"127\.0\.0\.1:9 does not answer") as found:
        find("shown", 1)
    assert "secret" not in str(found.value)


# Descriptions


def test_the_description_lists_scores_data_and_usage(registered):
    run, _ = registered
    text = find("shown", 1).description
    assert text.startswith("**Beats every trivial baseline in all 4 scores, on 3 held-out pairs.**")
    assert "| **this model** | &emsp;0.8000 [0.7000,&nbsp;0.9000] | &emsp;10.00 [9.00,&nbsp;11.00] |" in text
    assert (
        "| median colour | &emsp;0.3000 [0.2000,&nbsp;0.4000] | &emsp;30.00 [29.00,&nbsp;31.00] |" in text
        and "is not FID" in text
    )
    assert "3 training pairs and 3 held out" in text and PairIndex.load(run.pairs_file).fingerprint[:12] in text
    assert "\nsat2map pull models:/shown/1 --out model\n" in text
    assert "\nmlflow models serve -m models:/shown/1 --env-manager local --port 5001\n" in text
    assert " -d @serving_input_example.json\n" in text and "one photo of 32 x 32 RGB values in [-1, 1]" in text
    assert "](model-versions/get-artifact?path=sat2map%2Fcard.png&name=shown&version=1)" in text


def test_the_model_s_page_explains_the_aliases_and_keeps_a_person_s_description(registered):
    run, _ = registered
    client = mlflow.MlflowClient()
    introduction = client.get_registered_model("shown").description
    assert "**champion**: the version for services; `sat2map pull models:/shown@champion --out model`" in introduction
    assert "`sat2map promote models:/shown@challenger`" in introduction
    assert "`sat2map rollback --set tracking.model_name=shown`" in introduction
    copy = runs.make_run(runs.configure(run.path.parents[2], "described"))
    client.create_registered_model("described", description="Ours.")
    register(copy)
    assert client.get_registered_model("described").description == "Ours."


def test_a_description_fits_into_the_database_and_hides_passwords(registered):
    run, _ = registered
    config, manifest = run.record().config, run.open_bundle().manifest
    pairs = PairIndex.load(run.pairs_file).model_copy(update={"source": "https://me:secret@host/" + "|`long\n" * 2000})
    scores = runs.scores_of(run.run_id, manifest.sha256, pairs)
    text = model_card.describe(scores, manifest, config=config, pairs=pairs, name="shown" * 20, version=123)
    assert len(text) < model_card.LIMIT and "secret" not in text
    (row,) = [line for line in text.splitlines() if line.startswith("- **Data**")]
    assert row.count("`") == 4
    decided = model_card.with_decision(text, "Refused", ["a sentence"] * 2000)
    assert len(decided) == model_card.LIMIT


def test_the_page_shows_the_first_rows_of_the_sheet(registered, tmp_path):
    artifacts = find("shown", 1).artifacts()
    for name in ("card.png", "sheet.png"):
        artifacts.fetch(f"sat2map/{name}", tmp_path / name, limit=1 << 20)
    with Image.open(tmp_path / "card.png") as card, Image.open(tmp_path / "sheet.png") as sheet:
        rows = TITLE + 2 * (32 + GAP)
        assert sheet.height > rows and card.size == (sheet.width, rows)
        assert np.array_equal(np.asarray(card), np.asarray(sheet)[:rows])


def test_a_decision_replaces_an_earlier_one():
    once = model_card.with_decision("text\n", "Refused on Monday", ["too slow"])
    twice = model_card.with_decision(once, "Promoted on Tuesday", ["better"])
    assert "Refused on Monday" in once and once.startswith("text\n")
    assert "Monday" not in twice and twice.endswith("**Promoted on Tuesday**\n\n- better\n")


# Locations of files


@pytest.mark.parametrize(
    ("location", "message"),
    [
        (
            "http://elsewhere:80/api/2.0/mlflow-artifacts/artifacts/1",
            "files are on elsewhere:80, which is not the MLflow",
        ),
        ("mlflow-artifacts://me:secret@elsewhere/1", "files are on elsewhere, which is not"),
        ("ftp://me:secret@elsewhere/1", "only mlflow-artifacts:,"),
        ("models:/shown/1", "only mlflow-artifacts:, .* and folders are supported"),
    ],
)
def test_files_on_other_servers_are_not_fetched(mlflow_folder, location, message):
    with pytest.raises(BundleError, match=message) as found:
        Artifacts(location)
    assert "secret" not in str(found.value)


def test_a_file_is_fetched_up_to_its_limit(registered, tmp_path):
    artifacts = find("shown", 1).artifacts()
    size = artifacts.sizes()["model.onnx"]
    artifacts.fetch("model.onnx", tmp_path / "whole", limit=size)
    assert sha256(tmp_path / "whole") == find("shown", 1).sha256
    with pytest.raises(BundleError, match=rf"larger than {size - 1} bytes"):
        artifacts.fetch("model.onnx", tmp_path / "cut", limit=size - 1)
    with pytest.raises(TrackingError, match=r"nothing\.onnx can't be fetched"):
        artifacts.fetch("nothing.onnx", tmp_path / "none", limit=9)
