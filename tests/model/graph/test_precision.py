"""Pixels as input and output of a model, and half precision inside."""

import numpy as np
import onnx
import onnxruntime
import pytest

from model.errors import ExportError
from model.graph.calibration import as_function, calibrate
from model.graph.lowering import lower
from model.graph.precision import take_pixels, to_half
from model.graph.quantisation import quantise
from model.pixels import to_pixels, to_tensor
from model.spec import NetworkConfig
from tests.fixtures.generators import photos, plain

NETWORKS = [
    NetworkConfig(image_size=32, width=1, depth=2),
    NetworkConfig(image_size=96, width=6, depth=5),
    NetworkConfig(image_size=64, width=6, depth=4, norm="instance"),
]
EVERY = pytest.mark.parametrize("network", NETWORKS, ids=str)
UPSAMPLINGS = ("phases", "transposed")


def open_session(model, **options):
    """Load a model on the CPU."""
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    for name, value in options.items():
        setattr(settings, name, value)
    return onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])


def variants(network, upsampling="phases"):
    """Return the float32, the int8 and the half model."""
    lowered = lower(plain(network), upsampling=upsampling)
    return lowered, quantise(lowered, calibrate(lowered, [photos(network)])), to_half(lowered)


def pixels_of(network):
    """Return noise of all levels, uint8 (3, S, S, 3)."""
    return np.random.default_rng(4).integers(0, 256, (3, network.image_size, network.image_size, 3), np.uint8)


@EVERY
@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
def test_pixels_are_scaled_and_rounded_as_by_model_pixels(network, upsampling):
    pixels = pixels_of(network)
    for model in variants(network, upsampling):
        expected = to_pixels(as_function(model)(to_tensor(pixels)))
        taking = take_pixels(model)
        onnx.checker.check_model(taking, full_check=True)
        (found,) = open_session(taking).run(["map"], {"photo": pixels})
        assert found.dtype == np.uint8 and found.std() > 1
        assert (found == expected).all()


@EVERY
def test_only_the_type_of_the_ends_changes(network):
    for model in variants(network):
        before, after = (open_session(one) for one in (model, take_pixels(model)))
        for ends in ("get_inputs", "get_outputs"):
            (old,), (new,) = getattr(before, ends)(), getattr(after, ends)()
            assert (old.name, old.shape) == (new.name, new.shape)
            assert (old.type, new.type) == ("tensor(float)", "tensor(uint8)")


@pytest.mark.parametrize("network", NETWORKS[:2], ids=str)
def test_an_int8_model_reads_the_pixels_unchanged(network, tmp_path):
    file = tmp_path / "optimised.onnx"
    open_session(take_pixels(variants(network)[1]), optimized_model_filepath=str(file))
    first, *rest = onnx.load(file).graph.node
    assert first.op_type == "QLinearConv" and first.input[0] == "photo"
    assert "QuantizeLinear" not in {node.op_type for node in rest}


@EVERY
def test_a_half_model_has_float16_weights_and_draws_nearly_the_same(network):
    lowered, _, half = variants(network)
    onnx.checker.check_model(half, full_check=True)
    assert {tensor.data_type for tensor in half.graph.initializer} <= {
        onnx.TensorProto.FLOAT16,
        onnx.TensorProto.INT64,
    }
    assert half.ByteSize() < lowered.ByteSize()
    expected, found = (as_function(model)(photos(network)) for model in (lowered, half))
    assert 0 < np.abs(found - expected).max() < 0.02


def test_a_weight_too_large_for_half_precision_is_refused():
    lowered = lower(plain(NETWORKS[0]))
    bias = next(tensor for tensor in lowered.graph.initializer if tensor.name == "up0.bias")
    bias.CopyFrom(onnx.numpy_helper.from_array(np.full(12, 7e4, np.float32), bias.name))
    with pytest.raises(ExportError, match=r"weight of up0.bias is 70000, too large for half precision \(65504\)"):
        to_half(lowered)


def test_the_given_models_are_not_changed():
    for model in variants(NETWORKS[1])[:2]:
        before = model.SerializeToString(deterministic=True)
        take_pixels(model)
        assert model.SerializeToString(deterministic=True) == before
    lowered = lower(plain(NETWORKS[1]))
    before = lowered.SerializeToString(deterministic=True)
    to_half(lowered)
    assert lowered.SerializeToString(deterministic=True) == before
