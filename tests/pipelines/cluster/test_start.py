"""The start of Ray on this machine: if it fails, and what it does to TERM."""

import os
import subprocess
import sys

from tests.fixtures.project import PROJECT

JOIN = """
from model.errors import ClusterError
from pipelines.cluster.resources import joined
try:
    with joined():
        print("joined")
except ClusterError as error:
    print(error)
"""

SIGNALS = """
import os, signal, time
from pipelines.cluster import resources, signals
def terminate(when):
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
    except KeyboardInterrupt:
        print(when)
signals.end_on_term()
with resources.joined():
    terminate("while Ray runs")
terminate("after its end")
"""


def test_a_start_that_fails_is_explained():
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-c", JOIN],
        cwd=PROJECT,
        env=environment | {"RAY_TMPDIR": "/proc/none"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == (
        "Ray can't be started on this machine ([Errno 2] No such file or directory: '/proc/none'); stop other "
        "programs, or set RAY_TMPDIR to a folder that you may write to.\n"
    )


def test_term_interrupts_while_ray_runs_and_after_its_end():
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run([sys.executable, "-c", SIGNALS], cwd=PROJECT, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "while Ray runs\nafter its end\n"), done.stderr
