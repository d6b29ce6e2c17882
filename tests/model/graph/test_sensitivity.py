"""The layers that lose most in int8 are found and left in float first."""

from itertools import pairwise

import numpy as np
import onnx

from model.graph.calibration import calibrate
from model.graph.lowering import lower
from model.graph.quantisation import layers_of, quantise
from model.graph.sensitivity import draw_all, int8_candidates
from model.spec import NetworkConfig
from tests.fixtures.generators import photos, plain

NETWORK = NetworkConfig(image_size=64, width=6, depth=4)


def closeness(expected, found):
    """Return 1 for equal maps, less for others."""
    return float(1 - np.abs(expected - found).mean())


def fragile():
    """Return a lowered model whose second layer is inaccurate in int8: one input is tiny, and its weights are large.

    These weights hardly change a sum, but set the scale to which the others of each output channel are rounded.
    """
    lowered = lower(plain(NETWORK))
    changed = {tensor.name: onnx.numpy_helper.to_array(tensor).copy() for tensor in lowered.graph.initializer}
    changed["down0.kernel"][0] *= 1e-4
    changed["down0.shift"][0] = 0
    changed["down1.kernel"][:, 0] = 60
    for tensor in lowered.graph.initializer:
        tensor.CopyFrom(onnx.numpy_helper.from_array(changed[tensor.name], tensor.name))
    return lowered


def candidates(model):
    ranges = calibrate(model, [photos(NETWORK, 4, seed=1)])
    return int8_candidates(
        model, lambda kept: quantise(model, ranges, keep_float=kept), photos(NETWORK, 3), similarity=closeness
    )


def test_the_first_model_is_all_int8_and_made_without_measuring():
    lowered = lower(plain(NETWORK))
    ranges = calibrate(lowered, [photos(NETWORK, 4, seed=1)])
    made = []
    first = next(
        int8_candidates(
            lowered, lambda kept: made.append(kept) or quantise(lowered, ranges), photos(NETWORK), similarity=closeness
        )
    )
    assert (first.float_layers, made) == ((), [()]) and first.model == quantise(lowered, ranges)


def test_the_most_sensitive_layer_is_the_first_in_float():
    lowered = fragile()
    first, second, *_ = candidates(lowered)
    assert second.float_layers == ("down1",)
    expected = draw_all(lowered, photos(NETWORK, 3))
    before, after = (closeness(expected, draw_all(found.model, photos(NETWORK, 3))) for found in (first, second))
    assert 1 - after < (1 - before) / 2


def test_layers_in_float_double_until_half_are_in_int8():
    lowered = lower(plain(NETWORK))
    found = [quantised.float_layers for quantised in candidates(lowered)]
    assert [len(layers) for layers in found] == [0, 1, 2, 4] and len(layers_of(lowered)) == 8
    for fewer, more in pairwise(found):
        assert more[: len(fewer)] == fewer
