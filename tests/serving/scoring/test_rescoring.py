"""Photos scored again, also after a kill or on a full disk: finished maps are kept, and only the others are drawn."""

import shutil
import signal
import subprocess
import time

import numpy as np
import pytest

from model.bundle import Bundle
from model.io.locations import Location
from model.spec import NetworkConfig
from serving.scoring.manifest import CSV_FILE, JOURNAL_FOLDER, read_rows
from tests.fixtures.project import PROJECT
from tests.fixtures.scored_folders import (
    SIDE,
    content,
    draw,
    errors,
    leave_draft,
    maps_in,
    negative,
    noise,
    pixels,
    rows,
    scoring_program,
    stamp,
    without_times,
)


@pytest.fixture
def other_bundle(make_bundle, scaling_model):
    """Return a bundle whose maps are the photos themselves."""
    network = NetworkConfig(image_size=SIDE, width=2, depth=3)
    return Bundle.open(make_bundle(model=scaling_model(1.0, network), name="other", run_id="2e1d"))


def altered(folder, before):
    """Return the names of files that were written again or removed."""
    return {name for name, was in before.items() if not (folder / name).exists() or stamp(folder / name) != was}


def stamps(folder):
    return {path.name: stamp(path) for path in folder.glob("*.png")}


def test_finished_maps_are_kept(bundle, photos, maps):
    draw(bundle, photos, maps)
    before, old_rows = stamps(maps), rows(maps)
    report = draw(bundle, photos, maps)
    assert (report.drawn, report.kept) == (0, 3)
    assert stamps(maps) == before and rows(maps) == old_rows


def test_only_changed_photos_are_drawn(bundle, photos, maps):
    draw(bundle, photos, maps)
    (maps / "a.png").unlink()
    (maps / "b.png").write_bytes((maps / "b.png").read_bytes() + b"more")
    noise(9).save(photos / "d.png")
    before = stamps(maps)
    report = draw(bundle, photos, maps)
    assert (report.drawn, report.kept) == (3, 1)
    assert altered(maps, before) == {"b.png"}
    assert np.array_equal(pixels(maps / "a.png"), negative(noise(0)))
    noise(10).save(photos / "c.png")
    assert draw(bundle, photos, maps).drawn == 1
    assert np.array_equal(pixels(maps / "c.png"), negative(noise(10)))


def test_another_model_or_other_settings_draw_again(bundle, other_bundle, photos, maps):
    draw(bundle, photos, maps)
    assert draw(other_bundle, photos, maps).drawn == 3
    assert np.array_equal(pixels(maps / "a.png"), np.asarray(noise(0)))
    assert rows(maps)["a.png"]["model"] == "runs:/2e1d"
    assert draw(other_bundle, photos, maps, overlap=0.5).drawn == 3
    assert draw(other_bundle, photos, maps, overlap=0.5, resize=True).drawn == 3
    assert draw(other_bundle, photos, maps, overlap=0.5, resize=True).kept == 3


def test_failed_photos_are_tried_again(bundle, photos, maps):
    (photos / "d.png").write_bytes(b"no photo")
    assert errors(draw(bundle, photos, maps)).keys() == {"d.png"}
    noise(9).save(photos / "d.png")
    report = draw(bundle, photos, maps)
    assert (report.drawn, report.kept, rows(maps)["d.png"]["error"]) == (1, 3, "")


def test_maps_of_other_photos_stay_in_folder_and_manifest(bundle, photos, tmp_path, maps):
    draw(bundle, photos, maps)
    (tmp_path / "more").mkdir()
    noise(8).save(tmp_path / "more" / "x.png")
    draw(bundle, tmp_path / "more", maps)
    assert list(rows(maps)) == ["x.png", "a.png", "b.png", "c.png"]


def test_the_map_of_another_photo_is_not_replaced(bundle, photos, tmp_path, maps):
    draw(bundle, photos, maps)
    before = content(maps)["a.png"]
    (tmp_path / "more").mkdir()
    for name, seed in (("a.png", 8), ("x.png", 9)):
        noise(seed).save(tmp_path / "more" / name)
    report = draw(bundle, tmp_path / "more", maps)
    assert errors(report) == {"a.png": f"a.png is the map of {photos / 'a.png'}; draw into another folder"}
    assert report.drawn == 1 and content(maps)["a.png"] == before


def test_photos_that_moved_keep_their_maps(bundle, photos, tmp_path, maps):
    draw(bundle, photos, maps)
    before = stamps(maps)
    photos.rename(tmp_path / "elsewhere")
    assert draw(bundle, tmp_path / "elsewhere", maps).kept == 3
    assert stamps(maps) == before
    assert {row["source"] for row in rows(maps).values()} == {f"{tmp_path}/elsewhere/{name}.png" for name in "abc"}


@pytest.fixture
def many(tmp_path):
    """Return a folder of 300 photos of several tiles each."""
    folder = tmp_path / "many"
    folder.mkdir()
    noise(0, (200, 200)).save(folder / "000.png")
    for number in range(1, 300):
        noise(number, (8, 8)).resize((200, 200)).save(folder / f"{number:03}.jpg")
    return folder


def test_after_a_kill_only_missing_maps_are_drawn_and_the_result_is_the_same(bundle, many, tmp_path, maps):
    undisturbed = tmp_path / "undisturbed"
    draw(bundle, many, undisturbed)
    for least in (20, 120):
        process = subprocess.Popen(scoring_program(bundle, many, maps), cwd=PROJECT, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while len(list(maps.glob("*.png"))) < least:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait(30) == -signal.SIGKILL
        assert not (maps / CSV_FILE).exists()
    recorded, before = len({row.output for row in read_rows(Location(maps))}), stamps(maps)
    report = draw(bundle, many, maps)
    assert recorded >= 100 and report.kept == recorded and report.drawn == 300 - recorded
    # Maps that were written but are not in the journal are drawn again.
    assert len(altered(maps, before)) <= len(before) - recorded
    assert maps_in(maps) == maps_in(undisturbed)
    assert without_times(maps) == without_times(undisturbed)
    assert not (maps / JOURNAL_FOLDER).exists()


def test_the_draft_of_a_killed_scorer_is_removed_by_the_next_run(bundle, photos, maps):
    draw(bundle, photos, maps)
    expected = set(content(maps)) | {".hidden.png"}
    leave_draft(maps)
    (maps / ".hidden.png").touch()
    assert len(set(content(maps)) - expected) == 1
    draw(bundle, photos, maps)
    assert set(content(maps)) == expected


FULL = """
disk=$1; shift
mount -t tmpfs -o size=700k none "$disk"
"$@"; echo "code $?"
mount -o remount,size=10m "$disk"
"$@"; echo "code $?"
ls -A "$disk/maps" | wc -l
"""


def test_a_full_disk_stops_with_one_sentence_and_finished_maps_are_kept(bundle, tmp_path):
    if not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("needs a small disk, made with Linux's unshare")
    (tmp_path / "photos").mkdir()
    (tmp_path / "disk").mkdir()
    for number in range(30):
        noise(number, (100, 100)).save(tmp_path / "photos" / f"{number:02}.png")
    words = ["bash", "-c", FULL, "bash", str(tmp_path / "disk")]
    words += scoring_program(bundle, tmp_path / "photos", tmp_path / "disk" / "maps")
    done = subprocess.run(["unshare", "-rm", *words], cwd=PROJECT, capture_output=True, text=True, check=True)
    first, second, third, files = done.stdout.splitlines()
    assert first == "code 1" and third == "code 0" and '"failed":[]' in second
    assert "(No space left on device): free some space." in done.stderr and "Traceback" not in done.stderr
    kept = int(second.partition('"kept":')[2].partition(",")[0])
    assert 10 < kept < 30 and int(files) == 30 + 2
