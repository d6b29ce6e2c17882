"""Pairs found by the names of folders and files, and folders without a known layout."""

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from model.errors import DataError
from model.io.locations import Location
from pipelines.data.pairs import PairIndex, read
from tests.fixtures.pair_folders import SIDE, index, names, picture, reasons, rejection, save, side_by_side, two_folders


def test_side_by_side_folders_give_named_hashed_pairs(tmp_path):
    found = index(side_by_side(tmp_path))
    assert names(found.train) == ["train/train0", "train/train1", "train/train2", "train/train3"]
    assert names(found.val) == ["val/val0", "val/val1"]
    assert found.rejected == () and found.source == str(tmp_path)
    first = found.train[0]
    assert first.files == (Location(tmp_path / "train" / "train0.png"),) and first.size == (SIDE, SIDE)
    assert first.sha256 == hashlib.sha256(first.files[0].read_bytes()).hexdigest()


@pytest.mark.parametrize("keys", [["a", "b", "c"], ["c", "a", "b"]])
def test_two_folders_are_joined_by_name_not_by_position(tmp_path, keys):
    two_folders(tmp_path, keys)
    save(tmp_path / "trainA" / "0-first.png", picture(9, (SIDE, SIDE)))
    found = index(tmp_path, min_good=0)
    assert names(found.train) == ["train/a", "train/b", "train/c"] and len(found.val) == 3
    assert reasons(found) == {"train/0-first": "its map is missing in trainB/"}
    for pair in found.train:
        photo, street_map = read(pair)
        seed = keys.index(pair.name.removeprefix("train/"))
        assert np.array_equal(photo, np.array(picture((seed, 5, 0), (SIDE, SIDE))))
        assert np.array_equal(street_map, np.array(picture((seed, 5, 1), (SIDE, SIDE))))
        assert pair.sha256 == hashlib.sha256(b"".join(file.read_bytes() for file in pair.files)).hexdigest()


def test_a_missing_photo_is_named(tmp_path):
    two_folders(tmp_path, "abc", splits=("train", "val"))
    (tmp_path / "valA" / "b.png").unlink()
    assert rejection(tmp_path, "val/b") == "its photo is missing in valA/"


def test_test_is_used_only_without_val(tmp_path):
    side_by_side(tmp_path, (("train", 4), ("val", 2), ("test", 3)))
    assert names(index(tmp_path).val) == ["val/val0", "val/val1"]
    shutil.rmtree(tmp_path / "val")
    assert names(index(tmp_path).val) == ["test/test0", "test/test1", "test/test2"]


@pytest.mark.parametrize("folder", ["", "train"])
def test_without_a_held_out_folder_pairs_are_split_by_name(tmp_path, folder):
    side_by_side(tmp_path, ((folder, 100),))
    found = index(tmp_path)
    assert 3 <= len(found.val) <= 20 and len(found.train) + len(found.val) == 100
    assert not set(names(found.val)) & set(names(found.train))
    assert all("/" not in name for name in names(found.val))


def test_two_folders_without_a_held_out_set_are_split_by_name(tmp_path):
    two_folders(tmp_path, [f"k{i}" for i in range(20)], splits=("train",))
    found = index(tmp_path, val_fraction=0.3)
    assert 1 <= len(found.val) <= 12 and len(found.train) + len(found.val) == 20


def test_new_files_move_no_pair_to_the_other_split(tmp_path):
    side_by_side(tmp_path, (("", 40),))
    before = index(tmp_path, val_fraction=0.25)
    for i in range(40):
        save(tmp_path / f"a-new{i}.png", picture((7, i)))
    after = index(tmp_path, val_fraction=0.25)
    assert set(names(before.val)) <= set(names(after.val))
    assert set(names(before.train)) <= set(names(after.train))


def test_other_files_hidden_files_and_folders_are_ignored(tmp_path):
    side_by_side(tmp_path)
    for name in (".DS_Store", "notes.txt", "._train0.png", ".hidden.jpg", "Thumbs.db"):
        (tmp_path / "train" / name).write_bytes(b"not an image")
    (tmp_path / "train" / "folder.png").mkdir()
    assert index(tmp_path).rejected == ()


@pytest.mark.parametrize(("name", "options"), [("x.JPG", {}), ("x.jpeg", {}), ("x.PnG", {}), ("x.WebP", {})])
def test_suffixes_may_have_any_case(tmp_path, name, options):
    save(side_by_side(tmp_path) / "train" / name, picture(5), **options)
    assert "train/x" in names(index(tmp_path).train)


def test_both_files_of_a_repeated_name_are_rejected(tmp_path):
    save(side_by_side(tmp_path) / "train" / "train0.jpg", picture(5))
    reason = rejection(tmp_path, "train/train0")
    assert reason == "several files have this name: train/train0.jpg, train/train0.png"


def test_a_name_that_is_not_utf8_is_rejected_and_escaped(tmp_path):
    shutil.copyfile(side_by_side(tmp_path) / "train" / "train0.png", os.fsencode(tmp_path / "train") + b"/caf\xe9.png")
    found = index(tmp_path, min_good=0)
    assert reasons(found) == {r"train/caf\xe9": "its file name is not UTF-8"}
    found.save(tmp_path / "pairs.json")
    assert PairIndex.load(tmp_path / "pairs.json") == found


# Folders that can't be used


def assert_error(folder, *words, **options):
    with pytest.raises(DataError) as error:
        index(folder, **options)
    for word in words:
        assert word in str(error.value)


def test_a_missing_folder_and_a_file_are_errors(tmp_path):
    assert_error(tmp_path / "nowhere", "There is no folder", "nowhere")
    (tmp_path / "file").touch()
    assert_error(tmp_path / "file", "is a file, not a folder, and no list of pairs (.csv, .tsv, .parquet).")


def test_a_folder_without_pairs_names_the_layouts(tmp_path):
    assert_error(tmp_path, "found: nothing", "trainA/", "train/ and val/")
    (tmp_path / "maps" / "train").mkdir(parents=True)
    (tmp_path / "readme.txt").touch()
    assert_error(tmp_path, "found: maps/, readme.txt")


def test_square_images_are_not_pairs(tmp_path):
    for i in range(3):
        save(tmp_path / "train" / f"{i}.png", picture(i, (SIDE, SIDE)))
    unrecognised = "no folders of photos and maps were recognised"
    assert_error(tmp_path, "None of the 3 images", unrecognised, "has 32x32 pixels", "twice as wide as high", "trainB/")


def test_held_out_pairs_without_training_pairs_are_an_error(tmp_path):
    side_by_side(tmp_path, (("val", 2),))
    assert_error(tmp_path, "has val/ but no train/")
    (tmp_path / "train").mkdir()
    assert_error(tmp_path, "has val/ but no train/ with images")
    for i in range(2):
        shutil.copyfile(tmp_path / "val" / f"val{i}.png", tmp_path / "train" / f"{i}.png")
    assert_error(tmp_path, "leaves no pair to train on: 2 are held out; put more in train/", min_good=0)


def test_an_empty_held_out_folder_is_as_none(tmp_path):
    side_by_side(tmp_path, (("train", 20),))
    (tmp_path / "val").mkdir()
    assert (len(index(tmp_path).train), len(index(tmp_path).val)) == (17, 3)


def test_held_out_pairs_that_cannot_be_used_are_an_error(tmp_path):
    side_by_side(tmp_path, (("train", 3), ("val", 1)))
    (tmp_path / "val" / "val0.png").write_bytes(b"broken")
    assert_error(tmp_path, "leaves no pair to evaluate on: none of those to hold out can be used", min_good=0)


def test_two_layouts_in_one_folder_are_an_error(tmp_path):
    two_folders(side_by_side(tmp_path), "ab")
    assert_error(tmp_path, "photos in trainA/, maps in trainB/, side-by-side images in train/; keep one layout")


def test_photos_without_a_folder_of_maps_are_an_error(tmp_path):
    two_folders(tmp_path, "ab")
    shutil.rmtree(tmp_path / "trainB")
    assert_error(tmp_path, "train/a: its map is missing in trainB/")


def test_a_relative_folder_gives_absolute_files(tmp_path, monkeypatch):
    side_by_side(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    found = index(Path("data"))
    assert found.train[0].files[0].path.is_absolute() and read(found.train[0])
