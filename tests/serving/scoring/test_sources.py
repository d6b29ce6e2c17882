"""Sources of photos: files, folders, globs and lists, on this machine and at an address."""

import os
from pathlib import Path

import pytest

from model.errors import DataError
from serving.scoring.sources import find_photos
from tests.fixtures.object_stores import BUCKET, GoogleStore


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Return a folder with photos at several depths, which are not opened, and work in its parent."""
    visible = ("a.jpg", "b.PNG", "north/a.jpg", "north/far/c.tif", "south/a.jpg")
    for name in (*visible, "notes.txt", ".hidden.png", ".hidden/a.jpg"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"photo")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


def names(*sources):
    return {photo.name: str(photo.location) for photo in find_photos([str(source) for source in sources])}


def refused(*sources):
    with pytest.raises(DataError) as stopped:
        find_photos([str(source) for source in sources])
    assert "\n" not in str(stopped.value) and str(stopped.value).endswith(".")
    return str(stopped.value)


# On this machine


def test_a_file_may_have_any_suffix(photos):
    (photos / "scan").write_bytes(b"photo")
    assert names(photos / "a.jpg") == {"a": str(photos / "a.jpg")}
    assert names(photos / "scan") == {"scan": str(photos / "scan")}


def test_a_folder_stands_for_the_images_directly_in_it(photos):
    expected = {"a": str(photos / "a.jpg"), "b": str(photos / "b.PNG")}
    assert names(photos) == names("photos") == names("photos/") == names(f"file://{photos}") == expected


def test_a_glob_keeps_the_folders_in_the_names(photos):
    assert list(names("photos/*.jpg")) == ["a"]
    assert list(names("photos/*/a.jpg")) == ["north/a", "south/a"]
    assert list(names("photos/**/*.[jt]*")) == ["a", "north/a", "north/far/c", "south/a"]
    assert list(names(f"{photos}/?.jpg")) == ["a"]


def test_a_file_whose_name_looks_like_a_glob_is_found(photos):
    (photos / "[a]*.jpg").write_bytes(b"photo")
    (photos / "tiles [1]").mkdir()
    (photos / "tiles [1]" / "x.png").write_bytes(b"photo")
    assert list(names(photos / "[a]*.jpg")) == ["[a]*"]
    assert list(names(photos / "tiles [1]")) == ["x"]


def test_a_list_has_one_location_per_line_which_need_not_exist(photos):
    text = "\ufeff photos/a.jpg \r\n\n/elsewhere/Straße 1, ü.png\ns3://bucket/x y.jpg\n"
    for name in ("list.txt", "list"):
        Path(name).write_text(text, encoding="utf-8")
    expected = {
        "Straße 1, ü": "/elsewhere/Straße 1, ü.png",
        "x y": "s3://bucket/x%20y.jpg",
        "a": str(photos / "a.jpg"),
    }
    assert names("list.txt") == names("@list.txt") == names("@list") == expected


def test_a_glob_works_below_a_folder_whose_name_looks_like_one(photos):
    (photos / "tiles [1]" / "deep").mkdir(parents=True)
    (photos / "tiles [1]" / "deep" / "x.png").write_bytes(b"photo")
    assert list(names("photos/tiles [1]/*/*.png")) == ["deep/x"]
    assert list(names("photos/*/deep/*.png")) == ["tiles [1]/deep/x"]
    with pytest.raises(DataError, match=r"There is no photos/tiles \[1\]/nowhere: name photos"):
        find_photos(["photos/tiles [1]/nowhere"])


def test_lines_of_a_list_that_begin_with_a_hash_are_skipped(photos):
    Path("list.txt").write_text("# June\r\n  # July\r\nphotos/a.jpg\r\n\r\n./#1.jpg\r\nphotos/b.png #2\r\n")
    assert sorted(names("list.txt").values()) == [
        f"{photos.parent}/{name}" for name in ("#1.jpg", "photos/a.jpg", "photos/b.png #2")
    ]


def test_a_line_that_names_no_photo_is_a_photo_with_a_problem(photos):
    lines = [b"photos/a.jpg", b"ftp://host/b.jpg", b"/", b"caf\xe9.jpg", b"s3://bucket/\xe9.jpg", b"x" * 5000]
    Path("list.txt").write_bytes(b"\n".join(lines))
    problems = {str(photo.location): photo.problem for photo in find_photos(["list.txt"])}
    assert len(problems) == 6 and problems[str(photos / "a.jpg")] == problems[f"{photos.parent}/{'x' * 5000}"] == ""
    assert problems["/"] == "/ is a folder, not a regular file"
    assert "ftp:// can't be read" in problems["ftp:/host/b.jpg"]
    assert [problem.endswith("is not a name in UTF-8; rename it") for problem in problems.values()].count(True) == 2


def test_several_sources_are_merged_and_sorted(photos):
    found = find_photos(["photos/north/a.jpg", "photos/b.PNG", "photos"])
    assert [photo.name for photo in found] == ["a.jpg", "b", "a.jpg"]
    assert [photo.location.path.relative_to(photos).as_posix() for photo in found] == ["a.jpg", "b.PNG", "north/a.jpg"]
    assert [photo.problem for photo in found] == [
        "",
        "",
        f"{photos}/north/a.jpg and {photos}/a.jpg have the same name; draw them into different folders",
    ]


def test_photos_of_one_name_keep_their_suffix(photos):
    (photos / "a.webp").write_bytes(b"photo")
    assert list(names(photos)) == ["a.jpg", "a.webp", "b"]


def test_a_name_that_is_not_utf_8_is_reported_and_the_others_are_found(photos):
    try:
        Path(os.fsdecode(bytes(photos) + b"/\xff.png")).write_bytes(b"photo")
    except OSError:
        pytest.skip("this file system only has UTF-8 names")
    *good, bad = sorted(find_photos([str(photos)]), key=lambda photo: bool(photo.problem))
    assert [photo.name for photo in good] == ["a", "b"] and "\\xff.png" in str(bad.location)
    assert bad.problem.endswith("is not a name in UTF-8; rename it")
    str(bad.location).encode()


def test_circular_links_end(photos):
    (photos / "north" / "up").symlink_to(photos)
    assert list(names("photos/**/c.tif")) == ["north/far/c"]


def test_links_that_lead_nowhere_pipes_and_sockets_are_found_and_the_reading_names_them(photos):
    Path("photos/loop.jpg").symlink_to("loop.jpg")
    Path("photos/dangling.jpg").symlink_to("nowhere.jpg")
    os.mkfifo("photos/pipe.jpg")
    expected = ["a", "b", "dangling", "loop", "pipe"]
    assert list(names("photos")) == list(names("photos/*.[jP]*")) == expected
    assert list(names("photos/loop.jpg")) == ["loop"] and list(names("photos/dangling.jpg")) == ["dangling"]


def test_a_folder_that_a_glob_may_not_enter_is_a_photo_with_a_problem(photos, monkeypatch):
    scan = os.scandir

    def deny(path):
        if Path(path).name == "north":
            raise PermissionError(13, "Permission denied")
        return scan(path)

    # Root may enter any folder, so the refusal is simulated.
    monkeypatch.setattr(os, "scandir", deny)
    problems = {photo.name: photo.problem for photo in find_photos(["photos/**/*.jpg"])}
    assert problems == {
        "a": "",
        "south/a": "",
        "": f"{photos}/north can't be listed (Permission denied); make it readable.",
    }
    with pytest.raises(DataError, match=r"north can't be listed \(Permission denied\)"):
        find_photos(["photos/north/*.jpg"])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "A source of photos is an empty text"),
        ("nowhere", "There is no nowhere: name photos"),
        ("n" * 300, "There is no nnn"),
        ("photos/north/far/*.jpg", "No photos match"),
        ("photos/*/../a.jpg", "can't go back up"),
        ("photos/x**/*.jpg", "is not a glob"),
        ("@nowhere", "There is no list"),
        ("empty", "holds no photos; put images directly into it"),
        ("empty.txt", "is an empty list"),
        ("binary.txt", "is not a list of photos: write UTF-8 text"),
        ("ftp://host/photos", "ftp:// can't be read"),
        ("s3://key:secret@bucket/photos", "contains a user or a password"),
    ],
)
def test_unusable_sources_are_explained_in_one_sentence(photos, source, message):
    Path("empty").mkdir()
    Path("empty.txt").write_text("\n \n")
    Path("binary.txt").write_bytes(b"\xff\xfe\x00")
    assert message in refused(source)


def test_at_least_one_source_is_needed():
    assert refused() == "No photos were named: name photos, a folder of them, a glob or a list (@LIST)."


# At an address


def test_an_address_works_like_a_folder(store, photos):
    there = store.upload(photos, "my photos")
    first, second = (
        f"s3://{BUCKET}/my%20photos/{name}?endpoint_override={store.host}&scheme=http" for name in ("a.jpg", "b.PNG")
    )
    assert names(there) == {"a": first, "b": second}
    assert names(store.address("my photos/a.jpg")) == {"a": first}
    assert list(names(store.address("my photos/*.jpg"))) == ["a"]
    assert list(names(store.address("my photos/*/a.jpg"))) == ["north/a", "south/a"]
    assert list(names(store.address("my photos/**/*.[jt]*"))) == list(names("photos/**/*.[jt]*"))


def test_a_list_may_be_at_an_address(store):
    store.put("lists/one.txt", b"/x/a.jpg\n")
    assert names(store.address("lists/one.txt")) == {"a": "/x/a.jpg"}
    assert names("@" + store.address("lists/one.txt")) == {"a": "/x/a.jpg"}


def test_unusable_addresses_are_explained(store):
    store.put("no photos/notes.txt.gz", b"text")
    assert "There is no s3://" in refused(store.address("nowhere"))
    assert "holds no photos" in refused(store.address("no photos"))
    assert "No photos match s3://" in refused(store.address("no photos/*.jpg"))
    assert "There is no folder s3://" in refused(store.address("nowhere/*.jpg"))


def test_folders_in_googles_store_are_found():
    google = GoogleStore()
    try:
        google.put("photos/north/a.jpg", b"photo")
        assert list(names(google.address("photos/north"))) == ["a"]
        assert list(names(google.address("photos/**/*.jpg"))) == ["north/a"]
        assert "There is no gs://" in refused(google.address("nowhere"))
    finally:
        google.stop()
