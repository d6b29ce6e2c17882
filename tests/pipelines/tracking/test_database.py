"""MLflow's SQLite database: made by one process at a time, even if one is killed, and refused if it does not fit."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time

import mlflow
import pytest

from model.errors import TrackingError
from pipelines.tracking import database, mlflow_runs, mlflow_server
from tests.fixtures.project import PROJECT

CONNECT = "from pipelines.tracking import mlflow_server; print(mlflow_server.connect())"


@pytest.fixture
def connect(tmp_path):
    """Return a function that starts a process that connects to MLflow's default database in an empty folder."""
    folder = tmp_path / "an empty folder"
    folder.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}

    def start():
        return subprocess.Popen(
            [sys.executable, "-c", CONNECT],
            cwd=folder,
            env=environment | {"PYTHONPATH": str(PROJECT)},
            stdout=-1,
            stderr=-1,
            text=True,
        )

    start.folder = folder
    return start


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    """Return a complete database."""
    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    with database.ready(f"sqlite:///{path}"):
        pass
    return path


@pytest.fixture
def copy(complete, tmp_path, monkeypatch):
    """Return a copy of a complete database, which MLFLOW_TRACKING_URI names."""
    path = tmp_path / "mlflow.db"
    shutil.copyfile(complete, path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
    return path


def refusal():
    with pytest.raises(TrackingError) as refused:
        mlflow_server.connect()
    return str(refused.value)


def test_a_folder_is_no_database(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}")
    assert refusal().startswith(f"{tmp_path} is a folder, not an MLflow database; move it away")


def test_a_full_disk_is_reported_at_once_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setattr(database, "NEW_BYTES", 1 << 60)
    assert re.search(f"database {tmp_path}/mlflow.db can't be created: [0-9,]+ bytes are free on its disk", refusal())
    assert not list(tmp_path.iterdir())


def test_commands_that_start_at_once_in_an_empty_folder_share_one_database(connect):
    for process in [connect() for _ in range(3)]:
        out, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        assert out == f"sqlite:///{str(connect.folder).replace(' ', '%20')}/mlflow.db\n"
    assert [path.name for path in connect.folder.iterdir()] == ["mlflow.db"]


def test_a_process_killed_while_it_creates_the_database_leaves_no_part_of_it(connect):
    killed = connect()
    while not list(connect.folder.glob(".sat2map-*/mlflow.db")):
        assert killed.poll() is None
        time.sleep(0.01)
    killed.kill()
    killed.communicate()
    assert not (connect.folder / "mlflow.db").exists()
    process = connect()
    assert process.communicate(timeout=120)[1] == "" and process.returncode == 0
    assert [path.name for path in connect.folder.iterdir()] == ["mlflow.db"]


def test_an_address_is_made_absolute_and_keeps_its_options(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert database.absolute("sqlite:///runs/my.db?timeout=9") == f"sqlite:///{tmp_path}/runs/my.db?timeout=9"
    for other in ("sqlite:////tmp/my.db", "http://server:5000", "databricks", "postgresql://me@server/runs"):
        assert database.absolute(other) == other


def test_a_relative_address_is_absolute_for_other_processes(copy, monkeypatch):
    monkeypatch.chdir(copy.parent)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "sqlite:///mlflow.db")
    mlflow_server.connect()
    assert os.environ["MLFLOW_TRACKING_URI"] == os.environ["MLFLOW_REGISTRY_URI"] == f"sqlite:///{copy}"


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("181f10493468", "was made by an older version of MLflow than"),
        ("ffffffffffff", "was made by a newer version of MLflow than"),
    ],
)
def test_a_database_of_another_version_is_refused_and_left_as_it_is(copy, version, message):
    with sqlite3.connect(copy) as connection:
        connection.execute(f"UPDATE alembic_version SET version_num = '{version}'")
    before = copy.read_bytes()
    refused = refusal()
    assert f"The MLflow database {copy} {message} {mlflow.__version__}; " in refused
    assert ("mlflow db upgrade" in refused) == ("older" in message)
    assert copy.read_bytes() == before


def test_an_incomplete_database_is_refused(copy, monkeypatch):
    monkeypatch.setattr(database, "INCOMPLETE_SECONDS", 0)
    with sqlite3.connect(copy) as connection:
        connection.execute("DROP TABLE alembic_version")
    assert f"{copy} is no MLflow database, or its creation was interrupted; move it away" in refusal()


def test_a_file_that_is_no_database_is_refused(copy):
    copy.write_text("notes\n" * 100)
    assert f"The MLflow database {copy} can't be read: file is not a database. Move it away" in refusal()


def test_a_missing_folder_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/missing/mlflow.db")
    assert refusal().startswith(f"There is no folder {tmp_path}/missing for the MLflow database mlflow.db; create it")


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED"])
def test_a_failure_after_the_training_leaves_the_status_of_the_run(copy, status):
    client = mlflow.MlflowClient()
    run_id = client.create_run("0").info.run_id
    client.set_terminated(run_id, status)
    ended = client.get_run(run_id).info.end_time
    for error in (KeyboardInterrupt, ValueError):
        with pytest.raises(error), mlflow_runs.continue_run(run_id) as run:
            assert mlflow.get_run(run_id).info.status == status
            run.log_metrics({"l1": 1.0})
            raise error
    after = client.get_run(run_id)
    assert (after.info.status, after.info.end_time, after.data.metrics) == (status, ended, {"l1": 1.0})


def test_a_deleted_run_is_refused(copy):
    client = mlflow.MlflowClient()
    run_id = client.create_run("0").info.run_id
    client.delete_run(run_id)
    with pytest.raises(TrackingError, match="restore it with: mlflow runs restore"), mlflow_runs.continue_run(run_id):
        pass
