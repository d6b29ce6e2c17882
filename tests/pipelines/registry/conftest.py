"""Fixtures of the registry's tests: models to promote, and a registered version to pull."""

import shutil
import urllib.parse
import uuid
from pathlib import Path

import mlflow
import pytest

from model.bundle import MODEL_FILE
from pipelines.registry.register import register
from pipelines.workspace import Workspace
from tests.fixtures import runs
from tests.fixtures.mlflow_servers import mlflow_in
from tests.fixtures.registered_files import set_hash_tags


@pytest.fixture
def config(mlflow_folder):
    """Return settings with a model name of the test's own."""
    return runs.configure(mlflow_folder, f"maps of {uuid.uuid4().hex[:8]}")


@pytest.fixture
def add(config):
    """Return a function that registers a model by its factor: -1 draws the true maps, other values are worse."""
    return lambda factor: register(runs.make_run(config, factor=factor)).version


@pytest.fixture(scope="session")
def run_and_version(tmp_path_factory, empty_database):
    """Return a run, the newest of its workspace, that is version 1 of `sat2map` and its challenger."""
    folder = tmp_path_factory.mktemp("registered")
    shutil.copy(empty_database, folder)
    with mlflow_in(folder):
        run = runs.make_run(runs.configure(folder))
        Workspace(folder / "workspace").set_latest(run)
        register(run)
    return run


@pytest.fixture(scope="module")
def registered_run(run_and_version):
    """Return the run, and work in its registry."""
    with mlflow_in(run_and_version.path.parents[2]):
        yield run_and_version


@pytest.fixture
def files(registered_run):
    """Return the folder of the version's files in the artifact store, which is restored afterwards."""
    uri = mlflow.MlflowClient().get_model_version_download_uri("sat2map", "1")
    folder = Path(urllib.parse.urlsplit(uri).path)
    spare = shutil.copytree(folder, f"{folder}-spare")
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
        shutil.move(spare, folder)


@pytest.fixture
def restored_tags(registered_run):
    """Restore the version's tags afterwards."""
    yield
    set_hash_tags(registered_run.bundle, MODEL_FILE)
