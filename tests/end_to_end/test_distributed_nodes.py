"""Maps drawn on the nodes of a cluster: the same as on this machine, even if actors, nodes or drivers are killed."""

import json
import os
import re
import signal
import subprocess
import sys

import psutil
import pytest

from model.io.locations import Location
from serving.scoring.manifest import read_rows
from serving.scoring.scorer import score
from tests.fixtures.object_stores import BUCKET
from tests.fixtures.project import PROJECT
from tests.fixtures.ray_nodes import Cluster, drawing_actors, kill_family, wait_until
from tests.fixtures.scored_folders import assert_same, draw_noise, timeless

LARGE, COUNT = 800, 40
"""Side in pixels, and number, of photos that take some seconds because each is drawn in many tiles."""


@pytest.fixture
def many(tmp_path):
    """Return a folder of photos that take some seconds."""
    return draw_noise(tmp_path / "many", [f"{number:02d}.png" for number in range(COUNT)], LARGE)


@pytest.fixture(scope="module")
def nodes():
    """Start a cluster of two nodes with a CPU each."""
    started = Cluster()
    try:
        started.processes = [started.start(head=True), started.start()]
        yield started
    finally:
        started.stop()


class Running:
    """A driver in a process of its own."""

    def __init__(self, nodes, bundle, photos, out):
        self.out = out
        environment = os.environ | {
            "RAY_ADDRESS": nodes.ray_address,
            "PYTHONPATH": str(PROJECT),
            **nodes.access,
        }
        words = [sys.executable, "-m", "pipelines", "score", str(photos), str(out), "--model", str(bundle.folder)]
        words += ["--distributed", "--cpus-per-actor", "1", "--json"]
        self.process = subprocess.Popen(words, env=environment, cwd=out.parent, stdout=-1, stderr=-1, text=True)

    def count(self):
        return len(list(self.out.glob("*.png")))

    def wait_for_mid_run(self, nodes):
        """Wait until an actor draws on each node, and some maps are written, but not all."""
        actors = []

        def is_there():
            actors[:] = [drawing_actors(node) for node in nodes]
            return (all(actors) and self.count() >= 4) or self.process.poll() is not None

        wait_until(is_there, seconds=120, what="maps and actors")
        assert 4 <= self.count() < COUNT, self.process.communicate()
        assert [len(found) for found in actors] == [1] * len(nodes)
        return [found[0] for found in actors]

    def end(self):
        return self.process.communicate(timeout=200)


@pytest.fixture
def start(nodes):
    """Return a function that starts a driver; drivers are killed at the end."""
    started = []

    def begin(bundle, photos, out):
        started.append(Running(nodes, bundle, photos, out))
        return started[-1]

    yield begin
    for running in started:
        running.process.kill()
        running.process.communicate()


@pytest.fixture
def expected(model, many, tmp_path):
    """Return the folder that the local scorer draws."""
    score(model, [str(many)], Location(tmp_path / "local"))
    return tmp_path / "local"


def test_a_killed_actor_costs_no_photo(nodes, start, bundle, many, expected, tmp_path):
    running = start(bundle, many, tmp_path / "maps")
    running.wait_for_mid_run(nodes.processes)[1].kill()
    report, messages = running.end()
    assert running.process.returncode == 0, messages
    (lost,) = messages.splitlines()
    assert re.fullmatch(r"Actors were lost; others draw \d+ photos?\.", lost)
    assert json.loads(report)["drawn"] == COUNT
    assert_same(running.out, expected)


@pytest.mark.slow
def test_a_stopped_driver_leaves_no_actor_and_the_next_one_continues(nodes, start, bundle, many, expected, tmp_path):
    running = start(bundle, many, tmp_path / "maps")
    running.wait_for_mid_run(nodes.processes)
    running.process.send_signal(signal.SIGINT)
    _, messages = running.end()
    assert running.process.returncode == 130
    assert messages == "Stopped. Finished maps are kept: run the same command again to continue.\n"
    wait_until(lambda: not any(map(drawing_actors, nodes.processes)), seconds=60, what="the end of the actors")
    finished = running.count()
    again = start(bundle, many, tmp_path / "maps")
    output, messages = again.end()
    assert again.process.returncode == 0, messages
    report = json.loads(output)
    assert finished - 4 <= report["kept"] <= finished and report["kept"] + report["drawn"] == COUNT
    assert_same(again.out, expected)


@pytest.mark.slow
def test_a_killed_node_costs_no_photo(nodes, start, bundle, many, expected, tmp_path):
    third = nodes.start()
    running = start(bundle, many, tmp_path / "maps")
    running.wait_for_mid_run([*nodes.processes, third])
    kill_family(third)
    report, messages = running.end()
    assert running.process.returncode == 0, messages
    assert "Actors were lost; " in messages and "raylet" not in report + messages and "Traceback" not in messages
    assert json.loads(report)["drawn"] == COUNT
    assert_same(running.out, expected)
    assert not psutil.pid_exists(third.pid) or third.status() == psutil.STATUS_ZOMBIE


@pytest.mark.slow
def test_a_job_on_a_node_that_shares_only_a_store_draws_the_same(model, bundle, tmp_path, store, request):
    # The only node with a CPU sees an empty folder in place of the one with the model.
    alone = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs none {tmp_path} && exec "$@"', "sh"]
    if subprocess.run([*alone, "true"], capture_output=True).returncode:
        pytest.skip("needs permission to give a process its own view of the file system (unshare --mount)")
    photos = draw_noise(tmp_path / "photos", [f"{name}.png" for name in "abcde"])
    (photos / "broken.jpg").write_bytes(b"no photo")
    score(model, [str(photos)], Location(tmp_path / "local"))
    source, out = store.upload(photos, "in"), store.address("out")
    cluster = Cluster()
    request.addfinalizer(cluster.stop)
    cluster.start(head=True, cpus=0)
    cluster.start(within=alone)
    words = ["submit", "--address", cluster.address, "--", "score", source, out, "--distributed"]
    words += ["--model", str(bundle.folder), "--set", f"workspace={tmp_path}/work"]
    environment = os.environ | cluster.access | {"PYTHONPATH": str(PROJECT)}
    environment |= {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-m", "pipelines", *words], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 4, done.stdout + done.stderr
    assert "Maps: 5 drawn" in done.stdout and "1 failed" in done.stdout
    drawn = {row.output: row.output_sha256 for row in read_rows(Location.parse(out)) if row.output}
    assert drawn == {row.output: row.output_sha256 for row in timeless(tmp_path / "local") if row.output}
    for name in drawn:
        stored = store.client.get_object(Bucket=BUCKET, Key=f"out/{name}")["Body"].read()
        assert stored == (tmp_path / "local" / name).read_bytes()
