"""MLflow servers of the tests' own: on PostgreSQL or SQLite, with artifacts in a folder that the server alone reads."""

import glob
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from ray_nodes import free_port, kill_family, wait_until


@contextmanager
def postgres_server():
    """Run a PostgreSQL server of our own; yield its address for SQLAlchemy."""
    binaries = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
    if not binaries:
        pytest.skip("PostgreSQL's binaries are not on this machine (/usr/lib/postgresql/*/bin; Debian: postgresql)")
    # Its own user must get there, and the path of a socket is short.
    folder = Path(tempfile.mkdtemp(prefix="s2m-pg-", dir="/tmp"))
    # PostgreSQL refuses to run as root.
    user = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.getuid() == 0 else {}
    if user:
        shutil.chown(folder, "nobody", "nogroup")
    options = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **user}
    data = str(folder / "data")
    server = None
    try:
        subprocess.run(
            [f"{binaries[-1]}/initdb", "-D", data, "-A", "trust", "-U", "mlflow", "-N"], check=True, **options
        )
        words = ["-D", data, "-k", str(folder), "-c", "listen_addresses=", "-c", "fsync=off"]
        server = subprocess.Popen([f"{binaries[-1]}/postgres", *words], **options)
        ready = [f"{binaries[-1]}/pg_isready", "-h", str(folder)]
        wait_until(lambda: subprocess.run(ready, **options).returncode == 0, seconds=60, what="PostgreSQL")
        yield f"postgresql+psycopg2://mlflow@/postgres?host={folder}"
    finally:
        if server is not None:
            server.terminate()
            server.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def mlflow_server(folder, store):
    """Run an MLflow server on a database, with artifacts below `folder` that it alone writes; yield its address."""
    address = f"http://127.0.0.1:{free_port()}"
    words = f"server --host 127.0.0.1 --port {address.rpartition(':')[2]} --workers 1 --backend-store-uri {store}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *words.split(), "--artifacts-destination", str(folder / "artifacts")],
            cwd=folder,
            env=environment | {"PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def answers():
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=1):
                return True
        except OSError:
            assert server.poll() is None, (folder / "server.log").read_text()
            return False

    try:
        wait_until(answers, seconds=120, what="MLflow")
        yield address
    finally:
        if server.poll() is None:
            kill_family(psutil.Process(server.pid))
        server.wait(30)
