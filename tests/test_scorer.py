"""Photos become maps and a manifest: what can't be drawn is told, what is there is kept, nothing is lost by a kill."""

import csv
import hashlib
import io
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from stores import Store, s3_credentials

from model import places
from model.bundle import Bundle
from model.errors import BundleError, DataError
from model.places import PlaceError
from model.spec import NetworkConfig, signature
from serving.image_scorer import ScoreSettings
from serving.score_manifest import CSV_FILE, JOURNAL_FOLDER, PARQUET_FILE, read_rows
from serving.scorer import is_file_name, score

PROJECT = Path(__file__).resolve().parent.parent
SIDE = 32


@pytest.fixture
def bundle(make_bundle):
    """Return a bundle whose maps are the negatives of the photos, 32x32 pixels."""
    return Bundle.open(make_bundle())


@pytest.fixture
def other_bundle(make_bundle, scaling_model):
    """Return a bundle whose maps are the photos themselves."""
    network = NetworkConfig(image_size=SIDE, width=2, depth=3)
    return Bundle.open(make_bundle(model=scaling_model(1.0, network), name="other", run_id="2e1d"))


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


@pytest.fixture
def maps(tmp_path):
    """Return the place of a folder of maps that is not there yet."""
    return tmp_path / "maps"


def draw(bundle, photos, out, **options):
    settings = {name: options.pop(name) for name in ("format", "resize", "overlap") if name in options}
    return score(bundle, [str(photos)], str(out), settings=ScoreSettings(**settings), **options)


def content(folder):
    """Return every file below a folder with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def drawn_names(out):
    """Return the names of all files below a folder, without the manifests, which have to be there."""
    names = set(content(out))
    assert {CSV_FILE, PARQUET_FILE} <= names
    return names - {CSV_FILE, PARQUET_FILE}


def rows(out):
    """Return the manifest's rows by the names of their photos."""
    return {Path(row["source"]).name: row for row in csv.DictReader(io.StringIO((out / CSV_FILE).read_text("utf-8")))}


def without_times(out):
    return {name: {**row, "milliseconds": None} for name, row in rows(out).items()}


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def negative(image):
    return 255 - np.asarray(image.convert("RGB"))


def errors(report):
    return {Path(failure.source).name: failure.error for failure in report.failed}


def refused(bundle, photos, out):
    """Score what should be refused as a whole, see that nothing changed, and return the message."""
    before = content(out.parent), out.exists()
    with pytest.raises(DataError) as stopped:
        draw(bundle, photos, out)
    assert (content(out.parent), out.exists()) == before
    return str(stopped.value)


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
def test_a_pixel_of_any_photo_is_a_pixel_of_its_map(bundle, photos, maps, size):
    noise(9, size).save(photos / "odd.png")
    draw(bundle, photos / "odd.png", maps)
    assert np.array_equal(pixels(maps / "odd.png"), negative(noise(9, size)))
    row = rows(maps)["odd.png"]
    assert (row["width"], row["height"]) == (str(size[0]), str(size[1]))
    assert bool(row["seams"]) == (max(size) > SIDE)


@pytest.mark.parametrize(("size", "expected"), [((64, 64), (32, 32)), ((7, 7), (32, 32)), ((64, 200), (32, 100))])
def test_photos_are_scaled_as_training_did_if_asked(bundle, photos, maps, size, expected):
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
    exif[0x0112] = 6  # Turn clockwise by a quarter to see it.
    noise(9, (40, 20)).rotate(90, expand=True).save(photos / "side.png", exif=exif)
    draw(bundle, photos / "side.png", maps)
    assert np.array_equal(pixels(maps / "side.png"), negative(noise(9, (40, 20))))


def test_names_with_spaces_and_other_letters_stay(bundle, tmp_path, maps):
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


def test_the_maps_can_be_read_by_others(bundle, photos, maps):
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


def test_what_ends_like_an_image_is_a_file_unless_it_is_a_folder(tmp_path):
    (tmp_path / "folder.png").mkdir()
    assert is_file_name(f"{tmp_path}/map.png") and is_file_name(f"{tmp_path}/map.TIF")
    assert not is_file_name(f"{tmp_path}/maps") and not is_file_name(f"{tmp_path}/folder.png")


def test_a_file_takes_one_photo_and_not_the_photo_s_own_place(bundle, photos, tmp_path):
    assert refused(bundle, photos, tmp_path / "map.png").startswith("3 photos can't go to the file ")
    assert "would take its place" in refused(bundle, photos / "a.png", photos / "a.png")
    (photos / "a.png").write_bytes(b"no photo")
    assert "a.png is of an unknown format" in refused(bundle, photos / "a.png", tmp_path / "map.png")


# The manifest


def test_the_manifest_says_what_was_made_by_which_model(bundle, photos, maps):
    (photos / "broken.jpg").write_bytes(b"no photo")
    report = draw(bundle, photos, maps, model="models:/sat2map/7")
    told = rows(maps)
    assert list(told) == ["a.png", "b.png", "broken.jpg", "c.png"]
    row = told["a.png"]
    assert row["source"] == str(photos / "a.png") and row["output"] == "a.png"
    for place, key in ((photos, "source_sha256"), (maps, "output_sha256")):
        assert row[key] == hashlib.sha256((place / "a.png").read_bytes()).hexdigest()
    assert (row["width"], row["height"], row["variant"], row["error"]) == ("32", "32", "fp32", "")
    assert (row["model"], row["model_sha256"]) == ("models:/sat2map/7", bundle.manifest.sha256)
    assert float(row["milliseconds"]) > 0
    expected = "photos/broken.jpg is of an unknown format; JPEG, PNG, WebP, TIFF are allowed"
    assert told["broken.jpg"]["error"] == errors(report)["broken.jpg"] == expected
    assert not any(told["broken.jpg"][key] for key in ("output", "output_sha256", "width", "milliseconds"))
    assert draw(bundle, photos, maps).model == "runs:/1f0c"


def test_what_can_t_be_drawn_is_told_on_stderr_and_the_rest_is_drawn(bundle, photos, maps, capsys):
    whole = (photos / "b.png").read_bytes()
    (photos / "b.png").write_bytes(whole[: len(whole) // 2])
    (photos / "empty.jpg").touch()
    noise(5).save(photos / "d.gif")
    noise(5).save(photos / "pages.tif", save_all=True, append_images=[noise(6)])
    report = draw(bundle, photos, maps)
    assert report.drawn == 2 and list(errors(report)) == ["b.png", "d.gif", "empty.jpg", "pages.tif"]
    assert errors(report)["b.png"].startswith("photos/b.png is broken or truncated (")
    assert errors(report)["d.gif"] == "photos/d.gif is GIF; JPEG, PNG, WebP, TIFF are allowed"
    assert errors(report)["pages.tif"] == "photos/pages.tif has several pages; a single image is needed"
    assert drawn_names(maps) == {"a.png", "c.png"}
    assert [line.partition(": ")[0] for line in capsys.readouterr().err.splitlines()] == [
        str(photos / name) for name in errors(report)
    ]


def test_when_nothing_can_be_drawn_it_is_an_error_and_the_manifest_says_why(bundle, photos, maps):
    for path in photos.iterdir():
        path.write_bytes(b"no photo")
    with pytest.raises(DataError, match=r"^None of the photos can be drawn \(3\):\n  .*a\.png: photos/a\.png is of"):
        draw(bundle, photos, maps)
    assert drawn_names(maps) == set() and all(row["error"] for row in rows(maps).values())


# Run again


def altered(folder, before):
    """Return the names of files that were written again, or are gone."""
    return {name for name, was in before.items() if not (folder / name).exists() or stamp(folder / name) != was}


def stamp(path):
    return path.stat().st_mtime_ns, path.stat().st_ino


def stamps(folder):
    return {path.name: stamp(path) for path in folder.glob("*.png")}


def test_what_is_there_is_kept(bundle, photos, maps):
    draw(bundle, photos, maps)
    before, told = stamps(maps), rows(maps)
    report = draw(bundle, photos, maps)
    assert (report.drawn, report.kept) == (0, 3)
    assert stamps(maps) == before and rows(maps) == told


def test_only_what_changed_is_drawn(bundle, photos, maps):
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


def test_another_model_and_other_settings_draw_anew(bundle, other_bundle, photos, maps):
    draw(bundle, photos, maps)
    assert draw(other_bundle, photos, maps).drawn == 3
    assert np.array_equal(pixels(maps / "a.png"), np.asarray(noise(0)))
    assert rows(maps)["a.png"]["model"] == "runs:/2e1d"
    assert draw(other_bundle, photos, maps, overlap=0.5).drawn == 3
    assert draw(other_bundle, photos, maps, overlap=0.5, resize=True).drawn == 3
    assert draw(other_bundle, photos, maps, overlap=0.5, resize=True).kept == 3


def test_what_failed_is_tried_again(bundle, photos, maps):
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


def test_a_map_of_another_photo_is_not_drawn_over(bundle, photos, tmp_path, maps):
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


def command(bundle, photos, out):
    program = (
        "import sys; from pathlib import Path; from model.bundle import Bundle; from serving.scorer import score\n"
    )
    program += "from model.errors import Sat2mapError\n"
    program += "try: print(score(Bundle.open(Path(sys.argv[1])), [sys.argv[2]], sys.argv[3]).model_dump_json())\n"
    program += "except Sat2mapError as error: sys.exit(str(error))"
    return [sys.executable, "-c", program, str(bundle.folder), str(photos), str(out)]


@pytest.fixture
def many(tmp_path):
    """Return a folder of 300 photos of several tiles each."""
    folder = tmp_path / "many"
    folder.mkdir()
    noise(0, (200, 200)).save(folder / "000.png")
    for number in range(1, 300):
        noise(number, (8, 8)).resize((200, 200)).save(folder / f"{number:03}.jpg")
    return folder


def test_after_a_kill_only_what_is_missing_is_drawn_and_the_result_is_the_same(bundle, many, tmp_path, maps):
    undisturbed = tmp_path / "undisturbed"
    draw(bundle, many, undisturbed)
    for least in (20, 120):
        process = subprocess.Popen(command(bundle, many, maps), cwd=PROJECT, stdout=subprocess.DEVNULL)
        patience = time.monotonic() + 60
        while len(list(maps.glob("*.png"))) < least:
            assert process.poll() is None and time.monotonic() < patience
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait(30) == -signal.SIGKILL
        assert not (maps / CSV_FILE).exists()
    noted, before = len({row.output for row in read_rows(str(maps))}), stamps(maps)
    report = draw(bundle, many, maps)
    assert noted >= 100 and report.kept == noted and report.drawn == 300 - noted
    # The few maps that were written and not yet noted are drawn again.
    assert len(altered(maps, before)) <= len(before) - noted
    assert {name: data for name, data in content(maps).items() if name.endswith(".png") and name[0] != "."} == {
        name: data for name, data in content(undisturbed).items() if name.endswith(".png")
    }
    assert without_times(maps) == without_times(undisturbed)
    assert not (maps / JOURNAL_FOLDER).exists()


FULL = """
disk=$1; shift
mount -t tmpfs -o size=700k none "$disk"
"$@"; echo "code $?"
mount -o remount,size=10m "$disk"
"$@"; echo "code $?"
ls -A "$disk/maps" | wc -l
"""


def test_a_full_disk_stops_in_one_sentence_and_what_was_drawn_counts(bundle, tmp_path):
    if not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("needs a small disk, which takes Linux's unshare")
    (tmp_path / "photos").mkdir()
    (tmp_path / "disk").mkdir()
    for number in range(30):
        noise(number, (100, 100)).save(tmp_path / "photos" / f"{number:02}.png")
    words = ["bash", "-c", FULL, "bash", str(tmp_path / "disk")]
    words += command(bundle, tmp_path / "photos", tmp_path / "disk" / "maps")
    done = subprocess.run(["unshare", "-rm", *words], cwd=PROJECT, capture_output=True, text=True, check=True)
    first, second, third, files = done.stdout.splitlines()
    assert first == "code 1" and third == "code 0" and '"failed":[]' in second
    assert "(No space left on device): make room." in done.stderr and "Traceback" not in done.stderr
    kept = int(second.partition('"kept":')[2].partition(",")[0])
    assert 10 < kept < 30 and int(files) == 30 + 2


# The folder of maps


def test_an_empty_folder_is_filled(bundle, photos, maps):
    maps.mkdir()
    assert draw(bundle, photos, maps).drawn == 3


def test_a_folder_of_foreign_files_is_refused_and_untouched(bundle, photos, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("dear diary")
    message = refused(bundle, photos, tmp_path / "mine")
    assert message == f"{tmp_path / 'mine'} holds files that no earlier scoring made; name a new or an empty folder."


def test_photos_are_not_drawn_over(bundle, photos, maps):
    assert "no earlier scoring made" in refused(bundle, photos, photos)
    draw(bundle, photos, maps)
    assert "would take its place" in refused(bundle, maps, maps)


def test_a_file_is_no_folder_for_maps(bundle, photos, tmp_path):
    (tmp_path / "maps").write_text("a file")
    assert refused(bundle, photos, tmp_path / "maps") == f"{tmp_path / 'maps'} is a file; name a folder for the maps."


def test_a_folder_that_can_t_be_written_is_told(bundle, photos, tmp_path):
    (tmp_path / "file").write_text("a file")
    with pytest.raises(PlaceError, match=r"can't be written \(Not a directory\)"):
        draw(bundle, photos, tmp_path / "file" / "maps")


def test_a_map_whose_name_is_taken_by_a_folder_is_told_and_the_rest_is_drawn(bundle, photos, maps):
    draw(bundle, photos, maps)
    (maps / "a.png").unlink()
    (maps / "a.png" / "deep").mkdir(parents=True)
    report = draw(bundle, photos, maps)
    assert errors(report).keys() == {"a.png"} and "can't be written" in errors(report)["a.png"] and report.kept == 2


def test_a_model_that_can_not_be_loaded_stops_before_anything_is_made(make_bundle, photos, maps):
    bundle = Bundle.open(make_bundle(model=b"no model"))
    with pytest.raises(BundleError, match="onnxruntime can't load"):
        draw(bundle, photos, maps)
    with pytest.raises(BundleError, match="has no variant 'int4'"):
        draw(bundle, photos, maps, variant="int4")
    assert not maps.exists()


# Memory


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
        words = command(bundle, folder, tmp_path / f"maps{count}")
        words[2] += "\nimport resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        done = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout.splitlines()[-1]) / 1024)
    # 450 photos more, decoded and drawn, would be 170 MB.
    assert peaks[1] < peaks[0] + 20


# Addresses


@pytest.fixture(scope="module")
def store():
    """Return a running S3 server."""
    with s3_credentials():
        store = Store()
        yield store
        store.stop()


def test_photos_and_maps_may_lie_at_addresses(store, bundle, photos, maps, tmp_path):
    (photos / "broken.jpg").write_bytes(b"no photo")
    source, out = store.upload(photos, "in/my photos"), store.address("out/my maps")
    here, there = draw(bundle, photos, maps), draw(bundle, source, out)
    assert (there.drawn, len(there.failed), there.images_per_second > 0) == (here.drawn, 1, True)
    assert set(places.list_folder(out).files) == set(content(maps)) and not places.list_folder(out).folders
    for name in drawn_names(maps):
        assert places.read_bytes(places.inside(out, name)) == content(maps)[name]
    again = draw(bundle, source, out)
    assert (again.drawn, again.kept) == (0, 3)
    single = draw(bundle, photos / "a.png", store.address("out/one.png"))
    assert single.drawn == 1 and places.read_bytes(store.address("out/one.png")) == content(maps)["a.png"]


def test_a_killed_run_at_an_address_goes_on(store, bundle, photos, monkeypatch):
    """The journal is sent every few seconds; what was sent counts."""
    out = store.address("killed/maps")
    monkeypatch.setattr("serving.score_manifest.UPLOAD_SECONDS", 0)
    with monkeypatch.context() as patch:
        patch.setattr("serving.scorer.seal", lambda *_: None)
        draw(bundle, photos, out)
    assert CSV_FILE not in places.list_folder(out).files
    assert (draw(bundle, photos, out).kept, len(read_rows(out))) == (3, 3)


def test_an_address_that_does_not_answer_stops_it_all(bundle, photos):
    with pytest.raises(PlaceError, match=r"can't be reached"):
        draw(bundle, photos, "s3://bucket/maps?endpoint_override=127.0.0.1:9&scheme=http")
