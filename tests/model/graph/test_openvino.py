"""The int8 graph for OpenVINO draws nearly the same maps, in the form that OpenVINO runs fast."""

import numpy as np
import onnx
import pytest

from model.errors import ExportError
from model.graph.builder import Wiring, attribute
from model.graph.calibration import as_function, calibrate
from model.graph.lowering import fold_norms, lower, read_generator
from model.graph.openvino import LEAST_SHARE, equalise, pixel_kernels, write_for_openvino
from model.graph.quantisation import layers_of
from model.spec import NetworkConfig
from tests.fixtures.generators import photos, plain

SMALL = [
    NetworkConfig(image_size=32, width=1, depth=2),
    NetworkConfig(image_size=96, width=6, depth=5),
    NetworkConfig(image_size=64, width=6, depth=6, norm="sync_batch"),
    NetworkConfig(image_size=64, width=6, depth=4, norm="instance"),
    NetworkConfig(image_size=32, width=5, depth=2, norm="instance"),
]
WIDE = [
    NetworkConfig(),
    NetworkConfig(width=32, norm="instance"),
    NetworkConfig(image_size=64, width=101, depth=3),
    NetworkConfig(width=8, depth=8),
]
EVERY = pytest.mark.parametrize(
    "network", [*SMALL, *(pytest.param(network, marks=pytest.mark.slow) for network in WIDE)], ids=str
)
BATCH, INSTANCE = SMALL[1], SMALL[3]


def layers(network):
    return layers_of(lower(plain(network)))


def in_int8(model, calibration, **options):
    return write_for_openvino(equalise(model, calibration), model, **options)


def quantised(network, **options):
    """Quantise a random generator; return both models."""
    model = plain(network)
    return model, in_int8(model, photos(network, 4, seed=1), **options)


def error(network, model, found):
    """Return the mean difference, relative to the deviation of the maps, on photos not used for calibration."""
    images = photos(network)
    expected = as_function(model)(images)
    assert expected.std() > 0.1
    return np.abs(as_function(found)(images) - expected).mean() / expected.std()


@EVERY
def test_an_int8_model_draws_nearly_the_same(network):
    assert 0 < error(network, *quantised(network)) < 0.03


@EVERY
def test_a_model_with_all_layers_in_float_is_exact(network):
    """Equalising, and drawing four pixels at a time, are exact."""
    model, kept = quantised(network, keep_float=layers(network))
    assert not {"QuantizeLinear", "DequantizeLinear"} & {node.op_type for node in kept.graph.node}
    images = photos(network)
    expected = as_function(model)(images)
    assert np.abs(as_function(kept)(images) - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("network", SMALL, ids=str)
def test_equalised_channels_fill_their_levels(network):
    _, kept = quantised(network, keep_float=layers(network))
    ranges = calibrate(kept, [photos(network, 4, seed=1)])
    names = [f"down{level}.norm" for level in range(network.depth)]
    names += [f"up{level}.active" for level in range(1, network.depth)]
    for name in names:
        largest = np.maximum(-ranges[name][0], ranges[name][1])
        assert largest.max() == pytest.approx(1, rel=1e-5)
        # Every channel reaches 1, except for those with very small values.
        assert np.isclose(largest, 1, rtol=1e-5).sum() >= 0.3 * len(largest)


def test_channels_with_small_values_keep_headroom():
    model = plain(BATCH)
    cut = calibrate(lower(model, upsampling="transposed"), [photos(BATCH)])["down0.norm"]
    largest = np.maximum(-cut[0], cut[1])
    before, after = fold_norms(read_generator(model)).down[0], equalise(model, photos(BATCH)).down[0]
    np.testing.assert_allclose(after.shift, before.shift / np.maximum(largest, LEAST_SHARE * largest.max()), rtol=1e-5)
    assert (largest < LEAST_SHARE * largest.max()).any()


# The form that OpenVINO needs


@pytest.mark.parametrize("network", SMALL, ids=str)
def test_every_convolution_reads_symmetric_levels(network):
    wiring = Wiring(quantised(network)[1])
    convolutions = [node for node in wiring.nodes if node.op_type in ("Conv", "ConvTranspose")]
    assert len(convolutions) == 2 * network.depth + 1
    for node in convolutions:
        back, kernel = (wiring.writers[name] for name in node.input[:2])
        step, zero = (wiring.constants[name] for name in back.input[1:])
        assert back.op_type == kernel.op_type == "DequantizeLinear" and zero == 0
        expected = (np.uint8, 1 / 255) if node.name == "up0.own" else (np.int8, 1 / 127)
        assert (zero.dtype.type, step) == (expected[0], pytest.approx(expected[1]))
        levels, steps, zeros = (wiring.constants[name] for name in kernel.input)
        assert levels.dtype == zeros.dtype == np.int8 and not zeros.any() and abs(levels.astype(int)).max() == 127
        axis = attribute(kernel, "axis")
        assert axis == (1 if node.op_type == "ConvTranspose" else 0) and steps.shape == (levels.shape[axis],)


@pytest.mark.parametrize("network", SMALL, ids=str)
def test_a_skip_is_quantised_after_the_concatenation(network):
    wiring = Wiring(quantised(network)[1])
    joined = [node for node in wiring.nodes if node.op_type == "Concat"]
    assert len(joined) == network.depth - 2
    for node in joined:
        own, skip = (wiring.writers[name] for name in node.input)
        assert own.op_type == "Relu" and [reader.op_type for reader in wiring.readers[own.name]] == ["Concat"]
        assert skip.op_type == "DequantizeLinear" and skip.name.startswith("down")
        assert [reader.op_type for reader in wiring.readers[node.name]] == ["QuantizeLinear"]
    # Photo, encoder, skips, and the decoder's half of the last level.
    assert sum(node.op_type == "QuantizeLinear" for node in wiring.nodes) == 2 * network.depth


def chain_after(wiring, name):
    """Return the operators from a node on, up to one that quantises or has several readers."""
    found = [wiring.writers[name].op_type]
    while len(readers := wiring.readers[name]) == 1 and found[-1] != "QuantizeLinear":
        found.append(readers[0].op_type)
        name = readers[0].output[0]
    return found


def test_only_activation_norm_and_skip_lie_before_the_levels():
    wiring = Wiring(quantised(BATCH)[1])
    for level in range(BATCH.depth):
        assert chain_after(wiring, f"down{level}") == ["Conv", "LeakyRelu", "Add", "QuantizeLinear"]
    assert chain_after(wiring, "up4") == ["ConvTranspose", "Relu", "Concat", "QuantizeLinear"]
    assert chain_after(wiring, "up1") == ["ConvTranspose", "Relu", "QuantizeLinear"]


def test_a_clip_lies_before_every_instance_norm():
    """Without it, OpenVINO moves factors behind the norm, which changes the effect of its epsilon."""
    wiring = Wiring(quantised(INSTANCE)[1])
    normed = ["InstanceNormalization"]
    assert chain_after(wiring, "down1") == ["Conv", "LeakyRelu", "Clip", *normed, "QuantizeLinear"]
    assert chain_after(wiring, "up2") == ["ConvTranspose", "Clip", *normed, "Relu", "Concat", "QuantizeLinear"]


def test_inputs_outputs_and_metadata_are_kept():
    model = plain(BATCH)
    model.metadata_props.add(key="made_by", value="a test")
    small = in_int8(model, photos(BATCH))
    assert small.graph.input == model.graph.input and small.graph.output == model.graph.output
    assert small.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert small.opset_import == model.opset_import and small.metadata_props == model.metadata_props
    onnx.checker.check_model(small, full_check=True)


def test_a_wide_model_shrinks_to_about_a_quarter():
    model, small = quantised(NetworkConfig(image_size=32, width=64, depth=3))
    assert small.ByteSize() < model.ByteSize() / 3.5


# Layers in float


@pytest.mark.parametrize("layer", ["down0", "down2", "down3", "up3", "up2", "up1", "up0"])
@pytest.mark.parametrize("network", [BATCH, INSTANCE], ids=str)
def test_any_layer_can_stay_in_float(network, layer):
    model, small = quantised(network, keep_float=[layer])
    wiring, parts = Wiring(small), (layer,) if layer != "up0" else ("up0.own", "up0.skip")
    for name in parts:
        source, kernel = wiring.writers[name].input[:2]
        assert wiring.constants[kernel].dtype == np.float32
        assert source not in wiring.writers or wiring.writers[source].op_type != "DequantizeLinear"
    others = [node for node in wiring.nodes if node.op_type.startswith("Conv") and node.name not in parts]
    assert others and all(node.input[1] in wiring.writers for node in others)
    assert 0 < error(network, model, small) < 0.03


@pytest.mark.parametrize("network", [BATCH, INSTANCE], ids=str)
def test_more_layers_in_float_are_more_exact(network):
    """Compare none, the last two, and all layers in float."""
    kept = [], ["up1", "up0"], layers(network)
    errors = [error(network, *quantised(network, keep_float=names)) for names in kept]
    assert errors[0] > errors[1] > 100 * errors[2]


def test_an_equalised_generator_can_be_written_more_than_once():
    """The search for sensitive layers does so."""
    model, small = quantised(BATCH, keep_float=["up2"])
    generator = equalise(model, photos(BATCH, 4, seed=1))
    assert write_for_openvino(generator, model) == quantised(BATCH)[1] != small
    assert write_for_openvino(generator, model, keep_float=["up2"]) == small


def test_an_unknown_layer_is_refused():
    with pytest.raises(ExportError, match=r"no layers \['side'\]; use layers of the model: down0, down1, up1, up0"):
        quantised(SMALL[0], keep_float=["side", "up0"])


# Unusual weights and photos


@pytest.mark.parametrize("seed", range(4))
def test_a_channel_of_only_a_bias_is_kept(seed):
    """Its kernel is zero: with tiny steps, the bias would overflow int32 in onnxruntime."""
    network = NetworkConfig(image_size=32, width=4, depth=3)
    model = plain(network, seed)
    small = in_int8(model, photos(network, 4, seed=1))
    wiring = Wiring(small)
    assert not wiring.constants["up1.kernel.levels"][:, 1].any() and wiring.constants["up1.bias"][1] != 0
    assert (wiring.constants["up1.kernel.steps"] / 127 * 2**30 >= 0.999 * abs(wiring.constants["up1.bias"])).all()
    assert error(network, model, small) < 0.03


def test_calibration_without_photos_is_refused():
    with pytest.raises(ExportError, match="0 photos give no finite ranges"):
        in_int8(plain(BATCH), photos(BATCH)[:0])


def test_another_network_is_refused():
    with pytest.raises(ExportError, match="not those of the U-Net"):
        in_int8(lower(plain(BATCH)), photos(BATCH))


def test_four_pixels_at_a_time_equal_the_transposed_convolution():
    """Compare with the definition of Dumoulin & Visin (2016, section 4), input pixel by input pixel."""
    random = np.random.default_rng(0)
    kernel, image = random.normal(size=(2, 3, 4, 4)), random.normal(size=(2, 5, 5))
    whole = np.zeros((3, 12, 12))
    for row in range(5):
        for column in range(5):
            whole[:, 2 * row : 2 * row + 4, 2 * column : 2 * column + 4] += np.tensordot(
                image[:, row, column], kernel, axes=1
            )
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(image, [(0, 0), (1, 1), (1, 1)]), (3, 3), axis=(1, 2))
    found = np.einsum("ihwyx,oiyx->ohw", windows, pixel_kernels(kernel)).reshape(2, 2, 3, 5, 5)
    np.testing.assert_allclose(found.transpose(2, 3, 0, 4, 1).reshape(3, 10, 10), whole[:, 1:-1, 1:-1])
