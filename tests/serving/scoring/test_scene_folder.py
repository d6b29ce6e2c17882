"""Folders with scenes among the photos: each scene becomes a georeferenced map, and errors concern only their scene."""

import json
import os
import struct
import subprocess

import numpy as np
import pytest
import rasterio
from PIL import Image
from rio_cogeo.cogeo import cog_validate

from model.errors import ConfigError
from model.io.files import sha256
from serving.geo.gdal import gdal
from serving.scoring.scorer import NothingDrawn
from tests.fixtures.scenes import read_bands
from tests.fixtures.scored_folders import errors, pixels, rows, score_command, score_environment
from tests.fixtures.surveys import draw_scenes, noise_bands, truncate, write_survey

# Maps


def test_scenes_and_photos_of_a_folder_become_maps(run_score, survey, make_bundle, maps):
    bands = noise_bands(4, 60, 80, np.uint16)
    bands[:, :10] = 0
    write_survey(survey / "sixteen.tif", bands, nodata=0)
    truncate(write_survey(survey / "torn.tif", noise_bands(3, 70, 90)))
    done = run_score("survey", "maps", "--format", "tiff", "--model", make_bundle(), "--json")
    assert done.returncode == 4, done.stderr
    report = json.loads(done.stdout)
    assert (report["drawn"], report["kept"], len(report["failed"])) == (4, 0, 1)
    for name in ("east", "west", "sixteen"):
        assert cog_validate(maps / f"{name}.tif", strict=True) == (True, [], [])
        with gdal(), rasterio.open(maps / f"{name}.tif") as drawn, rasterio.open(survey / f"{name}.tif") as photo:
            assert (drawn.crs, drawn.transform, drawn.shape) == (photo.crs, photo.transform, photo.shape)
    for name in ("east", "west"):
        assert np.array_equal(read_bands(maps / f"{name}.tif"), 255 - read_bands(survey / f"{name}.tif"))
    alpha = read_bands(maps / "sixteen.tif")[3]
    assert not alpha[:10].any() and (alpha[10:] == 255).all()
    with Image.open(maps / "photo.tif") as drawn, Image.open(survey / "photo.png") as photo:
        assert drawn.format == "TIFF" and np.array_equal(np.asarray(drawn), 255 - np.asarray(photo))
    item = json.loads((maps / "west.stac.json").read_text())
    assert item["properties"]["proj:code"] == "EPSG:32632"
    assert json.loads((maps / "west.manifest.json").read_text())["item"] == "west.stac.json"
    assert not list(maps.glob(".*")) and not list(maps.glob("photo.*.json"))
    (message,) = done.stderr.splitlines()
    assert message.startswith(f"{survey}/torn.tif is truncated: rows from ")
    assert rows(maps)["torn.tif"]["error"] == report["failed"][0]["error"] == message.removeprefix(f"{survey.parent}/")


def test_a_terminal_shows_the_progress_of_photos_and_scenes(survey, make_bundle, tmp_path):
    command = score_command("survey", "maps", "--format", "tiff", "--model", make_bundle())
    terminal = score_environment() | {"FORCE_COLOR": "1", "TERM": "xterm"}
    done = subprocess.run(command, cwd=tmp_path, env=terminal, capture_output=True, text=True, check=True)
    for label in ("Drawing maps", "Drawing east.tif", "Writing east.tif"):
        assert label in done.stderr and label not in done.stdout


def test_the_row_of_a_scene_names_inputs_and_outputs(bundle, survey, maps):
    draw_scenes(bundle, survey / "east.tif", maps, resolution=4.0, bands=(3, 2, 1), stretch=(0, 99.5))
    row = rows(maps)["east.tif"]
    assert row["output"] == "east.tif" and row["model_sha256"] == bundle.manifest.sha256
    assert (row["source_sha256"], row["output_sha256"]) == (sha256(survey / "east.tif"), sha256(maps / "east.tif"))
    assert (row["width"], row["height"], row["variant"]) == ("45", "35", "fp32")
    assert row["settings"] == "tiff overlap=0.25 scene resolution=4.0 bands=3,2,1 stretch=0,99.5"
    assert float(row["seams"]) > 0 and float(row["milliseconds"]) > 0


def test_globs_and_lists_may_name_scenes(bundle, survey, maps, tmp_path):
    write_survey(survey / "north/deep.TIFF", noise_bands(3, 40, 40))
    assert draw_scenes(bundle, f"{survey}/**/*.[tT]*", maps).drawn == 3
    assert np.array_equal(read_bands(maps / "north/deep.tif"), 255 - read_bands(survey / "north/deep.TIFF"))
    (tmp_path / "list.txt").write_text(f"{survey}/west.tif\n{survey}/photo.png\n")
    assert draw_scenes(bundle, tmp_path / "list.txt", tmp_path / "others").drawn == 2
    assert np.array_equal(read_bands(tmp_path / "others/west.tif"), 255 - read_bands(survey / "west.tif"))


def test_a_single_scene_of_a_list_may_go_to_a_file(bundle, survey, tmp_path):
    (tmp_path / "list.txt").write_text(f"{survey}/west.tif\n")
    report = draw_scenes(bundle, tmp_path / "list.txt", tmp_path / "map.tif")
    assert (report.drawn, report.manifest) == (1, None)
    assert np.array_equal(read_bands(tmp_path / "map.tif"), 255 - read_bands(survey / "west.tif"))


def test_scenes_beyond_the_limits_of_photos_are_drawn(bundle, tmp_path, maps, monkeypatch):
    monkeypatch.setattr("model.io.images.MAX_PIXELS", 3000)
    monkeypatch.setattr("model.io.images.MAX_BYTES", 5000)
    write_survey(tmp_path / "survey/large.tif", noise_bands(3, 70, 90))
    for kept in (0, 1):
        assert draw_scenes(bundle, tmp_path / "survey", maps).kept == kept
    assert np.array_equal(read_bands(maps / "large.tif"), 255 - read_bands(tmp_path / "survey/large.tif"))


def test_a_name_that_is_too_long_for_a_map_is_a_row(bundle, survey, maps):
    long, longer = f"{'l' * 236}.tif", f"{'m' * 245}.tif"
    for name in (long, longer):
        write_survey(survey / name, noise_bands(3, 40, 40))
    report = draw_scenes(bundle, survey, maps)
    assert list(errors(report)) == [longer] and "File name too long" in errors(report)[longer]
    assert (report.drawn, (maps / long).is_file()) == (4, True)


def test_warnings_name_their_scene(bundle, survey, maps):
    write_survey(survey / "nowhere.tif", noise_bands(3, 40, 40), crs=None, transform=rasterio.Affine.identity())
    outcomes = []
    draw_scenes(bundle, survey, maps, resolution=0.5, on_outcome=outcomes.append)
    warnings = sorted(warning for outcome in outcomes for warning in outcome.warnings)
    assert [warning.partition(" has ")[0] for warning in warnings if "pixels of 2 m" in warning] == [
        "survey/east.tif",
        "survey/west.tif",
    ]
    assert "survey/nowhere.tif has no coordinate system, and its map has none either." in warnings
    assert len(warnings) == 4
    outcomes.clear()
    draw_scenes(bundle, survey, maps, resolution=0.5, on_outcome=outcomes.append)
    assert len(outcomes) == 4 and not any(outcome.warnings for outcome in outcomes)


# Scenes that can't be drawn


def test_a_scene_that_can_t_be_drawn_is_a_row_and_the_others_are_drawn(bundle, survey, maps):
    (survey / "vrt.tif").write_text("<VRTDataset/>")
    os.mkfifo(survey / "pipe.tif")
    (survey / "picture.tif").write_bytes((survey / "photo.png").read_bytes())
    write_survey(survey / "single.tif", noise_bands(3, 40, 40)[:1], photometric="MINISBLACK")
    content = bytearray((survey / "east.tif").read_bytes())
    # The directory of a second page would begin beyond the end.
    (directory,) = struct.unpack_from("<I", content, 4)
    (tags,) = struct.unpack_from("<H", content, directory)
    struct.pack_into("<I", content, directory + 2 + 12 * tags, 10**6)
    (survey / "garbled.tif").write_bytes(content)
    draw_scenes(bundle, survey / "photo.png", maps)
    (maps / "west.tif").mkdir()
    report = draw_scenes(bundle, survey, maps, bands=(1, 2, 3))
    reasons = errors(report)
    assert list(reasons) == ["garbled.tif", "pipe.tif", "single.tif", "vrt.tif", "west.tif"]
    assert "is a VRT; convert it to a GeoTIFF" in reasons["vrt.tif"]
    assert reasons["garbled.tif"].startswith("survey/garbled.tif is broken or truncated (")
    assert reasons["pipe.tif"] == "survey/pipe.tif is a pipe, socket or device, not a regular file"
    assert reasons["single.tif"] == "survey/single.tif can't be drawn with bands 1,2,3; name one or three of 1 to 1."
    assert reasons["west.tif"] == f"{maps}/west.tif is a folder; name a file for the map."
    # A photo, whatever its name.
    assert np.array_equal(pixels(maps / "picture.tif"), 255 - pixels(survey / "photo.png"))
    assert (report.drawn, report.kept) == (2, 1)
    assert np.array_equal(read_bands(maps / "east.tif"), 255 - read_bands(survey / "east.tif"))
    assert {name: row["error"] for name, row in rows(maps).items() if row["error"]} == reasons


def test_a_scene_that_is_too_large_is_not_read(bundle, survey, maps, monkeypatch):
    monkeypatch.setattr("serving.scoring.scene_scorer.MAX_BYTES", 10_000)
    (failure,) = draw_scenes(bundle, survey, maps).failed
    assert failure.error.startswith("survey/east.tif has ") and failure.error.endswith("at most 10000 are allowed")


def test_settings_without_effect_are_refused(bundle, survey, maps, tmp_path):
    with pytest.raises(ConfigError, match=r"TIFFs that become TIFFs, 2 here, are scenes.*omit --resize"):
        draw_scenes(bundle, survey, maps, resize=True)
    for photos, out in ((survey / "photo.png", maps), (survey / "photo.png", tmp_path / "map.tif")):
        with pytest.raises(ConfigError, match=r"given \(scene bands=1\), but no photo is a TIFF or JPEG 2000 file"):
            draw_scenes(bundle, photos, out, bands=(1,))
    with pytest.raises(ConfigError, match="A ground resolution of 2 m is given, but no photo is a scene"):
        draw_scenes(bundle, survey, maps, format="png", resolution=2.0)
    assert not maps.exists()


def test_options_without_effect_are_refused(run_score, survey, make_bundle, maps):
    words = ("survey", "maps", "--model", make_bundle())
    for options, message in (
        (("--resolution", "1"), "A ground resolution of 1 m is given, but no photo is a scene"),
        (("--actors", "1"), "--actors has no effect without --distributed; omit it."),
        (("--actors", "1", "--cpus-per-actor", "1"), "--actors and --cpus-per-actor have no effect without"),
        (
            ("--vector", "a.gpkg", "--format", "tiff"),
            "--vector has no effect here: polygons are made of a single scene",
        ),
        (("--resize", "--format", "tiff"), "omit --resize"),
    ):
        done = run_score(*words, *options)
        assert (done.returncode, done.stdout) == (2, "") and message in done.stderr and done.stderr.count("\n") == 1
    assert not maps.exists()
    assert run_score(*words, "--bands", "3,2,1", "--format", "tiff").returncode == 0
    assert rows(maps)["east.tif"]["settings"].endswith("scene bands=3,2,1")


# Lost georeferences


def test_maps_that_lose_their_georeference_are_warned_of_once(run_score, survey, make_bundle):
    truncate(write_survey(survey / "torn.tif", noise_bands(3, 70, 90)))
    words = ("--model", make_bundle())
    advice = "to keep that, and to draw scenes of any size, use --format tiff."
    for kept in ("3 drawn", "3 already there"):
        done = run_score("survey", "maps", *words)
        assert done.returncode == 4 and kept in done.stdout
        assert done.stderr.count("georeferenced") == 1
        expected = f"Warning: 3 of the photos are georeferenced, and a png map is not; {advice}\n"
        assert done.stderr.endswith(expected), done.stderr
    done = run_score("survey/west.tif", "-o", "map.webp", *words)
    advice = "to keep that, and to draw scenes of any size, name a .tif file."
    assert done.stderr == f"Warning: The photo is georeferenced, and a webp map is not; {advice}\n"
    assert run_score("survey/photo.png", "-o", "map.png", *words).stderr == ""


def test_the_warning_is_there_even_if_nothing_can_be_drawn(bundle, survey, maps, monkeypatch):
    monkeypatch.setattr("model.io.images.MAX_BYTES", 5000)
    with pytest.raises(NothingDrawn, match="None of the photos can be drawn") as stopped:
        draw_scenes(bundle, survey, maps, format="jpeg")
    (warning,) = stopped.value.report.warnings
    assert warning.startswith("2 of the photos are georeferenced, and a jpeg map is not")


def test_the_command_line_warns_even_if_nothing_can_be_drawn(run_score, survey, make_bundle):
    for name in ("east.tif", "west.tif"):
        truncate(survey / name)
    (survey / "photo.png").unlink()
    done = run_score("survey", "maps", "--model", make_bundle())
    warning, error = done.stderr.splitlines()[:2]
    assert warning.startswith("Warning: 2 of the photos are georeferenced") and done.returncode == 2
    assert error == "Error: None of the photos can be drawn (2):"


def test_scenes_at_addresses_are_refused_and_plain_tiffs_are_drawn(bundle, survey, maps, tmp_path, store):
    Image.fromarray(np.moveaxis(noise_bands(3, 40, 50), 0, -1)).save(survey / "plain.tif")
    advice = "(a TIFF that is large or georeferenced becomes a TIFF only on a disk: copy it to one, and draw there)"
    source = store.upload(survey, "survey")
    for photos, out in ((source, maps), (survey, store.address("maps"))):
        report = draw_scenes(bundle, photos, out)
        reasons = {failure.error for failure in report.failed}
        assert reasons == {f"survey/{name}.tif is georeferenced {advice}" for name in ("east", "west")}
        assert report.drawn == 2
    pictures = draw_scenes(bundle, source, tmp_path / "pictures", format="png")
    assert pictures.drawn == 4 and pictures.warnings[0].startswith("2 of the photos are georeferenced")
    with Image.open(maps / "plain.tif") as drawn:
        assert drawn.size == (50, 40)
