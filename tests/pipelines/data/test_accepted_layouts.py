"""Layouts that people have: each with twenty pairs that work as they are."""

import zlib

import numpy as np
import pytest

from model.errors import DataError
from pipelines.data.pairs import read
from tests.fixtures.pair_folders import SIDE, index, names, picture, reasons, save


def fill(folder, *forms, count=20, side=SIDE):
    """Write square images under each form of a name, `A/{}.png` for instance; return the folder."""
    for form in forms:
        for i in range(count):
            save(folder / form.format(i), picture(seed_of(form, i), (side, SIDE)))
    return folder


def seed_of(form, number):
    return zlib.crc32(form.encode()), number


def fill_halves(folder, *forms, count=20):
    """Write side-by-side pairs under each form of a name."""
    return fill(folder, *forms, count=count, side=2 * SIDE)


TWO_FOLDERS = [
    *(("A", "B"), ("a", "b"), ("sat", "map"), ("satellite", "maps"), ("Satellite", "Map"), ("images", "masks")),
    *(("images", "labels"), ("photo", "map"), ("photos", "maps"), ("aerial", "map"), ("input", "target")),
    *(("source", "target"), ("inputs", "outputs"), ("rgb", "gt"), ("satellite_images", "street_maps")),
    *(
        ("train_A", "train_B"),
        ("trainA", "trainB"),
        ("TrainA", "TrainB"),
        ("train-a", "train-b"),
        ("trainSat", "trainMap"),
    ),
    *(("train/A", "train/B"), ("A/train", "B/train"), ("train/images", "train/masks"), ("data/sat", "data/map")),
]


@pytest.mark.parametrize(("photos", "maps"), TWO_FOLDERS)
def test_photos_and_maps_in_two_folders(tmp_path, photos, maps):
    fill(tmp_path, f"{photos}/{{}}.png", f"{maps}/{{}}.png")
    found = index(tmp_path)
    assert (len(found.train), len(found.val), found.rejected, found.unused) == (17, 3, (), ())
    assert found.layout == f"photos in {photos}/, maps in {maps}/; held out by name"
    for pair in found.val:
        photo, street_map = pair.files
        assert photo.path == tmp_path / photos / f"{pair.name}.png"
        assert street_map.path == tmp_path / maps / f"{pair.name}.png"


@pytest.mark.parametrize("below", ["a", "b", "paris/a", "x/in", "paris/B"])
def test_short_names_below_photos_and_maps_are_names_of_their_own(tmp_path, below):
    fill(tmp_path, f"train/sat/{below}/{{}}.png", f"train/map/{below}/{{}}.png", count=17)
    fill(tmp_path, f"val/sat/{below}/{{}}.png", f"val/map/{below}/{{}}.png", count=3)
    found = index(tmp_path)
    assert (len(found.train), len(found.val), found.rejected, found.unused) == (17, 3, (), ())
    assert found.layout == "photos in train/sat/, maps in train/map/; held out: val/sat/, val/map/"
    assert found.train[0].files[0].path.parent == tmp_path / "train/sat" / below


HELD_OUT = ["val", "valid", "validation", "Validation", "test", "VAL"]


@pytest.mark.parametrize("name", HELD_OUT)
def test_the_held_out_part_has_many_names(tmp_path, name):
    fill_halves(fill_halves(tmp_path, "train/{}.png"), f"{name}/{{}}.png", count=4)
    found = index(tmp_path)
    split = "test" if name == "test" else "val"
    assert (len(found.train), names(found.val)) == (20, [f"{split}/{i}" for i in range(4)])
    assert found.layout == f"side-by-side images in train/; held out: {name}/"


@pytest.mark.parametrize(
    "form", ["{split}/{side}/{{}}.png", "{side}/{split}/{{}}.png", "{split}_{side}/{{}}.png", "{side}-{split}/{{}}.png"]
)
@pytest.mark.parametrize(("photos", "maps"), [("A", "B"), ("images", "masks")])
def test_splits_and_sides_are_nested_or_joined_in_any_order(tmp_path, form, photos, maps):
    for split, count in (("train", 5), ("valid", 3)):
        fill(tmp_path, *(form.format(split=split, side=side) for side in (photos, maps)), count=count)
    found = index(tmp_path)
    assert (len(found.train), names(found.val), found.rejected) == (5, ["val/0", "val/1", "val/2"], ())
    assert all(len(pair.files) == 2 for pair in (*found.train, *found.val))


TWO_NAMES = [
    *(("{}_A.png", "{}_B.png"), ("{}-a.png", "{}-b.png"), ("A_{}.png", "B_{}.png"), ("{}_sat.jpg", "{}_map.png")),
    *(("sat_{}.jpg", "map_{}.png"), ("{} Photo.png", "{} Map.png"), ("{}sat.png", "{}map.png")),
    *(
        ("train/{}_sat.jpg", "train/{}_mask.png"),
        ("image_{}.png", "image_{}_label.png"),
        ("sub/{}_A.png", "sub/{}_B.png"),
    ),
]


@pytest.mark.parametrize(("photo", "street_map"), TWO_NAMES)
def test_photos_and_maps_in_one_folder_are_told_apart_by_their_names(tmp_path, photo, street_map):
    found = index(fill(tmp_path, photo, street_map))
    assert len(found.train) + len(found.val) == 20 and len(found.val) >= 3 and found.rejected == ()
    for pair in (*found.train, *found.val):
        number = "".join(filter(str.isdigit, pair.name))
        assert [file.path for file in pair.files] == [tmp_path / form.format(number) for form in (photo, street_map)]
    photos, maps = (form.rpartition("/")[2].rpartition(".")[0].format("*") for form in (photo, street_map))
    assert f"photos {photos} in" in found.layout and f"maps {maps} in" in found.layout


@pytest.mark.parametrize(
    ("photo", "street_map"),
    [
        ("A/{}_A.png", "B/{}_B.png"),
        ("images/img_{}.png", "masks/mask_{}.png"),
        ("imgs/{}.jpg", "masks/{}_mask.png"),
        ("images/austin{}_rgbn.png", "labels/austin{}_classes.png"),
    ],
)
def test_names_in_two_folders_may_differ_by_what_they_have_in_common(tmp_path, photo, street_map):
    found = index(fill(tmp_path, photo, street_map))
    assert len(found.train) + len(found.val) == 20 and found.rejected == ()
    for pair in (*found.train, *found.val):
        number = "".join(filter(str.isdigit, pair.name))
        assert [file.path for file in pair.files] == [tmp_path / form.format(number) for form in (photo, street_map)]
    differing = [form.partition("/")[2].rpartition(".")[0].format("*") for form in (photo, street_map)]
    assert any(f"{name} in" in found.layout for name in differing)


def test_names_in_two_folders_may_differ_in_capitals(tmp_path):
    found = index(fill(tmp_path, "A/IMG_{}.JPG", "B/img_{}.png"))
    assert (len(found.train), len(found.val), found.rejected) == (17, 3, ())
    assert all(pair.files[1].name_path.stem == pair.name.lower() for pair in found.train)


def test_photos_are_read_as_photos(tmp_path):
    fill(tmp_path, "masks/{}.png", "images/{}.png", count=4)
    for pair in index(tmp_path).val:
        photo, street_map = read(pair)
        number = int(pair.name)
        assert np.array_equal(photo, np.array(picture(seed_of("images/{}.png", number), (SIDE, SIDE))))
        assert np.array_equal(street_map, np.array(picture(seed_of("masks/{}.png", number), (SIDE, SIDE))))


# Folders below


def test_folders_below_are_searched(tmp_path):
    fill_halves(tmp_path, "train/paris/{}.png", "train/rome/north/{}.png", count=3)
    fill_halves(tmp_path, "val/oslo/{}.png", count=3)
    found = index(tmp_path)
    assert names(found.val) == [f"val/oslo/{i}" for i in range(3)]
    assert names(found.train) == [f"train/{place}/{i}" for place in ("paris", "rome/north") for i in range(3)]


def test_folders_below_photos_and_maps_are_matched(tmp_path):
    fill(tmp_path, "A/paris/{}.png", "B/paris/{}.png", "A/rome/{}.png", "B/rome/{}.png", count=3)
    found = index(tmp_path)
    assert {*names(found.train), *names(found.val)} == {f"{place}/{i}" for place in ("paris", "rome") for i in range(3)}
    for pair in (*found.train, *found.val):
        assert len({file.path.relative_to(tmp_path).parts[1:] for file in pair.files}) == 1


def test_folders_of_side_by_side_images_may_have_any_names(tmp_path):
    fill_halves(tmp_path, "paris/{}.png", "images/{}.png", count=3)
    found = index(tmp_path)
    assert len(found.train) + len(found.val) == 6 and "images/2" in {*names(found.train), *names(found.val)}


def test_a_data_set_may_be_in_a_folder_of_its_own(tmp_path):
    fill_halves(tmp_path, "pix2pix/maps/train/{}.png", "pix2pix/maps/val/{}.png", count=3)
    found = index(tmp_path)
    assert (len(found.train), len(found.val)) == (3, 3)
    assert found.layout == "side-by-side images in pix2pix/maps/train/; held out: pix2pix/maps/val/"


def test_a_link_to_a_folder_above_is_searched_once(tmp_path):
    fill_halves(tmp_path, "train/{}.png", "val/{}.png", count=3)
    (tmp_path / "train" / "again").symlink_to(tmp_path)
    assert len(index(tmp_path).train) == 3


# What is not used is counted


def unused(folder, **options):
    return {item.name: item.reason for item in index(folder, **options).unused}


def test_images_outside_the_layout_are_counted(tmp_path):
    fill_halves(tmp_path, "train/{}.png", "val/{}.png", count=4)
    fill_halves(tmp_path, "test/{}.png", "previews/old/{}.png", "{}.png", count=2)
    fill_halves(tmp_path, "a/b/c/d/e/f/g/{}.png", count=1)
    assert unused(tmp_path) == {
        "./": "2 images: outside train/ and val/",
        "previews/old/": "2 images: outside train/ and val/",
        "test/": "2 images: val/ is held out",
        "a/b/c/d/e/f/g/": "not searched: deeper than 6 levels",
    }


@pytest.mark.parametrize(
    ("photos", "maps", "more"),
    [
        ("train_images/{}.png", "train_masks/{}.png", "test_images/{}.png"),
        ("train/{}_sat.png", "train/{}_mask.png", "valid/{}_sat.png"),
    ],
)
def test_a_held_out_part_without_maps_is_not_used(tmp_path, photos, maps, more):
    fill(fill(tmp_path, photos, maps), more, count=2)
    assert unused(tmp_path) == {more.partition("/")[0] + "/": "2 images: no pairs of a photo and a map"}
    assert len(index(tmp_path).val) >= 3


def test_images_whose_names_say_neither_photo_nor_map_are_counted(tmp_path):
    fill(fill(tmp_path, "{}_A.png", "{}_B.png"), "overview.png", count=1)
    assert unused(tmp_path) == {"./": "1 image: neither photos nor maps by their names"}


def test_many_files_of_another_kind_are_counted_and_a_few_are_not(tmp_path):
    fill_halves(tmp_path, "train/{}.png", "val/{}.png", count=4)
    for name in ("notes.txt", "train/Thumbs.db", "train/.hidden", *(f"train/{i}.jfif" for i in range(4))):
        (tmp_path / name).touch()
    assert unused(tmp_path) == {"train/": "4 files: no images (.jfif)"}


def test_a_folder_without_images_names_its_lists_and_its_other_files(tmp_path):
    (tmp_path / "train").mkdir()
    for i in range(3):
        (tmp_path / f"train/{i}.jfif").touch()
    with pytest.raises(DataError, match=r"\(found: train/\)\. train/: 3 files: no images \(\.jfif\)\. Put the pairs"):
        index(tmp_path)
    (tmp_path / "pairs.csv").touch()
    with pytest.raises(DataError, match=r"If pairs\.csv is a list of pairs, name it: data\.source=/.*/pairs\.csv\.$"):
        index(tmp_path)


# Several layouts


@pytest.mark.parametrize(
    ("forms", "found"),
    [
        (
            ("train/{}.png", "trainA/{}.png", "trainB/{}.png"),
            "photos in trainA/, maps in trainB/, side-by-side images in train/",
        ),
        (("A/{}.png", "B/{}.png", "photos/{}.png", "maps/{}.png"), "photos in A/ and photos/, maps in B/ and maps/"),
        (("images/{}.png", "masks/{}.png", "labels/{}.png"), "photos in images/, maps in labels/ and masks/"),
        (
            ("trainA/{}.png", "trainB/{}.png", "A/{}.png", "B/{}.png"),
            "photos in A/ and trainA/, maps in B/ and trainB/",
        ),
        (("train/{}.png", "val/{}.png", "validation/{}.png"), "side-by-side images in val/ and validation/"),
        (("train/{}.png", "training/{}.png"), "side-by-side images in train/ and training/"),
    ],
)
def test_two_layouts_are_refused_by_name(tmp_path, forms, found):
    with pytest.raises(DataError, match=f" has {found}; keep one layout and move the other images elsewhere"):
        index(fill(tmp_path, *forms, count=2))


@pytest.mark.parametrize("forms", [("{}/train/1.png", "{}/val/1.png"), ("{}/A/1.png", "{}/B/1.png")])
def test_several_data_sets_are_refused_by_name(tmp_path, forms):
    for place in ("paris", "rome"):
        fill_halves(tmp_path, *(form.format(place) for form in forms), count=1)
    with pytest.raises(DataError, match=r"2 folders of pairs in .*: paris/, rome/. Name one .*data.source=.*/paris\)"):
        index(tmp_path)


@pytest.mark.parametrize("forms", [("a_{}.png", "b_{}.png"), ("train/a/{}.png", "train/b/{}.png")])
def test_names_of_photos_and_maps_on_side_by_side_images_are_refused(tmp_path, forms):
    with pytest.raises(
        DataError, match=r"/?a\S*\.png and \S*b\S*\.png are a photo and its map.* twice as wide as high"
    ):
        index(fill_halves(tmp_path, *forms))


def test_a_few_such_names_among_side_by_side_images_mean_nothing(tmp_path):
    fill_halves(fill_halves(tmp_path, "{}.png"), "a_{}.png", "b_{}.png", count=1)
    found = index(tmp_path)
    assert len(found.train) + len(found.val) == 22 and reasons(found) == {}
