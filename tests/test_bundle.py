"""A bundle opens when it is whole, and says in one sentence what is wrong when it is not."""

import json
import re

import pytest

from model.bundle import MANIFEST_FILE, MAX_MODEL_BYTES, MODEL_FILE, Bundle, BundleManifest
from model.errors import BundleError


def refusal(folder):
    """Open a bundle that can't be opened; return its message, one sentence on one line."""
    with pytest.raises(BundleError) as caught:
        Bundle.open(folder)
    message = str(caught.value)
    assert re.fullmatch(r"[^\n]+[^.]\.", message)
    assert str(folder) in message
    return message


def change_manifest(folder, **changes):
    path = folder / MANIFEST_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_bundle_comes_back_as_it_was_written(make_bundle):
    folder = make_bundle(model=b"weights", run_id="Straße")
    bundle = Bundle.open(folder)
    assert bundle.folder == folder
    assert bundle.model_file.read_bytes() == b"weights"
    manifest = bundle.manifest
    assert manifest.run_id == "Straße"
    assert manifest.network.image_size == manifest.signature.height == 32
    assert BundleManifest.model_validate_json((folder / MANIFEST_FILE).read_text()) == manifest


def test_a_bundle_may_be_moved(make_bundle, tmp_path):
    moved = make_bundle(model=b"weights").rename(tmp_path / "elsewhere")
    assert Bundle.open(moved).model_file == moved / MODEL_FILE


def test_the_manifest_says_all_that_is_needed_to_judge_the_model(make_bundle):
    manifest = json.loads((make_bundle() / MANIFEST_FILE).read_text())
    assert manifest["value_range"] == [-1, 1]
    assert manifest["parity"] == {"max_difference": 1e-6, "limit": 1e-4, "photos": 2}
    assert {"format", "direction", "opset", "run_id", "data_fingerprint", "code_revision"} <= manifest.keys()


def test_a_folder_without_manifest_is_no_bundle(make_bundle):
    folder = make_bundle()
    (folder / MANIFEST_FILE).unlink()
    assert "bundle.json is missing" in refusal(folder)


def test_a_folder_that_is_not_there_is_no_bundle(tmp_path):
    assert "no bundle" in refusal(tmp_path / "nowhere")


@pytest.mark.parametrize("content", [b"", b'{"format": 1', b"[]", b"\xff\xfe"])
def test_a_broken_manifest_is_refused(make_bundle, content):
    folder = make_bundle()
    (folder / MANIFEST_FILE).write_bytes(content)
    assert "can't be read" in refusal(folder)


@pytest.mark.parametrize("changes", [{"format": 2}, {"author": "me"}, {"direction": "map_to_map"}, {"opset": None}])
def test_a_manifest_of_another_version_is_refused(make_bundle, changes):
    folder = make_bundle()
    change_manifest(folder, **changes)
    assert "this version" in refusal(folder)


def test_a_missing_model_is_refused(make_bundle):
    folder = make_bundle()
    (folder / MODEL_FILE).unlink()
    assert "generator.onnx is missing" in refusal(folder)


@pytest.mark.parametrize("place", [0, -1])
def test_one_flipped_bit_is_refused(make_bundle, place):
    folder = make_bundle()
    content = bytearray((folder / MODEL_FILE).read_bytes())
    content[place] ^= 1
    (folder / MODEL_FILE).write_bytes(content)
    assert "sha256 differs" in refusal(folder)


def test_a_model_too_large_to_be_one_is_refused_unread(make_bundle):
    folder = make_bundle()
    with (folder / MODEL_FILE).open("r+b") as file:
        file.truncate(MAX_MODEL_BYTES + 1)  # Sparse: it takes no room on the disk.
    assert "is larger than 4294967296 bytes" in refusal(folder)
