"""Preparation: painted, found or downloaded pairs are checked, and the workspace lists them."""

import csv
import socket

import numpy as np
import pytest
from PIL import Image

from model.errors import DataError
from pipelines.config.loading import load
from pipelines.data.pairs import PairIndex, read
from pipelines.data.prepare import prepare
from pipelines.workspace import Workspace

SIDE = 32
SMALL = "network.image_size=32 network.depth=5 data.sample.train=4 data.sample.val=3"


def settings(folder, *overrides):
    return load(None, [f"workspace={folder}", SMALL, *overrides])


def fill(folder, splits=(("train", 4), ("val", 3)), side=SIDE):
    """Write side-by-side pairs of noise, every one different."""
    for number, (split, count) in enumerate(splits):
        (folder / split).mkdir(parents=True)
        for i in range(count):
            noise = np.random.default_rng((number, i)).integers(0, 256, (side, 2 * side, 3), dtype=np.uint8)
            Image.fromarray(noise).save(folder / split / f"{i}.png")
    return folder


def rejected(workspace):
    with (workspace / "rejected.csv").open() as file:
        return list(csv.DictReader(file))


# The painted sample


@pytest.fixture(scope="module")
def painted(tmp_path_factory):
    """Return a workspace with a small painted sample, and its index."""
    folder = tmp_path_factory.mktemp("painted")
    return folder, prepare(settings(folder))


def test_sample_is_painted_into_the_workspace(painted):
    folder, index = painted
    sample = folder / "sample-v1-32px-4+3-seed0"
    assert sorted(path.name for path in folder.iterdir()) == [
        "pairs.json",
        "prepared.json",
        "rejected.csv",
        sample.name,
    ]
    assert (index.source, len(index.train), len(index.val), index.rejected) == ("sample", 4, 3, ())
    for pair in (*index.train, *index.val):
        assert pair.size == (SIDE, SIDE) and sample in pair.files[0].path.parents
        photo, street_map = read(pair)
        assert photo.shape == street_map.shape == (SIDE, SIDE, 3) and not np.array_equal(photo, street_map)


def test_returned_index_is_the_one_in_the_workspace(painted):
    folder, index = painted
    assert PairIndex.load(Workspace(folder).pairs_file) == index
    assert rejected(folder) == [] and (folder / "rejected.csv").read_text() == "name,reason\n"


def test_existing_sample_is_not_painted_again(painted):
    folder, index = painted
    files = [pair.files[0].path for pair in (*index.train, *index.val)]
    before = [(path.stat().st_ino, path.stat().st_mtime_ns) for path in files]
    assert prepare(settings(folder)) == index
    assert [(path.stat().st_ino, path.stat().st_mtime_ns) for path in files] == before


def test_same_seed_paints_the_same_pairs_elsewhere(painted, tmp_path):
    again = prepare(settings(tmp_path / "new" / "workspace"))
    assert again.fingerprint == painted[1].fingerprint and again != painted[1]


@pytest.mark.parametrize(
    ("override", "name"),
    [
        ("seed=1", "sample-v1-32px-4+3-seed1"),
        ("data.sample.train=5", "sample-v1-32px-5+3-seed0"),
        ("data.sample.val=4", "sample-v1-32px-4+4-seed0"),
        ("network.image_size=64", "sample-v1-64px-4+3-seed0"),
    ],
)
def test_another_sample_has_a_folder_of_its_own(painted, override, name):
    folder, index = painted
    other = prepare(settings(folder, override))
    assert other.fingerprint != index.fingerprint and (folder / name).is_dir()
    assert folder / name in other.val[0].files[0].path.parents
    assert prepare(settings(folder)) == index


# Folders of pairs


def test_a_folder_is_not_copied(tmp_path):
    source = fill(tmp_path / "my pairs")
    index = prepare(settings(tmp_path / "workspace", f"data.source={source}"))
    assert (index.source, len(index.train), len(index.val)) == (str(source), 4, 3)
    assert sorted(path.name for path in (tmp_path / "workspace").iterdir()) == [
        "pairs.json",
        "prepared.json",
        "rejected.csv",
    ]


def test_a_tilde_is_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    fill(tmp_path / "pairs")
    assert len(prepare(settings(tmp_path / "workspace", "data.source=~/pairs")).train) == 4


def test_rejected_files_are_listed_with_the_reason(tmp_path, caplog):
    source = fill(tmp_path / "pairs", (("train", 20), ("val", 3)))
    (source / "train" / "bad.png").write_bytes(b"no image")
    index = prepare(settings(tmp_path / "workspace", f"data.source={source}"))
    assert len(index.train) == 20
    (row,) = rejected(tmp_path / "workspace")
    assert row["name"] == "train/bad" and "unknown format" in row["reason"]
    assert caplog.messages == [f"1 of 24 pairs can't be used; see {tmp_path}/workspace/rejected.csv."]


def test_unused_images_and_doubtful_pairs_are_reported(tmp_path, caplog):
    source = fill(tmp_path / "pairs", (("train", 4), ("val", 3), ("test", 2)))
    Image.new("RGB", (2 * SIDE, SIDE)).save(source / "train" / "black.png")
    index = prepare(settings(tmp_path / "workspace", f"data.source={source}"))
    assert [item.name for item in index.unused] == ["test/"] and len(index.warnings) == 2
    assert caplog.messages[0] == "Not used: test/ 2 images: val/ is held out."
    assert caplog.messages[1].startswith("Warning: 1 of 8 photos is entirely black (train/black). Scale")
    assert PairIndex.load(tmp_path / "workspace" / "pairs.json") == index


def test_pairs_that_do_not_fill_a_batch_are_reported(tmp_path, caplog):
    prepare(settings(tmp_path / "work", f"data.source={fill(tmp_path / 'few', (('train', 2), ('val', 3)))}"))
    assert "Warning: 2 training pairs don't fill a batch of 4; lower training.batch_size." in caplog.messages


def test_min_good_is_a_setting(tmp_path):
    source = fill(tmp_path / "pairs", (("train", 8), ("val", 4)))
    (source / "train" / "bad.png").write_bytes(b"no image")
    (source / "train" / "worse.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"at least 90 % must be good \(data.min_good\)"):
        prepare(settings(tmp_path / "workspace", f"data.source={source}"))
    assert len(prepare(settings(tmp_path / "workspace", f"data.source={source} data.min_good=0.8")).rejected) == 2


def test_val_fraction_is_a_setting(tmp_path):
    source = fill(tmp_path / "pairs", (("train", 40),))
    held = [
        len(prepare(settings(tmp_path / "workspace", f"data.source={source} data.val_fraction={share}")).val)
        for share in (0.3, 0.7)
    ]
    assert 3 <= held[0] < 20 < held[1] < 40


def test_a_pair_smaller_than_the_network_is_refused(tmp_path):
    source = fill(tmp_path / "pairs")
    with pytest.raises(DataError, match=r"each half has 32x32 pixels; network\.image_size needs at least 64x64"):
        prepare(settings(tmp_path / "workspace", f"data.source={source} network.image_size=64"))


def test_too_few_held_out_pairs_stop_before_anything_is_written(tmp_path):
    source = fill(tmp_path / "pairs", (("train", 4), ("val", 2)))
    with pytest.raises(DataError) as stopped:
        prepare(settings(tmp_path / "workspace", f"data.source={source}"))
    assert str(stopped.value).startswith(f"{source} has 2 held-out pairs; confidence intervals need at least 3.")
    assert "data.val_fraction" in str(stopped.value) and not (tmp_path / "workspace").exists()


def test_a_failure_keeps_the_earlier_index(tmp_path):
    source = fill(tmp_path / "pairs")
    index = prepare(settings(tmp_path / "workspace", f"data.source={source}"))
    with pytest.raises(DataError, match="There is no folder"):
        prepare(settings(tmp_path / "workspace", f"data.source={tmp_path / 'nowhere'}"))
    assert PairIndex.load(Workspace(tmp_path / "workspace").pairs_file) == index


# Kaggle


def test_a_kaggle_address_is_downloaded(tmp_path, monkeypatch):
    """The real kagglehub reads its cache, behind a proxy that refuses every connection."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        refusing = f"http://127.0.0.1:{free.getsockname()[1]}"
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, refusing)
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "cache"))
    versions = tmp_path / "cache" / "datasets" / "owner" / "name"
    fill(versions / "versions" / "3" / "maps")
    (versions / "3.complete").touch()
    address = "kaggle://owner/name/versions/3#maps"
    index = prepare(settings(tmp_path / "workspace", f"data.source={address}"))
    assert (index.source, len(index.train), len(index.val)) == (address, 4, 3)
    assert versions in index.train[0].files[0].path.parents
