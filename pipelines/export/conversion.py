"""Conversion of a Keras generator to ONNX by tf2onnx."""

import keras
import onnx
import tensorflow as tf
import tf2onnx

from model.spec import OPSET, TensorSignature


def to_onnx(generator: keras.Model, tensors: TensorSignature) -> onnx.ModelProto:
    """Convert a generator to ONNX; tensors and batch dimension are named as in `tensors`."""
    shape = (None, tensors.height, tensors.width, tensors.channels)
    call = tf.function(
        lambda image: generator(image, training=False),
        autograph=False,
        input_signature=[tf.TensorSpec(shape, tf.float32, name=tensors.input)],
    )
    model: onnx.ModelProto
    model, _ = tf2onnx.convert.from_function(call, input_signature=call.input_signature, opset=OPSET)
    _name_tensors(model, tensors)
    onnx.checker.check_model(model, full_check=True)
    return model


def _name_tensors(model: onnx.ModelProto, tensors: TensorSignature) -> None:
    """Rename the output and the batch dimension, for which tf2onnx makes up names."""
    graph = model.graph
    names = {graph.input[0].name: tensors.input, graph.output[0].name: tensors.output}
    for node in graph.node:
        for values in (node.input, node.output):
            values[:] = [names.get(value, value) for value in values]
    for value in (graph.input[0], graph.output[0]):
        value.name = names[value.name]
        for dimension, size in zip(value.type.tensor_type.shape.dim, tensors.shape, strict=True):
            if isinstance(size, str):
                dimension.dim_param = size
            else:
                dimension.dim_value = size
    # The shapes that tf2onnx inferred use its own name of the batch dimension.
    del graph.value_info[:]
    # It names a function of TensorFlow with a number that differs in every export.
    graph.ClearField("doc_string")
