"""An ONNX graph that is built node by node, and the connections of an existing model."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from model.spec import OPSET

Array = NDArray[Any]
Shapes = Mapping[str, Sequence[int | str]]
"""Shapes of inputs or outputs by name; an axis of any length has a name."""

IR_VERSION = 10
"""Version of ONNX's file format of a new model."""

MOVES = {"Transpose", "Reshape", "Slice"}
"""Operators that only move or select values."""


class Graph:
    """Nodes and constants in the order in which they were added; a node has the name of its only output."""

    def __init__(self) -> None:
        """Start an empty graph."""
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    @staticmethod
    def from_model(model: onnx.ModelProto) -> "Graph":
        """Return a graph with the nodes and constants of `model`."""
        graph = Graph()
        graph.nodes += model.graph.node
        graph.constants |= {tensor.name: tensor for tensor in model.graph.initializer}
        return graph

    def constant(self, name: str, value: Array) -> str:
        """Store a tensor under `name` and return the name."""
        # ascontiguousarray would turn a scalar into an array of one value.
        self.constants[name] = numpy_helper.from_array(np.asarray(value, order="C"), name)
        return name

    def add(self, operator: str, inputs: list[str], output: str = "", **attributes: Any) -> str:  # noqa: ANN401
        """Add a node and return the name of its output, by default the operator and a number."""
        output = output or f"{operator}.{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], output, **attributes))
        return output

    def to_model(self, name: str, inputs: Shapes, outputs: Shapes) -> onnx.ModelProto:
        """Return a new model named `name` with these nodes and constants; its inputs and outputs are float32."""
        starts, ends = (
            [helper.make_tensor_value_info(end, TensorProto.FLOAT, shape) for end, shape in shapes.items()]
            for shapes in (inputs, outputs)
        )
        graph = helper.make_graph(self.nodes, name, starts, ends, list(self.constants.values()))
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)

    def put_into(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """Return a copy of `model` with the nodes of this graph, and the constants they read, in place of its own.

        Inputs, outputs, opset and metadata stay.
        """
        new = onnx.ModelProto()
        new.CopyFrom(model)
        for part in (new.graph.node, new.graph.initializer, new.graph.value_info):
            del part[:]
        new.graph.node.extend(self.nodes)
        read = dict.fromkeys(name for node in self.nodes for name in node.input)
        new.graph.initializer.extend(self.constants[name] for name in read if name in self.constants)
        onnx.checker.check_model(new, full_check=True)
        return new


class Wiring:
    """The connections of a model's nodes: producers and consumers of each tensor, by its name."""

    def __init__(self, model: onnx.ModelProto) -> None:
        """Read the connections of `model`."""
        self.input: str = model.graph.input[0].name
        self.output: str = model.graph.output[0].name
        self.nodes: list[onnx.NodeProto] = list(model.graph.node)
        self.constants: dict[str, Array] = {
            tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer
        }
        self.writers: dict[str, onnx.NodeProto] = {node.output[0]: node for node in self.nodes}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def inputs(self, node: onnx.NodeProto) -> list[str]:
        """Return the inputs of a node that are not constants."""
        return [name for name in node.input if name not in self.constants]

    def origin(self, name: str) -> str:
        """Follow a tensor back, through operators that only move values, to the tensor that they come from."""
        while name in self.writers and self.writers[name].op_type in MOVES:
            name = self.writers[name].input[0]
        return name


def attribute(node: onnx.NodeProto, name: str) -> Any:  # noqa: ANN401
    """Return the value of a node's attribute, or None if it has no attribute of that name."""
    return next((helper.get_attribute_value(found) for found in node.attribute if found.name == name), None)
