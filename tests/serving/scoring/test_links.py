"""Links, pipes and odd names among photos and maps."""

import os

import numpy as np

from tests.fixtures.scored_folders import draw, drawn_names, negative, noise, pixels, refused


def test_bad_entries_of_a_folder_are_rows_and_the_others_are_drawn(run_score, make_bundle, photos, maps):
    (photos / "loop.png").symlink_to("loop.png")
    (photos / "gone.png").symlink_to("nowhere.png")
    os.mkfifo(photos / "pipe.png")
    noise(4).save(photos / "line\nbreak.png")
    (photos / "bad\n.png").write_bytes(b"no photo")
    done = run_score("photos", "maps", "--model", make_bundle())
    assert done.returncode == 4
    assert sorted(done.stderr.splitlines()) == [
        f"{photos}/bad\\n.png is of an unknown format; JPEG, PNG, WebP, TIFF, JPEG 2000 are allowed",
        f"{photos}/gone.png is a link to nowhere.png, which is missing",
        f"{photos}/loop.png is a link that leads back to itself",
        f"{photos}/pipe.png is a pipe, socket or device, not a regular file",
    ]
    assert drawn_names(maps) == {"a.png", "b.png", "c.png", "line\nbreak.png"}


def test_a_single_bad_photo_is_the_error(run_score, make_bundle, photos, tmp_path):
    (photos / "loop.png").symlink_to("loop.png")
    model = make_bundle()
    for out in ("map.png", "maps"):
        done = run_score("photos/loop.png", out, "--model", model)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f"Error: {photos}/loop.png is a link that leads back to itself\n"


# Links


def test_maps_are_written_through_links(bundle, photos, tmp_path):
    (tmp_path / "latest.png").symlink_to("archive/new.png")
    (tmp_path / "latest").symlink_to("archive/maps")
    draw(bundle, photos / "a.png", tmp_path / "latest.png")
    draw(bundle, photos, tmp_path / "latest")
    assert (tmp_path / "latest.png").is_symlink() and (tmp_path / "latest").is_symlink()
    assert np.array_equal(pixels(tmp_path / "archive" / "new.png"), negative(noise(0)))
    assert drawn_names(tmp_path / "archive" / "maps") == {"a.png", "b.png", "c.png"}
    assert draw(bundle, photos, tmp_path / "latest").kept == 3


def test_a_linked_map_never_replaces_a_photo(bundle, photos, maps):
    draw(bundle, photos / "a.png", maps)
    (maps / "b.png").symlink_to(photos / "b.png")
    assert refused(bundle, photos, maps) == (
        f"The map {maps}/b.png would replace a photo; choose another folder for the maps."
    )
