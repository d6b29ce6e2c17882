"""Exact rewrites of the exported generator that take less time.

`read_generator` reads the weights from the exported graph, `fold_norms` folds the norms into them, and
`write_generator` writes a new graph.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from model.errors import ExportError
from model.graph.builder import Array, Graph, Wiring, attribute

Weights = NDArray[np.float32]
_CONVOLUTIONS = {"Conv": 0, "ConvTranspose": 1}
"""Operators, and the axis of their kernels that counts the output channels."""
_ADVICE = "lower only a generator that `export` has converted."

Upsampling = Literal["phases", "transposed"]
"""Form of the decoder's transposed convolutions: convolutions with interleaved outputs, or unchanged."""


@dataclass(frozen=True)
class InstanceNorm:
    """Normalisation of each image and channel by its own mean and variance."""

    scale: Weights
    shift: Weights
    epsilon: float


@dataclass(frozen=True)
class Layer:
    """One level of the encoder or decoder: a convolution of kernel 4 and stride 2, with its norm.

    Attributes:
        kernel: (out, in, 4, 4) in the encoder, (in, out, 4, 4) in the decoder.
        scale: Factors of batch normalisation, (out,): after the activation in the encoder, before it in the decoder.
        shift: Terms that it adds afterwards, (out,).
        norm: The instance normalisation used instead, if any.
    """

    kernel: Weights
    scale: Weights
    shift: Weights
    norm: InstanceNorm | None = None


@dataclass(frozen=True)
class Generator:
    """The generator's weights: encoder and decoder levels in the order in which they run."""

    down: tuple[Layer, ...]
    up: tuple[Layer, ...]
    slope: float
    """Slope of the encoder's leaky ReLU below zero."""


def lower(model: onnx.ModelProto, *, upsampling: Upsampling = "phases") -> onnx.ModelProto:
    """Rewrite an exported generator with folded norms and the given form of transposed convolutions.

    Raises:
        ExportError: The graph is not that of an exported generator.
    """
    return write_generator(fold_norms(read_generator(model)), model, upsampling=upsampling)


def read_generator(model: onnx.ModelProto) -> Generator:
    """Read the weights from the graph that tf2onnx makes of the generator.

    Except for its skips the graph is a chain: the nodes between two convolutions belong to the first.

    Raises:
        ExportError: The graph is that of another network.
    """
    parts: list[list[onnx.NodeProto]] = []
    for node in model.graph.node:
        if node.op_type in _CONVOLUTIONS:
            parts.append([])
        if parts:
            parts[-1].append(node)
    depth = sum(part[0].op_type == "Conv" for part in parts)
    _check_steps(parts, depth)
    constants = Wiring(model).constants
    # A computed kernel is not among the constants and counts as empty.
    _check_kernels([constants.get(part[0].input[1], np.zeros([0])).shape for part in parts], depth)
    layers = [_read_layer(part, constants) for part in parts]
    slope = next(attribute(node, "alpha") for node in parts[0] if node.op_type == "LeakyRelu")
    return Generator(tuple(layers[:depth]), tuple(layers[depth:]), slope)


def _check_steps(parts: list[list[onnx.NodeProto]], depth: int) -> None:
    steps = {*_CONVOLUTIONS, "LeakyRelu", "Relu", "Tanh"}
    found = [[node.op_type for node in part if node.op_type in steps] for part in parts]
    down, up = [["Conv", "LeakyRelu"]] * depth, [["ConvTranspose", "Relu"]] * (depth - 1)
    strides = {tuple(attribute(part[0], "strides") or ()) for part in parts}
    pads = {tuple(attribute(part[0], "pads") or ()) for part in parts}
    if found != [*down, *up, ["ConvTranspose", "Tanh"]] or strides != {(2, 2)} or pads != {(1, 1, 1, 1)}:
        raise ExportError(
            f"The graph's layers are {found} with strides {sorted(strides)} and pads {sorted(pads)}, not those of the "
            f"U-Net; {_ADVICE}"
        )


def _check_kernels(found: list[tuple[int, ...]], depth: int) -> None:
    widths = [shape[0] for shape in found[:depth]]
    down = zip(widths, [3, *widths[:-1]], strict=True)
    up = zip([widths[-1], *(2 * width for width in widths[-2::-1])], [*widths[-2::-1], 3], strict=True)
    if found != (expected := [(*shape, 4, 4) for shape in (*down, *up)]):
        raise ExportError(f"The graph's kernels are {found}, not {expected} as in the U-Net; {_ADVICE}")


def _read_layer(part: list[onnx.NodeProto], constants: Mapping[str, Array]) -> Layer:
    convolution, *rest = part
    kernel, *biases = (constants[name] for name in convolution.input[1:])
    width = kernel.shape[_CONVOLUTIONS[convolution.op_type]]
    scale, shift = np.ones(width, np.float32), sum(biases, np.zeros(width, np.float32))
    roots = {node.input[0] for node in rest if node.op_type == "Sqrt"}
    epsilon = None
    for node in rest:
        values = [constants[name].ravel() for name in node.input if name in constants]
        if node.op_type not in ("Mul", "Add") or not values:
            continue
        if node.output[0] in roots:
            epsilon = float(values[0][0])
        elif node.op_type == "Mul":
            scale, shift = scale * values[0], shift * values[0]
        else:
            shift = shift + values[0]
    if epsilon is None:
        return Layer(kernel, scale, shift)
    return Layer(kernel, np.ones_like(scale), np.zeros_like(shift), InstanceNorm(scale, shift, epsilon))


def fold_norms(generator: Generator) -> Generator:
    """Fold batch normalisation into the convolutions' weights, so that every `scale` becomes one.

    In the decoder, all of it is folded into the convolution before it, and `shift` becomes that convolution's bias. In
    the encoder, a leaky ReLU lies between them. The magnitude of a factor commutes with it and is folded into the
    convolution before, its sign into every layer that reads the level. The shift stays, because the next convolution
    pads with zeros after it was added.
    """
    signs = [np.where(layer.scale < 0, np.float32(-1), np.float32(1)) for layer in generator.down]
    down = [
        replace(
            layer,
            kernel=layer.kernel * _broadcast(before, axis=1) * _broadcast(abs(layer.scale), axis=0),
            scale=np.ones_like(sign),
            shift=layer.shift * sign,
        )
        for layer, sign, before in zip(generator.down, signs, [np.ones(3, np.float32), *signs[:-1]], strict=True)
    ]
    up = []
    for layer, skip in zip(generator.up, reversed(signs), strict=True):
        # Except for the innermost level, a skip is concatenated to as many channels of the decoder.
        own = np.ones(len(layer.kernel) - len(skip), np.float32)
        before = np.concatenate([own, skip])
        kernel = layer.kernel * _broadcast(before, axis=0) * _broadcast(layer.scale, axis=1)
        up.append(replace(layer, kernel=kernel, scale=np.ones_like(layer.scale)))
    return Generator(tuple(down), tuple(up), generator.slope)


def _broadcast(values: Weights, *, axis: int) -> Weights:
    return np.expand_dims(values, tuple(other for other in range(4) if other != axis))


def write_generator(generator: Generator, model: onnx.ModelProto, *, upsampling: Upsampling) -> onnx.ModelProto:
    """Write a generator with folded norms as a graph with the inputs, outputs and metadata of `model`."""
    graph, depth = Graph(), len(generator.down)
    photo, drawn = model.graph.input[0], model.graph.output[0]
    side = photo.type.tensor_type.shape.dim[1].dim_value
    x = graph.add("Transpose", [photo.name], "channels_first", perm=[0, 3, 1, 2])
    skips = []
    for number, layer in enumerate(generator.down):
        x = _add_encoder_level(graph, f"down{number}", x, layer, generator.slope)
        skips.append(x)
    skips.pop()
    for number, layer in enumerate(generator.up):
        level = depth - 1 - number
        x = _add_decoder_level(
            graph, f"up{level}", x, layer, upsampling, side >> level + 1, activation="Relu" if level else "Tanh"
        )
        if level:
            x = graph.add("Concat", [x, skips.pop()], f"up{level}.skip", axis=1)
    graph.add("Transpose", [x], drawn.name, perm=[0, 2, 3, 1])
    return graph.put_into(model)


def _add_encoder_level(graph: Graph, name: str, x: str, layer: Layer, slope: float) -> str:
    kernel = graph.constant(f"{name}.kernel", layer.kernel)
    x = graph.add("Conv", [x, kernel], name, kernel_shape=[4, 4], strides=[2, 2], pads=[1, 1, 1, 1])
    x = graph.add("LeakyRelu", [x], f"{name}.leaky", alpha=slope)
    if layer.norm:
        return _add_instance_norm(graph, name, x, layer.norm)
    return graph.add("Add", [x, graph.constant(f"{name}.shift", layer.shift[:, None, None])], f"{name}.norm")


def _add_decoder_level(
    graph: Graph, name: str, x: str, layer: Layer, upsampling: Upsampling, side: int, *, activation: str
) -> str:
    """Add a decoder level, which doubles the size of images of `side` pixels."""
    # onnxruntime fuses an activation that directly follows the convolution.
    early = layer.norm is None and activation == "Relu"
    if upsampling == "transposed":
        kernel, bias = layer.kernel, layer.shift
        options: dict[str, Any] = {"operator": "ConvTranspose", "kernel_shape": [4, 4], "strides": [2, 2]}
    else:
        kernel, bias = phase_kernels(layer.kernel), np.tile(layer.shift, 4)
        options = {"operator": "Conv", "kernel_shape": [2, 2]}
    weights = [graph.constant(f"{name}.kernel", kernel), graph.constant(f"{name}.bias", bias)]
    x = graph.add(inputs=[x, *weights], output=name, pads=[1, 1, 1, 1], **options)
    if early:
        x = graph.add(activation, [x], f"{name}.active")
    if upsampling == "phases":
        x = _add_interleaving(graph, name, x, layer.kernel.shape[1], side)
    if layer.norm:
        x = _add_instance_norm(graph, name, x, layer.norm)
    return x if early else graph.add(activation, [x], f"{name}.active")


def phase_kernels(kernel: Weights) -> Weights:
    """Turn a transposed convolution's kernel (in, out, 4, 4) into one (4 * out, in, 2, 2) of a convolution.

    A transposed convolution of kernel 4, stride 2 and padding 1 adds kernel[o + 1 - 2i] * x[i] to pixel o. So the
    pixels 2m - 1 and 2m read only x[m - 1] and x[m], with the taps (2, 0) and (3, 1): along each axis, they are the two
    phases of a convolution of kernel 2 and padding 1. Its outermost pixels, -1 and 2h, are cut off.
    """
    taps = np.array([[2, 0], [3, 1]])
    # (in, out, row phase, row tap, column phase, column tap)
    parts = kernel[:, :, taps[:, :, None, None], taps]
    return np.ascontiguousarray(parts.transpose(2, 4, 1, 0, 3, 5).reshape(-1, kernel.shape[0], 2, 2))


def _add_interleaving(graph: Graph, name: str, x: str, width: int, side: int) -> str:
    """Interleave the phases (N, 4 * width, side + 1, side + 1) and cut off the edge: (N, width, 2 side, 2 side).

    With channels last, two columns are already adjacent and complete rows are moved. That is several times faster than
    DepthToSpace, and onnxruntime runs quantised convolutions with channels last anyway.
    """
    wide = side + 1
    rows = graph.constant(f"{name}.rows", np.array([-1, wide, wide, 2, 2 * width]))
    image = graph.constant(f"{name}.image", np.array([-1, 2 * wide, 2 * wide, width]))
    crop = [
        graph.constant(f"{name}.crop_{part}", np.array(value))
        for part, value in (("starts", [1, 1]), ("ends", [-1, -1]), ("axes", [1, 2]))
    ]
    x = graph.add("Transpose", [x], f"{name}.channels_last", perm=[0, 2, 3, 1])
    x = graph.add("Reshape", [x, rows], f"{name}.phases")
    x = graph.add("Transpose", [x], f"{name}.interleaved", perm=[0, 1, 3, 2, 4])
    x = graph.add("Reshape", [x, image], f"{name}.uncropped")
    x = graph.add("Slice", [x, *crop], f"{name}.cropped")
    return graph.add("Transpose", [x], f"{name}.doubled", perm=[0, 3, 1, 2])


def _add_instance_norm(graph: Graph, name: str, x: str, norm: InstanceNorm) -> str:
    weights = [graph.constant(f"{name}.norm_scale", norm.scale), graph.constant(f"{name}.norm_shift", norm.shift)]
    return graph.add("InstanceNormalization", [x, *weights], f"{name}.norm", epsilon=norm.epsilon)
