"""`pull`: registered files come back unchanged, and missing, altered, unsafe or oversized ones are refused."""

import json
import pickle
import re
import shutil
from types import SimpleNamespace

import mlflow
import numpy as np
import pytest
import yaml

from model.bundle import MANIFEST_FILE, MODEL_FILE, Bundle
from model.errors import BundleError, MissingStepError, StorageError, TrackingError
from model.io.files import sha256
from model.translator import Translator
from pipelines.data.dataset import load_all
from pipelines.data.pairs import PairIndex
from pipelines.registry.pull import Pulled, pull
from tests.fixtures import runs
from tests.fixtures.registered_files import change_manifest, refusal, set_hash_tags


def test_a_pulled_bundle_equals_the_registered_one_and_draws_maps(registered_run, tmp_path):
    bundle = pull("sat2map", "challenger", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        MANIFEST_FILE,
        "generator.int8.onnx",
        MODEL_FILE,
        "pulled.json",
        "report.html",
        "scores.json",
    ]
    assert bundle.manifest == registered_run.open_bundle().manifest
    for name in ("fp32", "int8"):
        assert bundle.verified(name).read_bytes() == registered_run.open_bundle().verified(name).read_bytes()
    photos, maps = load_all(PairIndex.load(registered_run.pairs_file).val, side=32, direction="photo_to_map")
    assert np.array_equal(Translator(bundle)(photos), maps)
    origin = Pulled.model_validate_json((tmp_path / "out/pulled.json").read_text())
    assert origin == Pulled(name="sat2map", version=1, run_id=registered_run.run_id, sha256=bundle.manifest.sha256)


def test_extras_may_be_missing(files, tmp_path):
    (files / "sat2map/report.html").unlink()
    pull("sat2map", 1, tmp_path / "out")
    assert not (tmp_path / "out/report.html").exists() and (tmp_path / "out/scores.json").exists()


def test_a_pulled_bundle_is_replaced_and_other_files_never(registered_run, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    pull("sat2map", 1, out)
    (out / "scores.json").write_text("older")
    assert (pull("sat2map", 1, out).folder / "scores.json").read_text() != "older"
    (out / "notes.txt").write_text("mine")
    assert "contains notes.txt; only folders made by `pull` are replaced" in refusal(out)
    assert (out / "notes.txt").read_text() == "mine"
    exported = shutil.copytree(registered_run.bundle, tmp_path / "exported")
    assert "contains a bundle that was not pulled" in refusal(exported)
    (tmp_path / "file").write_text("mine")
    assert "is not a folder" in refusal(tmp_path / "file")
    (tmp_path / "link").symlink_to(out)
    assert "is not a folder" in refusal(tmp_path / "link")


def test_a_failed_pull_leaves_the_existing_bundle(files, tmp_path):
    out = tmp_path / "out"
    pull("sat2map", 1, out)
    (files / "model.onnx").write_bytes(b"broken")
    assert "was altered" in refusal(out)
    assert Bundle.open(out).manifest.run_id


@pytest.mark.parametrize("byte", [0, -1, 40])
def test_a_flipped_byte_is_refused(files, tmp_path, byte):
    content = bytearray((files / "model.onnx").read_bytes())
    content[byte] ^= 1
    (files / "model.onnx").write_bytes(content)
    assert "model.onnx of version 1 of sat2map was altered: its sha256 is" in refusal(tmp_path / "out")


def test_every_variant_is_checked(files, restored_tags, tmp_path):
    path = files / "sat2map/generator.int8.onnx"
    path.write_bytes(runs.serialise(0.5))
    assert "generator.int8.onnx is not the file that was exported" in refusal(tmp_path / "out")
    path.write_bytes(b"no model")
    manifest = json.loads((files / "sat2map" / MANIFEST_FILE).read_text())
    manifest["variants"]["int8"]["sha256"] = sha256(path)
    change_manifest(files, variants=manifest["variants"])
    set_hash_tags(files, "model.onnx")
    assert "The fetched generator.int8.onnx is not an ONNX model" in refusal(tmp_path / "out")
    path.unlink()
    assert "has no sat2map/generator.int8.onnx; register the run again" in refusal(tmp_path / "out")


def test_a_manifest_of_another_model_is_refused(files, restored_tags, tmp_path):
    (files / "model.onnx").write_bytes(runs.serialise(0.5))
    set_hash_tags(files, "model.onnx")
    assert "is not the file that was exported" in refusal(tmp_path / "out")


def test_an_altered_manifest_is_refused(files, tmp_path):
    change_manifest(files, code_revision="another")
    assert "sat2map/bundle.json of version 1 of sat2map was altered: its sha256 is" in refusal(tmp_path / "out")


def test_a_bundle_of_another_run_is_refused(files, restored_tags, tmp_path):
    change_manifest(files, run_id="another")
    set_hash_tags(files, "model.onnx")
    assert "its bundle to run 'another'" in refusal(tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("sat2map/bundle.json", b"{}", "bundle.json of version 1 of sat2map was altered"),
        ("sat2map/bundle.json", None, "has no sat2map/bundle.json; register the run again"),
        ("model.onnx", None, "has no model.onnx"),
        ("MLmodel", None, "MLmodel can't be fetched"),
        ("MLmodel", b"flavors: [", "MLmodel of version 1 of sat2map can't be read"),
        ("MLmodel", b"[" * 30_000, "can't be read"),
        ("MLmodel", b"#" * 40_000, "MLmodel is larger than 32,768 bytes"),
        ("MLmodel", b"\xff\xfe\x00", "can't be read"),
        ("MLmodel", b"flavors: 3", "names no flavours"),
        ("MLmodel", b"flavors: {onnx: 3}", "names no flavours"),
    ],
)
def test_broken_content_is_refused(files, tmp_path, name, content, message):
    (files / name).unlink() if content is None else (files / name).write_bytes(content)
    assert message in refusal(tmp_path / "out", error=(BundleError, TrackingError))


class Trap:
    """A pickle that creates a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        """Return the call that unpickling makes."""
        return open, (str(self.path), "w")


@pytest.mark.parametrize("name", ["python_model.pkl", "data/weights.PTH", "sat2map/model.joblib", "x.npy"])
def test_pickles_are_refused_in_any_folder(files, tmp_path, name):
    (files / name).parent.mkdir(exist_ok=True)
    (files / name).write_bytes(pickle.dumps(Trap(tmp_path / "loaded")))
    assert f"contains {name!r}, which may be a pickle" in refusal(tmp_path / "out")
    assert not (tmp_path / "loaded").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sklearn": {"pickled_model": "model.bin"}}, "has the flavours sklearn; only onnx is supported"),
        ({"python_function": {"loader_module": "mlflow.pyfunc.model"}}, "is loaded by 'mlflow.pyfunc.model'"),
        ({"python_function": {"loader_module": "mlflow.onnx", "code": "code"}}, "contains code that MLflow would run"),
        ({"python_function": {"loader_module": ["mlflow.onnx"]}}, "is loaded by a list"),
        ({"onnx": None}, "names no flavours"),
    ],
)
def test_flavours_that_run_code_are_refused(files, tmp_path, change, message):
    content = yaml.safe_load((files / "MLmodel").read_text())
    content["flavors"] |= change
    (files / "MLmodel").write_text(yaml.safe_dump(content))
    assert message in refusal(tmp_path / "out")


@pytest.mark.parametrize("name", ["model.onnx", "sat2map/bundle.json", "sat2map/scores.json"])
def test_a_huge_file_is_refused_before_it_is_fetched(files, tmp_path, name):
    size = (1 << 40) + 5
    with (files / name).open("r+b") as file:
        try:
            file.truncate(size)
        except OSError:
            size = (1 << 31) + 5
            file.truncate(size)
    assert f"{name} of version 1 of sat2map has {size:,} bytes; the limit is" in refusal(tmp_path / "out")


def test_too_many_files_are_refused(files, tmp_path):
    for number in range(1001):
        (files / f"{number}.txt").touch()
    assert "more than 1000 files" in refusal(tmp_path / "out")


def test_a_version_not_created_by_register_is_refused(registered_run, tmp_path):
    source = mlflow.MlflowClient().get_model_version("sat2map", "1").source
    created = mlflow.MlflowClient().create_model_version("sat2map", source, registered_run.run_id)
    message = refusal(tmp_path / "out", created.version, MissingStepError)
    assert "has no tag bundle.sha256, so it was not created by `sat2map register`" in message


def test_unknown_names_are_refused(registered_run, tmp_path):
    assert "no alias 'champion'" in refusal(tmp_path / "out", "champion", MissingStepError)
    with pytest.raises(MissingStepError, match="has no model 'other'"):
        pull("other", 1, tmp_path / "out")


def test_a_model_that_does_not_fit_on_the_disk_is_not_fetched(registered_run, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=100))
    message = refusal(tmp_path / "out", error=StorageError)
    assert re.match(r"The model has [\d,]+ bytes, and 100 are free on the disk that it goes to; make room", message)
    assert capfd.readouterr().err == ""
