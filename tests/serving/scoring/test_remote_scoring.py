"""Locations of photos and maps: new, foreign and unwritable folders, and addresses."""

import pytest

from model.bundle import Bundle
from model.errors import BundleError, StorageError
from model.io.locations import Location
from serving.scoring.manifest import CSV_FILE, read_rows
from tests.fixtures.scored_folders import content, draw, drawn_names, errors, refused

# The folder of maps


def test_an_empty_folder_is_filled(bundle, photos, maps):
    maps.mkdir()
    assert draw(bundle, photos, maps).drawn == 3


def test_a_folder_of_foreign_files_is_refused_and_untouched(bundle, photos, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("dear diary")
    message = refused(bundle, photos, tmp_path / "mine")
    assert message == f"{tmp_path / 'mine'} holds files that no earlier scoring made; name a new or an empty folder."


def test_photos_are_not_replaced(bundle, photos, maps):
    assert "no earlier scoring made" in refused(bundle, photos, photos)
    draw(bundle, photos, maps)
    assert "would replace a photo" in refused(bundle, maps, maps)


def test_a_file_is_not_a_folder_for_maps(bundle, photos, tmp_path):
    (tmp_path / "maps").write_text("a file")
    assert refused(bundle, photos, tmp_path / "maps") == f"{tmp_path / 'maps'} is a file; name a folder for the maps."


def test_an_unwritable_folder_is_an_error(bundle, photos, tmp_path):
    (tmp_path / "file").write_text("a file")
    with pytest.raises(StorageError, match=r"can't be written \(Not a directory\)"):
        draw(bundle, photos, tmp_path / "file" / "maps")


def test_a_folder_with_the_name_of_a_map_fails_only_that_photo(bundle, photos, maps):
    draw(bundle, photos, maps)
    (maps / "a.png").unlink()
    (maps / "a.png" / "deep").mkdir(parents=True)
    report = draw(bundle, photos, maps)
    assert errors(report).keys() == {"a.png"} and "can't be written" in errors(report)["a.png"] and report.kept == 2


def test_an_unusable_model_stops_before_anything_is_written(make_bundle, photos, maps):
    bundle = Bundle.open(make_bundle(model=b"no model"))
    with pytest.raises(BundleError, match="onnxruntime can't load"):
        draw(bundle, photos, maps)
    with pytest.raises(BundleError, match="has no variant 'int4'"):
        draw(bundle, photos, maps, variant="int4")
    assert not maps.exists()


# Addresses


def test_photos_and_maps_may_be_at_addresses(store, bundle, photos, maps, tmp_path):
    (photos / "broken.jpg").write_bytes(b"no photo")
    source, out = store.upload(photos, "in/my photos"), store.address("out/my maps")
    here, there = draw(bundle, photos, maps), draw(bundle, source, out)
    drawn = Location.parse(out)
    assert (there.drawn, len(there.failed), there.images_per_second > 0) == (here.drawn, 1, True)
    assert set(drawn.list().files) == set(content(maps)) and not drawn.list().folders
    for name in drawn_names(maps):
        assert drawn.join(name).read_bytes() == content(maps)[name]
    again = draw(bundle, source, out)
    assert (again.drawn, again.kept) == (0, 3)
    single = draw(bundle, photos / "a.png", store.address("out/one.png"))
    assert single.drawn == 1 and Location.parse(store.address("out/one.png")).read_bytes() == content(maps)["a.png"]


def test_a_killed_run_at_an_address_is_continued(store, bundle, photos, monkeypatch):
    """The journal is sent every few seconds, and the rows that were sent are kept."""
    out = store.address("killed/maps")
    monkeypatch.setattr("serving.scoring.manifest.UPLOAD_SECONDS", 0)
    with monkeypatch.context() as patch:
        patch.setattr("serving.scoring.scorer.seal", lambda *_: None)
        draw(bundle, photos, out)
    assert CSV_FILE not in Location.parse(out).list().files
    assert (draw(bundle, photos, out).kept, len(read_rows(Location.parse(out)))) == (3, 3)


def test_an_unreachable_address_stops_the_scoring(bundle, photos):
    with pytest.raises(StorageError, match=r"can't be reached"):
        draw(bundle, photos, "s3://bucket/maps?endpoint_override=127.0.0.1:9&scheme=http")
