"""Layers that suffer from int8 are found and left in float."""

from functools import partial

import numpy as np
import onnx
import pytest
from random_generators import photos, plain

from model.calibration import calibrate, drawer
from model.errors import ExportError
from model.lowering import lower
from model.quantisation import layers_of, quantise
from model.sensitivity import draw_all, quantise_well
from model.spec import NetworkConfig

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


def attempt(model, **options):
    ranges = calibrate(model, [photos(NETWORK, 4, seed=1)])
    quantised = partial(quantise, model, ranges)
    return quantise_well(
        model, lambda kept: quantised(keep_float=kept), photos(NETWORK, 3), similarity=closeness, **options
    )


def test_a_goal_that_int8_meets_leaves_no_layer_in_float():
    lowered = lower(plain(NETWORK))
    result = attempt(lowered, goal=0.9)
    assert result.float_layers == () and 0.9 <= result.similarity < 1
    ranges = calibrate(lowered, [photos(NETWORK, 4, seed=1)])
    assert result.model == quantise(lowered, ranges)
    drawn = draw_all(result.model, photos(NETWORK, 3))
    assert result.similarity == pytest.approx(closeness(draw_all(lowered, photos(NETWORK, 3)), drawn))


def test_the_layer_that_suffers_is_found():
    lowered = fragile()
    poor = attempt(lowered, goal=0)
    goal = (1 + poor.similarity) / 2
    good = attempt(lowered, goal=goal)
    assert good.float_layers == ("down1",) and good.similarity >= goal > poor.similarity


def test_a_goal_of_one_leaves_everything_in_float():
    lowered = lower(plain(NETWORK))
    result = attempt(lowered, goal=1)
    assert result.similarity == 1 and sorted(result.float_layers) == sorted(layers_of(lowered))
    assert (drawer(result.model)(photos(NETWORK)) == drawer(lowered)(photos(NETWORK))).all()


@pytest.mark.parametrize("goal", [1.01, float("nan")])
def test_an_impossible_goal_is_refused(goal):
    with pytest.raises(ExportError, match="ask for a similarity of at most 1"):
        attempt(lower(plain(NETWORK)), goal=goal)
