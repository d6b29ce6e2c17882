"""Palettes found in maps of several styles."""

import weakref

import numpy as np
import pytest
from PIL import Image, ImageDraw

from model.errors import DataError
from pipelines.data.palette_extraction import NoPaletteError, find_palette
from pipelines.data.sample import painter
from tests.fixtures.painted_scenes import PAINTED, compress, rgb

STYLES = {
    "light buildings": ("#ffffff", "#b1d0fe", "#c9dfad", "#f2f0e9", "#e8e5dd"),
    "dark buildings": ("#ffffff", "#aad3df", "#add19e", "#d9d0c9", "#f2efe9"),
    "orange roads": ("#fdb13f", "#9cc0f9", "#c5e8c5", "#dfdbd4", "#f1efe8"),
}
"""Colours of road, water, park, building and ground in three styles."""
NAMES = ["road", "water", "park", "building", "ground"]


def hexadecimal(colour):
    return "#" + bytes(colour).hex()


def draw(style, seed, *, side=128, without=()):
    """Draw a small town with smoothed edges: a lake, a park, houses, and roads across all of it."""
    random = np.random.default_rng(seed)
    colours = dict(zip(NAMES, style, strict=True))
    sheet = Image.new("RGB", (side * 3, side * 3), colours["ground"])
    pen = ImageDraw.Draw(sheet)
    for name, shape in (("water", pen.ellipse), ("park", pen.rectangle)):
        x, y = random.integers(0, side * 2, 2).tolist()
        if name not in without:
            shape((x, y, x + 160, y + 140), fill=colours[name])
    for _ in range(24):
        x, y = random.integers(0, side * 3, 2).tolist()
        pen.rectangle((x, y, x + 36, y + 30), fill=colours["building"])
    for _ in range(4):
        ends = random.integers(0, side * 3, (2, 2)).ravel().tolist()
        pen.line(ends, fill=colours["road"], width=18)
    return np.asarray(sheet.reduce(3))


def test_palette_of_painted_scenes_is_that_of_the_painter(painted):
    found = find_palette(painted)
    assert {name: tuple(map(rgb, colours)) for name, colours in found.classes.items()} == PAINTED
    assert list(found.classes) == NAMES


def test_order_and_number_of_maps_do_not_matter(painted):
    found = find_palette(painted)
    for maps in (painted[::-1], painted[::2], painted[1::2], painted * 2):
        again = find_palette(maps)
        assert again == found and list(again.classes) == list(found.classes)


@pytest.mark.parametrize("style", STYLES)
def test_colours_are_named_by_hue_lightness_and_thinness(style):
    found = find_palette(draw(STYLES[style], seed) for seed in range(8))
    assert list(found.classes) == NAMES
    assert found.classes == {name: (colour,) for name, colour in zip(NAMES, STYLES[style], strict=True)}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("quality", [60, 90])
def test_jpeg_adds_no_classes_and_keeps_the_colours(style, quality):
    found = find_palette(compress(draw(STYLES[style], seed), quality) for seed in range(8))
    assert list(found.classes) == NAMES
    for colour, colours in zip(STYLES[style], found.classes.values(), strict=True):
        nearest = min(np.linalg.norm(np.subtract(rgb(colour), rgb(other))) for other in colours)
        assert nearest < 5.5, "half the distance of two colours"


@pytest.mark.parametrize("missing", ["water", "park"])
def test_a_class_that_no_map_holds_is_left_out(missing):
    style = STYLES["dark buildings"]
    found = find_palette(draw(style, seed, without=[missing]) for seed in range(8))
    assert list(found.classes) == [name for name in NAMES if name != missing]


def test_grey_roads_are_called_other():
    style = ("#8c9098", "#90daee", "#d3f8e2", "#e6e4e0", "#f8f7f7")
    found = find_palette(draw(style, seed) for seed in range(8))
    assert list(found.classes) == ["water", "park", "building", "ground", "other"]
    assert found.classes["other"] == (style[0],)


def test_saturated_colours_are_called_other():
    """Wide red and yellow areas may be anything, dark grey near white is not a building, rare shades are noise."""
    colours = ["#ffff00", "#fe0000", "#0080ff", "#00ff00", "#ffffff", "#7f7f7f", "#f70c00"]
    stripes = np.array([rgb(colour) for colour in colours], np.uint8)
    widths = [70, 60, 50, 40, 30, 24, 7]
    field = np.repeat(stripes, widths, axis=0)[None].repeat(64, axis=0)
    assert find_palette([field, field[:, ::-1]]).classes == {
        "water": ("#0080ff",),
        "park": ("#00ff00",),
        "ground": ("#ffffff",),
        "other": ("#ffff00",),
        "other_2": ("#fe0000",),
        "other_3": ("#7f7f7f",),
    }


def test_white_is_a_road_only_if_it_is_thin():
    snow = np.full((64, 64, 3), 255, np.uint8)
    snow[:, 40:] = rgb("#a3ccff")
    assert find_palette([snow]).classes == {"water": ("#a3ccff",), "ground": ("#ffffff",)}


def test_rare_colours_and_smooth_borders_are_not_classes(painted):
    """Rails, edges of roads and mixtures with them have thousands of pixels here, none of them flat."""
    rails = sum(int((image == painter.RAIL).all(axis=-1).sum()) for image in painted)
    assert rails > 100
    assert hexadecimal(painter.RAIL) not in {c for colours in find_palette(painted).classes.values() for c in colours}


def test_maps_are_read_one_at_a_time_and_released():
    alive = []

    def maps():
        for seed in range(6):
            assert sum(reference() is not None for reference in alive) <= 1
            street_map = draw(STYLES["dark buildings"], seed)
            alive.append(weakref.ref(street_map))
            yield street_map

    assert len(find_palette(maps()).classes) == 5
    assert len(alive) == 6


def test_maps_may_differ_in_size():
    style = STYLES["light buildings"]
    found = find_palette(draw(style, seed, side=side) for seed, side in enumerate([96, 128, 160, 200, 256]))
    assert found.classes == {name: (colour,) for name, colour in zip(NAMES, style, strict=True)}


def test_noise_has_no_palette():
    random = np.random.default_rng(0)
    noise = [random.integers(0, 256, (32, 32, 3), np.uint8) for _ in range(3)]
    with pytest.raises(NoPaletteError, match=r"0 of 1728 pixels of the maps lie in areas of one colour; .* not photos"):
        find_palette(noise)


def test_photos_have_no_palette(scenes):
    with pytest.raises(NoPaletteError, match="not photos"):
        find_palette(scene.photo for scene in scenes[:16])


def test_no_maps_have_no_palette():
    with pytest.raises(NoPaletteError, match="0 of 0 pixels"):
        find_palette([])


@pytest.mark.parametrize("blues", [[90], range(0, 252, 12)])
def test_gradients_have_too_many_colours(blues):
    """Over all blues, no single colour has the least share."""
    ramp = np.linspace(0, 255, 512).astype(np.uint8)
    with pytest.raises(NoPaletteError, match="more than 32 colours"):
        find_palette(np.stack(np.broadcast_arrays(ramp[:, None], ramp, np.uint8(blue)), axis=-1) for blue in blues)


@pytest.mark.parametrize(
    ("street_map", "sentence"),
    [
        (np.full((64, 64, 3), 238, np.uint8), "only one class of colour, ground; use maps of more places"),
        (np.zeros((8, 64, 3), np.uint8), "64x8 pixels is too small; use maps of 9x9 or more"),
        (np.zeros((64, 64), np.uint8), r"Maps are uint8 of shape \(1, 64, 64\); give one or more RGB images"),
        (np.zeros((64, 64, 3), np.float32), "Maps are float32"),
    ],
)
def test_maps_without_a_palette_are_refused(street_map, sentence):
    with pytest.raises(DataError, match=sentence):
        find_palette([street_map])
