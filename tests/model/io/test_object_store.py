"""Pairs at an address: an S3 server gives the same results as a local folder of the same files."""

import logging
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest

from model.errors import DataError
from model.io import images
from model.io.locations import Location
from pipelines.config.loading import load as load_config
from pipelines.data.dataset import TrainingPairs, load
from pipelines.data.pairs import PairIndex, read
from pipelines.data.prepare import prepare
from tests.fixtures.object_stores import BUCKET, GoogleStore
from tests.fixtures.pair_folders import SIDE, index, names, picture, reasons, save, side_by_side, two_folders
from tests.fixtures.project import PROJECT


@pytest.fixture
def key(request):
    """Return a folder in the bucket that only this test uses."""
    return f"{request.node.name.partition('[')[0]}/my pairs #1, 100% é"


def index_both(store, folder, key, **options):
    """Index a folder and its copy at an address, check that only the locations differ, and return the remote index."""
    here, there = index(folder, **options), index(store.upload(folder, key), **options)
    assert (there.fingerprint, there.rejected) == (here.fingerprint, here.rejected)
    for mine, other in zip((*here.train, *here.val), (*there.train, *there.val), strict=True):
        assert mine.model_copy(update={"files": other.files}) == other
        assert all(file.is_remote and BUCKET in str(file) for file in other.files)
    return there


# Index


def test_bad_remote_pairs_are_rejected(store, tmp_path, key):
    side_by_side(tmp_path, (("train", 6), ("test", 3)))
    save(tmp_path / "train" / "x é #?%20&+@.png", picture(50))
    save(tmp_path / "train" / "twice.png", picture(51))
    save(tmp_path / "train" / "twice.jpg", picture(52))
    save(tmp_path / "train" / "square.png", picture(53, (SIDE, SIDE)))
    save(tmp_path / "train" / "copy.png", picture((1, 0)))
    save(tmp_path / "train" / "deeper" / "x.png", picture(54))
    save(tmp_path / "train" / "scan.tif", picture(55))
    for name in (".hidden.png", "notes.txt", "empty.png", "broken.png"):
        (tmp_path / "train" / name).write_bytes(b"" if name == "empty.png" else b"broken")
    found = index_both(store, tmp_path, key, min_good=0)
    assert sorted(reasons(found)) == [f"train/{name}" for name in ("broken", "copy", "empty", "square", "twice")]
    assert {"train/x é #?%20&+@", "train/deeper/x", "train/scan"} <= set(names(found.train))
    assert names(found.val)[0] == "test/test0"
    assert reasons(found)["train/twice"] == "several files have this name: train/twice.jpg, train/twice.png"


def test_two_folders_are_joined_by_name(store, tmp_path, key):
    two_folders(tmp_path, "abcd", splits=("train", "val"))
    (tmp_path / "trainB" / "b.webp").unlink()
    found = index_both(store, tmp_path, key, min_good=0)
    assert reasons(found) == {"train/b": "its map is missing in trainB/"} and len(found.train[0].files) == 2


def test_an_unsplit_folder_is_split_by_the_same_hash(store, tmp_path, key):
    found = index_both(store, side_by_side(tmp_path, (("", 30),)), key, val_fraction=0.3)
    assert found.train and found.val


def test_a_bucket_is_a_folder(store, tmp_path):
    store.client.create_bucket(Bucket="whole")
    for path in side_by_side(tmp_path).rglob("*.png"):
        store.client.put_object(Bucket="whole", Key=str(path.relative_to(tmp_path)), Body=path.read_bytes())
    there = index(f"s3://whole?endpoint_override={store.host}&scheme=http")
    assert there.fingerprint == index(tmp_path).fingerprint


def test_folders_are_found_in_google_cloud_storage(tmp_path):
    """Google's store has no folders, and its client does not emulate them as the client for S3 does."""
    side_by_side(tmp_path, (("train", 6), ("val", 3)))
    save(tmp_path / "train" / "deeper" / "x.png", picture(54))
    (tmp_path / "train" / "broken.png").write_bytes(b"broken")
    google = GoogleStore()
    try:
        found = index_both(google, tmp_path, "my/pairs", min_good=0)
        assert reasons(found).keys() == {"train/broken"} and read(found.val[0])
        with pytest.raises(DataError, match=r"^There is no folder gs://anonymous@photos/nowhere\?"):
            index(google.address("nowhere"))
        with pytest.raises(DataError, match=r"^gs://anonymous@photos/my/pairs/val/val0\.png\?.* is a file"):
            index(google.address("my/pairs/val/val0.png"))
    finally:
        google.stop()


def test_a_file_address_is_a_local_folder(tmp_path):
    folder = side_by_side(tmp_path / "my pairs")
    found = index(f"file://{tmp_path}/my%20pairs")
    assert (found.train, found.val) == (index(folder).train, index(folder).val)
    assert found.train[0].files == (Location(folder / "train" / "train0.png"),)


def test_prepare_writes_addresses_and_copies_nothing(store, tmp_path, key):
    folder = side_by_side(tmp_path / "pairs", (("train", 4), ("val", 3)))
    address = store.upload(folder, key)
    settings = [f"workspace={tmp_path / 'work'} network.image_size=32 network.depth=5", f"data.source={address}"]
    found = prepare(load_config(None, settings))
    assert found.source == address and found.fingerprint == index(folder).fingerprint
    assert PairIndex.load(tmp_path / "work" / "pairs.json") == found
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == [
        "pairs.json",
        "prepared.json",
        "rejected.csv",
    ]


def test_the_command_line_explains_a_missing_folder(store, tmp_path):
    words = ["prepare", "--set", f"workspace={tmp_path} data.source={store.address('nowhere')}"]
    command = [sys.executable, "-m", "pipelines", *words]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "There is no folder s3://photos/nowhere" in done.stderr
    assert "Traceback" not in done.stderr


# Requests


def test_a_folder_is_listed_in_few_requests(store, tmp_path, key, caplog):
    address = store.upload(side_by_side(tmp_path, (("train", 30), ("val", 3))), key)
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="werkzeug"):
        Location.parse(address).join("train").list()
    assert 1 <= len([record for record in caplog.records if record.name == "werkzeug"]) <= 3


def test_every_folder_of_a_data_set_is_listed_once(store, tmp_path, key, caplog):
    for number, folder in enumerate(("train/paris", "train/rome/north", "val")):
        for i in range(3):
            save(tmp_path / folder / f"{i}.png", picture((number, i)))
    address = store.upload(tmp_path, key)
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="werkzeug"):
        assert len(index(address).train) == 6
    listed = [record.getMessage() for record in caplog.records if "max-keys=1000" in record.getMessage()]
    assert len(listed) == len(set(listed)) == 6


def test_a_long_listing_is_complete(store, key):
    """S3 returns a thousand names per answer."""
    expected = {f"{number:04}.png" for number in range(1001)}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: store.client.put_object(Bucket=BUCKET, Key=f"long/{name}", Body=b""), expected))
    assert set(Location.parse(store.address("long")).list().files) == expected


# Pixels


def test_many_threads_can_load_pairs(store, tmp_path, key):
    folder = side_by_side(tmp_path, (("train", 12), ("val", 2)))
    here, there = index(folder), index_both(store, folder, key)
    decode = partial(load, side=SIDE + 3, direction="map_to_photo")
    with ThreadPoolExecutor(8) as pool:
        loaded = list(pool.map(decode, there.train * 4))
    for pair, expected in zip(loaded, here.train * 4, strict=True):
        assert np.array_equal(pair, decode(expected))


def test_batches_of_remote_pairs_equal_those_of_a_folder(store, tmp_path, key):
    folder = side_by_side(tmp_path)
    settings = {"side": 16, "direction": "photo_to_map", "jitter": 1.5, "batch_size": 2, "seed": 3}
    settings |= {"mirror": True, "turn": True}
    here, there = (
        [batch.source for batch in TrainingPairs(found.train, **settings).epoch(0)]
        for found in (index(folder), index_both(store, folder, key))
    )
    assert len(here) == 2 and all(map(np.array_equal, here, there))


def test_another_process_needs_only_the_index(store, tmp_path, key):
    index_both(store, side_by_side(tmp_path / "pairs"), key).save(tmp_path / "pairs.json")
    program = "import sys; from pathlib import Path; from pipelines.data.pairs import PairIndex, read; "
    program += "print(read(PairIndex.load(Path(sys.argv[1])).train[0])[0].shape)"
    command = [sys.executable, "-c", program, str(tmp_path / "pairs.json")]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == (f"({SIDE}, {SIDE}, 3)", "")


def test_a_missing_or_changed_file_is_named_in_the_error(store, tmp_path, key):
    gone, changed, *_ = index_both(store, side_by_side(tmp_path), key).train
    store.client.delete_object(Bucket=BUCKET, Key=f"{key}/train/train0.png")
    store.client.put_object(Bucket=BUCKET, Key=f"{key}/train/train1.png", Body=b"other")
    with pytest.raises(DataError, match=r"s3://photos/\S*/train/train0\.png\S* is missing.*prepare"):
        read(gone)
    with pytest.raises(DataError, match=r"s3://photos/.*has changed since it was indexed"):
        read(changed)


def test_a_huge_file_is_not_read(store, tmp_path, key, monkeypatch):
    save(side_by_side(tmp_path) / "train" / "x.png", picture(5, (20 * SIDE, 10 * SIDE)))
    monkeypatch.setattr(images, "MAX_BYTES", 50_000)
    reason = reasons(index_both(store, tmp_path, key, min_good=0))["train/x"]
    assert reason.startswith("has ") and reason.endswith(" bytes; at most 50000 are allowed")
