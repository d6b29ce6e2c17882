"""The int8 graph that OpenVINO, inside onnxruntime, runs fast and correctly.

OpenVINO has int8 kernels for transposed convolutions too, but only for one pattern: symmetric int8 levels in front of
them, and nothing but activation, norm and skip between a convolution and the levels of its output. So one scale has to
serve both sides of every skip. It does once the channels are equalised: each is divided by its largest value, and the
weights that read it are multiplied by that value (as Nagel et al. 2019, section 4.1, do between two layers). The float
model still computes the same map, and its inner values lie in [-1, 1].
"""

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import onnx

from model.errors import ExportError
from model.graph.builder import Graph
from model.graph.calibration import Ranges, calibrate
from model.graph.lowering import Generator, Layer, Weights, fold_norms, read_generator, write_generator
from model.graph.quantisation import INT8_MAX, MAX_BIAS, TINY, UINT8_MAX
from model.pixels import Tensor

SCALES = {np.int8: np.float32(1 / INT8_MAX), np.uint8: np.float32(1 / UINT8_MAX)}
"""Steps of equalised values in [-1, 1] and, after a ReLU, in [0, 1]; zero is level 0 in both."""
LOWEST = np.array(np.finfo(np.float32).min)
"""Lowest float: clipping at it changes nothing."""
LEAST_SHARE = 0.25
"""Smallest divisor of a channel, as a share of the largest: on other photos its values may be larger."""


def equalise(plain: onnx.ModelProto, calibration: Tensor) -> Generator:
    """Read an exported generator, fold its norms, and scale its channels to at most 1 on the photos.

    Its maps stay the same: the layers that read a channel undo its factor.

    Args:
        plain: The graph that tf2onnx makes of the generator.
        calibration: Photos, float32 (N, S, S, 3) in [-1, 1].

    Raises:
        ExportError: The graph is that of another network, or there are no photos.
    """
    generator = fold_norms(read_generator(plain))
    ranges = calibrate(write_generator(generator, plain, upsampling="transposed"), [calibration])
    depth = len(generator.down)
    skips = [_peaks(ranges, f"down{number}.norm") for number in range(depth)]
    own = [_peaks(ranges, f"up{level}.active") for level in range(depth - 1, 0, -1)]
    joined = [skips[-1], *map(np.concatenate, zip(own, skips[-2::-1], strict=True))]
    down = [
        _rescale(layer, before[:, None, None], peaks, axis=0)
        for layer, before, peaks in zip(generator.down, [np.ones(3, np.float32), *skips[:-1]], skips, strict=True)
    ]
    up = [
        _rescale(layer, before[:, None, None, None], peaks, axis=1)
        for layer, before, peaks in zip(generator.up, joined, [*own, np.ones(3, np.float32)], strict=True)
    ]
    return Generator(tuple(down), tuple(up), generator.slope)


def _peaks(ranges: Ranges, name: str) -> Weights:
    low, high = ranges[name]
    largest = np.maximum(-low, high)
    return np.maximum(largest, max(largest.max() * LEAST_SHARE, TINY)).astype(np.float32)


def _rescale(layer: Layer, before: Weights, peaks: Weights, *, axis: int) -> Layer:
    """Multiply a level's inputs by `before`, and divide its outputs, on `axis` of the kernel, by `peaks`."""
    kernel = layer.kernel * before
    if layer.norm:
        norm = replace(layer.norm, scale=layer.norm.scale / peaks, shift=layer.norm.shift / peaks)
        return replace(layer, kernel=kernel, norm=norm)
    divisors: Weights = np.expand_dims(peaks, tuple(other for other in range(4) if other != axis))
    return replace(layer, kernel=kernel / divisors, shift=layer.shift / peaks)


def write_for_openvino(
    generator: Generator, model: onnx.ModelProto, *, keep_float: Collection[str] = ()
) -> onnx.ModelProto:
    """Write an equalised generator as an int8 graph with the inputs, outputs and metadata of `model`.

    Raises:
        ExportError: `keep_float` names a layer that the generator does not have.
    """
    depth = len(generator.down)
    layers = [*(f"down{level}" for level in range(depth)), *(f"up{level}" for level in reversed(range(depth)))]
    if unknown := set(keep_float) - set(layers):
        raise ExportError(f"There are no layers {sorted(unknown)}; use layers of the model: {', '.join(layers)}.")
    photo, drawn = model.graph.input[0], model.graph.output[0]
    side = photo.type.tensor_type.shape.dim[1].dim_value
    return _GraphWriter(generator, set(layers) - set(keep_float)).write(photo.name, drawn.name, side).put_into(model)


class _GraphWriter:
    def __init__(self, generator: Generator, int8: set[str]) -> None:
        self._generator, self._int8 = generator, int8
        self._graph = Graph()
        self._dequantised: dict[str, str] = {}
        """Dequantised tensors that int8 layers read, by the name of the original."""

    def write(self, photo: str, drawn: str, side: int) -> Graph:
        """Write the graph from the input `photo` to the output `drawn`, both images of `side` pixels."""
        x = self._graph.add("Transpose", [photo], "channels_first", perm=[0, 3, 1, 2])
        skips = []
        for level, layer in enumerate(self._generator.down):
            x = self._encoder_level(f"down{level}", x, layer)
            skips.append(x)
        skips.pop()
        *inner, last = self._generator.up
        for level, layer in zip(range(len(inner), 0, -1), inner, strict=True):
            x = self._decoder_level(f"up{level}", x, layer)
            if level > 1:
                skip = self._input(skips.pop(), f"up{level - 1}")
                # `x` is quantised after the concatenation: with levels before it, OpenVINO draws wrong maps.
                x = self._graph.add("Concat", [x, skip], f"up{level}.skip", axis=1)
        x = self._last_level("up0", x, skips.pop(), last)
        return self._interleaved(x, drawn, side // 2)

    def _encoder_level(self, name: str, x: str, layer: Layer) -> str:
        inputs = [self._input(x, name), self._kernel(name, layer.kernel, axis=0)]
        x = self._graph.add("Conv", inputs, name, kernel_shape=[4, 4], strides=[2, 2], pads=[1, 1, 1, 1])
        x = self._graph.add("LeakyRelu", [x], f"{name}.leaky", alpha=self._generator.slope)
        if layer.norm:
            return self._instance_norm(name, x, layer)
        shift = self._graph.constant(f"{name}.shift", layer.shift[:, None, None])
        return self._graph.add("Add", [x, shift], f"{name}.norm")

    def _decoder_level(self, name: str, x: str, layer: Layer) -> str:
        inputs = [self._input(x, name), self._kernel(name, layer.kernel, axis=1, bias=layer.shift)]
        inputs.append(self._graph.constant(f"{name}.bias", layer.shift))
        x = self._graph.add("ConvTranspose", inputs, name, kernel_shape=[4, 4], strides=[2, 2], pads=[1, 1, 1, 1])
        if layer.norm:
            x = self._instance_norm(name, x, layer)
        return self._graph.add("Relu", [x], f"{name}.active")

    def _instance_norm(self, name: str, x: str, layer: Layer) -> str:
        assert layer.norm is not None
        # Without the Clip, OpenVINO moves the kernel's steps behind the norm, which changes the effect of its epsilon.
        x = self._graph.add("Clip", [x, self._graph.constant("lowest", LOWEST)], f"{name}.summed")
        scale = self._graph.constant(f"{name}.norm_scale", layer.norm.scale)
        shift = self._graph.constant(f"{name}.norm_shift", layer.norm.shift)
        return self._graph.add("InstanceNormalization", [x, scale, shift], f"{name}.norm", epsilon=layer.norm.epsilon)

    def _last_level(self, name: str, own: str, skip: str, layer: Layer) -> str:
        """Add the last level, which draws four pixels at each position: (N, 12, S / 2, S / 2).

        OpenVINO runs it faster than a transposed convolution to three channels. Decoder and skip are not concatenated
        here, so that the decoder's values in [0, 1] can use all 256 levels.
        """
        kernel, bias, width = pixel_kernels(layer.kernel), np.tile(layer.shift, 4), len(layer.kernel) // 2
        inputs = {
            "own": [self._input(own, name, np.uint8), self._kernel(f"{name}.own", kernel[:, :width], axis=0)],
            "skip": [self._input(skip, name), self._kernel(f"{name}.skip", kernel[:, width:], axis=0, bias=bias)],
        }
        inputs["skip"].append(self._graph.constant(f"{name}.bias", bias))
        sums = [
            self._graph.add("Conv", values, f"{name}.{part}", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
            for part, values in inputs.items()
        ]
        return self._graph.add("Tanh", [self._graph.add("Add", sums, name)], f"{name}.active")

    def _interleaved(self, x: str, drawn: str, side: int) -> Graph:
        """Rearrange the four pixels of each of `side` x `side` positions: (N, 2 side, 2 side, 3)."""
        pixels = self._graph.constant("pixels", np.array([0, side, side, 2, 6]))
        image = self._graph.constant("image", np.array([0, 2 * side, 2 * side, 3]))
        x = self._graph.add("Transpose", [x], "channels_last", perm=[0, 2, 3, 1])
        x = self._graph.add("Reshape", [x, pixels], "columns")
        x = self._graph.add("Transpose", [x], "rows", perm=[0, 1, 3, 2, 4])
        self._graph.add("Reshape", [x, image], drawn)
        return self._graph

    def _input(self, x: str, layer: str, levels: type[np.int8] | type[np.uint8] = np.int8) -> str:
        """Return the input of `layer` for the tensor `x`: dequantised from `levels` if the layer is int8, else `x`."""
        if layer not in self._int8:
            return x
        if x not in self._dequantised:
            kind = np.dtype(levels).name
            ends = [
                self._graph.constant(f"{kind}.step", np.array(SCALES[levels])),
                self._graph.constant(f"{kind}.zero", np.array(0, levels)),
            ]
            x8 = self._graph.add("QuantizeLinear", [x, *ends], f"{x}.levels")
            self._dequantised[x] = self._graph.add("DequantizeLinear", [x8, *ends], f"{x}.back")
        return self._dequantised[x]

    def _kernel(self, convolution: str, kernel: Weights, *, axis: int, bias: Weights | None = None) -> str:
        """Store a kernel whose axis `axis` counts the output channels, in int8 unless its layer stays in float."""
        name = f"{convolution}.kernel"
        if convolution.partition(".")[0] not in self._int8:
            return self._graph.constant(name, kernel)
        others = tuple(number for number in range(4) if number != axis)
        # onnxruntime may round the bias to int32 with the step of the sums: tiny steps would overflow it.
        least = TINY if bias is None else np.maximum(abs(bias) * INT8_MAX / MAX_BIAS, TINY)
        steps = np.maximum(abs(kernel).max(axis=others) / INT8_MAX, least).astype(np.float32)
        levels = np.rint(kernel / np.expand_dims(steps, others)).astype(np.int8)
        parts = {"levels": levels, "steps": steps, "zeros": np.zeros(steps.shape, np.int8)}
        inputs = [self._graph.constant(f"{name}.{kind}", value) for kind, value in parts.items()]
        return self._graph.add("DequantizeLinear", inputs, name, axis=axis)


def pixel_kernels(kernel: Weights) -> Weights:
    """Turn a transposed convolution's kernel (in, out, 4, 4) into one (4 * out, in, 3, 3) of a convolution.

    A transposed convolution of kernel 4, stride 2 and padding 1 adds kernel[o + 1 - 2i] * x[i] to pixel o. So pixel 2m
    reads x[m - 1] and x[m] with the taps 3 and 1, and pixel 2m + 1 reads x[m] and x[m + 1] with the taps 2 and 0: along
    each axis, they are two outputs of a convolution of kernel 3 and padding 1.
    """
    zero = 4  # The index of the padding.
    taps = np.array([[3, 1, zero], [zero, 2, 0]])
    # (in, out, row of the pixel, row tap, column of the pixel, column tap)
    parts = np.pad(kernel, [(0, 0), (0, 0), (0, 1), (0, 1)])[:, :, taps[:, :, None, None], taps]
    return np.ascontiguousarray(parts.transpose(2, 4, 1, 0, 3, 5).reshape(-1, kernel.shape[0], 3, 3))
