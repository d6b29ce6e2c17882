"""Photos are reflected at the edge of their valid pixels."""

import numpy as np
import pytest

from serving.geo.reflection import reflect


def noise(height=64, width=64):
    return np.random.default_rng(0).integers(1, 256, (height, width, 3), np.uint8)


def test_valid_pixels_and_the_input_stay_unchanged():
    photo, valid = noise(), np.zeros((64, 64), bool)
    valid[10:30, 5:50] = True
    before = photo.copy(), valid.copy()
    filled = reflect(photo, valid)
    assert np.array_equal(filled[valid], photo[valid])
    assert np.array_equal(photo, before[0]) and np.array_equal(valid, before[1])


def test_the_photo_is_mirrored_at_the_edge():
    photo, valid = noise(), np.zeros((64, 64), bool)
    valid[:40] = True
    assert np.array_equal(reflect(photo, valid)[40:], photo[38:14:-1])


@pytest.mark.parametrize("thickness", [2, 9, 20])
def test_a_narrow_strip_is_mirrored_repeatedly(thickness):
    photo, valid = noise(), np.zeros((64, 64), bool)
    valid[:, :thickness] = True
    expected = np.pad(photo[:, :thickness], ((0, 0), (0, 64 - thickness), (0, 0)), mode="reflect")
    assert np.array_equal(reflect(photo, valid), expected)


def test_pixels_that_no_reflection_reaches_get_the_nearest_colour():
    photo, valid = noise(), np.zeros((64, 64), bool)
    valid[7, 9] = True
    assert (reflect(photo, valid) == photo[7, 9]).all()


def test_a_photo_without_gaps_is_returned_unchanged():
    photo = noise()
    assert np.array_equal(reflect(photo, np.ones((64, 64), bool)), photo)


def test_after_the_last_round_the_rest_gets_the_nearest_colour(monkeypatch):
    monkeypatch.setattr("serving.geo.reflection.ROUNDS", 1)
    photo, valid = noise(), np.zeros((64, 64), bool)
    valid[:, :9] = True
    assert (reflect(photo, valid)[:, 9:] == photo[:, 8:9]).all()


def test_sparse_pixels_fill_the_photo():
    photo, valid = noise(256, 256), np.random.default_rng(1).random((256, 256)) < 0.001
    filled = reflect(np.where(valid[..., None], photo, 0).astype(np.uint8), valid)
    assert filled.min() > 0 and np.array_equal(filled[valid], photo[valid])
