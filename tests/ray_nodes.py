"""A Ray cluster of several nodes on this machine, for tests: started and ended here, and nobody else's touched.

Each node has a loopback address of its own, 127.0.0.2 and so on: Ray replaces 127.0.0.1 by that of a network card.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from pathlib import Path

import psutil

BIN = Path(sys.executable).parent
HANDED_OVER = ("MLFLOW_", "AWS_", "RAY_")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(condition, *, seconds, what):
    patience = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < patience, f"{what}: not within {seconds} s"
        time.sleep(0.2)


def kill_family(process):
    """SIGKILL a process and all that it has started."""
    family = [process, *process.children(recursive=True)]
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    psutil.wait_procs(family, timeout=30)


class Cluster:
    """Nodes of one CPU each, unless told otherwise; the first is the head with the dashboard."""

    def __init__(self):
        # Short, because sockets lie below it.
        self.folder = Path(tempfile.mkdtemp(prefix="s2m-", dir="/tmp"))
        self.mark = uuid.uuid4().hex
        self.nodes = []
        self.port, self.dashboard = free_port(), free_port()
        self.address = f"http://127.0.0.1:{self.dashboard}"
        self.ray_address = f"127.0.0.2:{self.port}"

    def start(self, *, cpus=1, head=False, within=()):
        """Start a node and wait until the cluster knows it; return its process, the parent of all others."""
        words = f"start --block --node-ip-address 127.0.0.{len(self.nodes) + 2} "
        # A folder of its own as well: nodes that share one unpack the job's code over each other's.
        words += f"--num-cpus {cpus} --object-store-memory {100 << 20} --temp-dir {self.folder}/{len(self.nodes)} "
        for name in ("dashboard-agent-listen-port", "metrics-export-port", "runtime-env-agent-port"):
            words += f"--{name} {free_port()} "
        if head:
            words += f"--head --port {self.port} --dashboard-host 127.0.0.1 --dashboard-port {self.dashboard} "
            words += "--disable-usage-stats"
        else:
            words += f"--address {self.ray_address}"
        # Neither the project nor the settings for MLflow: what a job has of these, it was sent.
        own = {name: value for name, value in os.environ.items() if not name.startswith(HANDED_OVER)}
        own |= {"RAY_AUTH_MODE": "disabled", "PATH": f"{BIN}:{os.environ['PATH']}", "S2M_MARK": self.mark}
        own.pop("PYTHONPATH", None)
        before = self.living()
        with (self.folder / "ray-start.log").open("a") as log:
            node = subprocess.Popen(
                [*within, str(BIN / "ray"), *words.split()],
                env=own,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.nodes.append(node)
        wait_until(lambda: self.living() - before, seconds=120, what="a Ray node")
        return psutil.Process(node.pid)

    def living(self):
        """Return the ids of the nodes that the dashboard takes for alive."""
        try:
            with urllib.request.urlopen(f"{self.address}/nodes?view=summary", timeout=5) as answer:
                nodes = json.load(answer)["data"]["summary"]
        except OSError:
            return set()
        return {node["raylet"]["nodeId"] for node in nodes if node["raylet"].get("state") == "ALIVE"}

    def get(self, path):
        """Return what the dashboard says."""
        with urllib.request.urlopen(self.address + path, timeout=10) as answer:
            return answer.read().decode()

    def logs(self):
        """Return all that Ray has written to its logs."""
        files = [path for path in self.folder.glob("*/session_2*/logs/**/*") if path.is_file()]
        return "".join(path.read_text(errors="replace") for path in files)

    def stop(self):
        """End every process that was started for this cluster, however it hangs together."""
        own = [process for process in psutil.process_iter() if self._is_own(process)]
        for process in own:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        for node in self.nodes:
            node.wait(30)
        psutil.wait_procs(own, timeout=30)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _is_own(self, process):
        with contextlib.suppress(psutil.Error):
            return process.environ().get("S2M_MARK") == self.mark
        return False


def training_workers(node):
    """Return the training workers that run on a node."""
    return [process for process in node.children(recursive=True) if "RayTrainWorker" in " ".join(process.cmdline())]


def drawing_actors(node):
    """Return the actors on a node that draw maps at this moment."""
    return [process for process in node.children(recursive=True) if "Drawer)).submit" in _words(process)]


def _words(process):
    """Return a process's command line; nothing of one that has just ended."""
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""
