"""Lists of pairs: CSV, TSV and Parquet files, with and without a header."""

import pyarrow as pa
import pytest
from pyarrow import parquet

from model.errors import DataError
from model.io.locations import Location
from tests.fixtures.pair_folders import SIDE, index, names, picture, reasons, save

COUNT = 6


@pytest.fixture
def folder(tmp_path):
    """Return a folder with photos and maps in folders that no layout knows, with names that differ."""
    for i in range(COUNT):
        save(tmp_path / "taken" / f"p{i}.png", picture((0, i), (SIDE, SIDE)))
        save(tmp_path / "drawn" / "deep" / f"m{i}.tif", picture((1, i), (SIDE, SIDE)))
    return tmp_path


def write(folder, rows, name="pairs.csv", *, encoding="utf-8"):
    (folder / name).write_bytes("\n".join(rows).encode(encoding))
    return folder / name


ROWS = [f"taken/p{i}.png,drawn/deep/m{i}.tif" for i in range(COUNT)]
SWAPPED = [f"drawn/deep/m{i}.tif,{i},taken/p{i}.png" for i in range(COUNT)]


def check(found, folder):
    """Check that all pairs of `folder` were found, at least three of them held out."""
    assert len(found.train) + len(found.val) == COUNT and len(found.val) >= 3 and found.rejected == ()
    for pair in (*found.train, *found.val):
        number = pair.name.removeprefix("taken/p")
        assert pair.files == (
            Location(folder / "taken" / f"p{number}.png"),
            Location(folder / "drawn/deep" / f"m{number}.tif"),
        )


@pytest.mark.parametrize(
    "rows",
    [
        ["photo,map", *ROWS],
        ["Photo, MAP", *(row.replace(",", ", ") for row in ROWS)],
        ["first,second", *ROWS],
        ROWS,
        [*ROWS, "", " , "],
        ["photo,map", *(row.replace("/", "\\") for row in ROWS)],
        ["map,number,photo", *SWAPPED],
        ["mask_path,image_id,sat_image_path", *SWAPPED],
        [row.replace(",", ";") for row in ("photo,map", *ROWS)],
        [row.replace(",", "\t") for row in ("photo,map", *ROWS)],
        ['"photo","map"', *(f'"./{row}"'.replace(",", '","') for row in ROWS)],
    ],
)
def test_columns_are_found_by_name_or_in_order(folder, rows):
    check(index(write(folder, rows)), folder)


def test_a_list_of_another_encoding_line_ends_and_suffix(folder):
    path = write(folder, [f"{row}\r" for row in ("photo,map", *ROWS)], "PAIRS.CSV", encoding="utf-8-sig")
    check(index(path), folder)
    check(index(write(folder, [row.replace(",", "\t") for row in ROWS], "pairs.tsv")), folder)


def test_absolute_paths_and_paths_above_the_list(folder):
    (folder / "lists").mkdir()
    rows = [f"../taken/p{i}.png,{folder}/drawn/deep/m{i}.tif" for i in range(COUNT)]
    found = index(write(folder / "lists", rows))
    assert {*names(found.train), *names(found.val)} == {f"taken/p{i}" for i in range(COUNT)}
    assert all(file.path.is_file() for pair in found.train for file in pair.files)


def test_a_tilde_is_the_home_folder(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    (folder / "lists").mkdir()
    found = index(write(folder / "lists", [f"~/taken/p{i}.png,~/drawn/deep/m{i}.tif" for i in range(COUNT)]))
    assert found.train[0].files[0].path.parent == folder / "taken"


def test_parquet(folder):
    columns = {
        "map": [f"drawn/deep/m{i}.tif" for i in range(COUNT)],
        "photo": [f"taken/p{i}.png" for i in range(COUNT)],
    }
    parquet.write_table(pa.table(columns), folder / "pairs.parquet")
    check(index(folder / "pairs.parquet"), folder)
    parquet.write_table(pa.table(columns | {"photo": ["taken/p0.png", *[None] * 5]}), folder / "pairs.parquet")
    with pytest.raises(DataError, match="Only 1 of the 6 pairs"):
        index(folder / "pairs.parquet")


def test_splits_are_taken_from_their_column(folder):
    splits = ["train", "Training", "valid", "VAL", "validation", "test"]
    path = write(folder, ["photo,map,Split", *(f"{row},{split}" for row, split in zip(ROWS, splits, strict=True))])
    found = index(path)
    assert names(found.train) == ["train/taken/p0", "train/taken/p1"]
    assert names(found.val) == ["val/taken/p2", "val/taken/p3", "val/taken/p4"]
    assert [(item.name, item.reason) for item in found.unused] == [("split test", "1 row: val is held out")]
    assert found.layout == f"photos and maps listed in {folder.name}/pairs.csv"


def test_one_column_lists_side_by_side_images(tmp_path):
    for i in range(5):
        save(tmp_path / f"{i}.png", picture(i))
    found = index(write(tmp_path, ["image", *(f"{i}.png" for i in range(5))]))
    assert (len(found.train), len(found.val)) == (2, 3)


def test_a_list_is_read_at_an_address(folder, store):
    write(folder, ["photo,map", *ROWS])
    address = store.upload(folder, "listed")
    found = index(address.replace("listed", "listed/pairs.csv"))
    assert found.fingerprint == index(folder / "pairs.csv").fingerprint
    assert all(file.is_remote for file in found.train[0].files)


# Rows and lists that can't be used


def test_bad_rows_are_rejected_with_their_number(folder):
    rows = [
        "photo,map",
        *ROWS,
        "taken/p0.png,drawn/deep/m1.tif",
        ",drawn/deep/m2.tif",
        "taken/gone.png,drawn/deep/m3.tif",
    ]
    assert reasons(index(write(folder, rows), min_good=0)) == {
        "drawn/deep/m2": "its photo is missing in row 9",
        "taken/gone": "its photo is missing",
        "taken/p0": "several rows have this photo, for instance row 8",
    }


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "lists no pairs; write a photo and its map in each row"),
        (["photo,map"], "lists no pairs"),
        (["a,b", "1,2"], r"has no column with names of images \(found: a, b\); name two photo and map"),
        (["photo,map,split", f"{ROWS[0]},mine"], "has the split 'mine' in row 2; use one of: train, training, val"),
        (["photo,map,split", f"{ROWS[0]},val"], "has pairs with the split val, but none with the split train"),
    ],
)
def test_a_list_without_pairs_is_refused(folder, rows, words):
    with pytest.raises(DataError, match=words):
        index(write(folder, rows))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pairs.parquet", r"can't be read as a list of pairs \("),
        ("pairs.csv", r"is not in UTF-8 \(byte 0\); save it as CSV in UTF-8"),
    ],
)
def test_a_broken_list_is_refused(folder, name, message):
    (folder / name).write_bytes(b"\xff\xfe\x00photo")
    with pytest.raises(DataError, match=rf"{name} {message}"):
        index(folder / name)


def test_a_list_without_a_usable_row_is_not_called_a_folder(folder):
    with pytest.raises(DataError, match=r"No pair in .*pairs\.csv can be used\. Rejected \(1\):\n"):
        index(write(folder, ["photo,map", "nowhere.png,nothing.png"]))


def test_a_missing_list_is_named(folder):
    with pytest.raises(DataError, match=r"pairs\.csv is missing"):
        index(folder / "pairs.csv")
