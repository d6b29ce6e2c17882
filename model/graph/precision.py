"""Pixels as input and output of a graph, and half precision inside."""

import numpy as np
import onnx
from onnx import TensorProto

from model.errors import ExportError
from model.graph.builder import Graph, Wiring

WHITE = 255


def take_pixels(model: onnx.ModelProto) -> onnx.ModelProto:
    """Make a model take and return pixels, uint8 (N, S, S, 3), with the scaling and rounding of `model.pixels`.

    The model may be float32, half or int8 inside. An int8 model reads the pixels unchanged, as its levels.
    """
    wiring, graph = Wiring(model), Graph.from_model(model)
    photo, drawn = wiring.input, wiring.output
    levels = _photo_levels(wiring)
    _rename(graph, {drawn: "drawn"} | ({levels: photo} if levels else {photo: "scaled"}))
    nodes, graph.nodes = graph.nodes, []
    half, one = (graph.constant(name, np.array(value, np.float32)) for name, value in (("half", WHITE / 2), ("one", 1)))
    if levels:
        # The nodes that computed the levels are no longer needed.
        nodes = [node for node in nodes if photo not in node.output and "brighter" not in node.output]
    else:
        number = graph.add("Cast", [photo], "number", to=TensorProto.FLOAT)
        graph.add("Sub", [graph.add("Div", [number, half], "divided"), one], "scaled")
    graph.nodes += nodes
    level = graph.add("Mul", [graph.add("Add", ["drawn", one], "above_black"), half], "level")
    graph.add("Cast", [graph.add("Round", [level], "rounded")], drawn, to=TensorProto.UINT8)
    pixels = onnx.ModelProto()
    pixels.CopyFrom(model)
    for value in (pixels.graph.input[0], pixels.graph.output[0]):
        value.type.tensor_type.elem_type = TensorProto.UINT8
    return graph.put_into(pixels)


def _photo_levels(wiring: Wiring) -> str | None:
    """Return the tensor of the photo's levels in a quantised model, or None in another."""
    (reader,) = wiring.readers[wiring.input]
    if reader.op_type != "Add":
        return None
    (quantised,) = wiring.readers[reader.output[0]]
    return str(quantised.output[0])


def to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Convert a lowered float32 model to float16; its input, its output and tanh stay float32.

    Raises:
        ExportError: A weight is too large for float16.
    """
    wiring, graph = Wiring(model), Graph.from_model(model)
    for name, value in wiring.constants.items():
        if value.dtype == np.float32:
            with np.errstate(over="ignore"):
                small = value.astype(np.float16)
            if not np.isfinite(small).all():
                raise ExportError(f"A weight of {name} is {abs(value).max():g}, too large for half precision (65504).")
            graph.constant(name, small)
    (tanh,) = [node for node in graph.nodes if node.op_type == "Tanh"]
    _rename(graph, {wiring.input: "half_photo", tanh.input[0]: "half_drawn"})
    nodes, graph.nodes = graph.nodes, []
    graph.add("Cast", [wiring.input], "half_photo", to=TensorProto.FLOAT16)
    for node in nodes:
        if node.op_type == "Tanh":
            node.input[0] = graph.add("Cast", [node.input[0]], "full_drawn", to=TensorProto.FLOAT)
        graph.nodes.append(node)
    return graph.put_into(model)


def _rename(graph: Graph, names: dict[str, str]) -> None:
    """Rename tensors of a graph."""
    copies = []
    for node in graph.nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.name = names.get(copy.name, copy.name)
        for values in (copy.input, copy.output):
            values[:] = [names.get(value, value) for value in values]
        copies.append(copy)
    graph.nodes = copies
