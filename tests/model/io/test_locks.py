"""Locks between processes: they exclude each other, and end with a killed process."""

import subprocess
import sys
import time

import pytest

from model.io import locks
from tests.fixtures.project import PROJECT

HOLD = "import sys; from pathlib import Path; from model.io import locks\n"
HOLD += "with locks.held(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"


@pytest.fixture(params=["file", "folder"])
def path(request, tmp_path):
    """Return a file or a folder that can be locked."""
    path = tmp_path / "locked"
    path.mkdir() if request.param == "folder" else path.touch()
    return path


@pytest.fixture
def holder(path):
    """Start a process that holds the lock until its stdin is closed."""
    words = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(words, env={"PYTHONPATH": str(PROJECT)}, stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_lock_excludes_other_processes(path, holder):
    assert locks.is_held(path)
    with pytest.raises(TimeoutError, match="locked by another process"), locks.held(path, patience=0.2):
        pass
    holder.stdin.close()
    with locks.held(path, patience=10):
        assert locks.is_held(path)
    assert not locks.is_held(path)


def test_the_lock_of_a_killed_process_is_free(path, holder):
    began = time.monotonic()
    holder.kill()
    with locks.held(path, patience=10):
        assert time.monotonic() - began < 5


def test_a_missing_file_is_not_locked(tmp_path):
    assert not locks.is_held(tmp_path / "missing")
    with pytest.raises(FileNotFoundError), locks.held(tmp_path / "missing"):
        pass
