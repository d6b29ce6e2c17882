"""Models that are not yet files, run on the CPU: what they draw, and in which ranges their values lie."""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray

from model.errors import BundleError, ExportError
from model.graph.builder import MOVES, Array, Wiring
from model.pixels import Tensor
from model.providers import Session, open_session

SATURATION = 3.2
"""From here on, tanh is less than half a pixel level from 1."""

Ranges = Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]
"""The lowest and the highest value of each channel (C,) of tensors, by name."""


def drawer(model: onnx.ModelProto) -> Callable[[Tensor], Tensor]:
    """Return a model as a function of float32 (N, S, S, 3) in [-1, 1].

    Raises:
        ExportError: onnxruntime can't load it.
    """
    session, source = _open(model), model.graph.input[0].name

    def draw(photos: Tensor) -> Tensor:
        (drawn,) = session.run(None, {source: photos})
        return np.asarray(drawn, np.float32)

    return draw


def calibrate(model: onnx.ModelProto, photos: Iterable[Tensor]) -> Ranges:
    """Measure the ranges of a lowered float32 model on batches (N, S, S, 3) in [-1, 1], one photo at a time.

    Raises:
        ExportError: There are no photos, or a value is NaN or infinite.
    """
    wiring = Wiring(model)
    names = [node.output[0] for node in wiring.nodes if node.op_type not in MOVES]
    found: list[list[tuple[Array, Array]]] = [[] for _ in names]
    session = _open(_watched(model, names))
    for batch in photos:
        for photo in batch:
            for values, parts in zip(session.run(names, {wiring.input: photo[None]}), found, strict=True):
                parts.append((values.min(axis=(0, 2, 3)), values.max(axis=(0, 2, 3))))
    if not found[0] or not all(np.isfinite(parts).all() for parts in found):
        raise ExportError(f"{len(found[0])} photos give no ranges; calibrate on photos whose values are all finite.")
    ranges = {
        name: (np.min([low for low, _ in parts], axis=0), np.max([high for _, high in parts], axis=0))
        for name, parts in zip(names, found, strict=True)
    }
    (last,) = [wiring.origin(node.input[0]) for node in wiring.nodes if node.op_type == "Tanh"]
    low, high = np.clip(ranges[last], -SATURATION, SATURATION)
    return ranges | {last: (low, high)}


def _watched(model: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    """Return the model with all these tensors among its outputs."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    outputs = {value.name for value in model.graph.output}
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in outputs)
    return watched


def _open(model: onnx.ModelProto) -> Session:
    try:
        return open_session(model.SerializeToString())
    except BundleError as error:
        raise ExportError(str(error)) from error
