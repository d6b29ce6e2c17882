"""A check inside a graph that its input is within [-1, 1]: other values, such as levels of 0 to 255, draw nonsense."""

import numpy as np
import onnx
from onnx import TensorProto

from model.graph.builder import Graph, Wiring
from model.pixels import SCALING

LIMIT = 1.01
"""Largest absolute value that is taken; one level of 255 is 0.0078."""


def check_range(model: onnx.ModelProto) -> onnx.ModelProto:
    """Make onnxruntime's CPU provider refuse inputs with values beyond LIMIT, with a message that says what to send.

    ONNX has no operator that raises an error. A Gather does if its index is out of bounds, and onnxruntime prints the
    node's name, so that the name is the message. All other inputs are multiplied by 1, which changes no bit. CUDA and
    OpenVINO do not check bounds; they draw as before or in one colour.
    """
    photo, graph = Wiring(model).input, Graph.from_model(model)
    nodes, graph.nodes = graph.nodes, []
    limit = graph.constant("range.limit", np.array(LIMIT, np.float32))
    one = graph.constant("range.one", np.ones(1, np.float32))
    largest = graph.add("ReduceMax", [graph.add("Abs", [photo], "range.size")], "range.largest", keepdims=0)
    beyond = graph.add("Greater", [largest, limit], "range.beyond")
    index = graph.add("Cast", [beyond], "range.index", to=TensorProto.INT64)
    graph.add("Gather", [one, index], "range.factor")
    graph.nodes[-1].name = f"{photo} must hold RGB in [-1, 1]: {SCALING}"
    graph.add("Mul", [photo, "range.factor"], "range.checked")
    for node in nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = ["range.checked" if name == photo else name for name in node.input]
        graph.nodes.append(copy)
    return graph.put_into(model)
