"""`pull` fetches what was registered, and refuses everything else, on disk and from a server that lies."""

import gzip
import json
import pickle
import shutil
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import mlflow
import numpy as np
import onnx
import pytest
import yaml
from onnx import helper

from model.bundle import MANIFEST_FILE, MODEL_FILE, Bundle
from model.errors import BundleError, MissingStepError, TrackingError
from model.io.files import sha256
from model.translator import Translator
from pipelines.data.dataset import load_all
from pipelines.data.pairs import PairIndex
from pipelines.registry import artifacts, register, versions
from pipelines.registry import pull as pulling
from pipelines.registry.pull import Pulled, pull
from tests.fixtures import runs


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Let MLflow be a file of its own."""
    folder = tmp_path_factory.mktemp("pull")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        yield folder


@pytest.fixture(scope="module")
def run(store):
    run = runs.make_run(runs.configure(store))
    register.register(run)
    return run


@pytest.fixture
def files(run):
    """Return the folder of the version's files, as they lie in the artifact store; it is whole again afterwards."""
    folder = versions.find("sat2map", 1)
    place = urllib.parse.urlsplit(mlflow.MlflowClient().get_model_version_download_uri("sat2map", "1")).path
    spare = shutil.copytree(place, f"{place}-spare")
    assert folder.number == 1
    try:
        yield type(run.path)(place)
    finally:
        shutil.rmtree(place)
        shutil.move(spare, place)


def refusal(out, which="challenger", error=BundleError):
    """Return what `pull` says, having left nothing behind."""
    before = sorted(path.name for path in out.parent.iterdir())
    with pytest.raises(error) as found:
        pull("sat2map", which, out)
    assert sorted(path.name for path in out.parent.iterdir()) == before
    return str(found.value)


def tag(folder, model_file):
    """Let the tags of the version be the sha256 of what lies in a folder."""
    client = mlflow.MlflowClient()
    client.set_model_version_tag("sat2map", "1", "model.sha256", sha256(folder / model_file))
    manifest = next(folder.rglob(MANIFEST_FILE))
    client.set_model_version_tag("sat2map", "1", "bundle.sha256", sha256(manifest))


def change_manifest(files, **changes):
    path = files / "sat2map" / MANIFEST_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def seal(files, model=None):
    """Let sha256 in bundle.json and in the tags be those of another model, as somebody would who owns the registry."""
    if model is not None:
        (files / "model.onnx").write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    change_manifest(files, sha256=sha256(files / "model.onnx"))
    tag(files, "model.onnx")


@pytest.fixture
def tags(run):
    """Set the tags right again afterwards."""
    yield
    tag(run.bundle, MODEL_FILE)


def test_what_was_registered_comes_back_and_draws(run, tmp_path):
    bundle = pull("sat2map", "challenger", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        MANIFEST_FILE,
        "generator.int8.onnx",
        MODEL_FILE,
        "pulled.json",
        "report.html",
        "scores.json",
    ]
    assert bundle.manifest == run.open_bundle().manifest
    for name in ("fp32", "int8"):
        assert bundle.verified(name).read_bytes() == run.open_bundle().verified(name).read_bytes()
    photos, maps = load_all(PairIndex.load(run.pairs_file).val, side=32, direction="photo_to_map")
    assert np.array_equal(Translator(bundle)(photos), maps)
    origin = Pulled.model_validate_json((tmp_path / "out/pulled.json").read_text())
    assert origin == Pulled(name="sat2map", version=1, run_id=run.run_id, sha256=bundle.manifest.sha256)


def test_extras_may_be_missing(files, tmp_path):
    (files / "sat2map/report.html").unlink()
    pull("sat2map", 1, tmp_path / "out")
    assert not (tmp_path / "out/report.html").exists() and (tmp_path / "out/scores.json").exists()


def test_an_older_pulled_bundle_is_replaced_and_nothing_else(run, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    pull("sat2map", 1, out)
    (out / "scores.json").write_text("older")
    assert (pull("sat2map", 1, out).folder / "scores.json").read_text() != "older"
    (out / "notes.txt").write_text("mine")
    assert "holds notes.txt; only what `pull` made is replaced" in refusal(out)
    assert (out / "notes.txt").read_text() == "mine"
    exported = shutil.copytree(run.bundle, tmp_path / "exported")
    assert "holds a bundle that was not pulled" in refusal(exported)
    (tmp_path / "file").write_text("mine")
    assert "is not a folder" in refusal(tmp_path / "file")
    (tmp_path / "link").symlink_to(out)
    assert "is not a folder" in refusal(tmp_path / "link")


def test_a_failed_pull_leaves_the_older_bundle(files, tmp_path):
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


def test_every_variant_is_checked(files, tags, tmp_path):
    path = files / "sat2map/generator.int8.onnx"
    path.write_bytes(runs.serialise(0.5))
    assert "generator.int8.onnx is not the file that was exported" in refusal(tmp_path / "out")
    path.write_bytes(b"no model")
    manifest = json.loads((files / "sat2map" / MANIFEST_FILE).read_text())
    manifest["variants"]["int8"]["sha256"] = sha256(path)
    change_manifest(files, variants=manifest["variants"])
    tag(files, "model.onnx")
    assert "The fetched generator.int8.onnx is no ONNX model" in refusal(tmp_path / "out")
    path.unlink()
    assert "has no sat2map/generator.int8.onnx; register the run again" in refusal(tmp_path / "out")


def test_a_manifest_of_another_model_is_refused(files, tags, tmp_path):
    (files / "model.onnx").write_bytes(runs.serialise(0.5))
    tag(files, "model.onnx")
    assert "is not the file that was exported" in refusal(tmp_path / "out")


def test_an_altered_manifest_is_refused(files, tmp_path):
    change_manifest(files, code_revision="another")
    assert "sat2map/bundle.json of version 1 of sat2map was altered: its sha256 is" in refusal(tmp_path / "out")


def test_a_bundle_of_another_run_is_refused(files, tags, tmp_path):
    change_manifest(files, run_id="another")
    tag(files, "model.onnx")
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
    """A pickle that leaves a footprint when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        """Tell pickle what to call."""
        return open, (str(self.path), "w")


@pytest.mark.parametrize("name", ["python_model.pkl", "data/weights.PTH", "sat2map/model.joblib", "x.npy"])
def test_pickles_are_refused_wherever_they_lie(files, tmp_path, name):
    (files / name).parent.mkdir(exist_ok=True)
    (files / name).write_bytes(pickle.dumps(Trap(tmp_path / "footprint")))
    assert f"holds {name!r}, which may be a pickle" in refusal(tmp_path / "out")
    assert not (tmp_path / "footprint").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sklearn": {"pickled_model": "model.bin"}}, "has the flavours sklearn; only onnx is fetched"),
        ({"python_function": {"loader_module": "mlflow.pyfunc.model"}}, "is loaded by 'mlflow.pyfunc.model'"),
        ({"python_function": {"loader_module": "mlflow.onnx", "code": "code"}}, "brings code of its own"),
        ({"python_function": {"loader_module": ["mlflow.onnx"]}}, "is loaded by a list"),
        ({"onnx": None}, "names no flavours"),
    ],
)
def test_flavours_that_run_code_are_refused(files, tmp_path, change, message):
    content = yaml.safe_load((files / "MLmodel").read_text())
    content["flavors"] |= change
    (files / "MLmodel").write_text(yaml.safe_dump(content))
    assert message in refusal(tmp_path / "out")


def outside(name="factor"):
    """Return a tensor whose values lie in another file."""
    tensor = onnx.TensorProto(name=name, data_type=onnx.TensorProto.FLOAT, data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../../../../etc/passwd")
    return tensor


def hide_in(place):
    """Return a small generator with an external tensor hidden somewhere."""
    if place == "initialiser":
        return runs.serialise(1, constant=outside())
    model = onnx.load_model_from_string(runs.serialise(1))
    constant = helper.make_node("Constant", [], ["hidden"], value=outside("hidden"))
    if place == "constant":
        model.graph.node.insert(0, constant)
    elif place == "subgraph":
        graph = helper.make_graph([constant], "inner", [], [])
        model.graph.node.append(helper.make_node("If", ["photo"], ["other"], then_branch=graph, else_branch=graph))
    elif place == "function":
        model.functions.append(
            helper.make_function("here", "f", [], ["hidden"], [constant], [helper.make_opsetid("", 18)])
        )
    elif place == "sparse":
        model.graph.sparse_initializer.add(values=outside("hidden"), dims=[1])
    elif place == "list":
        model.graph.node.append(helper.make_node("Other", [], ["other"], tensors=[outside("hidden")]))
    elif place == "training":
        model.training_info.add().initialization.initializer.append(outside("hidden"))
    elif place == "unmarked":
        tensor = outside("hidden")
        tensor.data_location = onnx.TensorProto.DEFAULT
        model.graph.initializer.append(tensor)
    return model


PLACES = ["initialiser", "constant", "subgraph", "function", "sparse", "list", "training", "unmarked"]


@pytest.mark.parametrize("place", PLACES)
def test_tensors_in_other_files_are_refused(files, tags, tmp_path, place):
    seal(files, hide_in(place))
    told = refusal(tmp_path / "out")
    assert "takes the tensor" in told and "from another file ('../../../../etc/passwd')" in told


def test_what_is_no_onnx_and_other_tensors_are_refused(files, tags, tmp_path):
    seal(files, b"\x08\x0a" + bytes(range(256)))
    assert "is no ONNX model" in refusal(tmp_path / "out")
    model = onnx.load_model_from_string(runs.serialise(1))
    model.graph.input[0].name = "other"
    seal(files, model)
    assert "has inputs and outputs [['other'], ['map']]; its manifest says 'photo' and 'map'" in refusal(
        tmp_path / "out"
    )


@pytest.mark.parametrize("name", ["model.onnx", "sat2map/bundle.json", "sat2map/scores.json"])
def test_a_huge_file_is_refused_before_it_is_fetched(files, tmp_path, name):
    size = (1 << 40) + 5
    with (files / name).open("r+b") as file:
        try:
            file.truncate(size)
        except OSError:
            size = (1 << 31) + 5
            file.truncate(size)
    assert f"{name} of version 1 of sat2map has {size:,} bytes; at most" in refusal(tmp_path / "out")


def test_thousands_of_files_are_refused(files, tmp_path):
    for number in range(1001):
        (files / f"{number}.txt").touch()
    assert "more than 1000 files" in refusal(tmp_path / "out")


def test_a_version_that_register_did_not_make_is_told(run, tmp_path):
    source = mlflow.MlflowClient().get_model_version("sat2map", "1").source
    made = mlflow.MlflowClient().create_model_version("sat2map", source, run.run_id)
    told = refusal(tmp_path / "out", made.version, MissingStepError)
    assert "has no tag bundle.sha256, so `sat2map register` did not make it" in told


def test_unknown_names_are_told(run, tmp_path):
    assert "no alias 'champion'" in refusal(tmp_path / "out", "champion", MissingStepError)
    with pytest.raises(MissingStepError, match="holds no model 'other'"):
        pull("other", 1, tmp_path / "out")


# A server that lies


class Liar(BaseHTTPRequestHandler):
    """An MLflow server whose one version lies where `answers` says."""

    answers: ClassVar[dict] = {}

    def do_GET(self):
        """Answer requests of MLflow's client from the table."""
        path = urllib.parse.urlsplit(self.path).path.removeprefix("/api/2.0/")
        content = self.answers.get(path)
        self.send_response(200 if content is not None else 404)
        if path == self.answers.get("packed"):
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        blocks = content() if callable(content) else [json.dumps(content or {}).encode()]
        for block in blocks:
            try:
                self.wfile.write(block)
            except OSError:
                self.answers["gave up"] = True
                return

    do_POST = do_GET

    def log_message(self, *words):
        """Keep quiet."""


@pytest.fixture
def liar(monkeypatch):
    """Start the lying server with an honest version 1; return its table of answers."""
    version = {
        "name": "sat2map",
        "version": "1",
        "run_id": "1f0c",
        "source": "models:/m-1",
        "status": "READY",
        "tags": [{"key": f"{what}.sha256", "value": "0" * 64} for what in ("model", "bundle")],
    }
    files = [("MLmodel", 30), ("model.onnx", 100), ("sat2map/bundle.json", 10)]
    Liar.answers = {
        "mlflow/experiments/search": {"experiments": []},
        "mlflow/registered-models/get": {"registered_model": {"name": "sat2map"}},
        "mlflow/model-versions/get": {"model_version": version},
        "mlflow/model-versions/get-download-uri": {"artifact_uri": "mlflow-artifacts:/1"},
        "mlflow-artifacts/artifacts": {
            "files": [{"path": path, "is_dir": False, "file_size": size} for path, size in files]
        },
        "mlflow-artifacts/artifacts/1/MLmodel": lambda: [b"flavors: {onnx: {}}"],
    }
    with ThreadingHTTPServer(("127.0.0.1", 0), Liar) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}")
        yield Liar.answers
        server.shutdown()


def endless():
    while True:
        yield bytes(1 << 16)


def test_a_server_that_sends_more_than_it_lists_is_cut_off(liar, tmp_path, monkeypatch):
    monkeypatch.setattr(pulling, "SMALL", 1 << 18)
    liar["mlflow-artifacts/artifacts/1/sat2map/bundle.json"] = endless
    assert "sat2map/bundle.json is larger than 262,144 bytes, the most that is fetched" in refusal(tmp_path / "out", 1)
    assert liar["gave up"]


def test_packed_answers_are_refused(liar, tmp_path):
    path = "mlflow-artifacts/artifacts/1/sat2map/bundle.json"
    liar |= {"packed": path, path: lambda: [gzip.compress(bytes(1 << 20))]}
    assert "sat2map/bundle.json comes as gzip, unasked; nothing was fetched" in refusal(tmp_path / "out", 1)


@pytest.mark.parametrize("path", ["../../up", "/etc/passwd", "a\\..\\b", "%2e%2e/%2e%2e/up"])
def test_paths_that_escape_are_refused(liar, tmp_path, path):
    liar["mlflow-artifacts/artifacts"]["files"].append({"path": path, "is_dir": False, "file_size": 1})
    assert "lists a file outside of its own folder" in refusal(tmp_path / "out", 1)


def test_a_file_without_a_size_and_folders_without_end_are_refused(liar, tmp_path, monkeypatch):
    monkeypatch.setattr(artifacts, "MAX_FILES", 20)
    liar["mlflow-artifacts/artifacts"] = {"files": [{"path": "model.onnx", "is_dir": False}]}
    assert "does not say how large 'model.onnx' is" in refusal(tmp_path / "out", 1)
    liar["mlflow-artifacts/artifacts"] = {"files": [{"path": "deeper", "is_dir": True}]}
    assert "more than 20 files and folders" in refusal(tmp_path / "out", 1)


def test_files_on_another_server_are_not_asked_for(liar, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "canary")
    liar["mlflow/model-versions/get-download-uri"] = {"artifact_uri": "http://127.0.0.2:1/files"}
    assert "lie on 127.0.0.2:1, which is not the MLflow server" in refusal(tmp_path / "out", 1)
