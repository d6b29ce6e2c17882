"""Errors that no verb has translated: those from outside become a sentence, our own keep their traceback."""

import errno
import os
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import mlflow.exceptions
import numpy as np
import pytest
import ray.exceptions
import requests
import sqlalchemy

from pipelines.cli.errors.outside import TRACEBACK, explain
from tests.fixtures.project import PROJECT


def raised(action):
    """Return the error that an action raises."""
    try:
        action()
    except Exception as error:
        return error
    raise AssertionError("no error was raised")


def message(action):
    return explain(raised(action)).message


def test_a_file_is_named_with_the_reason_and_the_cure(tmp_path):
    missing = tmp_path / "missing"
    assert message(missing.read_bytes) == f"{missing} can't be used (No such file or directory); check the path."
    assert message(tmp_path.read_bytes) == f"{tmp_path} can't be used (Is a directory); name a file, not a folder."
    (tmp_path / "file").touch()
    assert "a file stands where a folder is needed" in message((tmp_path / "file" / "x").read_bytes)
    long = tmp_path / ("x" * 300)
    assert message(long.read_bytes).endswith("(File name too long); use a shorter name.")
    assert len(message(long.read_bytes)) < 300


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EIO, errno.ETXTBSY])
def test_every_reason_is_named(number):
    error = OSError(number, os.strerror(number), b"/data/photo.png")
    assert explain(error).message.startswith(f"/data/photo.png can't be used ({os.strerror(number)}); ")


def test_a_full_disk_is_explained_without_a_name():
    with open("/dev/full", "wb", buffering=0) as full:
        found = message(lambda: full.write(b"x"))
    expected = "A disk is full (No space left on device); free some space in the workspace and in"
    assert found == f"{expected} {tempfile.gettempdir()}."


def test_a_machine_without_a_temporary_folder_is_explained(tmp_path):
    code = "import tempfile; from unittest.mock import patch; from pipelines.cli.errors.outside import explain\n"
    code += f"tempfile._candidate_tempdir_list = lambda: [{str(tmp_path / 'missing')!r}]\n"
    code += "try: tempfile.gettempdir()\nexcept OSError as error: print(explain(error).message)"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    found = f"No usable temporary directory found in ['{tmp_path}/missing']"
    assert done.stdout == f"{found}; set TMPDIR to a folder that you may write to.\n"


def test_a_user_without_a_home_folder_is_explained(monkeypatch):
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("os.getuid", lambda: 987654)
    assert message(Path.home) == "The home folder of this user is unknown; set HOME to a folder."


def test_databases_are_explained(tmp_path):
    (tmp_path / "text.db").write_text("no database" * 100)
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/text.db")
    with engine.connect() as connection:
        found = message(lambda: connection.execute(sqlalchemy.text("select 1 from x")))
    assert found.startswith("MLflow's database can't be used ((sqlite3.DatabaseError) file is not a database); check")
    assert "MLFLOW_TRACKING_URI" in found and "\n" not in found
    engine.dispose()
    found = message(lambda: sqlite3.connect(":memory:").execute("select * from runs"))
    assert found.startswith("MLflow's database can't be used (no such table: runs); check")


def test_libraries_are_explained():
    error = mlflow.exceptions.MlflowException("No registry at https://me:secret@host/.\nLong detail")
    assert explain(error).message == "MLflow failed (No registry at https://host/); check MLFLOW_TRACKING_URI."
    assert explain(error).kind == "tracking"
    found = explain(ray.exceptions.RaySystemError("The GCS is gone"))
    assert found.kind == "cluster" and "The GCS is gone" in found.message
    assert message(lambda: requests.get("http://127.0.0.1:9/x", timeout=5)).startswith("A server can't be reached (")
    assert "A server can't be reached (" in explain(ConnectionRefusedError(111, "refused")).message
    assert "There is not enough memory (Unable to allocate" in message(lambda: np.zeros((10**7, 10**6)))


@pytest.mark.parametrize(
    "mistake",
    [
        lambda: {}["key"],
        lambda: 1 / 0,
        lambda: None.name,
        lambda: (PROJECT / "pipelines" / "report" / "missing.html").read_text(),
        lambda: Path(np.__file__, "missing").read_text(),
        lambda: os.read(10**6, 1),
    ],
)
def test_our_own_mistakes_keep_their_traceback(mistake):
    assert explain(raised(mistake)) is None


def test_our_own_mistakes_in_another_process_keep_their_traceback():
    error = ray.exceptions.RayTaskError("draw", "Traceback ...", KeyError("size"))
    assert explain(error) is None
    assert explain(error.as_instanceof_cause()) is None
    full = ray.exceptions.RayTaskError("draw", "Traceback ...", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert explain(full.as_instanceof_cause()).message.startswith("A disk is full")


def test_tracebacks_can_be_asked_for(monkeypatch, tmp_path):
    monkeypatch.setenv(TRACEBACK, "1")
    assert explain(raised((tmp_path / "missing").read_bytes)) is None
