"""Writing to places: here, to a server of S3's kind and to one of Google's."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from model import place_writing
from model.errors import DataError, StorageError
from model.io import locations
from tests.fixtures.object_stores import GoogleStore, Store, s3_credentials


@pytest.fixture(scope="module", params=["folder", "s3", "google"])
def at(request, tmp_path_factory):
    """Return a function from a name to its place."""
    if request.param == "folder":
        folder = tmp_path_factory.mktemp("places")
        yield lambda name: str(folder / name)
        return
    with s3_credentials():
        store = Store() if request.param == "s3" else GoogleStore()
        yield store.address
        store.stop()


def test_what_was_written_is_read(at):
    for content in (b"first", b"", bytes(range(256)) * 30_000):
        place_writing.write_bytes(at("new/folder/x y.bin"), content)
        assert locations.read_bytes(at("new/folder/x y.bin")) == content
    assert locations.list_folder(at("new/folder")).files == ("x y.bin",)


def test_any_number_of_threads_may_write(at):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: place_writing.write_bytes(at(f"many/{number}"), b"%d" % number), range(40)))
    assert len(locations.list_folder(at("many")).files) == 40 and locations.read_bytes(at("many/17")) == b"17"


def test_what_lies_at_a_place_is_told(at):
    place_writing.write_bytes(at("kinds/deep/file"), b"x")
    assert [locations.kind(at(name)) for name in ("kinds/deep/file", "kinds/deep", "kinds", "kinds/none")] == [
        "file",
        "folder",
        "folder",
        None,
    ]


def test_a_folder_goes_with_all_that_is_in_it(at):
    for name in ("gone/a", "gone/deep/b", "stays/c"):
        place_writing.write_bytes(at(name), b"x")
    for _ in range(2):
        place_writing.remove_folder(at("gone"))
        assert locations.kind(at("gone")) is None and locations.kind(at("stays/c")) == "file"


def test_a_name_that_can_t_be_is_the_fault_of_the_file_and_a_place_that_can_t_is_not(tmp_path):
    with pytest.raises(DataError, match="File name too long") as stopped:
        place_writing.write_bytes(str(tmp_path / ("x" * 300)), b"x")
    assert not isinstance(stopped.value, StorageError)
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"can't be written \(.*\): a file stands where a folder is needed"):
        place_writing.write_bytes(str(tmp_path / "file" / "x"), b"x")


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    place_writing.write_bytes(str(tmp_path / "x"), b"good")

    def full(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(StorageError, match=r"x can't be written \(No space left on device\): make room\."):
        place_writing.write_bytes(str(tmp_path / "x"), b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("x", b"good")]


def test_a_server_that_is_not_there_is_told():
    nowhere = "s3://bucket/x?endpoint_override=127.0.0.1:9&scheme=http"
    with s3_credentials():
        for ask in (locations.kind, place_writing.remove_folder, lambda place: place_writing.write_bytes(place, b"x")):
            with pytest.raises(StorageError, match="can't be reached"):
                ask(nowhere)
