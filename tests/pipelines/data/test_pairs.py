"""The pairs of a folder: checked, fingerprinted, decoded, or rejected with a reason."""

import csv
import io
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from model.errors import DataError, MissingStepError
from model.io import images
from pipelines.data.pairs import PairIndex, fingerprint, read, rejected_report
from tests.fixtures.image_files import png_header
from tests.fixtures.pair_folders import SIDE, index, names, picture, reasons, rejection, save, side_by_side, two_folders


def test_the_photo_is_on_the_left_and_the_map_on_the_right(tmp_path):
    photo, street_map = read(index(side_by_side(tmp_path)).train[0])
    stored = np.array(picture((0, 0)))
    assert photo.dtype == np.uint8 and photo.shape == street_map.shape == (SIDE, SIDE, 3)
    assert np.array_equal(photo, stored[:, :SIDE]) and np.array_equal(street_map, stored[:, SIDE:])


# Fingerprint


def test_the_fingerprint_is_independent_of_location_and_order(tmp_path):
    here = index(side_by_side(tmp_path / "here"))
    there = tmp_path / "there"
    for path in sorted((tmp_path / "here").rglob("*.png"), reverse=True):
        (there / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, there / path.parent.name / path.name)
    assert index(there, source="elsewhere").fingerprint == here.fingerprint
    assert fingerprint(reversed(here.train), reversed(here.val)) == here.fingerprint


def test_the_fingerprint_depends_on_content_name_and_split(tmp_path):
    seen = {index(side_by_side(tmp_path)).fingerprint}
    (tmp_path / "train" / "train0.png").rename(tmp_path / "train" / "renamed.png")
    seen.add(index(tmp_path).fingerprint)
    save(tmp_path / "train" / "renamed.png", picture(99))
    seen.add(index(tmp_path).fingerprint)
    (tmp_path / "train" / "renamed.png").rename(tmp_path / "val" / "renamed.png")
    seen.add(index(tmp_path).fingerprint)
    assert len(seen) == 4


def test_the_same_folder_gives_the_same_index(tmp_path):
    side_by_side(tmp_path, (("train", 20), ("val", 5)))
    assert index(tmp_path) == index(tmp_path)


# The index file


def test_an_index_is_saved_and_loaded(tmp_path):
    found = index(side_by_side(tmp_path / "data"))
    found.save(tmp_path / "work" / "pairs.json")
    assert PairIndex.load(tmp_path / "work" / "pairs.json") == found
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["pairs.json"]


def test_a_missing_index_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(MissingStepError, match="prepare"):
        PairIndex.load(tmp_path / "pairs.json")


@pytest.mark.parametrize("text", ["", "{}", '{"source": 1}', "\xff"])
def test_a_broken_index_is_rejected(tmp_path, text):
    (tmp_path / "pairs.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=r"pairs\.json is not an index"):
        PairIndex.load(tmp_path / "pairs.json")


def test_an_altered_index_is_rejected(tmp_path):
    index(side_by_side(tmp_path)).save(tmp_path / "pairs.json")
    text = (tmp_path / "pairs.json").read_text()
    (tmp_path / "pairs.json").write_text(text.replace("train/train0", "train/trainX"))
    with pytest.raises(DataError, match="altered"):
        PairIndex.load(tmp_path / "pairs.json")


def test_a_missing_or_changed_file_is_named(tmp_path):
    gone, changed, *_ = index(side_by_side(tmp_path)).train
    gone.files[0].path.unlink()
    with pytest.raises(DataError, match=r"train0\.png.*missing"):
        read(gone)
    save(changed.files[0].path, picture(1234))
    with pytest.raises(DataError, match=r"train1\.png.*has changed since it was indexed"):
        read(changed)


# Rejections


def test_a_truncated_jpeg_is_listed_and_the_others_are_used(tmp_path):
    side_by_side(tmp_path, (("train", 18), ("val", 2)))
    content = save(tmp_path / "train" / "x.jpg", picture(5)).read_bytes()
    (tmp_path / "train" / "x.jpg").write_bytes(content[: len(content) // 2])
    found = index(tmp_path)
    assert len(found.train) == 18 and len(found.val) == 2
    assert list(reasons(found)) == ["train/x"]
    assert reasons(found)["train/x"].startswith("is broken or truncated (")


def test_ten_per_cent_of_bad_pairs_are_allowed_and_eleven_are_an_error(tmp_path):
    side_by_side(tmp_path, (("train", 87), ("val", 3)))
    for i in range(10):
        (tmp_path / "train" / f"bad{i:02}.png").write_bytes(b"broken")
    assert len(index(tmp_path).rejected) == 10
    (tmp_path / "train" / "bad10.png").write_bytes(b"")
    with pytest.raises(DataError, match="Only 90 of the 101 pairs") as error:
        index(tmp_path)
    assert "at least 90 % must be good" in str(error.value)
    assert "  train/bad00: is of an unknown format" in str(error.value)
    assert "  train/bad10: is an empty file" in str(error.value)
    assert len(index(tmp_path, min_good=0.5).rejected) == 11


def test_a_long_list_is_cut_after_twenty(tmp_path):
    side_by_side(tmp_path)
    for i in range(50):
        (tmp_path / "train" / f"bad{i:02}.png").write_bytes(b"broken")
    with pytest.raises(DataError) as error:
        index(tmp_path)
    assert str(error.value).count("unknown format") == 20 and str(error.value).endswith("and 30 more")


@pytest.mark.parametrize(
    ("size", "reason"),
    [
        ((96, SIDE), "has 96x32 pixels; photo and map side by side are twice as wide as high"),
        ((SIDE, 2 * SIDE), "has 32x64 pixels; photo and map side by side are twice as wide as high"),
        ((SIDE, SIDE // 2), "each half has 16x16 pixels; network.image_size needs at least 32x32"),
    ],
)
def test_shape_and_size_are_checked(tmp_path, size, reason):
    save(side_by_side(tmp_path) / "train" / "x.png", picture(5, size))
    assert rejection(tmp_path, "train/x") == reason


def test_halves_of_different_size_are_rejected(tmp_path):
    two_folders(tmp_path, "abc")
    save(tmp_path / "trainB" / "b.webp", picture(5, (SIDE + 1, SIDE)))
    assert rejection(tmp_path, "train/b") == "its photo has 32x32 pixels and its map 33x32; they must be equal"


def test_another_format_is_rejected_whatever_the_suffix(tmp_path):
    save(side_by_side(tmp_path) / "train" / "x.jpg", picture(5), format="GIF")
    assert rejection(tmp_path, "train/x") == "is a GIF image; convert it to JPEG, PNG or WebP"


@pytest.mark.parametrize("bits", [8, 16])
def test_a_tiff_is_read(tmp_path, bits):
    image = picture(5) if bits == 8 else Image.fromarray(np.asarray(picture(5, mode="L"), np.uint16) << 8)
    save(side_by_side(tmp_path) / "train" / "x.tif", image)
    found = index(tmp_path)
    photo, _ = read(next(pair for pair in found.train if pair.name == "train/x"))
    expected = picture(5) if bits == 8 else picture(5, mode="L").convert("RGB")
    assert found.rejected == () and np.array_equal(photo, np.array(expected)[:, :SIDE])


def test_a_damaged_tiff_adds_no_lines_of_a_library_to_stderr(tmp_path, capfd):
    folder = side_by_side(tmp_path) / "train"
    noise = np.random.default_rng(0).random((300, 600)) > 0.5
    Image.fromarray(noise).save(folder / "x.tif", compression="group4")
    content = bytearray((folder / "x.tif").read_bytes())
    content[200:260] = bytes(60)
    (folder / "x.tif").write_bytes(content)
    index(tmp_path, min_good=0)
    assert capfd.readouterr().err == ""


def test_an_allowed_format_may_have_another_suffix(tmp_path):
    save(side_by_side(tmp_path) / "train" / "x.jpg", picture(5), format="PNG")
    assert "train/x" in names(index(tmp_path).train)


def test_an_animation_is_rejected(tmp_path):
    save(side_by_side(tmp_path) / "train" / "x.webp", picture(5), save_all=True, append_images=[picture(6)])
    assert rejection(tmp_path, "train/x") == "is an animation; a single image is needed"


@pytest.mark.parametrize(("width", "height"), [(12_000, 6_000), (16_000, 8_000), (60_000, 30_000)])
def test_a_decompression_bomb_is_rejected_by_its_header_without_a_warning(tmp_path, width, height):
    (side_by_side(tmp_path) / "train" / "x.png").write_bytes(png_header(width, height))
    assert rejection(tmp_path, "train/x") == f"has {width}x{height} pixels; at most 64000000 are allowed"


def test_a_huge_file_is_not_read(tmp_path):
    with (side_by_side(tmp_path) / "train" / "x.png").open("wb") as file:
        file.truncate(images.MAX_BYTES + 1)
    assert rejection(tmp_path, "train/x") == "has 268435457 bytes; at most 268435456 are allowed"


def test_dangling_links_and_pipes_are_rejected_and_good_links_are_followed(tmp_path):
    side_by_side(tmp_path / "data")
    save(tmp_path / "outside.png", picture(5))
    (tmp_path / "data" / "train" / "good.png").symlink_to(tmp_path / "outside.png")
    (tmp_path / "data" / "train" / "lost.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(tmp_path / "data" / "train" / "pipe.png")
    found = index(tmp_path / "data", min_good=0)
    assert "train/good" in names(found.train)
    assert reasons(found) == {
        "train/lost": f"is a link to {tmp_path}/nowhere.png, which is missing",
        "train/pipe": "is a pipe, socket or device, not a regular file",
    }


def test_duplicates_are_dropped_from_the_training_pairs_first(tmp_path):
    side_by_side(tmp_path)
    shutil.copyfile(tmp_path / "val" / "val1.png", tmp_path / "train" / "a.png")
    shutil.copyfile(tmp_path / "train" / "train0.png", tmp_path / "train" / "z.png")
    found = index(tmp_path, min_good=0)
    assert names(found.val) == ["val/val0", "val/val1"]
    assert reasons(found) == {
        "train/a": "has the same content as val/val1",
        "train/z": "has the same content as train/train0",
    }


def test_the_report_of_rejected_pairs_is_csv(tmp_path):
    save(side_by_side(tmp_path) / "train" / 'odd, "name".png', picture(5, (SIDE, SIDE)))
    found = index(tmp_path, min_good=0)
    rows = list(csv.reader(io.StringIO(rejected_report(found))))
    assert rows == [["name", "reason"], ['train/odd, "name"', found.rejected[0].reason]]


# Pixels


def photo_of(folder, image, name="x.png", **options):
    """Store `image` as a training pair, and return its photo as it is read."""
    save(side_by_side(folder) / "train" / name, image, **options)
    return read(next(pair for pair in index(folder).train if pair.name == "train/x"))[0]


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_grey_and_palette_become_rgb(tmp_path, mode):
    image = picture(5, mode=mode)
    assert np.array_equal(photo_of(tmp_path, image), np.array(image.convert("RGB"))[:, :SIDE])


def test_cmyk_jpeg_becomes_rgb(tmp_path):
    grey = Image.new("RGB", (2 * SIDE, SIDE), (90, 90, 90)).convert("CMYK")
    assert np.abs(photo_of(tmp_path, grey, "x.jpg").astype(int) - 90).max() <= 2


def test_transparent_pixels_are_white(tmp_path):
    clear = picture(5, mode="RGBA")
    clear.putalpha(0)
    assert (photo_of(tmp_path / "a", clear) == 255).all()
    opaque = picture(5, mode="RGBA")
    assert np.array_equal(photo_of(tmp_path / "b", opaque), np.array(picture(5))[:, :SIDE])


def test_sixteen_bits_are_reduced_to_the_upper_eight(tmp_path):
    deep = np.arange(SIDE * 2 * SIDE, dtype=np.uint16).reshape(SIDE, 2 * SIDE) * 31
    photo = photo_of(tmp_path, Image.fromarray(deep))
    assert np.array_equal(photo[..., 0], (deep >> 8)[:, :SIDE]) and np.array_equal(photo[..., 0], photo[..., 2])


def test_exif_orientation_is_applied_before_the_halves_are_cut(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # To be rotated clockwise by 90 degrees.
    stored = picture(5).rotate(90, expand=True)
    assert stored.size == (SIDE, 2 * SIDE)
    assert np.array_equal(photo_of(tmp_path, stored, exif=exif), np.array(picture(5))[:, :SIDE])
