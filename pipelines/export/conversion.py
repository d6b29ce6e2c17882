"""The TensorFlow side of an export: read a trained generator, run it, convert it to ONNX."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import onnx
import tensorflow as tf
import tf2onnx

from model.networks.pix2pix import build_generator
from model.pixels import Tensor
from model.spec import NetworkConfig, TensorSignature

OPSET = 18


def use_cpu() -> None:
    """Leave GPUs to others: an export runs once, on a handful of photos. Call it before anything else."""
    tf.config.set_visible_devices([], "GPU")


def save_untrained(network: NetworkConfig, file: Path) -> None:
    """Write a generator with random weights and normalisation statistics, for those who only time it."""
    generator = build_generator(network)
    random = np.random.default_rng(0)
    for weight in generator.weights:
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(random.uniform(0.5, 1.5, weight.shape))
        elif weight.name in ("beta", "moving_mean"):
            weight.assign(random.normal(0, 0.1, weight.shape))
    generator.save(file)


def load_generator(file: Path) -> keras.Model:
    """Read a generator with float32 layers, whatever precision it was trained in: that is what is exported."""
    trained = keras.saving.load_model(file, compile=False, safe_mode=True)
    config = trained.get_config()
    for layer in config["layers"]:
        layer["config"]["dtype"] = "float32"
    generator = trained.__class__.from_config(config)
    generator.set_weights(trained.get_weights())
    return generator


def drawer(generator: keras.Model, *, as_trained: bool = False) -> Callable[[Tensor], Tensor]:
    """Return the generator as a function of float32 (N, S, S, 3) in [-1, 1].

    Args:
        generator: The network.
        as_trained: Normalise with the batch's own statistics and drop out, as in training; else as it is deployed. The
            random state of the dropout is the generator's own.
    """
    call = tf.function(lambda batch: generator(batch, training=as_trained))
    return lambda batch: np.asarray(call(batch), np.float32)


def to_onnx(generator: keras.Model, tensors: TensorSignature) -> onnx.ModelProto:
    """Convert a generator; the tensors and the batch dimension get the names that `tensors` gives them."""
    shape = (None, tensors.height, tensors.width, tensors.channels)
    call = tf.function(
        lambda image: generator(image, training=False),
        input_signature=[tf.TensorSpec(shape, tf.float32, name=tensors.input)],
    )
    model: onnx.ModelProto
    model, _ = tf2onnx.convert.from_function(call, input_signature=call.input_signature, opset=OPSET)
    _name_tensors(model, tensors)
    onnx.checker.check_model(model, full_check=True)
    return model


def _name_tensors(model: onnx.ModelProto, tensors: TensorSignature) -> None:
    """tf2onnx makes up names for the output and for the batch dimension."""
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
    # What tf2onnx inferred about the values inside speaks of its own name for the batch.
    del graph.value_info[:]
