"""Photos in memory: TIFFs are read by the same rules as scenes, and images have their alpha."""

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePath

import numpy as np
import pytest
from PIL import Image

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


# Images


def encoded(image, kind="PNG", **options):
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


def partly_transparent(alpha):
    """Return an image of noise with alpha (h, w)."""
    image = Image.fromarray(as_photo(noise(3)))
    image.putalpha(Image.fromarray(alpha))
    return image


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True, "exact": True})])
def test_transparent_images_are_read_as_tiffs_of_the_same_pixels(make_scene, monkeypatch, kind, options):
    monkeypatch.setattr(photo, "ROWS", 32)
    alpha = np.full((64, 80), 255, np.uint8)
    alpha[:, :30] = 0
    alpha[40:] = 0
    alpha[:10, 40:] = 128
    read = read_photo(encoded(partly_transparent(alpha), kind, **options), NAME)
    bands = np.concatenate([noise(3), alpha[None]])
    tiff = read_photo(make_scene(bands, photometric="RGB", alpha="YES").read_bytes(), NAME)
    assert np.array_equal(read.alpha, alpha) and np.array_equal(tiff.alpha, alpha)
    assert np.array_equal(read.pixels, tiff.pixels)


def test_a_transparent_colour_is_empty():
    levels = np.repeat(np.arange(40, dtype=np.uint8)[:, None], 30, axis=1)
    palette = Image.fromarray(levels).convert("P")
    for image, kind in ((palette, {"transparency": 7}), (Image.fromarray(levels.astype(np.uint16) * 256), None)):
        read = read_photo(encoded(image, **(kind or {"transparency": 7 * 256})), NAME)
        assert not read.alpha[7].any() and (np.delete(read.alpha, 7, axis=0) == 255).all()


def test_images_without_transparent_pixels_have_no_alpha():
    opaque = np.full((64, 80), 255, np.uint8)
    for image in (Image.fromarray(as_photo(noise(3))), partly_transparent(opaque)):
        read = read_photo(encoded(image), NAME)
        assert read.alpha is None and np.array_equal(read.pixels, as_photo(noise(3))) and read.warnings == ()


def test_an_image_without_visible_pixels_is_reported():
    read = read_photo(encoded(partly_transparent(np.zeros((64, 80), np.uint8))), NAME)
    assert not read.alpha.any() and not read.pixels.any()
    assert [text.startswith("photos/scene.tif holds no valid pixel") for text in read.warnings] == [True]
