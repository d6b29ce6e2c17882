"""Folders with scenes among the photos: each becomes a map of its place, and what goes wrong is told of it alone."""

import csv
import io
import json
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rio_cogeo.cogeo import cog_validate

from model.bundle import OpenedModel
from model.errors import ConfigError
from model.io.locations import Location
from serving.geo.geotiff import gdal
from serving.inference.scene import SceneReading
from serving.scoring.image_scorer import ScoreSettings
from serving.scoring.scorer import NothingDrawn, score
from tests.fixtures.project import PROJECT

ENVIRONMENT = os.environ | {"PYTHONPATH": str(PROJECT), "COLUMNS": "100"}


def noise(count, height, width, kind=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(1, np.iinfo(kind).max, (count, height, width)).astype(kind)


def write(path, bands, **profile):
    """Write bands (n, h, w) as a GeoTIFF of 2 m a pixel, near Berlin unless told otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = bands.shape
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(2, 0, 400_000, 0, -2, 5_800_000)}
    profile = place | {"photometric": "RGB"} | profile
    shape = {"height": height, "width": width, "count": count, "dtype": bands.dtype}
    with gdal(), rasterio.open(path, "w", driver="GTiff", **shape, **profile) as file:
        file.write(bands)
    return path


def read(path):
    with gdal(), rasterio.open(path) as file:
        return file.read()


def command(*words):
    return [sys.executable, "-m", "pipelines", "score", *map(str, words)]


@pytest.fixture
def sat2map(tmp_path):
    """Return a function that runs the command line in a folder of its own."""

    def call(*words):
        return subprocess.run(
            command(*words), cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=120
        )

    return call


@pytest.fixture
def survey(tmp_path):
    """Return a folder of two scenes of different zones and a photo."""
    folder = tmp_path / "survey"
    write(folder / "east.tif", noise(3, 70, 90))
    write(folder / "west.tif", noise(3, 50, 60, seed=1), crs="EPSG:32632")
    Image.fromarray(np.moveaxis(noise(3, 40, 50, seed=2), 0, -1)).save(folder / "photo.png")
    return folder


def draw(bundle, sources, out, *, format="tiff", resize=False, on_outcome=None, **reading):
    settings = ScoreSettings(format=format, resize=resize, scene=SceneReading(**reading))
    model = OpenedModel(bundle, bundle.read_origin())
    return score(model, [str(sources)], Location.parse(out), settings=settings, on_outcome=on_outcome)


def rows(out):
    """Return the manifest's rows by the names of their photos."""
    text = (out / "manifest.csv").read_text(encoding="utf-8")
    return {Path(row["source"]).name: row for row in csv.DictReader(io.StringIO(text))}


def without_times(out):
    return {name: row | {"milliseconds": None} for name, row in rows(out).items()}


def stamp(path):
    return path.stat().st_mtime_ns, path.stat().st_ino


# Maps


def test_scenes_of_a_folder_become_maps_of_their_places_and_photos_become_maps(sat2map, survey, make_bundle, maps):
    bands = noise(4, 60, 80, np.uint16)
    bands[:, :10] = 0
    write(survey / "sixteen.tif", bands, nodata=0)
    whole = (survey / "east.tif").read_bytes()
    (survey / "torn.tif").write_bytes(whole[: len(whole) // 2])
    done = sat2map("survey", "maps", "--format", "tiff", "--model", make_bundle(), "--json")
    assert done.returncode == 4, done.stderr
    report = json.loads(done.stdout)
    assert (report["drawn"], report["kept"], len(report["failed"])) == (4, 0, 1)
    for name in ("east", "west", "sixteen"):
        assert cog_validate(maps / f"{name}.tif", strict=True) == (True, [], [])
        with gdal(), rasterio.open(maps / f"{name}.tif") as drawn, rasterio.open(survey / f"{name}.tif") as photo:
            assert (drawn.crs, drawn.transform, drawn.shape) == (photo.crs, photo.transform, photo.shape)
    for name in ("east", "west"):
        assert np.array_equal(read(maps / f"{name}.tif"), 255 - read(survey / f"{name}.tif"))
    alpha = read(maps / "sixteen.tif")[3]
    assert not alpha[:10].any() and (alpha[10:] == 255).all()
    with Image.open(maps / "photo.tif") as drawn, Image.open(survey / "photo.png") as photo:
        assert drawn.format == "TIFF" and np.array_equal(np.asarray(drawn), 255 - np.asarray(photo))
    item = json.loads((maps / "west.stac.json").read_text())
    assert item["properties"]["proj:code"] == "EPSG:32632"
    assert json.loads((maps / "west.manifest.json").read_text())["item"] == "west.stac.json"
    assert not list(maps.glob(".*")) and not list(maps.glob("photo.*.json"))
    (told,) = done.stderr.splitlines()
    assert told.startswith(f"{survey}/torn.tif: survey/torn.tif is truncated: rows from ")
    assert rows(maps)["torn.tif"]["error"] == report["failed"][0]["error"] == told.partition(": ")[2]


def test_the_row_of_a_scene_says_what_was_made_of_what(bundle, survey, maps):
    from model.io.files import sha256

    draw(bundle, survey / "east.tif", maps, resolution=4.0, bands=(3, 2, 1), stretch=(0, 99.5))
    row = rows(maps)["east.tif"]
    assert row["output"] == "east.tif" and row["model_sha256"] == bundle.manifest.sha256
    assert (row["source_sha256"], row["output_sha256"]) == (sha256(survey / "east.tif"), sha256(maps / "east.tif"))
    assert (row["width"], row["height"], row["variant"]) == ("45", "35", "fp32")
    assert row["settings"] == "tiff overlap=0.25 scene resolution=4.0 bands=3,2,1 stretch=0,99.5"
    assert float(row["seams"]) > 0 and float(row["milliseconds"]) > 0


def test_globs_and_lists_hold_scenes_too_and_folders_of_a_glob_stay(bundle, survey, maps, tmp_path):
    write(survey / "north/deep.TIFF", noise(3, 40, 40))
    assert draw(bundle, f"{survey}/**/*.[tT]*", maps).drawn == 3
    assert np.array_equal(read(maps / "north/deep.tif"), 255 - read(survey / "north/deep.TIFF"))
    (tmp_path / "list.txt").write_text(f"{survey}/west.tif\n{survey}/photo.png\n")
    assert draw(bundle, tmp_path / "list.txt", tmp_path / "others").drawn == 2
    assert np.array_equal(read(tmp_path / "others/west.tif"), 255 - read(survey / "west.tif"))


def test_a_single_scene_of_a_folder_may_go_to_a_file(bundle, survey, tmp_path):
    (tmp_path / "list.txt").write_text(f"{survey}/west.tif\n")
    report = draw(bundle, tmp_path / "list.txt", tmp_path / "map.tif")
    assert (report.drawn, report.manifest) == (1, None)
    assert np.array_equal(read(tmp_path / "map.tif"), 255 - read(survey / "west.tif"))


def test_scenes_beyond_the_limits_of_photos_are_drawn(bundle, tmp_path, maps, monkeypatch):
    monkeypatch.setattr("model.io.images.MAX_PIXELS", 3000)
    monkeypatch.setattr("model.io.images.MAX_BYTES", 5000)
    write(tmp_path / "survey/large.tif", noise(3, 70, 90))
    for kept in (0, 1):
        assert draw(bundle, tmp_path / "survey", maps).kept == kept
    assert np.array_equal(read(maps / "large.tif"), 255 - read(tmp_path / "survey/large.tif"))


def test_warnings_name_their_scene(bundle, survey, maps):
    write(survey / "nowhere.tif", noise(3, 40, 40), crs=None, transform=rasterio.Affine.identity())
    outcomes = []
    draw(bundle, survey, maps, resolution=0.5, on_outcome=outcomes.append)
    warnings = sorted(warning for outcome in outcomes for warning in outcome.warnings)
    assert [warning.partition(" has ")[0] for warning in warnings if "pixels of 2 m" in warning] == [
        "survey/east.tif",
        "survey/west.tif",
    ]
    assert "survey/nowhere.tif has no coordinate system, and its map has none either." in warnings
    assert len(warnings) == 4
    outcomes.clear()
    draw(bundle, survey, maps, resolution=0.5, on_outcome=outcomes.append)
    assert len(outcomes) == 4 and not any(outcome.warnings for outcome in outcomes)


# Run again


def test_what_is_there_is_kept_and_other_settings_draw_scenes_anew(bundle, survey, maps):
    assert draw(bundle, survey, maps).drawn == 3
    before, told = stamp(maps / "east.tif"), rows(maps)
    assert draw(bundle, survey, maps).kept == 3
    assert stamp(maps / "east.tif") == before and rows(maps) == told
    report = draw(bundle, survey, maps, bands=(3, 2, 1))
    # The photo has none of these settings.
    assert (report.drawn, report.kept) == (2, 1)
    assert np.array_equal(read(maps / "east.tif"), 255 - read(survey / "east.tif")[::-1])
    (maps / "west.tif").write_bytes(b"altered")
    write(survey / "east.tif", noise(3, 70, 90, seed=5))
    report = draw(bundle, survey, maps, bands=(3, 2, 1))
    assert (report.drawn, report.kept) == (2, 1)
    assert np.array_equal(read(maps / "east.tif"), 255 - read(survey / "east.tif")[::-1])


def test_after_a_kill_finished_maps_are_kept_and_the_scene_in_work_goes_on(
    sat2map, survey, make_bundle, tmp_path, maps
):
    write(survey / "long.tif", noise(3, 6000, 300))
    words = ("survey", "--format", "tiff", "--json", "--model", make_bundle(), "-o")
    assert sat2map(*words, "undisturbed").returncode == 0
    process = subprocess.Popen(command(*words, "maps"), cwd=tmp_path, env=ENVIRONMENT, stdout=-1, stderr=-1)
    patience = time.monotonic() + 60
    while len(list(maps.glob(".long.tif-*/strip-*.tif"))) < 5:
        assert process.poll() is None and time.monotonic() < patience
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL and not (maps / "manifest.csv").exists()
    before = stamp(maps / "east.tif")
    done = sat2map(*words, "maps")
    assert done.returncode == 0, done.stderr
    # East and the photo; after long comes west.
    assert json.loads(done.stdout)["kept"] == 2 and stamp(maps / "east.tif") == before
    assert json.loads((maps / "long.manifest.json").read_text())["scene"]["resumed"] > 0
    assert without_times(maps) == without_times(tmp_path / "undisturbed")
    for name in ("east.tif", "long.tif", "west.tif", "photo.tif"):
        assert (maps / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()
    assert not list(maps.glob(".*"))


FULL = """
import resource, sys
from pathlib import Path
from tests.serving.scoring.test_scene_folder import draw
from model.bundle import Bundle
from model.errors import StorageError
resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
try:
    draw(Bundle.open(Path({bundle!r})), {survey!r}, {maps!r})
except StorageError as error:
    print(error)
"""


def test_a_full_disk_stops_it_all_and_what_was_drawn_counts(bundle, survey, maps):
    write(survey / "a.tif", np.full((3, 40, 40), 9, np.uint8))
    program = FULL.format(bundle=str(bundle.folder), survey=str(survey), maps=str(maps))
    done = subprocess.run(
        [sys.executable, "-c", program], env=ENVIRONMENT, capture_output=True, text=True, check=True, timeout=100
    )
    assert done.stdout.endswith("are drawn and kept there: free some space and run again to resume.\n"), done.stderr
    report = draw(bundle, survey, maps)
    assert (report.drawn, report.kept, report.failed) == (2, 2, ())


# What can't be drawn


def test_a_scene_that_can_t_be_drawn_is_a_row_and_the_rest_is_drawn(bundle, survey, maps):
    (survey / "poser.tif").write_text("<VRTDataset/>")
    os.mkfifo(survey / "queue.tif")
    (survey / "picture.tif").write_bytes((survey / "photo.png").read_bytes())
    write(survey / "single.tif", noise(3, 40, 40)[:1], photometric="MINISBLACK")
    content = bytearray((survey / "east.tif").read_bytes())
    # A second page is said to begin beyond the end.
    (directory,) = struct.unpack_from("<I", content, 4)
    (tags,) = struct.unpack_from("<H", content, directory)
    struct.pack_into("<I", content, directory + 2 + 12 * tags, 10**6)
    (survey / "garbled.tif").write_bytes(content)
    draw(bundle, survey / "photo.png", maps)
    (maps / "west.tif").mkdir()
    report = draw(bundle, survey, maps, bands=(1, 2, 3))
    errors = {Path(failure.source).name: failure.error for failure in report.failed}
    assert list(errors) == ["garbled.tif", "picture.tif", "poser.tif", "queue.tif", "single.tif", "west.tif"]
    assert "is a VRT; a scene must be a TIFF" in errors["poser.tif"] and "of another format" in errors["picture.tif"]
    assert errors["garbled.tif"].startswith("survey/garbled.tif is broken: its metadata can't be read (")
    assert errors["queue.tif"] == "survey/queue.tif is missing or not a regular file"
    assert errors["single.tif"] == "Bands (1, 2, 3) can't be drawn; name one or three of 1 to 1."
    assert errors["west.tif"] == f"{maps}/west.tif is a folder; name a file for the map."
    assert (report.drawn, report.kept) == (1, 1)
    assert np.array_equal(read(maps / "east.tif"), 255 - read(survey / "east.tif"))
    assert {name: row["error"] for name, row in rows(maps).items() if row["error"]} == errors


def test_a_scene_too_large_to_be_hashed_is_told(bundle, survey, maps, monkeypatch):
    monkeypatch.setattr("serving.scoring.scene_scorer.MAX_BYTES", 10_000)
    (failure,) = draw(bundle, survey, maps).failed
    assert failure.error.startswith("survey/east.tif has ") and failure.error.endswith("at most 10000 are allowed")


def test_settings_that_would_do_nothing_are_refused(bundle, survey, maps, tmp_path):
    with pytest.raises(ConfigError, match=r"TIFFs that become TIFFs, 2 here, are scenes.*omit --resize"):
        draw(bundle, survey, maps, resize=True)
    for photos, out in ((survey / "photo.png", maps), (survey / "photo.png", tmp_path / "map.tif")):
        with pytest.raises(ConfigError, match=r"given \(scene bands=1\), but no TIFF on a disk becomes a TIFF"):
            draw(bundle, photos, out, bands=(1,))
    assert not maps.exists()


def test_options_that_can_t_be_used_are_told(sat2map, survey, make_bundle, maps):
    words = ("survey", "maps", "--model", make_bundle())
    for option, told in (
        (("--bands", "1"), "--bands can't be used here: they are for scenes"),
        (("--bands", "1", "--format", "webp"), "or --format tiff for a folder"),
        (
            ("--vector", "a.gpkg", "--format", "tiff"),
            "--vector can't be used here: polygons are made of a single scene",
        ),
        (("--resize", "--format", "tiff"), "omit --resize"),
    ):
        done = sat2map(*words, *option)
        assert (done.returncode, done.stdout) == (2, "") and told in done.stderr and done.stderr.count("\n") == 1
    assert not maps.exists()
    assert sat2map(*words, "--bands", "3,2,1", "--format", "tiff").returncode == 0
    assert rows(maps)["east.tif"]["settings"].endswith("scene bands=3,2,1")


# A georeference that gets lost


def test_scenes_that_become_pictures_are_warned_of_once(sat2map, survey, make_bundle, tmp_path):
    whole = (survey / "east.tif").read_bytes()
    (survey / "torn.tif").write_bytes(whole[: len(whole) // 2])
    words = ("--model", make_bundle())
    advice = "to keep that, and to draw scenes of any size, use --format tiff."
    for kept in ("3 drawn", "3 already there"):
        done = sat2map("survey", "maps", *words)
        assert done.returncode == 4 and kept in done.stdout
        assert done.stderr.count("georeferenced") == 1
        expected = f"Warning: 3 of the photos are georeferenced, and a png map is not; {advice}\n"
        assert done.stderr.endswith(expected), done.stderr
    done = sat2map("survey/west.tif", "-o", "map.webp", *words)
    assert done.stderr == f"Warning: 1 of the photos is georeferenced, and a webp map is not; {advice}\n"
    assert sat2map("survey/photo.png", "-o", "map.png", *words).stderr == ""


def test_the_warning_is_there_even_if_nothing_can_be_drawn(bundle, survey, maps, monkeypatch):
    monkeypatch.setattr("model.io.images.MAX_BYTES", 5000)
    with pytest.raises(NothingDrawn, match="None of the photos can be drawn") as stopped:
        draw(bundle, survey, maps, format="jpeg")
    (warning,) = stopped.value.report.warnings
    assert warning.startswith("2 of the photos are georeferenced, and a jpeg map is not")


def test_the_command_line_warns_even_if_nothing_can_be_drawn(sat2map, survey, make_bundle):
    for name in ("east.tif", "west.tif"):
        content = (survey / name).read_bytes()
        (survey / name).write_bytes(content[: len(content) // 2])
    (survey / "photo.png").unlink()
    done = sat2map("survey", "maps", "--model", make_bundle())
    warning, error = done.stderr.splitlines()[2:4]
    assert warning.startswith("Warning: 2 of the photos are georeferenced") and done.returncode == 2
    assert error == "Error: None of the photos can be drawn (2):"


# At addresses


def test_scenes_at_addresses_are_told_to_come_to_a_disk(bundle, survey, maps, tmp_path, store):
    Image.fromarray(np.moveaxis(noise(3, 40, 50), 0, -1)).save(survey / "plain.tif")
    advice = "(a TIFF that is large or georeferenced becomes a TIFF only on a disk: copy it to one, and draw there)"
    source = store.upload(survey, "survey")
    for photos, out in ((source, maps), (survey, store.address("maps"))):
        report = draw(bundle, photos, out)
        told = {failure.error for failure in report.failed}
        assert told == {f"survey/{name}.tif is georeferenced {advice}" for name in ("east", "west")}
        assert report.drawn == 2
    pictures = draw(bundle, source, tmp_path / "pictures", format="png")
    assert pictures.drawn == 4 and pictures.warnings[0].startswith("2 of the photos are georeferenced")
    with Image.open(maps / "plain.tif") as drawn:
        assert drawn.size == (50, 40)
