"""Classes of pixels by the colours of a palette, also in maps compressed by JPEG."""

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt, maximum_filter, minimum_filter

from model.errors import DataError
from model.palette import classify
from model.spec import Palette
from tests.fixtures.painted_scenes import PAINTED, compress, rgb

PALETTE = Palette(
    classes={name: tuple("#" + bytes(colour).hex() for colour in colours) for name, colours in PAINTED.items()}
)
"""Classes and colours of the painted scenes."""


def test_each_colour_has_its_own_class():
    colours = [(index, rgb(c)) for index, members in enumerate(PALETTE.classes.values()) for c in members]
    image = np.array([colour for _, colour in colours], np.uint8)[None, None]
    classes = classify(image, PALETTE)
    assert classes.dtype == np.uint8 and classes.shape == image.shape[:3]
    assert classes.ravel().tolist() == [index for index, _ in colours]


def test_a_pixel_has_the_class_of_the_nearest_colour():
    """A cell of the table is 4 levels wide, its centre up to 3.5 away: differences below twice that are skipped."""
    owners = [index for index, members in enumerate(PALETTE.classes.values()) for _ in members]
    colours = np.array([rgb(c) for members in PALETTE.classes.values() for c in members], float)
    pixels = np.random.default_rng(1).integers(0, 256, (2, 80, 80, 3), np.uint8)
    distances = np.linalg.norm(pixels[..., None, :] - colours, axis=-1)
    by_class = np.stack([distances[..., np.equal(owners, k)].min(axis=-1) for k in range(len(PALETTE.classes))], -1)
    first, second = np.moveaxis(np.sort(by_class, axis=-1)[..., :2], -1, 0)
    clear = second - first > 7
    assert clear.mean() > 0.5
    assert (classify(pixels, PALETTE) == by_class.argmin(axis=-1))[clear].all()


@pytest.mark.parametrize("quality", [60, 75, 90])
def test_jpeg_changes_classes_only_on_borders(painted, quality):
    clean = classify(np.stack(painted), PALETTE)
    compressed = classify(np.stack([compress(image, quality) for image in painted]), PALETTE)
    inside = minimum_filter(clean, (1, 3, 3)) == maximum_filter(clean, (1, 3, 3))
    assert inside.mean() > 0.8
    assert (clean == compressed)[inside].mean() > 0.99


def test_halos_of_jpeg_are_not_water(painted):
    water = list(PALETTE.classes).index("water")
    clean = classify(np.stack(painted), PALETTE) == water
    dry = np.stack([distance_transform_edt(~image) > 8 if image.any() else ~image for image in clean])
    compressed = classify(np.stack([compress(image, 50) for image in painted]), PALETTE) == water
    assert dry.mean() > 0.5
    assert not (compressed & dry).any()


@pytest.mark.parametrize(
    "images", [np.zeros((8, 8, 3), np.uint8), np.zeros((1, 8, 8, 3)), np.zeros((0, 8, 8, 3), "u1")]
)
def test_only_uint8_rgb_images_are_classified(images):
    with pytest.raises(DataError, match="uint8 in"):
        classify(images, PALETTE)
