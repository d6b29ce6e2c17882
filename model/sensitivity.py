"""Which layers suffer from int8, found by measurement, and left in float until the model draws as it did."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
import onnx

from model.calibration import drawer
from model.errors import ExportError
from model.pixels import Tensor
from model.quantisation import layers_of

Quantise = Callable[[Collection[str]], onnx.ModelProto]
"""From the layers to leave in float to the int8 model."""
Similarity = Callable[[Tensor, Tensor], float]
"""From what the float32 model and the int8 model drew, (N, S, S, 3) in [-1, 1], to a number that is 1 for the same."""


@dataclass(frozen=True)
class Quantised:
    """An int8 model, how alike it draws, and the layers that were left in float for that."""

    model: onnx.ModelProto
    similarity: float
    float_layers: tuple[str, ...]


def quantise_well(
    model: onnx.ModelProto, quantised: Quantise, photos: Tensor, *, similarity: Similarity, goal: float = 0.98
) -> Quantised:
    """Quantise a lowered model, and leave as few layers in float as it takes to reach a goal.

    If all layers in int8 miss the goal, each layer is tried in float alone, and the layers join the float ones in the
    order of what that gained, until the goal is met; at the latest when none is left.

    Args:
        model: As `lower` makes it.
        quantised: Makes the int8 model, with some layers left in float.
        photos: To measure the similarity on, float32 (N, S, S, 3) in [-1, 1].
        similarity: Compares what the two models draw.
        goal: Lowest similarity, at most 1.

    Raises:
        ExportError: The goal can't be met, because it is above 1.
    """
    if not goal <= 1:
        raise ExportError(f"No model can be {goal:g} alike; ask for a similarity of at most 1.")
    expected = draw_all(model, photos)

    def attempt(*float_layers: str) -> Quantised:
        made = quantised(float_layers)
        return Quantised(made, similarity(expected, draw_all(made, photos)), float_layers)

    best = attempt()
    if best.similarity < goal:
        alone = {layer: attempt(layer).similarity for layer in layers_of(model)}
        for layer in sorted(alone, key=alone.__getitem__, reverse=True):
            best = attempt(*best.float_layers, layer)
            if best.similarity >= goal:
                break
    return best


def draw_all(model: onnx.ModelProto, photos: Tensor) -> Tensor:
    """Draw one photo at a time, so that memory does not grow with their number."""
    draw = drawer(model)
    return np.concatenate([draw(photo[None]) for photo in photos])
