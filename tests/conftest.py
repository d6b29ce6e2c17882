"""What several test modules need: a bundle that is made and loaded in milliseconds."""

import onnx
import pytest
from onnx import helper

from model.bundle import MODEL_FILE, BundleManifest, Parity, write_manifest
from model.files import sha256
from model.spec import NetworkConfig, signature


@pytest.fixture(scope="session")
def onnx_model():
    """Return a function that serialises a model of one operator from a signature's input to its output."""

    def serialise(tensors, operator="Neg", **attributes):
        node = helper.make_node(operator, [tensors.input], [tensors.output], **attributes)
        ends = [
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, tensors.shape)
            for name in (tensors.input, tensors.output)
        ]
        graph = helper.make_graph([node], "generator", ends[:1], ends[1:])
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10).SerializeToString()

    return serialise


@pytest.fixture
def make_bundle(tmp_path, onnx_model):
    """Return a function that writes a bundle folder; unless told otherwise, its generator draws the negative."""
    network = NetworkConfig(image_size=32, width=2, depth=3)

    def make(*, model=None, **changes):
        folder = tmp_path / "bundle"
        folder.mkdir()
        (folder / MODEL_FILE).write_bytes(onnx_model(signature(network)) if model is None else model)
        values = {
            "network": network,
            "direction": "photo_to_map",
            "signature": signature(network),
            "opset": 18,
            "sha256": sha256(folder / MODEL_FILE),
            "parity": Parity(max_difference=1e-6, limit=1e-4, photos=2),
            "run_id": "1f0c",
            "data_fingerprint": "9b7e",
            "code_revision": "838b6f8",
        }
        write_manifest(folder, BundleManifest(**values | changes))
        return folder

    return make
