"""Photos become maps and a manifest; photos that can't be drawn are reported."""

import hashlib
import subprocess

import numpy as np
import pytest
from PIL import Image

from model.bundle import Bundle, RegisteredModel
from model.errors import DataError
from model.io.locations import Location
from model.spec import NetworkConfig, signature
from serving.encoding import encode
from serving.geo.photo import read_photo
from serving.scoring.manifest import CSV_FILE, JOURNAL_FOLDER
from serving.scoring.targets import file_format
from tests.fixtures.project import PROJECT
from tests.fixtures.scored_folders import (
    SIDE,
    draw,
    drawn_names,
    errors,
    negative,
    noise,
    pixels,
    refused,
    rows,
    scoring_program,
)
from tests.fixtures.surveys import truncate

# Maps


def test_every_photo_gets_its_map(bundle, photos, tmp_path):
    report = draw(bundle, photos, tmp_path / "deep" / "maps")
    assert drawn_names(tmp_path / "deep" / "maps") == {"a.png", "b.png", "c.png"}
    for seed, name in enumerate(("a.png", "b.png", "c.png")):
        with Image.open(tmp_path / "deep" / "maps" / name) as drawn:
            assert (drawn.mode, drawn.format) == ("RGB", "PNG")
            assert np.array_equal(np.asarray(drawn), negative(noise(seed)))
    assert (report.drawn, report.kept, report.failed) == (3, 0, ())
    assert report.provider == "CPUExecutionProvider" and report.images_per_second > 0


@pytest.mark.parametrize("size", [(1, 1), (SIDE, SIDE), (SIDE - 1, SIDE), (5, 90), (100, 41), (3 * SIDE, 3 * SIDE)])
def test_each_pixel_of_a_photo_is_a_pixel_of_its_map(bundle, photos, maps, size):
    noise(9, size).save(photos / "odd.png")
    draw(bundle, photos / "odd.png", maps)
    assert np.array_equal(pixels(maps / "odd.png"), negative(noise(9, size)))
    row = rows(maps)["odd.png"]
    assert (row["width"], row["height"]) == (str(size[0]), str(size[1]))
    assert bool(row["seams"]) == (max(size) > SIDE)


@pytest.mark.parametrize(("size", "expected"), [((64, 64), (32, 32)), ((7, 7), (32, 32)), ((64, 200), (32, 100))])
def test_photos_are_scaled_as_in_training_with_resize(bundle, photos, maps, size, expected):
    noise(9, size).save(photos / "odd.png")
    draw(bundle, photos / "odd.png", maps, resize=True)
    scaled = noise(9, size).resize(expected, Image.Resampling.BICUBIC)
    assert np.array_equal(pixels(maps / "odd.png"), negative(scaled))


@pytest.mark.parametrize(
    ("format", "suffix", "kind"), [("jpeg", "jpg", "JPEG"), ("webp", "webp", "WEBP"), ("tiff", "tif", "TIFF")]
)
def test_maps_are_written_in_four_formats(bundle, photos, maps, format, suffix, kind):
    assert draw(bundle, photos, maps, format=format).drawn == 3
    assert drawn_names(maps) == {f"{name}.{suffix}" for name in "abc"}
    with Image.open(maps / f"a.{suffix}") as drawn:
        assert drawn.format == kind and drawn.size == (SIDE, SIDE)


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        *[("PNG", "1"), ("PNG", "L"), ("PNG", "P"), ("PNG", "RGBA"), ("JPEG", "CMYK"), ("WEBP", "RGBA")],
        *[("TIFF", "1"), ("TIFF", "P"), ("TIFF", "RGBA"), ("TIFF", "CMYK")],
    ],
)
def test_photos_of_any_kind_of_pixel_are_drawn(bundle, tmp_path, maps, kind, mode):
    (tmp_path / "photos").mkdir()
    photo = noise(3).convert(mode)
    photo.save(tmp_path / "photos" / f"x.{kind.lower()}", kind)
    draw(bundle, tmp_path / "photos", maps)
    with Image.open(tmp_path / "photos" / f"x.{kind.lower()}") as stored:
        assert np.array_equal(pixels(maps / "x.png"), negative(stored))


def test_a_photo_on_its_side_is_turned_upright(bundle, photos, maps):
    exif = Image.Exif()
    exif[0x0112] = 6  # To be rotated clockwise by 90 degrees.
    noise(9, (40, 20)).rotate(90, expand=True).save(photos / "side.png", exif=exif)
    draw(bundle, photos / "side.png", maps)
    assert np.array_equal(pixels(maps / "side.png"), negative(noise(9, (40, 20))))


def test_names_with_spaces_and_other_letters_are_kept(bundle, tmp_path, maps):
    folder = tmp_path / "Süd Straße №1"
    folder.mkdir()
    noise(1).save(folder / "façade 東京 #1.png")
    assert draw(bundle, folder, maps).drawn == 1
    assert drawn_names(maps) == {"façade 東京 #1.png"} and list(rows(maps)) == ["façade 東京 #1.png"]


def test_the_maps_of_a_glob_keep_its_folders(bundle, photos, maps):
    (photos / "north").mkdir()
    noise(7).save(photos / "north" / "a.png")
    assert draw(bundle, f"{photos}/**/*.png", maps).drawn == 4
    assert drawn_names(maps) == {"a.png", "b.png", "c.png", "north/a.png"}
    assert np.array_equal(pixels(maps / "north" / "a.png"), negative(noise(7)))


def test_other_users_can_read_the_maps(bundle, photos, maps):
    draw(bundle, photos, maps)
    assert maps.stat().st_mode & 0o777 == 0o755 and (maps / "a.png").stat().st_mode & 0o777 == 0o644


# One map to a file


@pytest.mark.parametrize(("name", "kind"), [("map.png", "PNG"), ("map.JPG", "JPEG"), ("new/map.tiff", "TIFF")])
def test_one_photo_may_go_to_a_file(bundle, photos, tmp_path, name, kind):
    format = kind.lower()
    for _ in range(2):
        report = draw(bundle, photos / "a.png", tmp_path / name, format=format)
    with Image.open(tmp_path / name) as drawn:
        assert drawn.format == kind
    assert (report.drawn, report.manifest) == (1, None)
    assert not list(tmp_path.rglob(CSV_FILE)) and not list(tmp_path.rglob(JOURNAL_FOLDER))


def test_a_name_with_an_images_suffix_is_a_file_unless_it_is_a_folder(tmp_path):
    (tmp_path / "folder.png").mkdir()
    names = ("map.png", "map.TIF", ".png", "maps", "maps.v2", "maps.2026", "folder.png")
    expected = ["png", "tiff", "png", None, None, None, None]
    assert [file_format(Location(tmp_path / name)) for name in names] == expected


@pytest.mark.parametrize(
    "name", ["map.jp2", "map.GIF", "map.bmp", "map.avif", "map.heic", "map.svg", "map.vrt", "a.nc"]
)
def test_a_file_of_a_format_that_is_not_written_is_refused(bundle, photos, tmp_path, name):
    reason = refused(bundle, photos / "a.png", tmp_path / name)
    assert reason.startswith(
        f"{tmp_path / name} can't be written: maps are .png, .jpg, .jpeg, .webp, .tif, .tiff files."
    )
    (tmp_path / name).mkdir()
    assert draw(bundle, photos / "a.png", tmp_path / name).drawn == 1
    assert drawn_names(tmp_path / name) == {"a.png"}


def test_a_file_takes_one_photo_and_does_not_replace_it(bundle, photos, tmp_path):
    (tmp_path / "link.png").symlink_to(photos / "a.png")
    assert refused(bundle, photos, tmp_path / "map.png").startswith("3 photos can't go to the file ")
    for target in (photos / "a.png", tmp_path / "link.png"):
        assert refused(bundle, photos / "a.png", target) == (
            f"The map {photos / 'a.png'} would replace a photo; name another file."
        )
    (photos / "a.png").write_bytes(b"no photo")
    assert f"{photos}/a.png is of an unknown format" in refused(bundle, photos / "a.png", tmp_path / "map.png")


# The manifest


def test_the_manifest_names_photos_maps_and_model(bundle, photos, maps):
    (photos / "broken.jpg").write_bytes(b"no photo")
    report = draw(bundle, photos, maps, origin=RegisteredModel("sat2map", 7))
    found = rows(maps)
    assert list(found) == ["a.png", "b.png", "broken.jpg", "c.png"]
    row = found["a.png"]
    assert row["source"] == str(photos / "a.png") and row["output"] == "a.png"
    for folder, key in ((photos, "source_sha256"), (maps, "output_sha256")):
        assert row[key] == hashlib.sha256((folder / "a.png").read_bytes()).hexdigest()
    assert (row["width"], row["height"], row["variant"], row["error"]) == ("32", "32", "fp32", "")
    assert (row["model"], row["model_sha256"]) == ("models:/sat2map/7", bundle.manifest.sha256)
    assert float(row["milliseconds"]) > 0
    expected = "photos/broken.jpg is of an unknown format; JPEG, PNG, WebP, TIFF, JPEG 2000 are allowed"
    assert found["broken.jpg"]["error"] == errors(report)["broken.jpg"] == expected
    assert not any(found["broken.jpg"][key] for key in ("output", "output_sha256", "width", "milliseconds"))
    assert draw(bundle, photos, maps).model == "runs:/1f0c"


def test_photos_that_can_t_be_drawn_are_reported_and_the_others_are_drawn(bundle, photos, maps, capfd):
    truncate(photos / "b.png")
    (photos / "empty.jpg").touch()
    noise(5).save(photos / "d.gif")
    noise(5).save(photos / "pages.webp", save_all=True, append_images=[noise(6)])
    outcomes = []
    report = draw(bundle, photos, maps, on_outcome=outcomes.append)
    assert report.drawn == 2 and list(errors(report)) == ["b.png", "d.gif", "empty.jpg", "pages.webp"]
    assert errors(report)["b.png"].startswith("photos/b.png is broken or truncated (")
    assert errors(report)["d.gif"] == "photos/d.gif is a GIF image; convert it to JPEG, PNG or WebP"
    assert errors(report)["pages.webp"] == "photos/pages.webp is an animation; a single image is needed"
    assert drawn_names(maps) == {"a.png", "c.png"}
    assert [outcome.row.source for outcome in outcomes if outcome.row.error] == [
        str(photos / name) for name in errors(report)
    ]
    assert capfd.readouterr() == ("", "")


def test_if_nothing_can_be_drawn_it_is_an_error_and_the_manifest_has_the_reasons(bundle, photos, maps):
    for path in photos.iterdir():
        path.write_bytes(b"no photo")
    with pytest.raises(DataError, match=r"^None of the photos can be drawn \(3\):\n  /.*/photos/a\.png is of"):
        draw(bundle, photos, maps)
    assert drawn_names(maps) == set() and all(row["error"] for row in rows(maps).values())


# Memory


def test_photos_too_large_to_wait_are_drawn_one_at_a_time(bundle, photos, maps, monkeypatch):
    events = []

    def traced(function, name):
        def call(*arguments, **options):
            result = function(*arguments, **options)
            events.append(name)
            return result

        return call

    monkeypatch.setattr("serving.scoring.scorer.WAITING_PIXELS", 4 * SIDE * SIDE - 1)
    monkeypatch.setattr("serving.scoring.image_scorer.read_photo", traced(read_photo, "read"))
    monkeypatch.setattr("serving.scoring.image_scorer.encode", traced(encode, "written"))
    assert draw(bundle, photos, maps).drawn == 3
    assert events == ["read", "written"] * 3
    assert np.array_equal(pixels(maps / "c.png"), negative(noise(2)))


def test_large_files_are_read_one_at_a_time(bundle, photos, maps, monkeypatch):
    monkeypatch.setattr("serving.scoring.scorer.WAITING_PIXELS", 4 * 200)
    assert (photos / "a.png").stat().st_size > 3 * 200
    assert draw(bundle, photos, maps).drawn == 3


def test_memory_does_not_grow_with_the_number_of_photos(make_bundle, scaling_model, tmp_path):
    network = NetworkConfig(image_size=256, width=2, depth=3)
    model = scaling_model(-1.0, network)
    bundle = Bundle.open(make_bundle(model=model, network=network, signature=signature(network)))
    peaks = []
    for count in (50, 500):
        folder = tmp_path / f"photos{count}"
        folder.mkdir()
        for number in range(count):
            noise(number, (8, 8)).resize((256, 256)).save(folder / f"{number}.jpg")
        words = scoring_program(bundle, folder, tmp_path / f"maps{count}")
        words[2] += "\nimport resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        done = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout.splitlines()[-1]) / 1024)
    # 450 more photos, decoded and drawn, would take 170 MB.
    assert peaks[1] < peaks[0] + 20
