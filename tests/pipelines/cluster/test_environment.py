"""The driver's settings in jobs and workers: variables, and files that never stay anywhere."""

import dataclasses
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import ClassVar

import pytest
import ray

from model import provenance
from model.errors import ClusterError, ConfigError
from pipelines.cluster import environment
from tests.fixtures.project import PROJECT

SECRET = "canary-4711"
ACCOUNT = "GOOGLE_APPLICATION_CREDENTIALS"
BINARY = b"\x00\xff a certificate"
WORKER = """
import json, os, sys, time
from pipelines.cluster import environment
environment.apply(environment.DriverSettings(**json.load(sys.stdin)))
print(os.environ["GOOGLE_APPLICATION_CREDENTIALS"], flush=True)
time.sleep(60)
"""


@pytest.fixture
def account(tmp_path):
    """Return a file of credentials."""
    path = tmp_path / "account.json"
    path.write_text('{"key": 1}')
    return path


@pytest.fixture(autouse=True)
def own_environment(tmp_path, monkeypatch):
    """Keep the variables and the temporary folder of this process apart."""
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()


def elsewhere(settings):
    """Return the settings of a driver on another machine."""
    return dataclasses.replace(settings, machine="0000")


class Head:
    """The memory of Ray's head."""

    held: ClassVar = {}

    def __init__(self, address):
        assert address == "10.0.0.1:6379"

    def internal_kv_get(self, key, _namespace):
        return self.held.get(key)

    def internal_kv_del(self, key, _by_prefix, _namespace):
        del self.held[key]


@pytest.fixture
def send(monkeypatch):
    """Return a function that makes this process a job that was sent with settings."""
    monkeypatch.setattr(ray._raylet, "GcsClient", Head)

    def send(settings):
        Head.held[b"gcs://a.zip"] = environment.serialise(settings, revision="838b6f8")
        os.environ |= {environment.TAKEN_FROM: "gcs://a.zip", "RAY_ADDRESS": "10.0.0.1:6379"}

    return send


def test_settings_for_mlflow_and_storage_are_passed_once(account, send):
    given = {"MLFLOW_TRACKING_TOKEN": SECRET, "AWS_SECRET_ACCESS_KEY": SECRET, ACCOUNT: str(account)}
    settings = environment.capture(given | {"HOME": "/root", "RAY_AUTH_TOKEN": "no"})
    assert settings.environment == given
    send(settings)
    environment.load()
    assert not Head.held and environment.TAKEN_FROM not in os.environ
    assert os.environ["MLFLOW_TRACKING_TOKEN"] == os.environ["AWS_SECRET_ACCESS_KEY"] == SECRET
    assert os.environ[provenance.REVISION] == "838b6f8"
    environment.load()


def test_a_job_whose_settings_are_gone_ends(send):
    send(environment.capture({}))
    Head.held.clear()
    with pytest.raises(ClusterError, match="no longer on the cluster's head; submit it again"):
        environment.load()


def test_a_job_has_its_own_copy_of_a_file_in_memory(account, send):
    send(environment.capture({ACCOUNT: str(account)}))
    account.write_text("changed")
    environment.load()
    copy = Path(os.environ[ACCOUNT])
    assert copy.read_text() == copy.read_text() == '{"key": 1}'
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert not list(Path(tempfile.gettempdir()).iterdir())
    # A worker of the job is passed what the job reads.
    environment.apply(elsewhere(environment.capture(os.environ)))
    assert Path(os.environ[ACCOUNT]) != copy and Path(os.environ[ACCOUNT]).read_text() == '{"key": 1}'


def test_workers_on_the_drivers_machine_read_its_files(account):
    environment.apply(environment.capture({ACCOUNT: str(account)}))
    assert os.environ[ACCOUNT] == str(account)
    assert not list(Path(tempfile.gettempdir()).iterdir())


def test_a_file_that_a_worker_cannot_see_or_read_is_copied(account):
    settings = environment.capture({ACCOUNT: str(account)})
    account.unlink()
    environment.apply(settings)
    assert Path(os.environ[ACCOUNT]).read_text() == '{"key": 1}'


def test_files_of_any_content_are_passed(account):
    account.write_bytes(BINARY)
    environment.apply(elsewhere(environment.capture({"AZURE_CLIENT_CERTIFICATE_PATH": str(account)})))
    assert Path(os.environ["AZURE_CLIENT_CERTIFICATE_PATH"]).read_bytes() == BINARY


def test_relative_names_of_files_are_absolute_for_workers(account, monkeypatch):
    monkeypatch.chdir(account.parent)
    os.environ["HOME"] = str(account.parent)
    for name in ("account.json", "~/account.json"):
        assert environment.capture({ACCOUNT: name}).environment[ACCOUNT] == str(account)


def test_a_name_of_no_file_is_passed_as_it_is():
    settings = environment.capture({ACCOUNT: "/var/run/secrets/token"})
    assert settings.environment == {ACCOUNT: "/var/run/secrets/token"} and not settings.files


@pytest.mark.skipif(os.getuid() == 0, reason="root may read every file")
def test_a_file_that_cannot_be_read_is_named(account):
    account.chmod(0)
    with pytest.raises(ConfigError, match=f"{ACCOUNT} names {account}, which can't be read"):
        environment.capture({ACCOUNT: str(account)})


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_copies_of_a_killed_worker_are_gone(tmp_path, account, end):
    settings = elsewhere(environment.capture({ACCOUNT: str(account)}))
    mine = {"PYTHONPATH": str(PROJECT), "TMPDIR": tempfile.gettempdir()}
    with subprocess.Popen([sys.executable, "-c", WORKER], env=mine, stdin=-1, stdout=-1, text=True) as worker:
        worker.stdin.write(json.dumps(dataclasses.asdict(settings)))
        worker.stdin.close()
        copy = Path(worker.stdout.readline().strip())
        # Its children, such as the tools of a cloud, can read the file as well.
        assert copy.read_text() == '{"key": 1}'
        worker.send_signal(end)
    assert not copy.exists()
    assert not list(Path(tempfile.gettempdir()).iterdir())
