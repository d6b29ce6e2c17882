"""Bundles: complete ones open, damaged ones are refused in one sentence."""

import hashlib
import json
import re

import pytest

from model.bundle import MANIFEST_FILE, MAX_MODEL_BYTES, MODEL_FILE, Bundle, BundleManifest
from model.errors import BundleError
from model.spec import NetworkConfig, signature


def refusal(folder, variant="fp32"):
    """Open a bundle and verify a file of it, one of which fails; return the message, one sentence on one line."""
    with pytest.raises(BundleError) as caught:
        Bundle.open(folder).verified(variant)
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


def test_a_manifest_of_0_1_0_has_no_reason_for_a_missing_palette(make_bundle):
    folder = make_bundle()
    manifest = json.loads((folder / MANIFEST_FILE).read_text())
    del manifest["palette_missing"]
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest))
    assert Bundle.open(folder).manifest.palette_missing == ""


def test_a_bundle_may_be_moved(make_bundle, tmp_path):
    moved = make_bundle(model=b"weights").rename(tmp_path / "elsewhere")
    assert Bundle.open(moved).model_file == moved / MODEL_FILE


def test_manifest_holds_all_that_is_needed_to_run_the_model(make_bundle):
    manifest = json.loads((make_bundle() / MANIFEST_FILE).read_text())
    assert manifest["value_range"] == [-1, 1]
    assert manifest["parity"] == {"max_difference": 1e-6, "limit": 1e-4, "photos": 2}
    assert {"format", "direction", "opset", "run_id", "data_fingerprint", "code_revision"} <= manifest.keys()


def test_a_folder_without_manifest_is_not_a_bundle(make_bundle):
    folder = make_bundle()
    (folder / MANIFEST_FILE).unlink()
    assert "bundle.json is missing" in refusal(folder)


def test_a_missing_folder_is_not_a_bundle(tmp_path):
    assert "is not a bundle" in refusal(tmp_path / "nowhere")


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


@pytest.mark.parametrize("position", [0, -1])
def test_one_flipped_bit_is_refused(make_bundle, position):
    folder = make_bundle()
    content = bytearray((folder / MODEL_FILE).read_bytes())
    content[position] ^= 1
    (folder / MODEL_FILE).write_bytes(content)
    assert "generator.onnx is not the file that was exported (its sha256 differs)" in refusal(folder)


def test_a_file_too_large_for_a_generator_is_refused_unread(make_bundle):
    folder = make_bundle()
    with (folder / MODEL_FILE).open("r+b") as file:
        file.truncate(MAX_MODEL_BYTES + 1)  # Sparse, so it takes no space on the disk.
    assert "is larger than 4294967296 bytes" in refusal(folder)


def int8(content, **changes):
    values = {"providers": ["CPUExecutionProvider"], "max_difference": 0.1, "ssim": 0.99, "losses": {}, "photos": 2}
    return values | {"sha256": hashlib.sha256(content).hexdigest()} | changes


def test_a_variant_has_a_file_of_its_own(make_bundle):
    folder = make_bundle(model=b"weights", variants={"int8": int8(b"few bits")})
    with pytest.raises(BundleError, match=r"generator\.int8\.onnx is missing"):
        Bundle.open(folder)
    (folder / "generator.int8.onnx").write_bytes(b"few bits")
    bundle = Bundle.open(folder)
    assert bundle.verified("int8").read_bytes() == b"few bits"
    assert bundle.verified() == bundle.model_file
    assert list(bundle.manifest.hashes()) == ["fp32", "int8"]
    (folder / "generator.int8.onnx").write_bytes(b"few bots")
    assert "generator.int8.onnx is not the file" in refusal(folder, "int8")
    assert bundle.verified() == bundle.model_file


def test_an_unknown_variant_is_refused_with_the_known_ones(make_bundle):
    assert refusal(make_bundle(), "int4").endswith("has no variant 'int4'; there are: fp32.")


@pytest.mark.parametrize("name", ["fp32", "../int8", "INT8", ""])
def test_invalid_names_of_variants_are_refused(make_bundle, name):
    folder = make_bundle()
    change_manifest(folder, variants={name: int8(b"few bits")})
    assert "can't be read" in refusal(folder)


def test_uint8_tensors_have_the_range_0_to_255(make_bundle):
    network = NetworkConfig(image_size=32, width=2, depth=3)
    folder = make_bundle(signature=signature(network, dtype="uint8"), value_range=(0, 255))
    assert Bundle.open(folder).manifest.signature.dtype == "uint8"
    change_manifest(folder, value_range=(-1, 1))
    assert "can't be read" in refusal(folder)
