"""Models in memory, run on the CPU, and the ranges of their values on photos."""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray

from model.errors import BundleError, ExportError
from model.graph.builder import MOVES, Array, Wiring
from model.pixels import Tensor
from model.providers import Session, open_session

SATURATION = 3.2
"""Input from which on tanh is within half a pixel level of 1."""

Ranges = Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]
"""Lowest and highest value of each channel, (C,) each, by the name of the tensor."""


def as_function(model: onnx.ModelProto) -> Callable[[Tensor], Tensor]:
    """Return a model as a function from and to float32 (N, S, S, 3) in [-1, 1].

    Raises:
        ExportError: onnxruntime can't load it.
    """
    session, source = _open(model), model.graph.input[0].name

    def run(photos: Tensor) -> Tensor:
        (maps,) = session.run(None, {source: photos})
        return np.asarray(maps, np.float32)

    return run


def calibrate(model: onnx.ModelProto, photos: Iterable[Tensor]) -> Ranges:
    """Measure the ranges of a lowered float32 model on batches (N, S, S, 3) in [-1, 1], one photo at a time.

    Raises:
        ExportError: There are no photos, or a value is NaN or infinite.
    """
    wiring = Wiring(model)
    names = [node.output[0] for node in wiring.nodes if node.op_type not in MOVES]
    found: list[list[tuple[Array, Array]]] = [[] for _ in names]
    session = _open(_with_outputs(model, names))
    for batch in photos:
        for photo in batch:
            for values, parts in zip(session.run(names, {wiring.input: photo[None]}), found, strict=True):
                parts.append((values.min(axis=(0, 2, 3)), values.max(axis=(0, 2, 3))))
    if not found[0] or not all(np.isfinite(parts).all() for parts in found):
        raise ExportError(
            f"{len(found[0])} photos give no finite ranges; calibrate on one or more photos with finite values."
        )
    ranges = {
        name: (np.min([low for low, _ in parts], axis=0), np.max([high for _, high in parts], axis=0))
        for name, parts in zip(names, found, strict=True)
    }
    (last,) = [wiring.origin(node.input[0]) for node in wiring.nodes if node.op_type == "Tanh"]
    low, high = np.clip(ranges[last], -SATURATION, SATURATION)
    return ranges | {last: (low, high)}


def _with_outputs(model: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    """Return a copy of a model with these tensors among its outputs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    outputs = {value.name for value in model.graph.output}
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in outputs)
    return copy


def _open(model: onnx.ModelProto) -> Session:
    try:
        return open_session(model.SerializeToString())
    except BundleError as error:
        raise ExportError(str(error)) from error
