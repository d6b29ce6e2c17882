"""The MLflow server: whether it answers, and what its refusals mean."""

from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler

import mlflow
import pytest

from model.errors import ConfigError, TrackingError
from pipelines.config.held_variables import HeldVariables
from pipelines.registry import versions
from pipelines.tracking import mlflow_server
from tests.fixtures.http_servers import serve


@pytest.fixture
def answering():
    """Return a function that starts a server which answers every request with a status."""
    with ExitStack() as servers:

        def start(status):
            class Handler(BaseHTTPRequestHandler):
                def do_POST(self):
                    self.send_error(status)

                def log_message(self, *words):
                    pass

            return f"127.0.0.1:{servers.enter_context(serve(Handler)).server_port}"

        yield start


def test_unavailable_server_is_reported_without_its_password(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://somebody:secret@127.0.0.1:9")
    with pytest.raises(
        TrackingError, match=r"127\.0\.0\.1:9 does not answer; start it, or set MLFLOW_TRACKING_URI"
    ) as found:
        mlflow_server.connect()
    assert "secret" not in str(found.value)


@pytest.mark.parametrize(
    ("status", "reason"),
    [(401, "does not know the user, or the password is wrong; set"), (403, "does not allow this user to do that (")],
)
def test_a_server_that_refuses_the_user_is_not_called_silent(answering, monkeypatch, status, reason):
    address = answering(status)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://somebody:secret@{address}")
    with pytest.raises(TrackingError) as found:
        mlflow_server.connect()
    assert str(found.value).startswith(f"The MLflow server at http://{address} {reason}")
    assert "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in str(found.value)
    assert "secret" not in str(found.value)


@pytest.mark.parametrize("uri", ["foo://somebody:secret@host", "http:/127.0.0.1:5000"])
def test_an_address_that_is_none_of_mlflow_is_named(monkeypatch, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(TrackingError, match=r"is no address of MLflow. Set MLFLOW_TRACKING_URI to a server") as found:
        mlflow_server.connect()
    assert "secret" not in str(found.value)


def test_a_server_that_answers_otherwise_is_not_called_silent(answering, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{answering(404)}")
    with pytest.raises(TrackingError, match=r"does not answer as one \(status 404\), or set MLFLOW_TRACKING_URI"):
        mlflow_server.connect()


@pytest.mark.parametrize("uri", ["nonsense", "127.0.0.1:5000", None])
def test_a_folder_is_not_called_a_server(tmp_path, monkeypatch, uri):
    monkeypatch.chdir(tmp_path)
    # Without an address, MLflow prefers a folder that an earlier version has made.
    (tmp_path / "mlruns" / "0").mkdir(parents=True)
    (tmp_path / "mlruns" / "0" / "meta.yaml").touch()
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    mlflow.set_tracking_uri(None)
    if uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(TrackingError, match=r"no longer uses folders. Set MLFLOW_TRACKING_URI to a server") as found:
        mlflow_server.connect()
    named = uri or f"file://{tmp_path}/mlruns"
    assert str(found.value).startswith(f"MLflow would write to the folder {named}, and MLflow 3")


def test_errors_of_the_registry_name_its_own_server(monkeypatch):
    monkeypatch.setattr(mlflow_server, "SHORT_TIMEOUTS", HeldVariables({"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:8")
    mlflow.set_registry_uri("http://somebody:secret@127.0.0.1:9")
    try:
        with pytest.raises(mlflow_server.UnavailableError, match=r"MLflow at http://127\.0\.0\.1:9 does not answer"):
            versions.find("sat2map", 1)
    finally:
        mlflow.set_registry_uri("")


def test_variables_that_mlflow_cannot_read_are_named(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "soon")
    with pytest.raises(ConfigError, match=r"for MLFLOW_HTTP_REQUEST_TIMEOUT: .*'soon'; correct or unset it"):
        mlflow_server.connect()
