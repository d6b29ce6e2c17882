"""Pictures on a page: which pairs are shown, and how an image gets into a page."""

import numpy as np
import pytest

from pipelines.report import pictures
from tests.fixtures.html_pages import decoded


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 9, 10, 48])
def test_no_pair_is_chosen_twice_and_the_ends_are(count):
    values = np.random.default_rng(count).permutation(count).astype(float)
    low, middle, high = pictures.choose(values)
    places = [*low, *middle, *high]
    assert len(places) == len(set(places)) == min(9, count)
    assert values[places].tolist() == sorted(values[places])
    assert values[low[0]] == 0 and values[places[-1]] == count - 1
    if count >= 9:
        assert len(low) == len(middle) == len(high) == 3 and abs(values[middle].mean() - (count - 1) / 2) <= 0.5


def test_large_pictures_are_made_smaller_and_photos_lose_what_no_eye_sees():
    random = np.random.default_rng(0)
    photo = random.integers(0, 256, (600, 1200, 3), np.uint8)
    image = decoded({"src": pictures.picture(photo)})
    assert image.size == (512, 256) and image.format == "WEBP"
    assert decoded({"src": pictures.error_picture(photo, photo[::-1])}).size == (512, 256)
    flat = np.full((300, 300, 3), 7, np.uint8)
    image = decoded({"src": pictures.picture(flat)})
    assert image.format == "PNG" and np.array_equal(image, flat)
