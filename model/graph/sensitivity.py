"""A search for the layers that lose most in int8, so that they stay in float first."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from model.graph.calibration import as_function
from model.graph.quantisation import layers_of
from model.pixels import Tensor

Quantise = Callable[[Collection[str]], onnx.ModelProto]
"""Returns the int8 model with the given layers in float."""
Similarity = Callable[[Tensor, Tensor], float]
"""Compares the maps of the float32 and the int8 model, (N, S, S, 3) in [-1, 1]; 1 for equal maps."""


@dataclass(frozen=True)
class Quantised:
    """An int8 model, and its layers in float."""

    model: onnx.ModelProto
    float_layers: tuple[str, ...]


def int8_candidates(
    model: onnx.ModelProto, quantised: Quantise, photos: Tensor, *, similarity: Similarity
) -> Iterator[Quantised]:
    """Yield a lowered model in int8: first completely, then with 1, 2, 4 ... of the most sensitive layers in float.

    The sensitivity is measured when the second model is requested, with each layer in turn as the only one in float. At
    least half of the layers stay in int8; with fewer, little would be gained.

    Args:
        model: A model from `lower`.
        quantised: Returns the int8 model with the given layers in float.
        photos: Photos to measure the similarity on, float32 (N, S, S, 3) in [-1, 1].
        similarity: Compares the maps of the two models.
    """
    yield Quantised(quantised(()), ())
    layers = rank_by_sensitivity(model, quantised, photos, similarity=similarity)
    kept = 1
    while 2 * kept <= len(layers):
        yield Quantised(quantised(layers[:kept]), tuple(layers[:kept]))
        kept *= 2


def rank_by_sensitivity(
    model: onnx.ModelProto, quantised: Quantise, photos: Tensor, *, similarity: Similarity
) -> Sequence[str]:
    """Return the layers by their gain in float, the largest first; arguments as for `int8_candidates`."""
    expected = draw_all(model, photos)
    similarities = {layer: similarity(expected, draw_all(quantised((layer,)), photos)) for layer in layers_of(model)}
    return sorted(similarities, key=similarities.__getitem__, reverse=True)


def draw_all(model: onnx.ModelProto, photos: Tensor) -> Tensor:
    """Draw photos one at a time, so that memory does not grow with their number."""
    draw = as_function(model)
    return np.concatenate([draw(photo[None]) for photo in photos])
