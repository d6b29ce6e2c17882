"""A malicious MLflow server: `pull` limits sizes, refuses escaping paths, and keeps credentials to itself."""

import gzip
import json
import urllib.parse
from http.server import BaseHTTPRequestHandler
from typing import ClassVar

import pytest

from pipelines.registry import artifacts
from pipelines.registry import pull as pulling
from tests.fixtures.http_servers import serve
from tests.fixtures.ray_nodes import wait_until
from tests.fixtures.registered_files import refusal


class MaliciousServer(BaseHTTPRequestHandler):
    """An MLflow server with one version, which responds from the table `answers`."""

    answers: ClassVar[dict] = {}

    def do_GET(self):
        """Respond to requests of MLflow's client from the table."""
        path = urllib.parse.urlsplit(self.path).path.removeprefix("/api/2.0/")
        content = self.answers.get(path)
        self.send_response(200 if content is not None else 404)
        if path == self.answers.get("compressed"):
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        blocks = content() if callable(content) else [json.dumps(content or {}).encode()]
        for block in blocks:
            try:
                self.wfile.write(block)
            except OSError:
                self.answers["disconnected"] = True
                return

    do_POST = do_GET

    def log_message(self, *words):
        """Log nothing."""


@pytest.fixture
def server(monkeypatch):
    """Start the server with a valid version 1; return its table of answers."""
    version = {
        "name": "sat2map",
        "version": "1",
        "run_id": "1f0c",
        "source": "models:/m-1",
        "status": "READY",
        "tags": [{"key": f"{what}.sha256", "value": "0" * 64} for what in ("model", "bundle")],
    }
    files = [("MLmodel", 30), ("model.onnx", 100), ("sat2map/bundle.json", 10)]
    MaliciousServer.answers = {
        "mlflow/experiments/search": {"experiments": []},
        "mlflow/registered-models/get": {"registered_model": {"name": "sat2map"}},
        "mlflow/model-versions/get": {"model_version": version},
        "mlflow/model-versions/get-download-uri": {"artifact_uri": "mlflow-artifacts:/1"},
        "mlflow-artifacts/artifacts": {
            "files": [{"path": path, "is_dir": False, "file_size": size} for path, size in files]
        },
        "mlflow-artifacts/artifacts/1/MLmodel": lambda: [b"flavors: {onnx: {}}"],
    }
    with serve(MaliciousServer) as listening:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{listening.server_port}")
        yield MaliciousServer.answers


def endless():
    while True:
        yield bytes(1 << 16)


def test_a_server_that_sends_more_than_it_lists_is_cut_off(server, tmp_path, monkeypatch):
    monkeypatch.setattr(pulling, "SMALL", 1 << 18)
    server["mlflow-artifacts/artifacts/1/sat2map/bundle.json"] = endless
    assert "sat2map/bundle.json is larger than 262,144 bytes, the limit for this file" in refusal(tmp_path / "out", 1)
    wait_until(lambda: "disconnected" in server, seconds=60, what="the end of the connection")


def test_compressed_responses_are_refused(server, tmp_path):
    path = "mlflow-artifacts/artifacts/1/sat2map/bundle.json"
    server |= {"compressed": path, path: lambda: [gzip.compress(bytes(1 << 20))]}
    assert "sent sat2map/bundle.json compressed (gzip), which was not requested" in refusal(tmp_path / "out", 1)


@pytest.mark.parametrize("path", ["../../up", "/etc/passwd", "a\\..\\b", "%2e%2e/%2e%2e/up"])
def test_paths_that_escape_are_refused(server, tmp_path, path):
    server["mlflow-artifacts/artifacts"]["files"].append({"path": path, "is_dir": False, "file_size": 1})
    assert "lists a file outside its own folder" in refusal(tmp_path / "out", 1)


def test_files_without_a_size_and_endless_folders_are_refused(server, tmp_path, monkeypatch):
    monkeypatch.setattr(artifacts, "MAX_FILES", 20)
    server["mlflow-artifacts/artifacts"] = {"files": [{"path": "model.onnx", "is_dir": False}]}
    assert "reports no size for 'model.onnx'" in refusal(tmp_path / "out", 1)
    server["mlflow-artifacts/artifacts"] = {"files": [{"path": "deeper", "is_dir": True}]}
    assert "more than 20 files and folders" in refusal(tmp_path / "out", 1)


def test_files_on_another_server_are_not_requested(server, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "canary")
    server["mlflow/model-versions/get-download-uri"] = {"artifact_uri": "http://127.0.0.2:1/files"}
    assert "files are on 127.0.0.2:1, which is not the MLflow server" in refusal(tmp_path / "out", 1)
