"""Int8 models draw nearly the maps of their float32 models, with integer operators."""

import numpy as np
import onnx
import onnxruntime
import pytest

from model.errors import ExportError
from model.graph.builder import Wiring
from model.graph.calibration import SATURATION, as_function, calibrate
from model.graph.lowering import lower
from model.graph.quantisation import Scale, layers_of, quantise
from model.pixels import to_pixels
from model.spec import NetworkConfig
from tests.fixtures.generators import photos, plain

SMALL = [
    NetworkConfig(image_size=32, width=1, depth=2),
    NetworkConfig(image_size=96, width=6, depth=5),
    NetworkConfig(image_size=64, width=6, depth=6, norm="sync_batch"),
    NetworkConfig(image_size=64, width=6, depth=4, norm="instance"),
]
WIDE = [NetworkConfig(), NetworkConfig(width=32, norm="instance"), NetworkConfig(image_size=64, width=101, depth=3)]
EVERY = pytest.mark.parametrize(
    "network", [*SMALL, *(pytest.param(network, marks=pytest.mark.slow) for network in WIDE)], ids=str
)
UPSAMPLINGS = ("phases", "transposed")


def quantised(network, upsampling="phases", **options):
    """Lower and quantise a random generator; return both models."""
    lowered = lower(plain(network), upsampling=upsampling)
    return lowered, quantise(lowered, calibrate(lowered, [photos(network, 4, seed=1)]), **options)


def operators_run(model, tmp_path):
    """Return the operators of a model that onnxruntime has optimised for the CPU."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]


@EVERY
@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
def test_an_int8_model_draws_nearly_the_same(network, upsampling):
    lowered, small = quantised(network, upsampling)
    onnx.checker.check_model(small, full_check=True)
    images = photos(network)
    expected, found = as_function(lowered)(images), as_function(small)(images)
    assert expected.std() > 0.1 and 0 < np.abs(found - expected).mean() < 0.05 * expected.std()


@EVERY
@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
def test_all_kernels_are_int8(network, upsampling):
    lowered, small = quantised(network, upsampling)
    kernels = [constant for name, constant in Wiring(small).constants.items() if name.endswith("int8_kernel.levels")]
    assert len(kernels) == 2 * network.depth and {kernel.dtype for kernel in kernels} == {np.dtype(np.int8)}
    assert all(abs(kernel.astype(int)).max() == 127 for kernel in kernels)
    if network.width > 100:
        assert small.ByteSize() < lowered.ByteSize() / 3.8


@pytest.mark.parametrize("network", SMALL[:3], ids=str)
def test_onnxruntime_uses_only_integer_operators(network, tmp_path):
    operators = operators_run(quantised(network)[1], tmp_path)
    assert operators.count("QLinearConv") == 2 * network.depth and "Conv" not in operators
    assert operators.count("QLinearAdd") == operators.count("QLinearLeakyRelu") == network.depth
    # One at each end; the only transposes are those that interleave.
    assert operators.count("QuantizeLinear") == operators.count("DequantizeLinear") == 1
    assert operators.count("Transpose") == network.depth


def test_convolutions_with_instance_norm_are_integer(tmp_path):
    operators = operators_run(quantised(SMALL[3])[1], tmp_path)
    assert operators.count("QLinearConv") == 2 * SMALL[3].depth and "Conv" not in operators


@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
def test_a_kept_layer_stays_in_float(upsampling):
    lowered, everything = quantised(SMALL[1], upsampling)
    _, small = quantised(SMALL[1], upsampling, keep_float=["up3"])
    kernel = Wiring(lowered).constants["up3.kernel"]
    assert (Wiring(small).constants["up3.kernel"] == kernel).all() and "up3.kernel" not in Wiring(everything).constants
    wiring = Wiring(small)
    assert wiring.writers["up3"].input[1] == "up3.kernel" and "up3.levels" not in wiring.writers
    assert wiring.writers["up2"].input[1] == "up2.int8_kernel"


@pytest.mark.parametrize("layer", ["down0", "down1", "down4", "up4", "up1", "up0"])
@pytest.mark.parametrize("network", SMALL[1::2], ids=str)
def test_any_layer_can_stay_in_float(network, layer):
    if layer not in layers_of(lower(plain(network))):
        pytest.skip("this network has fewer layers")
    lowered, small = quantised(network, keep_float=[layer])
    images = photos(network)
    assert np.abs(as_function(small)(images) - as_function(lowered)(images)).mean() < 0.02


@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
def test_a_model_with_all_layers_in_float_is_unchanged(upsampling):
    lowered = lower(plain(SMALL[1]), upsampling=upsampling)
    small = quantise(lowered, calibrate(lowered, [photos(SMALL[1])]), keep_float=layers_of(lowered))
    assert [node.op_type for node in small.graph.node] == [node.op_type for node in lowered.graph.node]
    assert (as_function(small)(photos(SMALL[1])) == as_function(lowered)(photos(SMALL[1]))).all()


def test_an_unknown_layer_is_refused():
    with pytest.raises(ExportError, match=r"no layers \['side'\]; use layers of the model: down0, down1, up1, up0"):
        quantised(SMALL[0], keep_float=["side"])


def test_inputs_outputs_and_metadata_are_kept():
    lowered, small = quantised(SMALL[1])
    assert small.graph.input == lowered.graph.input and small.graph.output == lowered.graph.output
    assert small.opset_import == lowered.opset_import and small.metadata_props == lowered.metadata_props


# Ranges and scales


def test_ranges_cover_every_value_of_every_photo():
    lowered, network = lower(plain(SMALL[1])), SMALL[1]
    one, two = photos(network, 3, seed=1), photos(network, 2, seed=2)
    both, first = calibrate(lowered, [one, two]), calibrate(lowered, [one])
    again = calibrate(lowered, iter([two, one]))
    assert all((both[name][end] == again[name][end]).all() for name in both for end in (0, 1))
    assert all((both[name][0] <= first[name][0]).all() and (first[name][1] <= both[name][1]).all() for name in first)
    drawn = as_function(lowered)(np.concatenate([one, two])).transpose(3, 0, 1, 2).reshape(3, -1)
    np.testing.assert_allclose(both["up0.active"], (drawn.min(axis=1), drawn.max(axis=1)), rtol=1e-5)


def test_the_range_of_tanh_ends_where_pixels_no_longer_change():
    lowered = lower(plain(SMALL[1]))
    wiring = Wiring(lowered)
    bias = next(tensor for tensor in lowered.graph.initializer if tensor.name == "up0.bias")
    bias.CopyFrom(onnx.numpy_helper.from_array(wiring.constants["up0.bias"] + np.float32(9), bias.name))
    low, high = calibrate(lowered, [photos(SMALL[1])])["up0"]
    assert (high == SATURATION).all() and (-SATURATION <= low).all() and (low <= high).all()
    assert to_pixels(np.tanh(np.array([SATURATION, -SATURATION], np.float32))).tolist() == [255, 0]


def test_calibration_without_photos_is_refused():
    with pytest.raises(ExportError, match="0 photos give no finite ranges"):
        calibrate(lower(plain(SMALL[0])), [])


def test_photos_of_nan_are_refused():
    with pytest.raises(ExportError, match="with finite values"):
        calibrate(lower(plain(SMALL[0])), [np.full_like(photos(SMALL[0]), np.nan)])


@pytest.mark.parametrize("low, high", [(-1.0, 3.0), (0.5, 2.0), (-4.0, -1.0), (0.0, 0.0), (-1e-9, 1e-9), (-1e6, 1e6)])
def test_a_scale_covers_its_range_and_zero(low, high):
    scale = Scale.of(low, high)
    ends = scale.step * (np.array([0, 255]) - scale.zero.astype(int))
    half = scale.step * 0.5001
    assert scale.step > 0 and scale.step.dtype == np.float32 and scale.zero.dtype == np.uint8
    assert ends[0] <= min(low, 0) + half and max(high, 0) - half <= ends[1]


def test_a_layer_of_zeros_is_quantised():
    lowered = lower(plain(SMALL[1]))
    for tensor in lowered.graph.initializer:
        if tensor.name == "down2.kernel":
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.zeros(tuple(tensor.dims), np.float32), tensor.name))
    images = photos(SMALL[1])
    small = quantise(lowered, calibrate(lowered, [images]))
    expected = as_function(lowered)(images)
    assert np.abs(as_function(small)(images) - expected).mean() < 0.05 * expected.std()


@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
@pytest.mark.parametrize("layer", ["down1", "up2"])
def test_small_channels_before_an_instance_norm_are_not_lost(upsampling, layer):
    """The norm makes them as large as the first; with a shared scale they would span only a level or two."""
    lowered = lower(plain(SMALL[3]), upsampling=upsampling)
    kernel = next(tensor for tensor in lowered.graph.initializer if tensor.name == f"{layer}.kernel")
    values = onnx.numpy_helper.to_array(kernel).copy()
    if layer == "down1":
        values[0] *= 100
    elif upsampling == "transposed":
        values[:, 0] *= 100
    else:
        # In each of the four phases.
        values.reshape(4, -1, *values.shape[1:])[:, 0] *= 100
    kernel.CopyFrom(onnx.numpy_helper.from_array(values, kernel.name))
    images = photos(SMALL[3])
    expected = as_function(lowered)(images)
    small = quantise(lowered, calibrate(lowered, [images]))
    assert np.abs(as_function(small)(images) - expected).mean() < 0.05 * expected.std()


def test_every_pixel_level_is_quantised_to_itself():
    """Quantise the photo by the constants of the graph."""
    wiring = Wiring(quantised(SMALL[1])[1])
    levels = np.arange(256, dtype=np.float32)
    photo = levels / np.float32(127.5) - np.float32(1)
    step, zero = wiring.constants["photo.step"], wiring.constants["photo.zero"]
    assert (np.rint((photo + wiring.constants["half_level"]) / step) + zero == levels).all()


def test_the_first_bias_undoes_the_half_level():
    """Compare the first layer of both models on a grey photo."""
    lowered, small = quantised(SMALL[1])
    grey = np.full((1, 96, 96, 3), 51 / 127.5 - 1, np.float32)
    ends = []
    for model in (lowered, small):
        watched = onnx.ModelProto()
        watched.CopyFrom(model)
        watched.graph.output.append(onnx.ValueInfoProto(name="down0"))
        session = onnxruntime.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])
        ends.append(session.run(["down0"], {"photo": grey})[0][0, :, 5, 5])
    np.testing.assert_allclose(ends[1], ends[0], atol=0.02 * abs(ends[0]).max())
