"""Finding pairs by the names of folders and files, wherever the split stands, and telling what is no such folder."""

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from model.errors import DataError
from model.io.locations import Location
from pipelines.data.pairs import PairIndex, read
from tests.fixtures.pair_folders import SIDE, index, names, picture, reasons, refused, save, side_by_side, two_folders


def test_side_by_side_folders_give_named_hashed_pairs(tmp_path):
    found = index(side_by_side(tmp_path))
    assert names(found.train) == ["train/train0", "train/train1", "train/train2", "train/train3"]
    assert names(found.val) == ["val/val0", "val/val1"]
    assert found.rejected == () and found.source == str(tmp_path)
    first = found.train[0]
    assert first.files == (Location(tmp_path / "train" / "train0.png"),) and first.size == (SIDE, SIDE)
    assert first.sha256 == hashlib.sha256(first.files[0].read_bytes()).hexdigest()


@pytest.mark.parametrize("keys", [["a", "b", "c"], ["c", "a", "b"]])
def test_two_folders_are_joined_by_name_and_not_by_position(tmp_path, keys):
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
    assert refused(tmp_path, "val/b") == "its photo is missing in valA/"


def test_val_wins_over_test_and_test_alone_is_used(tmp_path):
    side_by_side(tmp_path, (("train", 4), ("val", 2), ("test", 3)))
    assert names(index(tmp_path).val) == ["val/val0", "val/val1"]
    shutil.rmtree(tmp_path / "val")
    assert names(index(tmp_path).val) == ["test/test0", "test/test1", "test/test2"]


@pytest.mark.parametrize("place", ["", "train"])
def test_without_a_held_out_folder_the_name_decides(tmp_path, place):
    side_by_side(tmp_path, ((place, 100),))
    found = index(tmp_path)
    assert 3 <= len(found.val) <= 20 and len(found.train) + len(found.val) == 100
    assert not set(names(found.val)) & set(names(found.train))
    assert all("/" not in name for name in names(found.val))


def test_two_folders_without_a_held_out_part_are_split_by_name_too(tmp_path):
    two_folders(tmp_path, [f"k{i}" for i in range(20)], splits=("train",))
    found = index(tmp_path, val_fraction=0.3)
    assert 1 <= len(found.val) <= 12 and len(found.train) + len(found.val) == 20


def test_more_files_move_nobody_between_the_splits(tmp_path):
    side_by_side(tmp_path, (("", 40),))
    before = index(tmp_path, val_fraction=0.25)
    for i in range(40):
        save(tmp_path / f"a-new{i}.png", picture((7, i)))
    after = index(tmp_path, val_fraction=0.25)
    assert set(names(before.val)) <= set(names(after.val))
    assert set(names(before.train)) <= set(names(after.train))


def test_other_files_and_hidden_files_and_folders_are_not_looked_at(tmp_path):
    side_by_side(tmp_path)
    for name in (".DS_Store", "notes.txt", "._train0.png", ".hidden.jpg", "Thumbs.db"):
        (tmp_path / "train" / name).write_bytes(b"not an image")
    (tmp_path / "train" / "folder.png").mkdir()
    assert index(tmp_path).rejected == ()


@pytest.mark.parametrize(("name", "options"), [("x.JPG", {}), ("x.jpeg", {}), ("x.PnG", {}), ("x.WebP", {})])
def test_suffixes_are_read_in_any_case(tmp_path, name, options):
    save(side_by_side(tmp_path) / "train" / name, picture(5), **options)
    assert "train/x" in names(index(tmp_path).train)


def test_the_same_key_twice_is_refused_whole(tmp_path):
    save(side_by_side(tmp_path) / "train" / "train0.jpg", picture(5))
    reason = refused(tmp_path, "train/train0")
    assert reason == "several files have this name: train/train0.jpg, train/train0.png"


def test_a_name_that_is_not_utf8_is_refused_in_readable_letters(tmp_path):
    shutil.copyfile(side_by_side(tmp_path) / "train" / "train0.png", os.fsencode(tmp_path / "train") + b"/caf\xe9.png")
    found = index(tmp_path, min_good=0)
    assert reasons(found) == {r"train/caf\xe9": "its file name is not UTF-8"}
    found.save(tmp_path / "pairs.json")
    assert PairIndex.load(tmp_path / "pairs.json") == found


# Folders that can't be used


def stops(folder, *words, **options):
    with pytest.raises(DataError) as stopped:
        index(folder, **options)
    for word in words:
        assert word in str(stopped.value)


def test_a_folder_must_be_there_and_be_a_folder(tmp_path):
    stops(tmp_path / "nowhere", "There is no folder", "nowhere")
    (tmp_path / "file").touch()
    stops(tmp_path / "file", "is a file, not a folder")


def test_an_empty_folder_and_one_without_pairs_tell_the_layouts(tmp_path):
    stops(tmp_path, "found: nothing", "trainA/", "train/ and val/")
    (tmp_path / "maps" / "train").mkdir(parents=True)
    (tmp_path / "readme.txt").touch()
    stops(tmp_path, "found: maps/, readme.txt")


def test_square_images_are_told_apart_from_pairs(tmp_path):
    for i in range(3):
        save(tmp_path / "train" / f"{i}.png", picture(i, (SIDE, SIDE)))
    stops(tmp_path, "None of the 3 pairs", "has 32x32 pixels", "twice as wide as high", "trainB/")


def test_held_out_pairs_without_training_pairs_stop(tmp_path):
    side_by_side(tmp_path, (("val", 2),))
    stops(tmp_path, "has val/ but no train/")
    (tmp_path / "train").mkdir()
    stops(tmp_path, "leaves no pair to train on: 2 held out")


def test_an_empty_held_out_folder_stops(tmp_path):
    side_by_side(tmp_path, (("train", 3),))
    (tmp_path / "val").mkdir()
    stops(tmp_path, "leaves no pair to evaluate on: 3 to train on", "val_fraction")


def test_two_layouts_at_once_stop(tmp_path):
    two_folders(side_by_side(tmp_path), "ab")
    stops(tmp_path, "both train/ and trainA/")


def test_photos_without_any_map_folder_stop(tmp_path):
    two_folders(tmp_path, "ab")
    shutil.rmtree(tmp_path / "trainB")
    stops(tmp_path, "train/a: its map is missing in trainB/")


def test_a_relative_folder_gives_absolute_files(tmp_path, monkeypatch):
    side_by_side(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    found = index(Path("data"))
    assert found.train[0].files[0].path.is_absolute() and read(found.train[0])
