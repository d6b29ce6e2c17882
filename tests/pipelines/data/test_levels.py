"""Warnings about images with hardly any levels, from the same reading that checks the pairs."""

import numpy as np
import pytest
from PIL import Image

from model.io.locations import Location
from tests.fixtures.pair_folders import SIDE, index, picture, save

PHOTO, MAP = "photos/{}.png", "maps/{}.png"


def noise(seed, low, high, dtype=np.uint8):
    return Image.fromarray(np.random.default_rng(seed).integers(low, high + 1, (SIDE, SIDE), dtype=dtype))


def warnings(folder, photo=None, street_map=None, *, special=20, count=20, size=(SIDE, SIDE)):
    """Index `count` pairs, of which the first `special` have the given photo and map; return the warnings."""
    for i in range(count):
        for form, image in ((PHOTO, photo), (MAP, street_map)):
            chosen = image(i) if image is not None and i < special else picture((form == MAP, i), size)
            save(folder / form.format(i), chosen)
    return index(folder).warnings


def test_ordinary_pairs_have_no_warnings(tmp_path):
    assert warnings(tmp_path) == ()


def test_twelve_bits_in_sixteen(tmp_path):
    (found,) = warnings(tmp_path, lambda i: noise(i, 0, 4095, np.uint16))
    assert found == (
        "20 of 20 photos are limited to the levels 0 to 15 of 255 (0, 1, 10, and 17 more). Scale their values to the "
        "full range first (12 bits in 16 end at 4095 of 65535)."
    )


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_masks_of_class_numbers(tmp_path, depth):
    (found,) = warnings(tmp_path, street_map=lambda i: noise(i, 0, 5, depth))
    levels = "are limited to the levels 0 to 5 of 255" if depth == np.uint8 else "are entirely black"
    assert found.startswith(f"20 of 20 maps {levels} (0, 1, 10, and 17 more). Give each class a colour of its own")


def test_a_single_black_photo(tmp_path):
    (found,) = warnings(tmp_path, lambda i: noise(i, i, i), special=1)
    assert found.startswith("1 of 20 photos is entirely black (0). ")


def test_a_few_images_of_one_colour_are_normal_and_many_are_not(tmp_path):
    assert warnings(tmp_path / "few", street_map=lambda i: noise(i, 170 + i % 2, 180), special=8) == ()
    (found,) = warnings(tmp_path / "many", street_map=lambda i: noise(i, 170 + i % 2, 180), special=12)
    assert found.startswith("12 of 20 maps are limited to the levels 170 to 180 of 255")


def test_pairs_that_are_not_square(tmp_path):
    (found,) = warnings(tmp_path, size=(2 * SIDE, SIDE + 8))
    assert found.startswith("20 of 20 pairs are not square, and squeezed to a square (0, 1, 10, and 17 more). Cut them")


def test_every_file_is_read_once(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(Location, "read_bytes", lambda self: read.append(str(self)) or self.path.read_bytes())
    warnings(tmp_path)
    assert len(read) == len(set(read)) == 40
