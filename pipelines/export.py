"""Turn a trained generator into a bundle, and prove that the ONNX model is the TensorFlow model."""

import os
from pathlib import Path

import keras
import numpy as np
import onnx
import tensorflow as tf
import tf2onnx

from model.bundle import MODEL_FILE, Bundle, BundleManifest, Parity, write_manifest
from model.errors import ExportError, MissingStepError
from model.files import new_folder, sha256
from model.pixels import to_tensor
from model.spec import TensorSignature, signature
from model.translator import Translator
from pipelines.dataset import load_all
from pipelines.tracking import git_commit
from pipelines.workspace import RunFolder

OPSET = 18
PARITY_LIMIT = 1e-4
"""Largest difference of any output value on the scale [-1, 1]; a level of 255 is 0.0078."""
PARITY_PHOTOS = 8


def to_bundle(run: RunFolder) -> Bundle:
    """Export a run's generator.

    Raises:
        MissingStepError: The run has no trained generator.
        ExportError: The two models' answers differ by more than PARITY_LIMIT.
    """
    record, pairs = run.record(), run.pairs()
    if not run.generator.is_file():
        raise MissingStepError(f"{run.generator} is missing; run `train` first.")
    config = record.config
    generator = _load_float32(run.generator)
    tensors = signature(config.network, config.data.direction)
    photos, _ = load_all(pairs.val[:PARITY_PHOTOS], side=config.network.image_size, direction=config.data.direction)
    with new_folder(run.bundle) as folder:
        onnx.save_model(_convert(generator, tensors), folder / MODEL_FILE)
        manifest = BundleManifest(
            network=config.network,
            direction=config.data.direction,
            signature=tensors,
            opset=OPSET,
            sha256=sha256(folder / MODEL_FILE),
            parity=Parity(max_difference=0, limit=PARITY_LIMIT, photos=len(photos)),
            run_id=record.run_id,
            data_fingerprint=pairs.fingerprint,
            code_revision=git_commit(),
        )
        translator = Translator(Bundle(folder, manifest))
        difference = max(
            float(np.abs(np.asarray(generator(photo, training=False)) - translator.translate(photo)).max())
            for photo in (to_tensor(photo[None]) for photo in photos)
        )
        # `not <=` and not `>`: a difference that is no number is no parity either.
        if not difference <= PARITY_LIMIT:
            raise ExportError(
                f"The ONNX model's answers differ from TensorFlow's by up to {difference:.2g} on {len(photos)} "
                f"held-out photos; at most {PARITY_LIMIT:g} is allowed. No bundle was written."
            )
        parity = Parity(max_difference=difference, limit=PARITY_LIMIT, photos=len(photos))
        write_manifest(folder, manifest.model_copy(update={"parity": parity}))
    return Bundle.open(run.bundle)


def _load_float32(file: Path) -> keras.Model:
    """Read the generator with float32 layers, whatever precision it was trained in: that is what is exported."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    trained = keras.saving.load_model(file, compile=False, safe_mode=True)
    config = trained.get_config()
    for layer in config["layers"]:
        layer["config"]["dtype"] = "float32"
    generator = trained.__class__.from_config(config)
    generator.set_weights(trained.get_weights())
    return generator


def _convert(generator: keras.Model, tensors: TensorSignature) -> onnx.ModelProto:
    shape = (None, tensors.height, tensors.width, tensors.channels)
    call = tf.function(
        lambda image: generator(image, training=False),
        input_signature=[tf.TensorSpec(shape, tf.float32, name=tensors.input)],
    )
    model, _ = tf2onnx.convert.from_function(call, input_signature=call.input_signature, opset=OPSET)
    _name_tensors(model, tensors)
    onnx.checker.check_model(model, full_check=True)
    return model


def _name_tensors(model: onnx.ModelProto, tensors: TensorSignature) -> None:
    """Give input, output and batch dimension their public names: tf2onnx makes its own up."""
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
    del graph.value_info[:]
