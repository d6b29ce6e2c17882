"""The rewritten generator draws what the exported one draws."""

import numpy as np
import onnx
import pytest
from onnx import helper

from model.errors import ExportError
from model.graph.builder import Wiring
from model.graph.calibration import as_function
from model.graph.lowering import fold_norms, lower, phase_kernels, read_generator
from model.spec import NetworkConfig
from tests.fixtures.generators import photos, plain

SMALL = [
    NetworkConfig(image_size=32, width=1, depth=2),
    NetworkConfig(image_size=32, width=1, depth=2, norm="instance"),
    NetworkConfig(image_size=96, width=3, depth=5),
    NetworkConfig(image_size=64, width=4, depth=6, norm="sync_batch"),
    NetworkConfig(image_size=64, width=5, depth=4, norm="instance"),
]
WIDE = [
    NetworkConfig(),
    NetworkConfig(width=32, norm="instance"),
    NetworkConfig(image_size=64, width=100, depth=3),
    NetworkConfig(image_size=512, width=4, depth=9),
    NetworkConfig(image_size=320, width=16, depth=6, norm="sync_batch"),
]
EVERY = pytest.mark.parametrize(
    "network", [*SMALL, *(pytest.param(network, marks=pytest.mark.slow) for network in WIDE)], ids=str
)
UPSAMPLINGS = ("phases", "transposed")


@EVERY
def test_both_rewrites_are_exact(network):
    model, images = plain(network), photos(network)
    expected = as_function(model)(images)
    assert expected.std() > 0.1
    for upsampling in UPSAMPLINGS:
        assert np.abs(as_function(lower(model, upsampling=upsampling))(images) - expected).max() < 1e-5


@pytest.mark.parametrize("network", SMALL, ids=str)
def test_inputs_outputs_and_metadata_are_kept(network):
    model = plain(network)
    helper.set_model_props(model, {"run": "1f0c"})
    for upsampling in UPSAMPLINGS:
        lowered = lower(model, upsampling=upsampling)
        onnx.checker.check_model(lowered, full_check=True)
        for part in ("input", "output"):
            assert getattr(lowered.graph, part) == getattr(model.graph, part)
        assert lowered.opset_import == model.opset_import and lowered.ir_version == model.ir_version
        assert lowered.metadata_props == model.metadata_props and lowered.graph.name == model.graph.name


def test_the_given_model_is_not_changed():
    model = plain(SMALL[2])
    before = model.SerializeToString(deterministic=True)
    lower(model)
    assert model.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("network", SMALL, ids=str)
def test_only_cheap_operators_remain(network):
    depth = network.depth
    norm = "InstanceNormalization" if network.norm == "instance" else "Add"
    for upsampling, up in zip(UPSAMPLINGS, ("Conv", "ConvTranspose"), strict=True):
        operators = [node.op_type for node in lower(plain(network), upsampling=upsampling).graph.node]
        down, both = operators.index("Concat"), operators.count("Conv") + operators.count("ConvTranspose")
        assert both == 2 * depth and operators.count(up) == (2 if up == "Conv" else 1) * depth
        assert operators[:down].count(norm) >= depth and operators[down + 1 :].count("Add") == 0
        assert not {"Mul", "DepthToSpace", "ReduceMean", "Sqrt", "Gather"} & {*operators}


@pytest.mark.parametrize("batch", [1, 3])
def test_any_batch_size_works(batch):
    images = photos(SMALL[2], batch)
    draw = as_function(lower(plain(SMALL[2])))
    together = draw(images)
    assert together.shape == images.shape
    np.testing.assert_allclose(together, np.concatenate([draw(image[None]) for image in images]), atol=1e-6)


def test_an_untrained_generator_is_read_too():
    """Its norms change nothing, so tf2onnx leaves out some of their nodes."""
    from model.networks.pix2pix import build_generator
    from model.spec import signature
    from pipelines.export.conversion import to_onnx

    for norm in ("batch", "instance"):
        network = NetworkConfig(image_size=32, width=2, depth=3, norm=norm)
        model = to_onnx(build_generator(network), signature(network))
        assert np.abs(as_function(lower(model))(photos(network)) - as_function(model)(photos(network))).max() < 1e-6


def test_folding_leaves_no_scales_and_keeps_the_shifts_of_the_encoder():
    read = read_generator(plain(SMALL[2]))
    folded = fold_norms(read)
    assert any((layer.scale < 0).any() and (layer.scale == 0).any() for layer in (*read.down, *read.up))
    assert all((layer.scale == 1).all() for layer in (*folded.down, *folded.up))
    assert [abs(layer.shift).tolist() for layer in folded.down] == [abs(layer.shift).tolist() for layer in read.down]


def test_the_phases_equal_a_transposed_convolution():
    """Compare with the definition, pixel by pixel."""
    random = np.random.default_rng(3)
    kernel, image = random.normal(size=(2, 3, 4, 4)), random.normal(size=(2, 5, 5))
    expected = np.zeros((3, 12, 12))
    for row in range(5):
        for column in range(5):
            added = np.einsum("i,iohw->ohw", image[:, row, column], kernel)
            expected[:, 2 * row : 2 * row + 4, 2 * column : 2 * column + 4] += added
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2, 2), axis=(1, 2))
    found = np.einsum("ihwrs,pirs->phw", windows, phase_kernels(kernel)).reshape(2, 2, 3, 6, 6)
    np.testing.assert_allclose(found.transpose(2, 3, 0, 4, 1).reshape(3, 12, 12), expected)


# Refused graphs


def without(model, operator):
    """Remove the first node of an operator from a chain."""
    wiring = Wiring(model)
    node = next(node for node in model.graph.node if node.op_type == operator)
    for reader in wiring.readers[node.output[0]]:
        reader.input[:] = [node.input[0] if name == node.output[0] else name for name in reader.input]
    model.graph.node.remove(node)
    return model


@pytest.mark.parametrize("operator", ["LeakyRelu", "Relu", "Tanh"])
def test_another_network_is_refused(operator):
    with pytest.raises(ExportError, match=r"layers are .* not those of the U-Net"):
        lower(without(plain(SMALL[2]), operator))


def test_a_model_without_convolutions_is_refused(onnx_model):
    from model.spec import signature

    model = onnx.load_model_from_string(onnx_model(signature(SMALL[0])))
    with pytest.raises(ExportError, match="not those of the U-Net"):
        lower(model)


def test_other_strides_are_refused():
    model = plain(SMALL[2])
    convolution = next(node for node in model.graph.node if node.op_type == "Conv")
    next(found for found in convolution.attribute if found.name == "strides").ints[:] = [1, 1]
    with pytest.raises(ExportError, match=r"strides \[\(1, 1\), \(2, 2\)\]"):
        lower(model)


def test_kernels_that_do_not_fit_are_refused():
    model = plain(SMALL[2])
    convolution = next(node for node in model.graph.node if node.op_type == "Conv")
    kernel = next(tensor for tensor in model.graph.initializer if tensor.name == convolution.input[1])
    kernel.CopyFrom(onnx.numpy_helper.from_array(np.zeros((3, 7, 4, 4), np.float32), kernel.name))
    with pytest.raises(ExportError, match=r"kernels are \[\(3, 7, 4, 4\), .*not \[\(3, 3, 4, 4\)"):
        lower(model)


def test_a_computed_kernel_is_refused():
    model = plain(SMALL[2])
    convolution = next(node for node in model.graph.node if node.op_type == "Conv")
    (kernel,) = [tensor for tensor in model.graph.initializer if tensor.name == convolution.input[1]]
    model.graph.initializer.remove(kernel)
    with pytest.raises(ExportError, match=r"kernels are \[\(0,\), "):
        lower(model)
