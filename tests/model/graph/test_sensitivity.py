"""Layers that suffer from int8 are found and left in float."""

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
    """Return 1 for the same, less for less."""
    return float(1 - np.abs(expected - found).mean())


def fragile():
    """Return a lowered model whose second layer int8 spoils: large weights of an input that is next to nothing.

    They hardly change a sum, but the other weights of each output channel are rounded to their scale.
    """
    lowered = lower(plain(NETWORK))
    changed = {tensor.name: onnx.numpy_helper.to_array(tensor).copy() for tensor in lowered.graph.initializer}
    changed["down0.kernel"][0] *= 1e-4
    changed["down0.shift"][0] = 0
    changed["down1.kernel"][:, 0] = 60
    for tensor in lowered.graph.initializer:
        tensor.CopyFrom(onnx.numpy_helper.from_array(changed[tensor.name], tensor.name))
    return lowered


def attempts(model):
    ranges = calibrate(model, [photos(NETWORK, 4, seed=1)])
    return int8_candidates(
        model, lambda kept: quantise(model, ranges, keep_float=kept), photos(NETWORK, 3), similarity=closeness
    )


def test_the_first_is_int8_in_all_layers_and_nothing_is_measured_for_it():
    lowered = lower(plain(NETWORK))
    ranges = calibrate(lowered, [photos(NETWORK, 4, seed=1)])
    made = []
    first = next(
        int8_candidates(
            lowered, lambda kept: made.append(kept) or quantise(lowered, ranges), photos(NETWORK), similarity=closeness
        )
    )
    assert (first.float_layers, made) == ((), [()]) and first.model == quantise(lowered, ranges)


def test_the_layer_that_suffers_is_the_first_in_float():
    lowered = fragile()
    poor, better, *_ = attempts(lowered)
    assert better.float_layers == ("down1",)
    expected = draw_all(lowered, photos(NETWORK, 3))
    worse, good = (closeness(expected, draw_all(found.model, photos(NETWORK, 3))) for found in (poor, better))
    assert 1 - good < (1 - worse) / 2


def test_more_and_more_layers_join_and_half_stay_in_int8():
    lowered = lower(plain(NETWORK))
    found = [quantised.float_layers for quantised in attempts(lowered)]
    assert [len(layers) for layers in found] == [0, 1, 2, 4] and len(layers_of(lowered)) == 8
    for fewer, more in pairwise(found):
        assert more[: len(fewer)] == fewer
