"""Photos go on beyond their valid pixels as in a mirror."""

import numpy as np
import pytest

from serving.geo.reflection import reflect


def noise(height=64, width=64):
    return np.random.default_rng(0).integers(1, 256, (height, width, 3), np.uint8)


def test_what_is_valid_stays_and_the_input_is_not_changed():
    photo, valid = noise(), np.zeros((64, 64), bool)
    valid[10:30, 5:50] = True
    before = photo.copy(), valid.copy()
    filled = reflect(photo, valid)
    assert np.array_equal(filled[valid], photo[valid])
    assert np.array_equal(photo, before[0]) and np.array_equal(valid, before[1])


def test_an_edge_is_a_mirror():
    photo, valid = noise(), np.zeros((64, 64), bool)
    valid[:40] = True
    assert np.array_equal(reflect(photo, valid)[40:], photo[38:14:-1])


@pytest.mark.parametrize("thickness", [2, 9, 20])
def test_a_thin_strip_is_mirrored_again_and_again(thickness):
    photo, valid = noise(), np.zeros((64, 64), bool)
    valid[:, :thickness] = True
    expected = np.pad(photo[:, :thickness], ((0, 0), (0, 64 - thickness), (0, 0)), mode="reflect")
    assert np.array_equal(reflect(photo, valid), expected)


def test_where_no_mirror_helps_the_nearest_pixel_does():
    photo, valid = noise(), np.zeros((64, 64), bool)
    valid[7, 9] = True
    assert (reflect(photo, valid) == photo[7, 9]).all()


def test_a_photo_without_a_gap_is_given_back():
    photo = noise()
    assert np.array_equal(reflect(photo, np.ones((64, 64), bool)), photo)


def test_after_some_rounds_the_nearest_pixel_does_too(monkeypatch):
    monkeypatch.setattr("serving.geo.reflection.ROUNDS", 1)
    photo, valid = noise(), np.zeros((64, 64), bool)
    valid[:, :9] = True
    assert (reflect(photo, valid)[:, 9:] == photo[:, 8:9]).all()


def test_dust_is_filled_whole():
    photo, valid = noise(256, 256), np.random.default_rng(1).random((256, 256)) < 0.001
    filled = reflect(np.where(valid[..., None], photo, 0).astype(np.uint8), valid)
    assert filled.min() > 0 and np.array_equal(filled[valid], photo[valid])
