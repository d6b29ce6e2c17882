"""Rows of a scoring: journalled, merged, and written as CSV and Parquet."""

import os
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from pyarrow import parquet

from model.errors import DataError, StorageError
from model.io.locations import Location
from serving.scoring.manifest import CSV_FILE, JOURNAL_FOLDER, PARQUET_FILE, Journal, Row, merge, read_rows, seal

GOOD = Row(
    source='/photos/Straße 1, "ü".jpg',
    output='Straße 1, "ü".png',
    source_sha256="ab" * 32,
    output_sha256="cd" * 32,
    width=300,
    height=200,
    model="models:/sat2map/3",
    model_sha256="ef" * 32,
    variant="int8",
    settings="png overlap=0.25",
    seams=1.0375,
    milliseconds=12.5,
)
BAD = Row(source="/photos/broken.jpg", error="photos/broken.jpg is broken,\nor truncated")


@pytest.fixture(params=["folder", "address"])
def out(request, tmp_path):
    """Return the location of a folder of maps that does not exist, on a disk and at an address."""
    if request.param == "folder":
        return Location(tmp_path / "maps")
    return Location.parse(request.getfixturevalue("store").address(f"{tmp_path.name}/maps"))


def named(number, **changes):
    return replace(GOOD, source=f"/photos/{number}.jpg", output=f"{number}.png", **changes)


def record(out, *rows):
    with Journal(out) as journal:
        for row in rows:
            journal.add(row)


def test_rows_are_read_from_the_journal(out):
    assert read_rows(out) == []
    record(out, GOOD, BAD)
    record(out, named(1))
    assert sorted(read_rows(out), key=lambda row: row.source) == [named(1), GOOD, BAD]


def test_rows_are_sealed_into_two_manifests_and_read_from_them(out):
    record(out, named(2), BAD)
    assert seal(out, [GOOD]) == [named(2), GOOD, BAD] == read_rows(out)
    listing = out.list()
    assert set(listing.files) == {CSV_FILE, PARQUET_FILE} and JOURNAL_FOLDER not in listing.folders


def test_csv_and_parquet_have_the_same_content(tmp_path):
    seal(Location(tmp_path), [BAD, GOOD])
    table = parquet.read_table(tmp_path / PARQUET_FILE)
    assert [Row(**row) for row in table.to_pylist()] == [GOOD, BAD]
    assert str(table.schema.field("width").type) == "int32" and str(table.schema.field("seams").type) == "double"
    head, *_ = (tmp_path / CSV_FILE).read_text(encoding="utf-8").splitlines()
    assert head.split(",") == list(asdict(GOOD)) == table.column_names


def test_a_later_row_of_a_photo_replaces_the_earlier(out):
    seal(out, [named(1), named(2)])
    again = named(1, output_sha256="00" * 32)
    record(out, again)
    assert seal(out, [named(3)]) == [again, named(2), named(3)]


def test_a_later_row_of_a_map_replaces_the_earlier():
    moved = replace(named(1), source="/elsewhere/1.jpg")
    assert merge([named(1), BAD, moved]) == [moved, BAD]
    assert merge([moved, BAD, named(1)]) == [named(1), BAD]


def test_rows_are_sorted_by_photo(out):
    record(out, named(3), named(1))
    record(out, named(2))
    assert seal(out, [named(0)]) == [named(number) for number in range(4)]


def test_a_row_that_was_cut_off_is_dropped(tmp_path):
    record(Location(tmp_path), named(1), named(2))
    (file,) = (tmp_path / JOURNAL_FOLDER).iterdir()
    file.write_bytes(file.read_bytes()[:-20])
    assert read_rows(Location(tmp_path)) == [named(1)]


def test_rows_are_sent_to_an_address_before_the_end(store, monkeypatch):
    out = Location.parse(store.address("slow/maps"))
    monkeypatch.setattr("serving.scoring.manifest.UPLOAD_SECONDS", 0)
    journal = Journal(out)
    for number in range(3):
        journal.add(named(number))
        assert read_rows(out) == [named(known) for known in range(number + 1)]


def test_a_foreign_folder_is_refused(out):
    out.join("diary.txt").write_bytes(b"dear diary")
    with pytest.raises(DataError, match="holds files that no earlier scoring made; name a new or an empty folder"):
        read_rows(out)


@pytest.mark.parametrize("text", ["name,size\nx,1\n", "source,width\n/x.jpg,wide\n", "\xff", 'source\n"/x'])
def test_a_foreign_manifest_is_refused(tmp_path, text):
    (tmp_path / CSV_FILE).write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=r"manifest\.csv is not a manifest of this version"):
        read_rows(Location(tmp_path))


def test_a_journal_that_outlives_its_manifests_adds_no_rows(tmp_path):
    record(Location(tmp_path), named(1))
    journal = [(file, file.read_bytes()) for file in (tmp_path / JOURNAL_FOLDER).iterdir()]
    sealed = seal(Location(tmp_path), [])
    for file, content in journal:
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content)
    assert seal(Location(tmp_path), []) == sealed == [named(1)]


def test_an_unwritable_folder_is_an_error(tmp_path):
    (tmp_path / "file").write_text("a file")
    with pytest.raises(StorageError, match=r"can't be written \(Not a directory\): a file is in the way"):
        Journal(Location(tmp_path / "file" / "maps"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_full_disk_is_an_error(tmp_path, monkeypatch):
    journal = Journal(Location(tmp_path))
    with open("/dev/full", "ab", buffering=0) as full:
        os.dup2(full.fileno(), journal._file.fileno())
    with pytest.raises(StorageError, match=r"can't be written \(No space left on device\): free some space"):
        journal.add(GOOD)
    journal.close()
