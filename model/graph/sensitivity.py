"""Which layers suffer from int8, found by measurement, so that those are the first that are left in float."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from model.graph.calibration import drawer
from model.graph.quantisation import layers_of
from model.pixels import Tensor

Quantise = Callable[[Collection[str]], onnx.ModelProto]
"""From the layers to leave in float to the int8 model."""
Similarity = Callable[[Tensor, Tensor], float]
"""From what the float32 model and the int8 model drew, (N, S, S, 3) in [-1, 1], to a number that is 1 for the same."""


@dataclass(frozen=True)
class Quantised:
    """An int8 model, and the layers that were left in float."""

    model: onnx.ModelProto
    float_layers: tuple[str, ...]


def from_fastest(
    model: onnx.ModelProto, quantised: Quantise, photos: Tensor, *, similarity: Similarity
) -> Iterator[Quantised]:
    """Yield a lowered model in int8, first all of it, then with 1, 2, 4 ... layers in float, those that suffer most.

    What suffers is measured when the second is asked for: each layer is tried in float alone. Half of the layers stay
    in int8 at least; with fewer, little would be gained.

    Args:
        model: As `lower` makes it.
        quantised: Makes the int8 model, with some layers left in float.
        photos: To measure the similarity on, float32 (N, S, S, 3) in [-1, 1].
        similarity: Compares what the two models draw.
    """
    yield Quantised(quantised(()), ())
    layers = by_sensitivity(model, quantised, photos, similarity=similarity)
    kept = 1
    while 2 * kept <= len(layers):
        yield Quantised(quantised(layers[:kept]), tuple(layers[:kept]))
        kept *= 2


def by_sensitivity(
    model: onnx.ModelProto, quantised: Quantise, photos: Tensor, *, similarity: Similarity
) -> Sequence[str]:
    """Return the layers in the order of what each gains in float, the most first; arguments as of `from_fastest`."""
    expected = draw_all(model, photos)
    alone = {layer: similarity(expected, draw_all(quantised((layer,)), photos)) for layer in layers_of(model)}
    return sorted(alone, key=alone.__getitem__, reverse=True)


def draw_all(model: onnx.ModelProto, photos: Tensor) -> Tensor:
    """Draw one photo at a time, so that memory does not grow with their number."""
    draw = drawer(model)
    return np.concatenate([draw(photo[None]) for photo in photos])
