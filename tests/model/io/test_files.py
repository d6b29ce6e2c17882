"""Files and folders that appear complete or not at all."""

import errno
import hashlib
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from model.errors import DataError, StorageError
from model.io.files import check_writable, new_file, new_folder, sha256, write_text
from tests.fixtures.project import PROJECT

# In a process of its own: the limit would hold for whatever pytest's own output is written to.
ON_A_FULL_DISK = """
import resource, sys
from pathlib import Path
from model.io.files import write_bytes
resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))
write_bytes(Path(sys.argv[1]), bytes(4096))
"""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def fill(folder, **files):
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def test_a_new_folder_appears_when_it_is_complete(tmp_path):
    target = tmp_path / "runs" / "first"
    with new_folder(target) as draft:
        fill(draft, model="weights")
        assert not target.exists()
        assert draft.parent == target.parent  # Renaming needs the same file system.
        assert draft.name.startswith(".")
    assert (target / "model").read_text() == "weights"
    assert names(target.parent) == ["first"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o755


def test_a_new_folder_replaces_the_old_one(tmp_path):
    target = fill(tmp_path / "bundle", model="old", leftover="old")
    with new_folder(target) as draft:
        fill(draft, model="new")
        assert names(target) == ["leftover", "model"]
    assert names(target) == ["model"]
    assert (target / "model").read_text() == "new"
    assert names(tmp_path) == ["bundle"]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_only_the_old_folder(tmp_path, failure):
    target = fill(tmp_path / "bundle", model="old")
    with pytest.raises(failure), new_folder(target) as draft:
        fill(draft, model="half")
        raise failure
    assert (target / "model").read_text() == "old"
    assert names(tmp_path) == ["bundle"]


def test_an_error_leaves_no_new_folder(tmp_path):
    with pytest.raises(ValueError), new_folder(tmp_path / "bundle") as draft:
        fill(draft, model="half")
        raise ValueError
    assert names(tmp_path) == []


def test_a_missing_draft_leaves_the_old_folder(tmp_path):
    target = fill(tmp_path / "bundle", model="old")
    with pytest.raises(StorageError), new_folder(target) as draft:
        draft.rmdir()
    assert (target / "model").read_text() == "old"
    assert names(tmp_path) == ["bundle"]


def test_text_is_written_as_utf_8_that_all_users_may_read(tmp_path):
    path = tmp_path / "deep" / "note.txt"
    write_text(path, "Straße\n")
    assert path.read_bytes() == "Straße\n".encode()
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert names(path.parent) == ["note.txt"]


def test_a_reader_keeps_the_old_file_while_it_is_replaced(tmp_path):
    path = tmp_path / "note.txt"
    write_text(path, "old")
    with path.open() as reader:
        write_text(path, "new and longer")
        assert reader.read() == "old"
    assert path.read_text() == "new and longer"


def test_a_full_disk_leaves_only_the_old_file(tmp_path):
    path = tmp_path / "note.txt"
    write_text(path, "old")
    command = [sys.executable, "-c", ON_A_FULL_DISK, str(path)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert "File too large" in done.stderr
    assert path.read_text() == "old"
    assert names(tmp_path) == ["note.txt"]


def test_text_that_is_not_utf_8_leaves_the_old_file(tmp_path):
    path = tmp_path / "note.txt"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\ud800")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["note.txt"]


def test_a_folder_with_the_name_of_a_file_is_an_error_and_stays(tmp_path):
    path = fill(tmp_path / "note.txt", inside="kept")
    with pytest.raises(DataError, match=r"note.txt can't be written \(Is a directory\); a folder has this name"):
        write_text(path, "new")
    assert names(path) == ["inside"]
    assert names(tmp_path) == ["note.txt"]


def test_a_file_with_the_name_of_a_folder_is_an_error_and_stays(tmp_path):
    fill(tmp_path, bundle="kept")
    with (
        pytest.raises(StorageError, match=r"bundle can't be written .*: a file is in the way"),
        new_folder(tmp_path / "bundle"),
    ):
        pass
    assert (tmp_path / "bundle").read_text() == "kept"
    assert names(tmp_path) == ["bundle"]


WRITERS = [lambda path: write_text(path, "new"), check_writable, lambda path: fill_folder(path)]


def fill_folder(path):
    with new_folder(path) as draft:
        fill(draft, model="weights")


@pytest.mark.parametrize("write", WRITERS, ids=["file", "check", "folder"])
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("file/deep/new", "Not a directory): a file is in the way; choose another folder."),
        ("x" * 300 + "/new", "File name too long); choose a shorter name"),
    ],
)
def test_a_name_that_cannot_be_written_is_explained(tmp_path, write, name, reason):
    fill(tmp_path, file="kept")
    before = names(tmp_path)
    with pytest.raises(DataError) as raised:
        write(tmp_path / name)
    assert str(raised.value) == f"{tmp_path / name} can't be written ({reason}"
    assert names(tmp_path) == before


def test_a_folder_that_the_system_provides_is_explained():
    for write in WRITERS:
        with pytest.raises(
            StorageError, match=r"/proc/new/x can't be written .*: choose a folder that you may write to"
        ):
            write(Path("/proc/new/x"))


def test_the_check_of_a_folder_leaves_nothing(tmp_path):
    check_writable(tmp_path / "a" / "b" / "new")
    assert names(tmp_path) == []


@pytest.mark.parametrize("write", WRITERS, ids=["file", "check", "folder"])
def test_a_link_that_leads_nowhere_is_no_folder(tmp_path, write):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(StorageError, match=r"loop/new can't be written \(.*\): .*; choose another folder\."):
        write(tmp_path / "loop" / "new")
    assert names(tmp_path) == ["loop"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_disk_that_fails_while_a_folder_is_filled_is_explained(tmp_path, number):
    with pytest.raises(StorageError, match=rf"bundle can't be written \({os.strerror(number)}\)"):
        with new_folder(tmp_path / "bundle") as draft, new_file(draft / "model"):
            raise OSError(number, os.strerror(number))
    assert names(tmp_path) == []


def test_other_errors_while_a_folder_is_filled_stay_as_they_are(tmp_path):
    with pytest.raises(FileNotFoundError), new_folder(tmp_path / "bundle"):
        (tmp_path / "photo.png").read_bytes()
    with pytest.raises(ConnectionRefusedError), new_file(tmp_path / "model"):
        raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")


def test_the_old_folder_comes_back_if_the_new_one_cannot_replace_it(tmp_path, monkeypatch):
    target = fill(tmp_path / "bundle", model="old")
    rename = Path.rename

    def fail(path, to):
        if path.name.startswith(".sat2map"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(StorageError, match="check the disk"):
        fill_folder(target)
    assert (target / "model").read_text() == "old"
    assert names(tmp_path) == ["bundle"]


def test_sha256_of_the_standards_example_and_of_a_long_file(tmp_path):
    path = tmp_path / "content"
    path.write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    path.write_bytes(content := b"satellite" * 100_000)
    assert sha256(path) == hashlib.sha256(content).hexdigest()
