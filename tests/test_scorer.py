"""A folder of photos becomes a folder of maps: what can't be used is told, and nothing of others is touched."""

import json

import numpy as np
import pytest
from PIL import Image

from model.bundle import Bundle
from model.errors import BundleError, DataError
from serving.scorer import MANIFEST, ScoreReport, score_folder

SIDE = 32


@pytest.fixture
def bundle(make_bundle):
    """Return a bundle whose maps are the negatives of the photos, 32x32 pixels."""
    return Bundle.open(make_bundle())


def noise(seed, size=(SIDE, SIDE)):
    width, height = size
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.fixture
def photos(tmp_path):
    """Return a folder of three photos."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed, name in enumerate(("a.png", "b.png", "c.png")):
        noise(seed).save(folder / name)
    return folder


def content(folder):
    """Return every file below a folder with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(bundle, photos, out):
    """Score what should be refused as a whole, see that `out` and its surroundings stay, and return the message."""
    before = content(out.parent), out.exists()
    with pytest.raises(DataError) as stopped:
        score_folder(bundle, photos, out)
    assert (content(out.parent), out.exists()) == before
    return str(stopped.value)


def problems(report):
    return {photo.photo: photo.problem for photo in report.refused}


def test_every_photo_gets_its_map(bundle, photos, tmp_path):
    report = score_folder(bundle, photos, tmp_path / "deep" / "maps")
    assert sorted(content(tmp_path / "deep")) == ["maps/a.png", "maps/b.png", "maps/c.png", f"maps/{MANIFEST}"]
    for name in ("a.png", "b.png", "c.png"):
        with Image.open(photos / name) as photo, Image.open(tmp_path / "deep" / "maps" / name) as drawn:
            assert (drawn.mode, drawn.format) == ("RGB", "PNG")
            assert np.array_equal(np.asarray(drawn), 255 - np.asarray(photo))
    assert (report.drawn, report.refused) == (3, ())


def test_the_manifest_says_what_was_made_by_which_model(bundle, photos, tmp_path):
    (photos / "broken.jpg").write_bytes(b"no photo")
    report = score_folder(bundle, photos, tmp_path / "maps")
    written = json.loads((tmp_path / "maps" / MANIFEST).read_text())
    assert ScoreReport.model_validate(written) == report
    assert written["model_sha256"] == bundle.manifest.sha256 and written["side"] == SIDE
    assert written["photos"] == [
        {"photo": "a.png", "map": "a.png", "problem": None},
        {"photo": "b.png", "map": "b.png", "problem": None},
        {
            "photo": "broken.jpg",
            "map": None,
            "problem": "photos/broken.jpg is of an unknown format; JPEG, PNG, WebP are allowed",
        },
        {"photo": "c.png", "map": "c.png", "problem": None},
    ]


@pytest.mark.parametrize(("mode", "size"), [("RGB", (64, 64)), ("L", (7, 7)), ("RGBA", (100, 100)), ("P", (32, 32))])
def test_photos_of_any_size_and_mode_become_maps_of_the_networks_size(bundle, photos, tmp_path, mode, size):
    noise(9, size).convert(mode).save(photos / "odd.png")
    assert score_folder(bundle, photos, tmp_path / "maps").drawn == 4
    with Image.open(tmp_path / "maps" / "odd.png") as drawn:
        assert (drawn.size, drawn.mode) == ((SIDE, SIDE), "RGB")


def test_a_large_photo_is_averaged_and_not_picked_from(bundle, photos, tmp_path):
    stripes = np.zeros((320, 320, 3), np.uint8)
    stripes[:, ::2] = 255
    Image.fromarray(stripes).save(photos / "stripes.png")
    score_folder(bundle, photos, tmp_path / "maps")
    with Image.open(tmp_path / "maps" / "stripes.png") as drawn:
        assert np.abs(np.asarray(drawn).astype(int) - 127).max() < 10


def test_a_photo_on_its_side_is_turned_upright(bundle, photos, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # Turn clockwise by a quarter to see it.
    noise(9).rotate(90).save(photos / "side.png", exif=exif)
    score_folder(bundle, photos, tmp_path / "maps")
    with Image.open(tmp_path / "maps" / "side.png") as drawn:
        assert np.array_equal(np.asarray(drawn), 255 - np.asarray(noise(9)))


def test_a_broken_photo_is_reported_and_the_rest_is_drawn(bundle, photos, tmp_path):
    whole = (photos / "b.png").read_bytes()
    (photos / "b.png").write_bytes(whole[: len(whole) // 2])
    (photos / "empty.jpg").touch()
    noise(5).save(photos / "d.gif")
    report = score_folder(bundle, photos, tmp_path / "maps")
    assert report.drawn == 2 and list(problems(report)) == ["b.png", "d.gif", "empty.jpg"]
    assert problems(report)["b.png"].startswith("photos/b.png is broken or truncated (")
    assert problems(report)["d.gif"] == "photos/d.gif is GIF; JPEG, PNG, WebP are allowed"
    assert problems(report)["empty.jpg"] == "photos/empty.jpg is an empty file; JPEG, PNG, WebP are allowed"
    assert sorted(content(tmp_path / "maps")) == ["a.png", "c.png", MANIFEST]


@pytest.mark.parametrize("size", [(64, 32), (32, 33)])
def test_a_photo_that_is_not_square_is_reported_with_its_size(bundle, photos, tmp_path, size):
    noise(5, size).save(photos / "wide.png")
    report = score_folder(bundle, photos, tmp_path / "maps")
    width, height = size
    assert problems(report) == {
        "wide.png": f"wide.png has {width}x{height} pixels; a photo must be square: cut it first"
    }


def test_of_two_photos_of_one_name_the_first_is_drawn_and_the_second_reported(bundle, photos, tmp_path):
    noise(5).save(photos / "a.webp", lossless=True)
    report = score_folder(bundle, photos, tmp_path / "maps")
    assert problems(report) == {"a.webp": "another photo is called a too"} and report.drawn == 3
    with Image.open(tmp_path / "maps" / "a.png") as drawn:
        assert np.array_equal(np.asarray(drawn), 255 - np.asarray(noise(0)))


def test_a_broken_photo_leaves_its_name_to_another(bundle, photos, tmp_path):
    (photos / "a.jpg").write_bytes(b"no photo")
    report = score_folder(bundle, photos, tmp_path / "maps")
    assert report.drawn == 3 and list(problems(report)) == ["a.jpg"]


def test_other_files_hidden_files_and_folders_are_not_looked_at(bundle, photos, tmp_path):
    (photos / "notes.txt").write_text("hello")
    (photos / ".hidden.png").write_bytes(b"no photo")
    (photos / "folder.png").mkdir()
    report = score_folder(bundle, photos, tmp_path / "maps")
    assert [photo.photo for photo in report.photos] == ["a.png", "b.png", "c.png"]


# The folder to make


def test_an_earlier_result_is_replaced_whole(bundle, photos, tmp_path):
    score_folder(bundle, photos, tmp_path / "maps")
    (photos / "a.png").unlink()
    noise(7).save(photos / "b.png")
    score_folder(bundle, photos, tmp_path / "maps")
    assert sorted(content(tmp_path / "maps")) == ["b.png", "c.png", MANIFEST]
    with Image.open(tmp_path / "maps" / "b.png") as drawn:
        assert np.array_equal(np.asarray(drawn), 255 - np.asarray(noise(7)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "maps", "photos"]


def test_an_empty_folder_is_filled(bundle, photos, tmp_path):
    (tmp_path / "maps").mkdir()
    assert score_folder(bundle, photos, tmp_path / "maps").drawn == 3


def test_the_maps_can_be_read_by_others(bundle, photos, tmp_path):
    score_folder(bundle, photos, tmp_path / "maps")
    assert (tmp_path / "maps").stat().st_mode & 0o777 == 0o755


def test_a_folder_of_foreign_files_is_refused_and_untouched(bundle, photos, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("dear diary")
    message = refused(bundle, photos, tmp_path / "mine")
    assert message == f"{tmp_path / 'mine'} holds files that no earlier scoring made; name a new or an empty folder."


@pytest.mark.parametrize("manifest", ["{}", '{"name": "My web app", "icons": []}', "no JSON", "\xff"])
def test_a_manifest_of_something_else_does_not_give_a_folder_away(bundle, photos, tmp_path, manifest):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / MANIFEST).write_bytes(manifest.encode("latin-1"))
    (tmp_path / "site" / "index.html").write_text("<html>")
    assert "no earlier scoring made" in refused(bundle, photos, tmp_path / "site")


def test_an_earlier_result_with_a_foreign_file_in_it_is_refused(bundle, photos, tmp_path):
    score_folder(bundle, photos, tmp_path / "maps")
    (tmp_path / "maps" / "diary.txt").write_text("dear diary")
    assert "no earlier scoring made" in refused(bundle, photos, tmp_path / "maps")


def test_photos_are_not_drawn_over(bundle, photos):
    assert "no earlier scoring made" in refused(bundle, photos, photos)


def test_a_file_is_no_folder_for_maps(bundle, photos, tmp_path):
    (tmp_path / "maps").write_text("a file")
    assert refused(bundle, photos, tmp_path / "maps") == f"{tmp_path / 'maps'} is a file; name a folder for the maps."


# Nothing to draw


def test_nothing_is_left_when_no_photo_can_be_used(bundle, photos, tmp_path):
    for path in photos.iterdir():
        path.write_bytes(b"no photo")
    message = refused(bundle, photos, tmp_path / "maps")
    assert message.startswith(f"None of the 3 photos in {photos} can be used:\n  a.png: photos/a.png is of an unknown")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "photos"]


def test_an_earlier_result_stays_when_no_photo_can_be_used(bundle, photos, tmp_path):
    score_folder(bundle, photos, tmp_path / "maps")
    for path in photos.iterdir():
        path.write_bytes(b"no photo")
    assert "None of the 3" in refused(bundle, photos, tmp_path / "maps")


def test_a_long_list_is_cut_at_twenty(bundle, photos, tmp_path):
    for path in photos.iterdir():
        path.unlink()
    for number in range(25):
        (photos / f"{number:02}.png").write_bytes(b"no photo")
    assert refused(bundle, photos, tmp_path / "maps").count("unknown format") == 20


def test_a_folder_that_is_not_there_or_holds_no_photos_is_refused(bundle, photos, tmp_path):
    nowhere, empty = tmp_path / "nowhere", tmp_path / "empty"
    assert refused(bundle, nowhere, tmp_path / "maps") == (
        f"There is no folder {nowhere}; name one that holds photos (JPEG, PNG or WebP)."
    )
    empty.mkdir()
    assert "holds no photos" in refused(bundle, empty, tmp_path / "maps")
    assert "There is no folder" in refused(bundle, photos / "a.png", tmp_path / "maps")


def test_a_model_that_can_not_be_loaded_stops_before_anything_is_made(make_bundle, photos, tmp_path):
    bundle = Bundle.open(make_bundle(model=b"no model"))
    with pytest.raises(BundleError, match="onnxruntime can't load"):
        score_folder(bundle, photos, tmp_path / "maps")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "photos"]
