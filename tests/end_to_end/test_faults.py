"""Faults in real trainings: each still ends with one curve, without gaps or repeated steps."""

import os
import re
import resource
import signal
import time

import mlflow
import psutil
import pytest

from tests.fixtures.mlflow_servers import start_mlflow, stop_mlflow
from tests.fixtures.ray_nodes import free_port
from tests.fixtures.trainings import leftovers, logged_steps, newest_run

EPOCHS = 100
STEPS = 2 * EPOCHS
SETTINGS = f"training.epochs={EPOCHS} training.checkpoint_every=10 training.sheet_every=1000"


def has_complete_curve(run_id):
    """Return whether the losses of every step were logged exactly once."""
    return logged_steps(run_id) == logged_steps(run_id, "discriminator_drawn_loss") == list(range(1, STEPS + 1))


def test_killed_worker_is_restarted_and_resumes(prepared, temporary):
    running = prepared.start("--set", f"{SETTINGS} training.workers=2 training.cpus_per_worker=1")
    running.wait_for_step(20)
    one, other = running.workers()
    one.kill()
    errors = running.end()
    assert running.process.returncode == 0, errors
    assert "Resuming from checkpoint step-" in errors
    assert not psutil.pid_exists(other.pid)
    run_id = newest_run()
    assert has_complete_curve(run_id)
    assert mlflow.get_run(run_id).info.status == "FINISHED"
    assert not leftovers(prepared, temporary)


@pytest.mark.slow
def test_term_to_all_processes_at_once_stops_with_a_checkpoint(prepared, temporary):
    running = prepared.start("--set", SETTINGS)
    running.wait_for_step(20)
    # As a terminal, a container or a batch system sends it.
    os.killpg(running.process.pid, signal.SIGTERM)
    errors = running.end()
    assert running.process.returncode == 130, errors
    run_id = newest_run()
    stopped = int(
        re.search(rf"Stopped after step (\d+) of {STEPS}; the last checkpoint includes all of them", errors)[1]
    )
    assert f"Resume with: sat2map train --resume {run_id}\n" in errors and "Traceback" not in errors
    assert int(running.checkpoints()[-1].name[5:]) == stopped
    assert mlflow.get_run(run_id).info.status == "KILLED"
    assert not leftovers(prepared, temporary)


@pytest.mark.slow
def test_end_of_ray_is_one_sentence_with_the_newest_checkpoint(prepared):
    running = prepared.start("--set", SETTINGS)
    running.wait_for_step(20)
    for process in running.family()[1:]:
        process.kill()
    began = time.monotonic()
    errors = running.end()
    assert running.process.returncode == 2 and time.monotonic() - began < 100, errors
    step = int(running.checkpoints()[-1].name[5:])
    assert "Error: Ray ended during the training" in errors and "Traceback" not in errors
    assert (
        f"Run {newest_run()} stopped at step {step}; continue it with: sat2map train --resume {newest_run()}" in errors
    )


@pytest.mark.slow
def test_workers_lost_too_often_end_the_training_with_the_command_to_resume(prepared):
    running = prepared.start("--set", f"{SETTINGS} training.max_failures=0")
    running.wait_for_step(20)
    running.workers()[0].kill()
    errors = running.end()
    assert running.process.returncode == 2
    assert "Error: Training failed: " in errors and "Traceback" not in errors
    run_id = newest_run()
    assert f"Resume with: sat2map train --resume {run_id}" in errors
    assert mlflow.get_run(run_id).info.status == "FAILED"
    done = prepared.sat2map("train", "--resume", run_id)
    assert done.returncode == 0, done.stderr
    assert has_complete_curve(run_id)


class Server:
    """A tracking server that can be killed and restarted at the same address."""

    def __init__(self, folder):
        self.folder, self.port = folder, free_port()
        self.start()

    def start(self):
        self.process = start_mlflow(self.folder, f"sqlite:///{self.folder}/server.db", self.port)

    def kill(self):
        stop_mlflow(self.process)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Return a running tracking server, with MLFLOW_TRACKING_URI set to its address."""
    server = Server(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.port}")
    yield server
    server.kill()


@pytest.mark.slow
def test_tracking_server_that_is_restarted_has_a_complete_record(prepared, server):
    running = prepared.start("--set", SETTINGS)
    running.wait_for_step(20)
    server.kill()
    # Training does not wait for it.
    running.wait_for_step(STEPS)
    assert running.process.poll() is None
    server.start()
    errors = running.end()
    assert running.process.returncode == 0, errors
    assert f"MLflow at http://127.0.0.1:{server.port} does not answer: " in errors
    assert "MLflow answers again." in errors
    run_id = newest_run()
    assert has_complete_curve(run_id)
    assert mlflow.get_run(run_id).info.status == "FINISHED"


@pytest.mark.slow
def test_server_that_stays_unavailable_costs_the_record_but_not_the_training(prepared, server):
    running = prepared.start("--set", f"{SETTINGS} tracking.patience=3")
    running.wait_for_step(20)
    run_id = newest_run()
    server.kill()
    errors = running.end()
    assert running.process.returncode == 2
    assert "Error: MLflow has been unavailable for 3 s (tracking.patience)" in errors
    server.start()
    done = prepared.sat2map("train", "--resume", run_id)
    assert done.returncode == 0, done.stderr
    assert has_complete_curve(run_id)


@pytest.mark.slow
def test_full_disk_costs_a_checkpoint_but_not_the_training(prepared):
    running = prepared.start("--set", SETTINGS)
    running.wait_for_step(20)
    (worker,) = running.workers()
    # Limit the size of the worker's files, so that writing fails as on a full disk.
    before = resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    count = len(running.checkpoints())
    while running.process.stderr.readline().find("could not be written") < 0:
        assert running.process.poll() is None
    newest = running.checkpoints()[-1]
    assert len(running.checkpoints()) >= count and not list(newest.parent.glob("*.partial"))
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, before)
    errors = running.end()
    assert running.process.returncode == 0, errors
    assert has_complete_curve(newest_run())
    assert int(running.checkpoints()[-1].name[5:]) == STEPS > int(newest.name[5:])
