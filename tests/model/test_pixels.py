"""The pixel contract is exact at every level."""

import numpy as np
import pytest

from model.pixels import to_pixels, to_tensor
from tests.fixtures.project import PROJECT

LEVELS = np.arange(256, dtype=np.uint8)


def test_every_level_survives_a_round_trip():
    tensor = to_tensor(LEVELS)
    assert tensor.dtype == np.float32
    back = to_pixels(tensor)
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, LEVELS)


def test_levels_are_evenly_spaced_from_minus_one_to_one():
    tensor = to_tensor(LEVELS)
    assert (tensor[0], tensor[255]) == (-1, 1)
    np.testing.assert_allclose(np.diff(tensor), 2 / 255, atol=2e-7)


@pytest.mark.parametrize(("value", "level"), [(1.004, 255), (7, 255), (np.inf, 255), (-1.004, 0), (-np.inf, 0)])
def test_values_outside_the_range_are_clipped(value, level):
    assert to_pixels(np.array([value], np.float32)) == level


@pytest.mark.parametrize("off", [-0.49, 0.49])
def test_values_between_levels_are_rounded_to_the_nearest(off):
    between = to_tensor(LEVELS) + np.float32(off * 2 / 255)
    np.testing.assert_array_equal(to_pixels(between), LEVELS)


@pytest.mark.parametrize("kind", [np.float16, np.float64])
def test_other_float_types_are_scaled_alike(kind):
    ends = np.array([-1, 0.5, 1], kind)
    assert to_pixels(ends).tolist() == [0, 191, 255]


@pytest.mark.parametrize("shape", [(3,), (5, 4, 3), (2, 5, 4, 3), (0, 5, 4, 3)])
def test_shapes_are_kept_and_inputs_are_not_changed(shape):
    pixels = np.full(shape, 200, np.uint8)
    tensor = to_tensor(pixels)
    before = tensor.copy()
    assert tensor.shape == to_pixels(tensor).shape == shape
    np.testing.assert_array_equal(tensor, before)
    np.testing.assert_array_equal(pixels, 200)


def test_no_other_module_scales_pixels():
    packages = [PROJECT / name for name in ("model", "pipelines", "serving")]
    sources = [path for package in packages for path in package.rglob("*.py")]
    assert [path.name for path in sources if "127.5" in path.read_text(encoding="utf-8")] == ["pixels.py"]
