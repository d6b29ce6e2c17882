"""What the registry holds after a run, and what registering refuses."""

import shutil

import mlflow
import numpy as np
import onnxruntime
import pytest

from model.bundle import Bundle
from model.errors import MissingStepError
from model.pixels import to_tensor
from model.translator import Translator
from pipelines.dataset import load_all
from pipelines.registry import register
from pipelines.workspace import RunFolder, Workspace


@pytest.fixture(scope="module")
def run(road):
    return Workspace(road.folder / "workspace").run()


@pytest.fixture(autouse=True)
def _server(road, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", road.environment["MLFLOW_TRACKING_URI"])


def test_the_version_says_what_it_is_made_of(run):
    version = mlflow.MlflowClient().get_model_version_by_alias("sat2map", "challenger")
    assert version.run_id == run.run_id
    logged = mlflow.artifacts.load_dict(f"runs:/{run.run_id}/bundle/bundle.json")
    assert version.tags["model.sha256"] == logged["sha256"]
    assert version.tags["data.fingerprint"] == run.pairs().fingerprint
    assert float(version.tags["parity.max_difference"]) <= 1e-4


def test_signature_and_example_are_those_of_the_tensors():
    model = mlflow.models.get_model_info("models:/sat2map@challenger")
    (photo,), (street_map,) = model.signature.inputs.inputs, model.signature.outputs.inputs
    assert (photo.name, photo.shape, photo.type) == ("photo", (-1, 64, 64, 3), np.dtype("float32"))
    assert (street_map.name, street_map.shape) == ("map", (-1, 64, 64, 3))
    assert "onnx" in model.flavors
    assert model.saved_input_example_info is not None


def test_the_registered_model_is_the_bundle_s(run, tmp_path):
    folder = mlflow.artifacts.download_artifacts("models:/sat2map@challenger", dst_path=str(tmp_path))
    photos, _ = load_all(run.pairs().val[:1], side=64, direction="photo_to_map")
    session = onnxruntime.InferenceSession(f"{folder}/model.onnx", providers=["CPUExecutionProvider"])
    (drawn,) = session.run(None, {"photo": to_tensor(photos)})
    assert np.array_equal(drawn, Translator(Bundle.open(run.bundle)).translate(to_tensor(photos)))


def test_registering_needs_a_bundle_and_scores(run, tmp_path):
    copy = RunFolder(tmp_path / run.run_id)
    shutil.copytree(run.path, copy.path, ignore=shutil.ignore_patterns("checkpoints", "bundle", "evaluation"))
    with pytest.raises(MissingStepError, match="run `export` first"):
        register(copy)
    shutil.copytree(run.bundle, copy.bundle)
    with pytest.raises(MissingStepError, match="run `evaluate` first"):
        register(copy)


def test_registering_again_makes_the_next_version_the_challenger(run):
    first = mlflow.MlflowClient().get_model_version_by_alias("sat2map", "challenger").version
    again = register(run)
    assert again.version == first + 1
    assert mlflow.MlflowClient().get_model_version_by_alias("sat2map", "challenger").version == again.version
