"""A training on two Ray nodes with MLflow on PostgreSQL: loss of a node, and nodes without shared storage."""

import os
import subprocess
import sys
import time

import mlflow
import pytest

from tests.fixtures.mlflow_servers import mlflow_server, postgres_server
from tests.fixtures.ray_nodes import Cluster, kill_family, training_workers, wait_until
from tests.fixtures.trainings import RunningTraining, logged_steps, newest_run

SECRET = "canary-4711"
EPOCHS = 150
STEPS = 2 * EPOCHS


@pytest.fixture
def tracking(tmp_path):
    """Start an MLflow server on PostgreSQL and return its address."""
    with postgres_server() as store, mlflow_server(tmp_path, store) as address:
        yield address


@pytest.fixture
def cluster():
    cluster = Cluster()
    try:
        yield cluster
    finally:
        cluster.stop()


def submit(cluster, prepared, log, *words):
    """Submit a job and follow it; its result and its log go to a file."""
    with log.open("w") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "pipelines", "submit", "--address", cluster.address, "--", *words],
            cwd=prepared.folder,
            env=os.environ | cluster.access,
            stdout=out,
            stderr=subprocess.STDOUT,
            text=True,
        )


@pytest.mark.slow
def test_training_survives_the_loss_of_a_node(make_prepared, tracking, cluster, tmp_path, monkeypatch):
    prepared, log = make_prepared("shared"), tmp_path / "job.log"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.replace("://", f"://me:{SECRET}@"))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    nodes = [cluster.start(head=True), cluster.start()]
    settings = f"{prepared.settings} workspace={prepared.folder}/workspace training.epochs={EPOCHS}"
    settings += " training.checkpoint_every=10 training.sheet_every=1000 training.workers=2"
    job = submit(cluster, prepared, log, "train", "--set", settings)
    running = RunningTraining(job, prepared.folder)
    wait_until(lambda: newest_step(prepared) >= 20, seconds=400, what="step 20")
    # Nodes of one CPU each and workers of one CPU each.
    assert [len(training_workers(node)) for node in nodes] == [1, 1]
    kill_family(nodes[1])
    began = time.monotonic()
    waiting = "Waiting for 2 workers with 1 CPU each: the cluster has 1 node with 1 CPU (1 free)."
    wait_until(lambda: waiting in log.read_text(), seconds=180, what="a message about the wait")
    notified = time.monotonic() - began
    assert job.poll() is None and 0 < newest_step(prepared) < STEPS
    nodes[1] = cluster.start()
    wait_until(
        lambda: "The cluster has enough resources again" in log.read_text(), seconds=120, what="the new node's use"
    )
    wait_until(lambda: len(training_workers(nodes[1])) == 1, seconds=60, what="a worker on the new node")
    running.end()
    text = log.read_text()
    print(f"notified {notified:.0f} s after the kill, ended after {time.monotonic() - began:.0f} s\n{text}")
    assert job.returncode == 0, text
    assert text.count("Waiting for 2 workers") == 1 and "Resuming from checkpoint step-" in text
    assert "Traceback" not in text and f"epoch {EPOCHS}/{EPOCHS}" in text
    run_id = newest_run()
    assert logged_steps(run_id) == logged_steps(run_id, "discriminator_drawn_loss") == list(range(1, STEPS + 1))
    run = mlflow.get_run(run_id)
    assert run.info.status == "FINISHED" and run.data.tags["git.revision"] not in ("", "none")
    assert list((tmp_path / "artifacts").rglob("generator.keras"))
    everything = text + cluster.get("/api/jobs/") + cluster.logs() + str(run.to_dictionary())
    artifacts = "".join(path.read_text(errors="replace") for path in (tmp_path / "artifacts").rglob("*.json"))
    assert SECRET not in everything + artifacts


@pytest.mark.slow
def test_node_that_does_not_see_the_workspace_reports_it(make_prepared, tracking, cluster, tmp_path, monkeypatch):
    prepared, log = make_prepared("shared"), tmp_path / "job.log"
    # For the second node the folder is empty, as on a node without the shared file system.
    unshared = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs none {prepared.folder} && exec "$@"', "sh"]
    if subprocess.run([*unshared, "true"], capture_output=True).returncode:
        pytest.skip("not permitted to mount a file system for one process only (unshare --mount)")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking)
    cluster.start(head=True)
    cluster.start(within=unshared)
    settings = f"{prepared.settings} workspace={prepared.folder}/workspace training.workers=2"
    job = submit(cluster, prepared, log, "train", "--set", settings)
    job.wait(timeout=400)
    text = log.read_text()
    assert job.returncode == 2, text
    (error,) = [line for line in text.splitlines() if line.startswith("Error: ")]
    assert "does not see" in error and "must lie on storage that every node sees under the same path" in error
    assert str(prepared.folder) in error and "Traceback" not in text
    assert mlflow.get_run(newest_run()).info.status == "FAILED"


def newest_step(prepared):
    folders = prepared.folder.glob("workspace/runs/*/checkpoints/step-????????")
    return max((int(folder.name[5:]) for folder in folders), default=0)
