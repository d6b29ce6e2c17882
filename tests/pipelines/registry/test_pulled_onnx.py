"""ONNX files from the registry: `pull` refuses external tensors, other inputs and outputs, and other formats."""

import onnx
import pytest
from onnx import helper

from tests.fixtures import runs
from tests.fixtures.registered_files import refusal, replace_model


def external_tensor(name="factor"):
    """Return a tensor whose values are in another file."""
    tensor = onnx.TensorProto(name=name, data_type=onnx.TensorProto.FLOAT, data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../../../../etc/passwd")
    return tensor


def hide_in(position):
    """Return a small generator with an external tensor at a position in the graph."""
    if position == "initialiser":
        return runs.serialise(1, constant=external_tensor())
    model = onnx.load_model_from_string(runs.serialise(1))
    constant = helper.make_node("Constant", [], ["hidden"], value=external_tensor("hidden"))
    if position == "constant":
        model.graph.node.insert(0, constant)
    elif position == "subgraph":
        graph = helper.make_graph([constant], "inner", [], [])
        model.graph.node.append(helper.make_node("If", ["photo"], ["other"], then_branch=graph, else_branch=graph))
    elif position == "function":
        model.functions.append(
            helper.make_function("here", "f", [], ["hidden"], [constant], [helper.make_opsetid("", 18)])
        )
    elif position == "sparse":
        model.graph.sparse_initializer.add(values=external_tensor("hidden"), dims=[1])
    elif position == "list":
        model.graph.node.append(helper.make_node("Other", [], ["other"], tensors=[external_tensor("hidden")]))
    elif position == "training":
        model.training_info.add().initialization.initializer.append(external_tensor("hidden"))
    elif position == "unmarked":
        tensor = external_tensor("hidden")
        tensor.data_location = onnx.TensorProto.DEFAULT
        model.graph.initializer.append(tensor)
    return model


POSITIONS = ["initialiser", "constant", "subgraph", "function", "sparse", "list", "training", "unmarked"]


@pytest.mark.parametrize("position", POSITIONS)
def test_tensors_in_other_files_are_refused(files, restored_tags, tmp_path, position):
    replace_model(files, hide_in(position))
    message = refusal(tmp_path / "out")
    assert "stores the tensor" in message and "in another file ('../../../../etc/passwd')" in message


def test_other_formats_and_other_inputs_are_refused(files, restored_tags, tmp_path):
    replace_model(files, b"\x08\x0a" + bytes(range(256)))
    assert "is not an ONNX model" in refusal(tmp_path / "out")
    model = onnx.load_model_from_string(runs.serialise(1))
    model.graph.input[0].name = "other"
    replace_model(files, model)
    assert "has inputs and outputs [['other'], ['map']]; its manifest names 'photo' and 'map'" in refusal(
        tmp_path / "out"
    )
