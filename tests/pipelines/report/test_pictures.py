"""Pictures of a page: the choice of pairs, and the encoding of images."""

import numpy as np
import pytest

from pipelines.report import pictures
from tests.fixtures.html_pages import decoded


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 9, 10, 48])
def test_lowest_and_highest_are_chosen_and_none_twice(count):
    values = np.random.default_rng(count).permutation(count).astype(float)
    low, middle, high = pictures.choose(values)
    indices = [*low, *middle, *high]
    assert len(indices) == len(set(indices)) == min(9, count)
    assert values[indices].tolist() == sorted(values[indices])
    assert values[low[0]] == 0 and values[indices[-1]] == count - 1
    if count >= 9:
        assert len(low) == len(middle) == len(high) == 3 and abs(values[middle].mean() - (count - 1) / 2) <= 0.5


def test_large_pictures_are_scaled_down_and_photos_become_webp():
    random = np.random.default_rng(0)
    photo = random.integers(0, 256, (600, 1200, 3), np.uint8)
    image = decoded({"src": pictures.picture(photo)})
    assert image.size == (512, 256) and image.format == "WEBP"
    assert decoded({"src": pictures.error_picture(photo, photo[::-1])}).size == (512, 256)
    flat = np.full((300, 300, 3), 7, np.uint8)
    image = decoded({"src": pictures.picture(flat)})
    assert image.format == "PNG" and np.array_equal(image, flat)
