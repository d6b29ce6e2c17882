"""What goes wrong in real trainings, done to real ones: each ends with one curve, no gap and no doubled step."""

import resource
import socket
import subprocess
import sys
import time
import urllib.request

import mlflow
import psutil
import pytest

from tests.fixtures.trainings import logged_steps, newest_run

EPOCHS = 100
STEPS = 2 * EPOCHS
SETTINGS = f"training.epochs={EPOCHS} training.checkpoint_every=10 training.sheet_every=1000"


def is_whole(run_id):
    """Tell whether every loss of every step was logged once, and nothing else."""
    return logged_steps(run_id) == logged_steps(run_id, "discriminator_drawn_loss") == list(range(1, STEPS + 1))


def test_a_killed_worker_is_started_again_and_goes_on(prepared):
    running = prepared.start("--set", f"{SETTINGS} training.workers=2 training.cpus_per_worker=1")
    running.wait_for_step(20)
    one, other = running.workers()
    one.kill()
    said = running.end()
    assert running.process.returncode == 0, said
    assert "Going on from checkpoint step-" in said
    assert not psutil.pid_exists(other.pid)
    run_id = newest_run()
    assert is_whole(run_id)
    assert mlflow.get_run(run_id).info.status == "FINISHED"


@pytest.mark.slow
def test_workers_that_are_lost_too_often_end_the_training_with_the_command_that_resumes(prepared):
    running = prepared.start("--set", f"{SETTINGS} training.max_failures=0")
    running.wait_for_step(20)
    running.workers()[0].kill()
    said = running.end()
    assert running.process.returncode == 2
    assert "Error: Training failed: " in said and "Traceback" not in said
    run_id = newest_run()
    assert f"Go on with: sat2map train --resume {run_id}" in said
    assert mlflow.get_run(run_id).info.status == "FAILED"
    done = prepared.sat2map("train", "--resume", run_id)
    assert done.returncode == 0, done.stderr
    assert is_whole(run_id)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def serve_mlflow(folder, port):
    """Start a tracking server and wait until it answers."""
    words = f"server --host 127.0.0.1 --port {port} --workers 1 --backend-store-uri sqlite:///{folder}/server.db"
    server = psutil.Popen(
        [sys.executable, "-m", "mlflow", *words.split(), "--artifacts-destination", str(folder / "artifacts")],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    for _ in range(600):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                return server
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the server does not answer")


def kill(server):
    family = [server, *server.children(recursive=True)]
    for member in family:
        member.kill()
    psutil.wait_procs(family)


class Server:
    """A tracking server that can be killed and started again at the same address."""

    def __init__(self, folder):
        self.folder, self.port = folder, free_port()
        self.start()

    def start(self):
        self.process = serve_mlflow(self.folder, self.port)

    def kill(self):
        kill(self.process)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Return a running tracking server, to which MLFLOW_TRACKING_URI points."""
    server = Server(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.port}")
    yield server
    server.kill()


@pytest.mark.slow
def test_a_tracking_server_that_dies_and_comes_back_has_missed_nothing(prepared, server):
    running = prepared.start("--set", SETTINGS)
    running.wait_for_step(20)
    server.kill()
    # Training does not wait for it.
    running.wait_for_step(STEPS)
    assert running.process.poll() is None
    server.start()
    said = running.end()
    assert running.process.returncode == 0, said
    assert f"MLflow at http://127.0.0.1:{server.port} does not answer: " in said and "MLflow answers again." in said
    run_id = newest_run()
    assert is_whole(run_id)
    assert mlflow.get_run(run_id).info.status == "FINISHED"


@pytest.mark.slow
def test_a_server_that_stays_away_costs_the_record_and_not_the_training(prepared, server):
    running = prepared.start("--set", f"{SETTINGS} tracking.patience=3")
    running.wait_for_step(20)
    run_id = newest_run()
    server.kill()
    said = running.end()
    assert running.process.returncode == 2
    assert "Error: MLflow has been away for 3 s (tracking.patience)" in said
    server.start()
    done = prepared.sat2map("train", "--resume", run_id)
    assert done.returncode == 0, done.stderr
    assert is_whole(run_id)


@pytest.mark.slow
def test_a_full_disk_costs_a_checkpoint_and_not_the_training(prepared):
    running = prepared.start("--set", SETTINGS)
    running.wait_for_step(20)
    (worker,) = running.workers()
    # From here on the worker can write no file larger than this: its writes fail as on a full disk.
    before = resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    count = len(running.checkpoints())
    while running.process.stderr.readline().find("could not be written") < 0:
        assert running.process.poll() is None
    newest = running.checkpoints()[-1]
    assert len(running.checkpoints()) >= count and not list(newest.parent.glob("*.partial"))
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, before)
    said = running.end()
    assert running.process.returncode == 0, said
    assert is_whole(newest_run())
    assert int(running.checkpoints()[-1].name[5:]) == STEPS > int(newest.name[5:])
