"""`sat2map submit`: the log that it prints, and a real job on a Ray cluster of one node."""

import asyncio
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from pipelines.cluster import job_log
from pipelines.cluster.resources import share
from tests.fixtures.project import PROJECT
from tests.fixtures.ray_nodes import Cluster, wait_until

SECRET = "canary-4711"
SERVER = "http://127.0.0.1:9"
JOIN = """
import os, sys
import ray
from model.errors import ClusterError
from pipelines.cluster import resources
try:
    with resources.joined():
        print(ray.get(ray.remote(os.getenv).remote("ORT_DISABLE_TELEMETRY")))
except ClusterError as error:
    print(f"Error: {error}", file=sys.stderr)
    sys.exit(2)
"""
SMALL = "network.image_size=32 network.depth=4 network.width=4 training.start_from=none"


@pytest.fixture
def submit(tmp_path):
    """Return a function that starts `sat2map submit` in an empty folder."""

    def start(address, *words, **environment):
        mine = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "RAY_"))}
        mine |= {"PYTHONPATH": str(PROJECT), "HOME": str(tmp_path), "MLFLOW_TRACKING_URI": SERVER}
        return subprocess.Popen(
            [sys.executable, "-m", "pipelines", "submit", "--address", address, *words],
            cwd=tmp_path,
            env=mine | environment,
            stdout=-1,
            stderr=-1,
            text=True,
        )

    return start


def end(process):
    out, errors = process.communicate(timeout=200)
    return process.returncode, out, errors


# Sharing


@pytest.mark.parametrize(
    ("cpus", "workers", "each"),
    [([2], 1, 2), ([2], 2, 1), ([3, 1], 2, 1), ([8, 8, 0], 2, 8), ([8, 4], 2, 4), ([1], 3, 1)],
)
def test_workers_get_the_most_cpus_with_which_all_fit(cpus, workers, each):
    assert share(cpus, workers) == each


# Following


class DroppedConnection:
    """A client whose connection is lost once while it reads a job's log."""

    calls = 0

    async def tail_job_logs(self, _job):
        self.calls += 1
        yield "2026-11-22 12:12:51,878\tINFO job_manager.py:581 -- Runtime env is setting up.\n"
        yield "Running entrypoint for job 7: x\n"
        yield "epoch 1/2\nepo"
        if self.calls == 1:
            raise RuntimeError("the connection was lost")
        yield "ch 2/2\n\x1b[33m(raylet)\x1b[0m The node is gone: \n\t(1) raylet crashes\n"
        yield f"{job_log.BEGIN}\n{{}}\n{job_log.END}\ndone"


def test_log_is_printed_once_and_without_rays_own_lines(capsys):
    log, client = job_log.Log(), DroppedConnection()
    with pytest.raises(RuntimeError):
        asyncio.run(log.show(client, "7"))
    assert capsys.readouterr() == ("", "epoch 1/2\n")
    for expected in (("{}\n", "epoch 2/2\ndone\n"), ("", "")):
        asyncio.run(log.show(client, "7"))
        assert capsys.readouterr() == expected


# A real job


@pytest.fixture(scope="module")
def cluster():
    cluster = Cluster()
    try:
        cluster.start(head=True)
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def pairs(tmp_path):
    random = np.random.default_rng(0)
    for part in ("train", "val"):
        folder = tmp_path / "storage/pairs" / part
        folder.mkdir(parents=True)
        for number in range(4):
            Image.fromarray(random.integers(0, 256, (32, 64, 3), np.uint8)).save(folder / f"{number}.png")
    return f"{SMALL} workspace={tmp_path}/storage/runs data.source={tmp_path}/storage/pairs"


def test_log_and_exit_code_of_a_job_are_returned_without_secrets(cluster, submit, pairs, tmp_path):
    secrets = cluster.access | {"MLFLOW_TRACKING_PASSWORD": SECRET, "AWS_SECRET_ACCESS_KEY": SECRET}
    # Ray's client would use these addresses by default.
    secrets |= {"RAY_ADDRESS": "http://127.0.0.1:9", "MLFLOW_TRACKING_URI": f"http://me:{SECRET}@127.0.0.1:9"}
    (tmp_path / "mine.yaml").write_text("data:\n  min_good: 0.5\n")
    (tmp_path / "mlruns").mkdir()
    words = ["prepare", "--config", "mine.yaml", "--set", pairs]
    code, out, errors = end(submit(cluster.address, "--", *words, **secrets))
    assert code == 0, out + errors
    # The code and the configuration were sent, but no data and no runs.
    (package,) = cluster.folder.glob("0/session_2*/runtime_resources/working_dir_files/_ray_pkg_*/")
    assert {path.name for path in package.iterdir()} == {"model", "pipelines", "serving", "mine.yaml"}
    assert {path.suffix for path in package.rglob("*.*")} <= {".py", ".pyc", ".yaml", ".html", ".css", ".js"}
    assert "4 training pairs, 4 held out, 0 rejected." in out
    assert (tmp_path / "storage/runs/pairs.json").is_file()
    assert re.fullmatch(r"Submitted job raysubmit_\w+; dashboard: http://127.0.0.1:\d+\n", errors)
    failed, failed_out, failed_errors = end(submit(cluster.address, "--", "train", "--set", pairs, **secrets))
    assert failed == 2
    assert "Error: The MLflow server at http://127.0.0.1:9 does not answer" in failed_errors and not failed_out
    everything = out + errors + failed_out + failed_errors + cluster.get("/api/jobs/") + cluster.logs()
    assert "python -m pipelines prepare" in everything and SECRET not in everything
    on_disk = [path.read_bytes() for path in cluster.folder.rglob("*") if path.is_file()]
    assert not any(SECRET.encode() in content for content in on_disk)


def test_ctrl_c_leaves_the_job_running_and_prints_how_to_follow_and_stop_it(cluster, submit, pairs):
    long = f"{pairs} data.source=sample data.sample.train=50000"
    following = submit(cluster.address, "--", "prepare", "--set", long, **cluster.access)
    job = re.search(r"Submitted job (raysubmit_\w+);", following.stderr.readline())[1]
    wait_until(lambda: "RUNNING" in cluster.get(f"/api/jobs/{job}"), seconds=60, what="the job")
    following.send_signal(signal.SIGINT)
    code, _, errors = end(following)
    assert code == 130
    assert f"Job {job} continues to run" in errors and "Traceback" not in errors
    assert f"RAY_AUTH_MODE=token ray job stop --address {cluster.address} {job}" in errors
    assert "RUNNING" in cluster.get(f"/api/jobs/{job}")
    code, other, errors = end(submit(cluster.address, "--no-follow", "prepare", "--set", long, **cluster.access))
    assert code == 0 and re.fullmatch(r"raysubmit_\w+\n", other) and other.strip() != job
    assert f"ray job logs --follow --address {cluster.address} {other.strip()}" in errors


def join(cluster, access):
    """Join a cluster in a process of its own; return its exit code, stdout and stderr."""
    mine = {"RAY_ADDRESS": cluster.ray_address, "PYTHONPATH": str(PROJECT), "HOME": "/none"} | access
    # Another test's cluster in this process may have set a token.
    others = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH_")}
    done = subprocess.run([sys.executable, "-c", JOIN], env=others | mine, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def test_a_process_with_the_token_joins_the_cluster_and_workers_report_nothing(cluster):
    code, out, errors = join(cluster, cluster.access | {"ORT_DISABLE_TELEMETRY": "1"})
    assert (code, out) == (0, "1\n"), errors


def test_a_token_file_is_used_without_further_settings(cluster, submit, pairs, tmp_path):
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray/auth_token").write_text(cluster.token)
    code, out, errors = end(submit(cluster.address, "--no-follow", "prepare", "--set", pairs))
    assert code == 0 and out.startswith("raysubmit_"), errors


@pytest.mark.parametrize(
    ("access", "reason"),
    [
        ({}, "requires a token, and none was sent"),
        ({"RAY_AUTH_MODE": "disabled"}, "requires a token, and none was sent"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 32}, "requires a token, and the one that was sent is not"),
    ],
)
@pytest.mark.parametrize("way", ["submit", "join"])
def test_a_cluster_without_its_token_is_refused_with_what_to_do(cluster, submit, pairs, access, reason, way):
    if way == "submit":
        code, out, errors = end(submit(cluster.address, "--", "prepare", "--set", pairs, **access))
    else:
        code, out, errors = join(cluster, access)
    assert (code, out) == (2, "")
    assert errors.startswith("Error: The Ray cluster at ") and errors.count("\n") == 1
    assert reason in errors and "Set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to the cluster's token" in errors
