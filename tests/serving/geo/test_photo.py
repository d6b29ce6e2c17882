"""TIFFs in memory as photos, read by the same rules as scenes."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePath

import numpy as np
import pytest

from model.errors import DataError
from serving.geo import photo
from serving.geo.photo import read_photo
from tests.fixtures.scenes import as_photo, noise, read_scene

NAME = PurePath("photos/scene.tif")


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int16, np.float64])
def test_photo_has_the_pixels_of_the_scene(make_scene, kind):
    path = make_scene(noise(5, kind=kind))
    read = read_photo(path.read_bytes(), NAME)
    assert np.array_equal(read.pixels, read_scene(path)[0]) and read.alpha is None and read.warnings == ()


def test_bands_and_stretch_can_be_chosen(make_scene):
    path = make_scene(noise(4) // 2)
    settings = {"bands": (4, 2, 1), "stretch": (0, 100)}
    assert np.array_equal(read_photo(path.read_bytes(), NAME, **settings).pixels, read_scene(path, **settings)[0])


def test_invalid_pixels_are_filled_and_transparent(make_scene, monkeypatch):
    monkeypatch.setattr(photo, "ROWS", 32)
    bands = noise(3).clip(1)
    bands[:, :, :30] = 0
    bands[:, 32:] = 0
    read = read_photo(make_scene(bands, nodata=0).read_bytes(), NAME)
    assert not read.alpha[:, :30].any() and not read.alpha[32:].any() and (read.alpha[:32, 30:] == 255).all()
    assert np.array_equal(read.pixels[:32, 30:], as_photo(bands)[:32, 30:])
    assert read.pixels[:32, :30].any() and not read.pixels[32:].any()


def test_photo_of_too_many_pixels_is_refused(make_scene, monkeypatch):
    monkeypatch.setattr(photo, "MAX_PIXELS", 5000)
    with pytest.raises(DataError, match=r"photos/scene.tif has 80x64 pixels; at most 5000 are allowed"):
        read_photo(make_scene(noise(3)).read_bytes(), NAME)


@pytest.mark.parametrize("length", [0, 6, 200, 9000])
def test_truncated_content_is_refused(make_scene, length):
    content = make_scene(noise(3)).read_bytes()
    with pytest.raises(DataError, match=r"photos/scene.tif is"):
        read_photo(content[:length], NAME)


def test_photos_are_read_in_several_threads(make_scene):
    contents = [make_scene(noise(3, seed=seed)).read_bytes() for seed in range(8)]
    expected = [as_photo(noise(3, seed=seed)) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda content: read_photo(content, NAME).pixels, contents * 5))
    assert all(np.array_equal(*pair) for pair in zip(found, expected * 5, strict=True))


def test_a_photo_without_valid_pixels_is_reported(make_scene):
    read = read_photo(make_scene(np.zeros((3, 40, 40), np.uint16), nodata=0).read_bytes(), NAME)
    assert not read.alpha.any() and not read.pixels.any()
    assert read.warnings[-1].startswith("photos/scene.tif holds no valid pixel")
