"""Locations as values, and their files on this machine, on an S3 server and on a Google Cloud Storage server."""

import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import pytest
from pydantic import BaseModel, ValidationError

from model.errors import DataError, StorageError
from model.io.locations import Location
from tests.fixtures.object_stores import GoogleStore, Store, s3_credentials

# Values


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("photos/./a.png", "photos/a.png"),
        ("/data/my photos/", "/data/my photos"),
        ("file:///my%20photos/a.png", "/my photos/a.png"),
        ("S3://bucket/my photos/?scheme=http&region=eu", "s3://bucket/my%20photos?region=eu&scheme=http"),
        ("gs://anonymous@bucket", "gs://anonymous@bucket/"),
    ],
)
def test_a_location_has_one_text(text, normal):
    assert str(Location.parse(text)) == normal
    assert Location.parse(normal) == Location.parse(text)


def test_a_path_that_looks_like_an_address_stays_a_path():
    location = Location.parse(Path("s3://bucket/a"))
    assert not location.is_remote and location == Location(Path("s3:/bucket/a"))


def test_only_a_path_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Location.parse("a/b").absolute() == Location(tmp_path / "a" / "b")
    assert Location.parse("s3://bucket/a").absolute() == Location.parse("s3://bucket/a")


def test_names_are_joined():
    assert str(Location.parse("/data").join("a", "b c.png")) == "/data/a/b c.png"
    remote = Location.parse("s3://bucket/a?region=eu").join("b", "c #1.png")
    assert str(remote) == "s3://bucket/a/b/c%20%231.png?region=eu"
    assert remote.name_path == PurePosixPath("bucket/a/b/c #1.png")


@pytest.mark.parametrize("text", ["ftp://host/a", "s3://key:secret@bucket/a", "s3://bucket/a?regoin=eu"])
def test_an_unusable_address_is_rejected(text):
    with pytest.raises(DataError):
        Location.parse(text)


class Holder(BaseModel):
    """A model with locations in it."""

    files: tuple[Location, ...]


def test_a_location_is_stored_in_json_as_its_text():
    files = Location(Path("/a b.png")), Location.parse("s3://bucket/a b?region=eu")
    holder = Holder(files=files)
    assert holder.model_dump_json() == '{"files":["/a b.png","s3://bucket/a%20b?region=eu"]}'
    assert Holder.model_validate_json(holder.model_dump_json()) == holder
    with pytest.raises(ValidationError):
        Holder.model_validate_json('{"files":[5]}')


def test_a_location_can_be_sent_to_another_process():
    for text in ("/a b.png", "s3://bucket/a?region=eu"):
        assert pickle.loads(pickle.dumps(Location.parse(text))) == Location.parse(text)


# Files


@pytest.fixture(scope="module", params=["folder", "s3", "google"])
def at(request, tmp_path_factory):
    """Return a function from a name to its location."""
    if request.param == "folder":
        folder = tmp_path_factory.mktemp("files")
        yield lambda name: Location(folder / name)
        return
    with s3_credentials():
        store = Store() if request.param == "s3" else GoogleStore()
        yield lambda name: Location.parse(store.address(name))
        store.stop()


def test_written_content_is_read(at):
    for content in (b"first", b"", bytes(range(256)) * 30_000):
        at("new/folder/x y.bin").write_bytes(content)
        assert at("new/folder/x y.bin").read_bytes() == content
    assert at("new/folder").list().files == ("x y.bin",)


def test_many_threads_may_write(at):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: at(f"many/{number}").write_bytes(b"%d" % number), range(40)))
    assert len(at("many").list().files) == 40 and at("many/17").read_bytes() == b"17"


def test_the_type_of_an_entry_is_found(at):
    at("kinds/deep/file").write_bytes(b"x")
    names = ("kinds/deep/file", "kinds/deep", "kinds", "kinds/none")
    assert [at(name).type() for name in names] == ["file", "folder", "folder", None]


def test_a_folder_is_removed_with_its_content(at):
    for name in ("gone/a", "gone/deep/b", "stays/c"):
        at(name).write_bytes(b"x")
    for _ in range(2):
        at("gone").remove_folder()
        assert at("gone").type() is None and at("stays/c").type() == "file"


def test_links_that_lead_nowhere_are_listed_as_files(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    listing = Location(tmp_path).list()
    assert listing.folders == {"folder", "link"} and sorted(listing.files) == ["dangling", "loop"]
    assert [Location(tmp_path / name).type() for name in ("loop", "dangling", "link")] == [None, None, "folder"]


def test_a_name_that_no_file_can_have_has_no_type(tmp_path):
    assert Location(tmp_path / ("x" * 300)).type() is None and Location(Path("a\0b")).type() is None


def test_a_folder_that_may_not_be_entered_is_an_error_of_the_storage(tmp_path, monkeypatch):
    def deny(*_, **__):
        raise PermissionError(13, "Permission denied")

    # Root may enter any folder, so the refusal is simulated.
    monkeypatch.setattr(Path, "stat", deny)
    with pytest.raises(StorageError, match=r"/x can't be opened \(Permission denied\); make it readable\.$"):
        Location(tmp_path / "x").type()


# Errors


def test_a_name_that_is_too_long_is_an_error_of_the_file(tmp_path):
    with pytest.raises(DataError, match="File name too long") as error:
        Location(tmp_path / ("x" * 300)).write_bytes(b"x")
    assert not isinstance(error.value, StorageError)


def test_a_file_in_the_way_is_an_error_of_the_storage(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"can't be written \(.*\): a file is in the way; choose another folder"):
        Location(tmp_path / "file" / "x").write_bytes(b"x")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    Location(tmp_path / "x").write_bytes(b"good")

    def full(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(StorageError, match=r"x can't be written \(No space left on device\): free some space\."):
        Location(tmp_path / "x").write_bytes(b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("x", b"good")]


def test_a_missing_server_is_an_error_of_the_storage():
    nowhere = Location.parse("s3://bucket/x?endpoint_override=127.0.0.1:9&scheme=http")
    with s3_credentials():
        for call in (nowhere.type, nowhere.list, nowhere.remove_folder, lambda: nowhere.write_bytes(b"x")):
            with pytest.raises(StorageError, match="can't be reached"):
                call()
