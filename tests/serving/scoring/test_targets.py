"""The names to which maps go, as given on a command line."""

import os
from pathlib import Path

import pytest

from model.errors import DataError
from serving.scoring.targets import parse_file, parse_target

WRITTEN = "maps are .png, .jpg, .jpeg, .webp, .tif, .tiff files. A folder of maps ends with a slash."


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Return the current folder, which has a folder and is the home folder too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "old.foo").mkdir()
    (tmp_path / "old.tif").mkdir()
    return tmp_path


FILES = ("m.tif", "m.TIFF", "m.jpg", "a/m.webp", ".png", "with space/m.tif", "s3://bucket/m.tif")
FOLDERS = ("maps", "maps/", "maps.v2", "maps.2026", "m.1", "m.foo/", ".maps", "..", "./-", "s3://bucket.name")
OLD = ("old.foo", "old.tif", "old.tif/")


@pytest.mark.parametrize("name", [*FILES, *FOLDERS, *OLD])
def test_names_of_folders_and_of_maps(name):
    assert str(parse_target(name, single=True)) in (name, os.path.normpath(name), f"{name}/")


def test_a_tilde_is_the_home_folder(here):
    assert parse_target("~/m.tif", single=True).path == here / "m.tif"
    assert parse_target("~", single=False).path == here
    assert parse_target("~m", single=True).path == Path("~m")


@pytest.mark.parametrize("name", ["m.cog", "m.btf", "m.foo", "m.tif~", "m.tif.bak", "m.tif.", "s3://bucket/m.cog"])
def test_an_unknown_suffix_is_refused_for_a_single_photo(name):
    with pytest.raises(DataError) as refused:
        parse_target(name, single=True)
    assert str(refused.value) == f"{name} can't be written: {WRITTEN}"
    assert str(parse_target(name, single=False)) == name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("-", "Maps are not written to stdout; name a folder or a file (./- if its name is -)."),
        (" ", "' ' is a blank name; name a folder for the maps, or a file for a single map."),
        ("\t\n", r"'\t\n' is a blank name; name a folder for the maps, or a file for a single map."),
        ("m.tif ", "The name 'm.tif ' begins or ends with a blank; omit it."),
        ("a/ maps", "The name ' maps' begins or ends with a blank; omit it."),
        ("m.tif/", "m.tif/ ends with a slash, as a folder does, but .tif is the suffix of a map; omit the slash."),
        ("m.PNG/.", "m.PNG/. ends with a slash, as a folder does, but .png is the suffix of a map; omit the slash."),
        ("s3:/b/m.tif", "s3:/ is no address and no folder; an address begins with s3://."),
        *(
            (
                f"{scheme}://x/m.tif",
                f"Maps can't be written to {scheme}:// addresses; name a folder here, or one of s3://, gs://, hdfs://, "
                "abfs://, abfss://, file://.",
            )
            for scheme in ("http", "https", "ftp", "kaggle", "zip+file")
        ),
    ],
)
def test_other_names_are_refused_before_anything_is_drawn(here, name, reason):
    for single in (True, False):
        with pytest.raises(DataError) as refused:
            parse_target(name, single=single)
        assert str(refused.value) == reason
    assert sorted(path.name for path in here.iterdir()) == ["old.foo", "old.tif"]


def test_polygons_go_to_a_file_on_a_disk(here):
    assert parse_file("~/m.gpkg") == here / "m.gpkg" and parse_file("a/m.geojson") == Path("a/m.geojson")
    for name, reason in (
        ("s3://b/m.gpkg", "Polygons are written to a disk, not to s3:// addresses; name a file."),
        ("m.gpkg/", "m.gpkg/ is the name of a folder; name a file that ends in .gpkg or .geojson."),
    ):
        with pytest.raises(DataError) as refused:
            parse_file(name)
        assert str(refused.value) == reason
