"""Crisp maps: exact colours inside areas, smooth borders where they were drawn, and parts that equal the whole."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from model.palette import classify
from serving.inference.finishing import MARGIN
from serving.vectors.crisp import crisp
from tests.fixtures.painted_maps import BUILDING, CLASSES, GROUND, PALETTE, PARK, ROAD, WATER, blobs, town

COLOURS = np.array([list(bytes.fromhex(own[0][1:])) for own in CLASSES.values()], np.float32)


def drawn(classes, *, blur=1.0, noise=3.0, seed=0):
    """Return classes as a network draws them: blurred and noisy."""
    soft = gaussian_filter(COLOURS[classes], (blur, blur, 0))
    return np.clip(soft + np.random.default_rng(seed).normal(0, noise, soft.shape), 0, 255).round().astype(np.uint8)


def test_areas_have_exactly_their_colours():
    classes = town()
    found = crisp(drawn(classes), PALETTE)
    for name, (rows, columns) in {
        WATER: (slice(13, 37), slice(23, 67)),
        PARK: (slice(73, 107), slice(93, 147)),
        BUILDING: (slice(82, 88), slice(22, 34)),
        ROAD: (slice(52, 56), slice(0, 160)),
        GROUND: (slice(112, 120), slice(0, 80)),
    }.items():
        assert (found[rows, columns] == COLOURS[name]).all()


def test_classes_are_nearer_to_the_truth_than_those_of_the_drawing():
    classes = town()
    soft = drawn(classes, blur=1.5, noise=6)
    wrong = [(classify(image[None], PALETTE)[0] != classes).mean() for image in (crisp(soft, PALETTE), soft)]
    assert wrong[0] < 0.5 * wrong[1]


def test_a_slanted_border_is_smooth_and_stays_in_place():
    rows, columns = np.mgrid[:64, :64]
    distance = columns - 20 - rows / 3
    share = np.clip(0.5 + distance / np.hypot(1, 1 / 3), 0, 1)[..., None]
    true = COLOURS[WATER] * (1 - share) + COLOURS[GROUND] * share
    found = crisp(gaussian_filter(true, (1, 1, 0)).round().astype(np.uint8), PALETTE)
    # Off by less than an eighth of a pixel on average, and never by half a pixel.
    contrast = np.abs(COLOURS[WATER] - COLOURS[GROUND]).max()
    errors = np.abs(found - true).max(axis=-1)[2:-2] / contrast
    assert errors.max() < 0.5 and errors[errors > 0].mean() < 0.2
    assert len(np.unique(found.reshape(-1, 3), axis=0)) > 6


def test_a_class_keeps_each_of_its_colours():
    image = np.full((40, 60, 3), COLOURS[GROUND], np.float32)
    image[10:16], image[24:30] = COLOURS[ROAD], list(bytes.fromhex(CLASSES["road"][1][1:]))
    found = crisp(image.astype(np.uint8), PALETTE)
    assert (found[12, 30] == COLOURS[ROAD]).all() and bytes(found[26, 30]).hex() == CLASSES["road"][1][1:]


def test_noise_of_a_few_pixels_is_removed():
    image = np.full((40, 40, 3), COLOURS[PARK], np.uint8)
    image[10:13, 10:13] = COLOURS[WATER]
    assert (crisp(image, PALETTE) == COLOURS[PARK]).all()


def test_transparent_pixels_are_black_and_have_no_class():
    image = drawn(town())
    visible = np.ones(image.shape[:2], bool)
    visible[:, :40] = False
    image[~visible] = 0
    found = crisp(image, PALETTE, visible=visible)
    assert not found[:, :40].any() and (found[52:56, 44:] == COLOURS[ROAD]).all()


@pytest.mark.parametrize("seed", range(3))
def test_a_part_with_a_margin_equals_that_part_of_the_whole(seed):
    image = drawn(blobs(seed, (200, 90), sigma=4), seed=seed)
    part = crisp(image[80 - MARGIN : 120 + MARGIN], PALETTE)[MARGIN:-MARGIN]
    assert np.array_equal(part, crisp(image, PALETTE)[80:120])
