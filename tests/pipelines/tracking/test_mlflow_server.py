"""The MLflow server: whether it answers, and what its refusals mean."""

from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler

import pytest

from model.errors import TrackingError
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
    ("status", "reason"), [(401, "does not know the user, or the password is wrong"), (403, "forbids it")]
)
def test_a_server_that_refuses_the_user_is_not_called_silent(answering, monkeypatch, status, reason):
    address = answering(status)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://somebody:secret@{address}")
    with pytest.raises(TrackingError) as found:
        mlflow_server.connect()
    assert str(found.value) == (
        f"The MLflow server at http://{address} {reason}; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, "
        "or MLFLOW_TRACKING_TOKEN."
    )
