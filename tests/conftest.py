"""What several test modules need: a bundle that is made in milliseconds, and one finished run of everything."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
import onnx
import psutil
import pytest
from mlflow_servers import mlflow_server, postgres_server
from onnx import helper
from PIL import Image
from scorings import draw_noise
from stores import Store, s3_credentials

from model.bundle import MODEL_FILE, Bundle, BundleManifest, Parity, write_manifest
from model.io.files import sha256
from model.spec import NetworkConfig, signature
from pipelines.data.pairs import index_folder


@pytest.fixture(scope="session", autouse=True)
def interruptible():
    """Let tests interrupt their processes: what a shell starts in the background ignores SIGINT, and hands that on."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def onnx_model():
    """Return a function that serialises a model of one operator from a signature's input to its output."""

    def serialise(tensors, operator="Neg", **attributes):
        node = helper.make_node(operator, [tensors.input], [tensors.output], **attributes)
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(tensors.dtype))
        ends = [helper.make_tensor_value_info(name, kind, tensors.shape) for name in (tensors.input, tensors.output)]
        graph = helper.make_graph([node], "generator", ends[:1], ends[1:])
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10).SerializeToString()

    return serialise


@pytest.fixture(scope="session")
def scaling_model():
    """Return a function that serialises a generator which multiplies: -1 draws the negative, 1 copies."""

    def serialise(factor, network):
        tensors = signature(network)
        ends = [
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, tensors.shape)
            for name in (tensors.input, tensors.output)
        ]
        constant = helper.make_tensor("factor", onnx.TensorProto.FLOAT, (), [factor])
        node = helper.make_node("Mul", [tensors.input, "factor"], [tensors.output])
        graph = helper.make_graph([node], "generator", ends[:1], ends[1:], [constant])
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10).SerializeToString()

    return serialise


@pytest.fixture(scope="session")
def negatives(tmp_path_factory):
    """Return an index of 8 + 6 small pairs of flat patches whose photo is the negative of the map."""
    folder, rng = tmp_path_factory.mktemp("negatives"), np.random.default_rng(5)
    colours = np.array([[255, 255, 255], [170, 210, 240], [190, 225, 180], [235, 230, 220]], np.uint8)
    for number in range(14):
        split = folder / ("train" if number < 8 else "val")
        split.mkdir(exist_ok=True)
        street_map = colours[rng.integers(0, 4, (4, 4))].repeat(8, axis=0).repeat(8, axis=1)
        Image.fromarray(np.concatenate([255 - street_map, street_map], axis=1)).save(split / f"{number:02d}.png")
    return index_folder(folder, min_side=32)


@pytest.fixture
def make_bundle(tmp_path, onnx_model):
    """Return a function that writes a bundle folder; unless told otherwise, its generator draws the negative."""
    network = NetworkConfig(image_size=32, width=2, depth=3)

    def make(*, model=None, name="bundle", **changes):
        folder = tmp_path / name
        folder.mkdir()
        (folder / MODEL_FILE).write_bytes(onnx_model(signature(network)) if model is None else model)
        values = {
            "network": network,
            "direction": "photo_to_map",
            "signature": signature(network),
            "opset": 18,
            "sha256": sha256(folder / MODEL_FILE),
            "parity": Parity(max_difference=1e-6, limit=1e-4, photos=2),
            "run_id": "1f0c",
            "data_fingerprint": "9b7e",
            "code_revision": "838b6f8",
        }
        write_manifest(folder, BundleManifest(**values | changes))
        return folder

    return make


@pytest.fixture
def bundle(make_bundle):
    """Return a bundle whose maps are the negatives of the photos, 32x32 pixels."""
    return Bundle.open(make_bundle())


@pytest.fixture
def photos(tmp_path):
    """Return a folder of three photos."""
    return draw_noise(tmp_path / "photos", ("a.png", "b.png", "c.png"))


@pytest.fixture
def maps(tmp_path):
    """Return the place of a folder of maps that is not there yet."""
    return tmp_path / "maps"


@pytest.fixture(scope="module")
def store():
    """Return a running S3 server, whose credentials are found where they are looked for."""
    with s3_credentials():
        started = Store()
        yield started
        started.stop()


PROJECT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Prepared:
    """A folder of its own with ten small training pairs, prepared for a network that trains in seconds."""

    folder: Path
    settings: str = "network.image_size=32 network.depth=4 network.width=4"

    def command(self, verb, *words):
        """Return the command line of a verb with these settings."""
        return [sys.executable, "-m", "pipelines", verb, "--set", self.settings, *words]

    def sat2map(self, verb, *words):
        """Run a verb to its end."""
        return subprocess.run(
            self.command(verb, *words), cwd=self.folder, capture_output=True, text=True, check=False, timeout=300
        )

    def start(self, *words, verb="train"):
        """Begin to train beside the test."""
        process = subprocess.Popen(
            self.command(verb, *words), cwd=self.folder, stdout=-1, stderr=-1, text=True, start_new_session=True
        )
        return RunningTraining(process, self.folder)


@dataclass(frozen=True)
class RunningTraining:
    """A training that runs beside the test."""

    process: subprocess.Popen
    folder: Path

    def family(self):
        """Return the driver, Ray and all workers."""
        driver = psutil.Process(self.process.pid)
        return [driver, *driver.children(recursive=True)]

    def workers(self):
        """Return the training workers."""
        return [process for process in self.family() if "RayTrainWorker" in " ".join(process.cmdline())]

    def checkpoints(self):
        """Return the whole checkpoints, the oldest first; of a search, those of all its trials."""
        # Not by glob, which stumbles over a checkpoint that is deleted under it.
        found = [
            Path(folder, name)
            for folder, names, _ in os.walk(self.folder / "workspace/runs")
            if Path(folder).name == "checkpoints"
            for name in names
            if name.startswith("step-") and "." not in name
        ]
        return sorted(found, key=lambda path: path.name)

    def wait_for_step(self, step):
        """Wait until a checkpoint of this step, or of a later one, is whole."""
        patience = time.monotonic() + 200
        while not any(int(path.name[5:]) >= step for path in self.checkpoints()):
            assert self.process.poll() is None, self.process.stderr.read()
            assert time.monotonic() < patience
            time.sleep(0.02)

    def kill_everything(self):
        """SIGKILL the driver, Ray and all workers at once."""
        family = self.family()
        for member in family:
            member.kill()
        psutil.wait_procs(family)
        self.process.communicate()

    def end(self):
        """Wait for the end; return what the training said on stderr."""
        _, said = self.process.communicate(timeout=300)
        return said


def logged_steps(run_id, metric="generator_loss"):
    """Return the steps at which a metric stands in MLflow, in the order in which they were logged."""
    return [point.step for point in mlflow.MlflowClient().get_metric_history(run_id, metric)]


def newest_run():
    """Return the id of the newest run in MLflow."""
    return mlflow.search_runs(search_all_experiments=True, output_format="list")[0].info.run_id


@pytest.fixture
def make_prepared(tmp_path, monkeypatch):
    """Return a function that prepares small random pairs in a folder, always the same ones."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))

    def make(name):
        random = np.random.default_rng(0)
        for part, count in (("train", 10), ("val", 3)):
            (tmp_path / name / "pairs" / part).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 256, (32, 64, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / name / f"pairs/{part}/{number}.png")
        prepared = Prepared(tmp_path / name)
        done = prepared.sat2map("prepare", "--set", "data.source=pairs")
        assert done.returncode == 0, done.stderr
        return prepared

    return make


@pytest.fixture
def prepared(make_prepared):
    """Return small random pairs, prepared by the command line, with an MLflow of their own."""
    return make_prepared("work")


TINY = (
    "network.image_size=64 network.depth=6 network.width=4 data.sample.train=24 data.sample.val=6 "
    "training.epochs=4 training.checkpoint_every=2 training.sheet_every=2"
)


@dataclass(frozen=True)
class Road:
    """A finished `mlflow run` of the whole road, in a folder of its own."""

    folder: Path
    output: str

    @property
    def environment(self):
        """Let a process see this run's MLflow and nothing of the caller's."""
        return os.environ | {
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.folder}/mlflow.db",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(PROJECT),
            "COLUMNS": "100",
        }

    def call(self, *command, **options):
        """Run a program to its end and return it with its text output."""
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False, **options
        )

    def sat2map(self, *words):
        """Run the command line in this workspace."""
        return self.call(sys.executable, "-m", "pipelines", *words)


@pytest.fixture(scope="session")
def road(tmp_path_factory):
    """Go the whole road once, as a user does: `mlflow run`, Ray, MLflow, ONNX, the registry."""
    folder = tmp_path_factory.mktemp("road")
    road = Road(folder, "")
    settings = f"workspace={folder}/workspace {TINY}"
    done = road.call("mlflow", "run", str(PROJECT), "--env-manager", "local", "-P", f"set={settings}", timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    return Road(folder, done.stdout + done.stderr)


@pytest.fixture(scope="module", params=["sqlite", pytest.param("server", marks=pytest.mark.slow)])
def place(request, tmp_path_factory):
    """Let MLflow be a file, or a server on PostgreSQL; return a folder to work in."""
    folder = tmp_path_factory.mktemp("place")
    with pytest.MonkeyPatch.context() as patch:
        # A local MLflow keeps artifacts where it is called.
        patch.chdir(folder)
        if request.param == "sqlite":
            patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
            yield folder
        else:
            with postgres_server() as store, mlflow_server(folder, store) as address:
                patch.setenv("MLFLOW_TRACKING_URI", address)
                yield folder
