"""Sheets: every image is in its row and column, under the right title."""

import numpy as np
import pytest

from pipelines.report.sheets import GAP, PAPER, TITLE, comparison, sheet


def images(count, height=48, width=64, seed=0):
    return np.random.default_rng(seed).integers(0, 200, (count, height, width, 3), dtype=np.uint8)


def cell(picture, column, row, height=48, width=64):
    """Crop one image from a sheet."""
    left, top = GAP + column * (width + GAP), TITLE + row * (height + GAP)
    return np.asarray(picture)[top : top + height, left : left + width]


def test_every_image_is_in_its_row_and_column():
    columns = [images(3, seed=seed) for seed in range(2)]
    picture = sheet([("one", columns[0]), ("two", columns[1])])
    assert (picture.mode, picture.size) == ("RGB", (2 * (64 + GAP) + GAP, TITLE + 3 * (48 + GAP)))
    for column, expected in enumerate(columns):
        for row in range(3):
            assert np.array_equal(cell(picture, column, row), expected[row])


def test_gaps_between_images_are_blank():
    pixels = np.asarray(sheet([("one", images(2)), ("two", images(2))])).copy()
    for column in range(2):
        for row in range(2):
            left, top = GAP + column * (64 + GAP), TITLE + row * (48 + GAP)
            pixels[top : top + 48, left : left + 64] = PAPER
    assert (pixels[TITLE:] == PAPER).all() and (pixels[:TITLE] != PAPER).any()


def titles(picture):
    """Return the strip that holds the titles."""
    return np.asarray(picture)[:TITLE]


@pytest.mark.parametrize(
    ("direction", "names"),
    [
        ("photo_to_map", ("photo", "drawn map", "true map")),
        ("map_to_photo", ("map", "drawn photo", "true photo")),
    ],
)
def test_comparison_has_columns_input_drawn_true(direction, names):
    given, drawn, true = (images(2, width=256, seed=seed) for seed in range(3))
    picture = comparison(given, drawn, true, direction=direction)
    assert all(
        np.array_equal(cell(picture, column, 1, width=256), expected[1])
        for column, expected in enumerate((given, drawn, true))
    )
    expected = sheet([(name, given) for name in names])
    assert np.array_equal(titles(picture), titles(expected))
    assert not np.array_equal(titles(picture), titles(sheet([(name, given) for name in reversed(names)])))


@pytest.mark.parametrize("side", [64, 256, 512])
def test_titles_stay_above_their_columns(side):
    blank = np.full((1, side, side, 3), 255, np.uint8)
    strip = titles(sheet([("", blank), ("drawn map", blank), ("", blank)]))
    inked = np.flatnonzero((strip != PAPER).any(axis=(0, 2)))
    left = GAP + side + GAP
    assert left <= inked.min() and inked.max() < left + side
    assert abs((inked.min() + inked.max()) / 2 - (left + side / 2)) <= 2


def test_read_only_views_can_be_laid_out():
    """A baseline is one colour, broadcast by NumPy."""
    flat = np.broadcast_to(np.array([10, 20, 30], np.uint8), (2, 48, 64, 3))
    assert np.array_equal(cell(sheet([("one", flat)]), 0, 1), flat[1])
