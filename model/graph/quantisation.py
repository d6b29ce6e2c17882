"""Static int8 quantisation of a lowered generator with QuantizeLinear and DequantizeLinear.

Weights are int8 in [-127, 127] with a scale for each output channel, activations uint8 with one scale for each tensor
(Jacob et al. 2018, section 2.1). These are standard ONNX nodes, which runtimes fuse into their integer operators.
"""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray

from model.errors import ExportError
from model.graph.builder import MOVES, Array, Graph, Wiring
from model.graph.calibration import Ranges

CONVOLUTIONS = {"Conv": 0, "ConvTranspose": 1}
"""The operators that are quantised, and the axis of their kernels that counts the output channels."""
UINT8_OPERATORS = MOVES | {"LeakyRelu", "Add", "Concat"}
"""Operators that run in uint8 if one of their inputs is quantised."""
UINT8_MAX, INT8_MAX = 255, 127
"""Steps between the ends of uint8, and the largest int8 weight."""
MAX_BIAS = 2**30
"""Largest quantised bias: half of the range of an int32 sum, to leave room for the products."""
TINY = 1e-12
"""Smallest divisor."""
LEAST_SHARE = 1e-3
"""Smallest range that a channel is equalised for, as a share of the widest range."""

Steps = NDArray[np.float32]


class Scale(NamedTuple):
    """Step and zero point: a uint8 `level` has the value step * (level - zero)."""

    step: Steps
    zero: NDArray[np.uint8]

    @classmethod
    def of(cls, low: float, high: float) -> "Scale":
        """Return the scale of a range, widened to include zero, which padding and ReLU need exactly."""
        low, high = min(low, 0.0), max(high, 0.0)
        step = np.array(max(high - low, 1e-6) / UINT8_MAX, np.float32)
        return cls(step, np.array(np.rint(-low / step), np.uint8))


PHOTO = Scale(np.array(2 / UINT8_MAX, np.float32), np.array(127, np.uint8))
"""Scale of the photo made half a step brighter, so that its levels are the pixel levels."""


def quantise(model: onnx.ModelProto, ranges: Ranges, *, keep_float: Collection[str] = ()) -> onnx.ModelProto:
    """Quantise the convolutions of a lowered model and the operators after them; the rest stays float32.

    Args:
        model: A model from `lower`.
        ranges: The ranges that `calibrate` measures of this model.
        keep_float: Layers whose weights and outputs stay in float, such as `down0`.

    Raises:
        ExportError: `keep_float` names a layer that the model does not have.
    """
    if unknown := set(keep_float) - set(layers_of(model)):
        raise ExportError(
            f"There are no layers {sorted(unknown)}; use layers of the model: {', '.join(layers_of(model))}."
        )
    return _Quantiser(Wiring(model), ranges, set(keep_float)).graph().put_into(model)


def layers_of(model: onnx.ModelProto) -> list[str]:
    """Return the names of the convolutions of a lowered model, in the order in which they run."""
    return [node.name for node in model.graph.node if node.op_type in CONVOLUTIONS]


class _Quantiser:
    def __init__(self, wiring: Wiring, ranges: Ranges, keep_float: set[str]) -> None:
        self._wiring, self._ranges = wiring, ranges
        self._layers = {
            node.name for node in wiring.nodes if node.op_type in CONVOLUTIONS and node.name not in keep_float
        }
        self._gains, self._norm_gains = _equalise(wiring, ranges, self._layers)
        self._scales: dict[str, Scale] = {}
        """Scales of the quantised tensors."""
        self._replacements: dict[str, str] = {}
        """Replacements of the quantised tensors for the nodes that read them."""

    def graph(self) -> Graph:
        """Write the quantised graph."""
        graph, chosen = Graph(), self._chosen_tensors()
        for name, value in self._wiring.constants.items():
            graph.constant(name, value)
        if self._wiring.input in chosen:
            brighter = [self._wiring.input, graph.constant("half_level", PHOTO.step / 2)]
            self._quantise(graph, self._wiring.input, graph.add("Add", brighter, "brighter"), PHOTO)
        for node in self._wiring.nodes:
            new = onnx.NodeProto()
            new.CopyFrom(node)
            new.input[:] = [self._replacements.get(name, name) for name in node.input]
            if node.name in self._layers:
                new.input[1:] = self._quantised_weights(graph, node)
            elif node.op_type == "Add" and node.output[0] in chosen:
                new.input[1] = self._quantised_addend(graph, node.input[1])
            graph.nodes.append(new)
            if node.output[0] in chosen:
                self._quantise(graph, node.output[0], node.output[0], self._scale(node))
        return graph

    def _chosen_tensors(self) -> set[str]:
        """Return the tensors to quantise: inputs and outputs of quantised layers and of the operators after them."""
        chosen: set[str] = set()
        for node in self._wiring.nodes:
            inputs = self._wiring.inputs(node)
            if node.name in self._layers:
                chosen |= {*inputs, *node.output}
            elif node.op_type == "Relu" and inputs[0] in self._layers:
                # A ReLU directly after a layer is fused into it: the lowest level of its output is zero.
                chosen = (chosen - {*inputs}) | {*node.output}
            elif node.op_type in UINT8_OPERATORS and chosen & {*inputs}:
                chosen |= {*inputs, *node.output}
        # Moving values is cheaper in uint8, so they are quantised before they are moved.
        for node in reversed(self._wiring.nodes):
            if node.op_type in MOVES and node.output[0] in chosen:
                chosen.add(node.input[0])
        return chosen - {self._wiring.output}

    def _scale(self, node: onnx.NodeProto) -> Scale:
        """Return the scale of a node's output: that of its range, or of its input if the node only moves values."""
        if node.op_type in MOVES and node.input[0] in self._scales:
            return self._scales[node.input[0]]
        name = self._wiring.origin(node.output[0])
        low, high = (ends * self._gains.get(name, 1) for ends in self._ranges[name])
        return Scale.of(float(low.min()), float(high.max()))

    def _quantise(self, graph: Graph, name: str, value: str, scale: Scale) -> None:
        """Quantise and dequantise `value`, and let the readers of the tensor `name` read the result."""
        ends = [graph.constant(f"{name}.step", scale.step), graph.constant(f"{name}.zero", scale.zero)]
        levels = graph.add("QuantizeLinear", [value, *ends], f"{name}.levels")
        if (gains := self._norm_gains.get(name)) is not None:
            zeros = np.full(gains.shape, scale.zero)
            ends = [graph.constant(f"{name}.steps", scale.step / gains), graph.constant(f"{name}.zeros", zeros)]
        self._replacements[name] = graph.add("DequantizeLinear", [levels, *ends], f"{name}.back")
        self._scales[name] = scale

    def _quantised_weights(self, graph: Graph, node: onnx.NodeProto) -> list[str]:
        """Quantise a layer's kernel, and its bias with the step of the sums that it is added to."""
        axis, constants = CONVOLUTIONS[node.op_type], self._wiring.constants
        others = tuple(number for number in range(4) if number != axis)
        kernel = constants[node.input[1]].astype(np.float64)
        bias = constants[node.input[2]] if len(node.input) > 2 else np.zeros(kernel.shape[axis])
        if self._wiring.origin(node.input[0]) == self._wiring.input:
            bias = bias - PHOTO.step / 2 * kernel.sum(axis=others)
        unit = self._scales[node.input[0]].step
        # If all weights are close to zero, the bias determines the step.
        least = np.maximum(abs(bias) / (unit * MAX_BIAS), TINY)
        steps = np.maximum(abs(kernel).max(axis=others) / INT8_MAX, least).astype(np.float32)
        levels = np.rint(kernel / np.expand_dims(steps, others)).astype(np.int8)
        biases = np.rint(bias / (steps * unit)).astype(np.int32)
        steps = steps * self._gains.get(node.name, np.ones_like(steps))
        return [
            _add_constant(graph, f"{node.name}.int8_kernel", levels, steps, axis=axis),
            _add_constant(graph, f"{node.name}.int32_bias", biases, steps * unit, axis=0),
        ]

    def _quantised_addend(self, graph: Graph, name: str) -> str:
        """Quantise the constant operand of an Add."""
        values = self._wiring.constants[name]
        scale = Scale.of(float(values.min()), float(values.max()))
        levels = np.clip(np.rint(values / scale.step) + scale.zero, 0, UINT8_MAX).astype(np.uint8)
        return _add_constant(graph, f"{name}.uint8", levels, *scale)


def _equalise(wiring: Wiring, ranges: Ranges, layers: set[str]) -> tuple[dict[str, Steps], dict[str, Steps]]:
    """Return factors (C,) that give all channels in front of an instance norm the same range.

    Otherwise a norm would amplify a channel whose values span only a few levels of the shared scale. The factors cost
    nothing: they go into the kernel's scales, and are divided out when levels are dequantised.

    Returns:
        Factors of the outputs of layers and of leaky ReLUs, and factors to divide by in front of norms, by tensor.
    """
    gains: dict[str, Steps] = {}
    norm_gains: dict[str, Steps] = {}
    for node in wiring.nodes:
        if node.op_type != "InstanceNormalization":
            continue
        names = [wiring.origin(node.input[0])]
        if (writer := wiring.writers[names[0]]).op_type == "LeakyRelu":
            names.append(writer.input[0])
        if names[-1] not in layers:
            continue
        low, high = ranges[names[-1]]
        # The phases of a channel share one norm.
        largest = np.maximum(-low, high).reshape(-1, len(wiring.constants[node.input[1]])).max(axis=0)
        # A channel of zeros stays zero.
        factors = largest.max() / np.maximum(largest, max(largest.max() * LEAST_SHARE, TINY))
        gains |= dict.fromkeys(names, np.tile(factors, len(low) // len(factors)))
        norm_gains[node.input[0]] = factors
    return gains, norm_gains


def _add_constant(
    graph: Graph, name: str, levels: Array, steps: Array, zeros: Array | None = None, axis: int = 0
) -> str:
    """Add a quantised constant and return the name of its value."""
    parts = {"levels": levels, "steps": steps, "zeros": np.zeros(steps.shape, levels.dtype) if zeros is None else zeros}
    names = [graph.constant(f"{name}.{part}", value) for part, value in parts.items()]
    return graph.add("DequantizeLinear", names, name, axis=axis)
