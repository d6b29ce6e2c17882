"""Drafts that killed processes left behind: removed, unless a living process may still write them."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from model.io import files
from model.io.files import new_file, new_folder, remove_stale_drafts, scratch_folder
from tests.fixtures.project import PROJECT

WRITER = """
import os, sys
from pathlib import Path
from model.io.files import new_file, new_folder
with new_file(Path(sys.argv[1], "map.png")) as file, new_folder(Path(sys.argv[1], "maps")) as folder:
    file.write_bytes(b"half")
    (folder / "deep").mkdir()
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def writer(tmp_path):
    """Start a process that writes a draft of a file and one of a folder."""
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    process = subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    yield process
    process.kill()
    process.communicate()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_drafts_of_a_living_process_stay(writer, tmp_path):
    before = names(tmp_path)
    remove_stale_drafts(tmp_path)
    assert names(tmp_path) == before and len(before) == 2
    writer.communicate()
    assert names(tmp_path) == ["map.png", "maps"]


def test_drafts_of_a_killed_process_are_removed(writer, tmp_path):
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert len(names(tmp_path)) == 2
    remove_stale_drafts(tmp_path)
    assert names(tmp_path) == []


def test_a_process_keeps_its_own_drafts(tmp_path):
    with new_file(tmp_path / "a.png") as draft, new_folder(tmp_path / "b") as folder:
        remove_stale_drafts(tmp_path)
        assert draft.is_file() and folder.is_dir()


def test_drafts_of_another_machine_are_removed_after_a_day(tmp_path):
    old, new = (tmp_path / f".sat2map-0123abcd-999999999-{name}.png" for name in ("old00000", "new00000"))
    folder = tmp_path / ".sat2map-0123abcd-999999999-folder00"
    (folder / "deep").mkdir(parents=True)
    for path in (old, new, folder / "deep" / "fresh"):
        path.touch()
    yesterday = time.time() - files.STALE_SECONDS - 60
    for path in (old, folder, folder / "deep"):
        os.utime(path, (yesterday, yesterday))
    remove_stale_drafts(tmp_path)
    assert names(tmp_path) == sorted([new.name, folder.name])
    os.utime(folder / "deep" / "fresh", (yesterday, yesterday))
    remove_stale_drafts(tmp_path)
    assert names(tmp_path) == [new.name]


@pytest.mark.parametrize(
    "name", [".hidden.png", ".sat2map-notes.png", ".sat2map-0123abcd-1-short.png", "sat2map-0123abcd-1-abcdefgh.png"]
)
def test_hidden_files_of_others_stay(tmp_path, name):
    (tmp_path / name).touch()
    os.utime(tmp_path / name, (0, 0))
    remove_stale_drafts(tmp_path)
    assert names(tmp_path) == [name]


def test_a_missing_folder_has_no_drafts(tmp_path):
    remove_stale_drafts(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    remove_stale_drafts(tmp_path / "file")


def test_a_scratch_folder_is_removed_with_its_files(tmp_path):
    with pytest.raises(KeyError), scratch_folder(tmp_path) as folder:
        (folder / "model.onnx").touch()
        raise KeyError
    assert not names(tmp_path)


def test_the_scratch_folder_of_a_killed_process_is_removed_by_the_next_one(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code = (
        "from model.io.files import scratch_folder\nwith scratch_folder() as folder: print(folder, flush=True); input()"
    )
    words, mine = [sys.executable, "-c", code], {"PYTHONPATH": str(PROJECT), "TMPDIR": str(tmp_path)}
    with subprocess.Popen(words, env=mine, stdin=-1, stdout=-1, text=True) as process:
        left = Path(process.stdout.readline().strip())
        with scratch_folder():
            assert left.is_dir()
        process.kill()
    assert left.is_dir()
    with scratch_folder() as folder:
        assert names(tmp_path) == [folder.name]
    assert not names(tmp_path)
