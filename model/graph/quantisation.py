"""Static int8 of a lowered generator: QuantizeLinear and DequantizeLinear around what gains from it.

Weights are int8 in [-127, 127] with a scale for each output channel, activations uint8 with one scale a tensor (Jacob
et al. 2018, section 2.1). The nodes are ONNX' own: each runtime makes its integer operators of them.
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
FOLLOWERS = MOVES | {"LeakyRelu", "Add", "Concat"}
"""Operators that are done in uint8 where a value that enters them is."""
LEVELS, LARGEST = 255, 127
"""Steps between the ends of uint8, and the largest int8 of a weight."""
MAX_BIAS = 2**30
"""Half of what an int32 sum holds: the rest is for the products."""
TINY = 1e-12
LEAST_SHARE = 1e-3
"""Of the widest range, below which a channel's own range counts as nothing."""

Steps = NDArray[np.float32]


class Scale(NamedTuple):
    """A uint8 `level` stands for step * (level - zero)."""

    step: Steps
    zero: NDArray[np.uint8]

    @classmethod
    def of(cls, low: float, high: float) -> "Scale":
        """Cover a range, and zero, which padding and ReLU need to be exact."""
        low, high = min(low, 0.0), max(high, 0.0)
        step = np.array(max(high - low, 1e-6) / LEVELS, np.float32)
        return cls(step, np.array(np.rint(-low / step), np.uint8))


PHOTO = Scale(np.array(2 / LEVELS, np.float32), np.array(127, np.uint8))
"""Of the photo, half a step brighter than it is: so each level is a pixel's level."""


def quantise(model: onnx.ModelProto, ranges: Ranges, *, keep_float: Collection[str] = ()) -> onnx.ModelProto:
    """Quantise the convolutions of a lowered model, and what follows them; all else stays float32.

    Args:
        model: As `lower` makes it.
        ranges: From `calibrate`, of the same model.
        keep_float: Layers whose weights and outputs stay in float, such as `down0`.

    Raises:
        ExportError: A layer to keep is none of the model's.
    """
    if unknown := set(keep_float) - set(layers_of(model)):
        raise ExportError(f"There are no layers {sorted(unknown)}; the model has {', '.join(layers_of(model))}.")
    return _Quantiser(Wiring(model), ranges, set(keep_float)).graph().put_into(model)


def layers_of(model: onnx.ModelProto) -> list[str]:
    """Name the convolutions of a lowered model, in the order in which they run."""
    return [node.name for node in model.graph.node if node.op_type in CONVOLUTIONS]


class _Quantiser:
    def __init__(self, wiring: Wiring, ranges: Ranges, keep_float: set[str]) -> None:
        self._wiring, self._ranges = wiring, ranges
        self._layers = {
            node.name for node in wiring.nodes if node.op_type in CONVOLUTIONS and node.name not in keep_float
        }
        self._gains, self._undone = _equalise(wiring, ranges, self._layers)
        self._scales: dict[str, Scale] = {}
        """Of each tensor that is quantised."""
        self._reads: dict[str, str] = {}
        """What is read in place of a tensor."""

    def graph(self) -> Graph:
        """Write the quantised graph."""
        graph, chosen = Graph(), self._choose()
        for name, value in self._wiring.constants.items():
            graph.constant(name, value)
        if self._wiring.input in chosen:
            brighter = [self._wiring.input, graph.constant("half_level", PHOTO.step / 2)]
            self._round_trip(graph, self._wiring.input, graph.add("Add", brighter, "brighter"), PHOTO)
        for node in self._wiring.nodes:
            new = onnx.NodeProto()
            new.CopyFrom(node)
            new.input[:] = [self._reads.get(name, name) for name in node.input]
            if node.name in self._layers:
                new.input[1:] = self._weights(graph, node)
            elif node.op_type == "Add" and node.output[0] in chosen:
                new.input[1] = self._shift(graph, node.input[1])
            graph.nodes.append(new)
            if node.output[0] in chosen:
                self._round_trip(graph, node.output[0], node.output[0], self._scale(node))
        return graph

    def _choose(self) -> set[str]:
        """Return the tensors to quantise: what enters and leaves quantised layers, and what follows them."""
        chosen: set[str] = set()
        for node in self._wiring.nodes:
            inputs = self._wiring.inputs(node)
            if node.name in self._layers:
                chosen |= {*inputs, *node.output}
            elif node.op_type == "Relu" and inputs[0] in self._layers:
                # A ReLU straight after a layer is done by the layer, whose lowest level is zero then.
                chosen = (chosen - {*inputs}) | {*node.output}
            elif node.op_type in FOLLOWERS and chosen & {*inputs}:
                chosen |= {*inputs, *node.output}
        # Moving is cheaper in uint8: what is quantised after it was moved is quantised before.
        for node in reversed(self._wiring.nodes):
            if node.op_type in MOVES and node.output[0] in chosen:
                chosen.add(node.input[0])
        return chosen - {self._wiring.output}

    def _scale(self, node: onnx.NodeProto) -> Scale:
        """Return the scale of what a node writes: of its range, or as before if it is only moved."""
        if node.op_type in MOVES and node.input[0] in self._scales:
            return self._scales[node.input[0]]
        name = self._wiring.origin(node.output[0])
        low, high = (ends * self._gains.get(name, 1) for ends in self._ranges[name])
        return Scale.of(float(low.min()), float(high.max()))

    def _round_trip(self, graph: Graph, name: str, value: str, scale: Scale) -> None:
        """Quantise `value`; what reads the tensor `name` reads what comes back."""
        ends = [graph.constant(f"{name}.step", scale.step), graph.constant(f"{name}.zero", scale.zero)]
        levels = graph.add("QuantizeLinear", [value, *ends], f"{name}.levels")
        if (gains := self._undone.get(name)) is not None:
            zeros = np.full(gains.shape, scale.zero)
            ends = [graph.constant(f"{name}.steps", scale.step / gains), graph.constant(f"{name}.zeros", zeros)]
        self._reads[name] = graph.add("DequantizeLinear", [levels, *ends], f"{name}.back")
        self._scales[name] = scale

    def _weights(self, graph: Graph, node: onnx.NodeProto) -> list[str]:
        """Quantise a layer's kernel, and its bias in the unit of the sums that it is added to."""
        axis, constants = CONVOLUTIONS[node.op_type], self._wiring.constants
        others = tuple(number for number in range(4) if number != axis)
        kernel = constants[node.input[1]].astype(np.float64)
        bias = constants[node.input[2]] if len(node.input) > 2 else np.zeros(kernel.shape[axis])
        if self._wiring.origin(node.input[0]) == self._wiring.input:
            bias = bias - PHOTO.step / 2 * kernel.sum(axis=others)
        unit = self._scales[node.input[0]].step
        # Where weights are next to nothing, the step is as large as the bias asks for.
        least = np.maximum(abs(bias) / (unit * MAX_BIAS), TINY)
        steps = np.maximum(abs(kernel).max(axis=others) / LARGEST, least).astype(np.float32)
        levels = np.rint(kernel / np.expand_dims(steps, others)).astype(np.int8)
        biases = np.rint(bias / (steps * unit)).astype(np.int32)
        steps = steps * self._gains.get(node.name, np.ones_like(steps))
        return [
            _constant(graph, f"{node.name}.int8_kernel", levels, steps, axis=axis),
            _constant(graph, f"{node.name}.int32_bias", biases, steps * unit, axis=0),
        ]

    def _shift(self, graph: Graph, name: str) -> str:
        """Quantise the constant that an Add adds."""
        values = self._wiring.constants[name]
        scale = Scale.of(float(values.min()), float(values.max()))
        levels = np.clip(np.rint(values / scale.step) + scale.zero, 0, LEVELS).astype(np.uint8)
        return _constant(graph, f"{name}.uint8", levels, *scale)


def _equalise(wiring: Wiring, ranges: Ranges, layers: set[str]) -> tuple[dict[str, Steps], dict[str, Steps]]:
    """Find factors (C,) that give all channels in front of a norm of their own the same range.

    The norm would make much of a channel whose values lie within a few levels of a shared scale. The factors cost
    nothing: they go into the scales of the kernel, and come out of the scales by which levels become floats again.

    Returns:
        The factors of what layers write and leaky ReLUs make of it, and those to undo where a norm reads, by tensor.
    """
    gains: dict[str, Steps] = {}
    undone: dict[str, Steps] = {}
    for node in wiring.nodes:
        if node.op_type != "InstanceNormalization":
            continue
        names = [wiring.origin(node.input[0])]
        if (writer := wiring.writers[names[0]]).op_type == "LeakyRelu":
            names.append(writer.input[0])
        if names[-1] not in layers:
            continue
        low, high = ranges[names[-1]]
        # The phases of a channel share its norm.
        largest = np.maximum(-low, high).reshape(-1, len(wiring.constants[node.input[1]])).max(axis=0)
        # A channel of nothing stays so.
        factors = largest.max() / np.maximum(largest, max(largest.max() * LEAST_SHARE, TINY))
        gains |= dict.fromkeys(names, np.tile(factors, len(low) // len(factors)))
        undone[node.input[0]] = factors
    return gains, undone


def _constant(graph: Graph, name: str, levels: Array, steps: Array, zeros: Array | None = None, axis: int = 0) -> str:
    """Add a quantised constant and return the name of its value."""
    parts = {"levels": levels, "steps": steps, "zeros": np.zeros(steps.shape, levels.dtype) if zeros is None else zeros}
    names = [graph.constant(f"{name}.{part}", value) for part, value in parts.items()]
    return graph.add("DequantizeLinear", names, name, axis=axis)
