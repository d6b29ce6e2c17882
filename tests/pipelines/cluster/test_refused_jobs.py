"""Jobs that `sat2map submit` refuses before anything is sent: arguments, addresses, tokens and tracking."""

import json
import os
import subprocess
import sys
import warnings
from http.server import BaseHTTPRequestHandler

import pytest
import ray

from model.errors import ClusterError
from pipelines.cli.main import main
from pipelines.cluster import jobs, resources
from pipelines.config import job
from tests.fixtures.http_servers import serve
from tests.fixtures.project import PROJECT

SERVER = "http://127.0.0.1:9"


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """Return a function that runs a command line in this process, which must end with 2, and returns its stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", SERVER)

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["sat2map", *words])
        with pytest.raises(SystemExit) as ended, warnings.catch_warnings():
            main()
        out, errors = capsys.readouterr()
        assert (ended.value.code, out) == (2, "")
        assert not list(tmp_path.iterdir())
        return errors

    return call


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--", "paint"], "Can't submit the verb 'paint'; use one of: main, prepare, train, "),
        (["--", "submit"], "Can't submit the verb 'submit'"),
        (["--", "train", "--set", "training.speed=9"], "training.speed is not a setting"),
        (["--", "train"], "workspace is 'workspace', which is relative to the job's working directory: other nodes"),
        (
            ["--", "prepare", "--set", "workspace=/tmp data.source=pairs"],
            "data.source is 'pairs', which is relative to the job's working directory",
        ),
        (
            ["--", "main", "--set", "workspace=/tmp evaluation.lpips_weights=weights"],
            "evaluation.lpips_weights is 'weights', which is relative",
        ),
        (["--", "score", "photos", "/tmp/maps"], "photos is 'photos', which is relative"),
        (
            ["--", "score", "@/tmp/list", "s3://bucket/maps", "--model", "bundle"],
            "model is 'bundle', which is relative",
        ),
        (["--", "score", "/tmp/scene.tif", "-o", "map.tif"], "out is 'map.tif', which is relative"),
        (["--", "train", "--set", "workspace=/tmp"], "No Ray dashboard answers at http://127.0.0.1:9"),
        # The batch size may be that of the prepared pairs.
        (
            ["--", "train", "--set", "workspace=/tmp training.workers=3"],
            "No Ray dashboard answers at http://127.0.0.1:9",
        ),
        (["--", "main", "--set", "workspace=/tmp training.workers=3"], "Batch size 4 can't be divided over 3 workers"),
        (["--", "train", "--set", "data.source=s3://me:hidden@pairs"], "contains a user or a password"),
    ],
)
def test_impossible_job_is_refused_with_one_message(refused, words, message):
    errors = refused("submit", "--address", "http://me:hidden@127.0.0.1:9", *words)
    assert errors.startswith("Error: ") and message in errors
    assert errors.count("\n") == 1 and "hidden" not in errors


def test_unknown_option_of_the_verb_is_refused_before_anything_is_sent(refused):
    assert "No such option" in refused("submit", "--address", "http://127.0.0.1:9", "--", "train", "--sett", "a=b")


@pytest.mark.parametrize("address", ["ray://127.0.0.1:10001", "http://", "ftp://127.0.0.1"])
def test_address_that_is_not_a_dashboard_is_refused(refused, address):
    errors = refused("submit", "--address", address, "--", "train", "--set", "workspace=/tmp")
    assert "is not the address of a Ray dashboard" in errors


@pytest.mark.parametrize(
    "answers",
    [
        {"/api/version": {"version": "4"}},
        {"/api/version": ["4"]},
        {"/api/version": {"version": "4", "ray_version": ray.__version__, "ray_commit": "1"}},
    ],
    ids=["without a version", "a list", "without a cluster"],
)
def test_server_that_answers_unlike_a_dashboard_is_named(tmp_path, answers):

    class Other(BaseHTTPRequestHandler):
        def do_GET(self):
            content = json.dumps(answers.get(self.path, {})).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    with serve(Other) as server:
        address = f"http://127.0.0.1:{server.server_port}"
        # In a process of its own: another test's cluster may have required a token in this one.
        others = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH_")}
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "pipelines",
                "submit",
                "--address",
                address,
                "--",
                "train",
                "--set",
                "workspace=/tmp",
            ],
            cwd=tmp_path,
            env=others | {"PYTHONPATH": str(PROJECT), "MLFLOW_TRACKING_URI": SERVER},
            capture_output=True,
            text=True,
        )
    assert (done.returncode, done.stdout) == (2, "") and not list(tmp_path.iterdir())
    found = f"Error: {address} answers, but not as a Ray dashboard does"
    assert done.stderr.startswith(found) and done.stderr.count("\n") == 1


@pytest.mark.parametrize(("token", "reason"), [(None, "No such file or directory"), (" ", "it is empty")])
def test_unusable_file_with_a_token_is_named(tmp_path_factory, refused, monkeypatch, token, reason):
    file = tmp_path_factory.mktemp("head") / "token"
    if token:
        file.write_text(token)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(file))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    message = f"Error: RAY_AUTH_TOKEN_PATH is {file}, which can't be used ({reason})"
    with serve(BaseHTTPRequestHandler) as server:
        address = f"http://127.0.0.1:{server.server_port}"
        assert message in refused("submit", "--address", address, "--", "train", "--set", "workspace=/tmp")
    with pytest.raises(ClusterError, match="RAY_AUTH_TOKEN_PATH is"), resources.joined():
        pass


@pytest.mark.parametrize("uri", ["", "sqlite:///mlflow.db", "file:///tmp/mlruns", "./mlruns", "/tmp/mlruns"])
def test_local_tracking_address_is_refused(refused, monkeypatch, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    errors = refused("submit", "--address", "http://127.0.0.1:9")
    assert "a run on a cluster can't be tracked in a local file: other nodes can't write" in errors
    assert "Set MLFLOW_TRACKING_URI to an MLflow server" in errors


def test_local_tracking_address_is_refused_inside_a_job_too(refused, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    errors = refused("main")
    assert "a run on a cluster can't be tracked in a local file" in errors
    assert "or unset RAY_ADDRESS (127.0.0.1:1) to train on this machine.\n" in errors
    monkeypatch.setenv(job.VARIABLE, "http://127.0.0.1:8265")
    assert "RAY_ADDRESS" not in refused("main")


def test_connecting_to_a_given_address_keeps_the_variables_of_ray(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    with pytest.raises(ClusterError, match=r"No Ray dashboard answers at http://127\.0\.0\.1:9"):
        jobs.follow(jobs.Job("http://127.0.0.1:9", "7"))
    with jobs.GIVEN_ADDRESS.held():
        assert "RAY_ADDRESS" not in os.environ
    assert os.environ["RAY_ADDRESS"] == "127.0.0.1:1" and "RAY_API_SERVER_ADDRESS" not in os.environ
