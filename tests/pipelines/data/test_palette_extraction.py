"""Palettes found in maps of several styles, and maps read by them."""

import io
import weakref

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pydantic import ValidationError
from scipy.ndimage import distance_transform_edt, maximum_filter, minimum_filter

from model.errors import DataError
from model.palette import classify
from model.spec import Palette
from pipelines.data.palette_extraction import NoPaletteError, find_palette
from pipelines.data.sample import painter

PAINTED = {
    "road": (painter.ROAD, painter.PRIMARY, painter.MOTORWAY),
    "water": (painter.WATER,),
    "park": (painter.GREEN,),
    "building": (painter.BUILDING,),
    "ground": (painter.GROUND, painter.BLOCK),
}
"""What the scenes are painted with, the lightest first."""

STYLES = {
    "light buildings": ("#ffffff", "#b1d0fe", "#c9dfad", "#f2f0e9", "#e8e5dd"),
    "dark buildings": ("#ffffff", "#aad3df", "#add19e", "#d9d0c9", "#f2efe9"),
    "orange roads": ("#fdb13f", "#9cc0f9", "#c5e8c5", "#dfdbd4", "#f1efe8"),
}
"""Road, water, park, building and ground of three styles."""
NAMES = ["road", "water", "park", "building", "ground"]


def rgb(colour):
    return tuple(bytes.fromhex(colour[1:]))


def hexadecimal(colour):
    return "#" + bytes(colour).hex()


def draw(style, seed, *, side=128, without=()):
    """Draw a small town of smoothed edges: a lake, a park, houses, and roads across all of it."""
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


def through_jpeg(image, quality=75):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


@pytest.fixture(scope="module")
def scenes():
    return [painter.paint(seed) for seed in range(16)]


@pytest.fixture(scope="module")
def painted(scenes):
    return [scene.street_map for scene in scenes]


# Finding a palette


def test_painted_scenes_have_the_palette_that_they_are_painted_with(painted):
    found = find_palette(painted)
    assert {name: tuple(map(rgb, colours)) for name, colours in found.classes.items()} == PAINTED
    assert list(found.classes) == NAMES


def test_order_and_number_of_maps_do_not_matter(painted):
    found = find_palette(painted)
    for maps in (painted[::-1], painted[::2], painted[1::2], painted * 2):
        again = find_palette(maps)
        assert again == found and list(again.classes) == list(found.classes)


@pytest.mark.parametrize("style", STYLES)
def test_styles_are_told_by_hue_lightness_and_thinness(style):
    found = find_palette(draw(STYLES[style], seed) for seed in range(8))
    assert list(found.classes) == NAMES
    assert found.classes == {name: (colour,) for name, colour in zip(NAMES, STYLES[style], strict=True)}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("quality", [60, 90])
def test_jpeg_adds_no_class_and_moves_no_colour(style, quality):
    found = find_palette(through_jpeg(draw(STYLES[style], seed), quality) for seed in range(8))
    assert list(found.classes) == NAMES
    for colour, colours in zip(STYLES[style], found.classes.values(), strict=True):
        nearest = min(np.linalg.norm(np.subtract(rgb(colour), rgb(other))) for other in colours)
        assert nearest < 5.5, "half of what parts two colours"


@pytest.mark.parametrize("missing", ["water", "park"])
def test_a_class_that_no_map_holds_is_left_out(missing):
    style = STYLES["dark buildings"]
    found = find_palette(draw(style, seed, without=[missing]) for seed in range(8))
    assert list(found.classes) == [name for name in NAMES if name != missing]


def test_grey_roads_are_not_guessed():
    style = ("#8c9098", "#90daee", "#d3f8e2", "#e6e4e0", "#f8f7f7")
    found = find_palette(draw(style, seed) for seed in range(8))
    assert list(found.classes) == ["water", "park", "building", "ground", "other"]
    assert found.classes["other"] == (style[0],)


def test_saturated_land_classes_keep_honest_names():
    """Red and yellow fields may be anything, and a dark grey beside white is no building; rare shades are noise."""
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


def test_white_is_a_road_only_where_it_is_thin():
    snow = np.full((64, 64, 3), 255, np.uint8)
    snow[:, 40:] = rgb("#a3ccff")
    assert find_palette([snow]).classes == {"water": ("#a3ccff",), "ground": ("#ffffff",)}


def test_rare_colours_and_smooth_borders_are_no_classes(painted):
    """Rails, edges of roads and mixtures with them are thousands of pixels here, and none of them is flat."""
    rails = sum(int((image == painter.RAIL).all(axis=-1).sum()) for image in painted)
    assert rails > 100
    assert hexadecimal(painter.RAIL) not in {c for colours in find_palette(painted).classes.values() for c in colours}


def test_maps_are_read_one_at_a_time_and_let_go():
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


def test_noise_is_no_map():
    random = np.random.default_rng(0)
    noise = [random.integers(0, 256, (32, 32, 3), np.uint8) for _ in range(3)]
    with pytest.raises(NoPaletteError, match=r"0 of 1728 pixels of the maps lie in areas of one colour; .* not photos"):
        find_palette(noise)


def test_photos_are_no_maps(scenes):
    with pytest.raises(NoPaletteError, match="not photos"):
        find_palette(scene.photo for scene in scenes)


def test_no_maps_have_no_palette():
    with pytest.raises(NoPaletteError, match="0 of 0 pixels"):
        find_palette([])


@pytest.mark.parametrize("blues", [[90], range(0, 252, 12)])
def test_gradients_have_too_many_colours(blues):
    """Over all blues no single colour even reaches its least share."""
    ramp = np.linspace(0, 255, 512).astype(np.uint8)
    with pytest.raises(NoPaletteError, match="more than 32 colours"):
        find_palette(np.stack(np.broadcast_arrays(ramp[:, None], ramp, np.uint8(blue)), axis=-1) for blue in blues)


@pytest.mark.parametrize(
    ("street_map", "sentence"),
    [
        (np.full((64, 64, 3), 238, np.uint8), "one class of colour alone, ground; give maps of more places"),
        (np.zeros((8, 64, 3), np.uint8), "64x8 pixels is too small to hold areas; give 9x9 or more"),
        (np.zeros((64, 64), np.uint8), r"Maps are uint8 of shape \(1, 64, 64\); give one or more RGB images"),
        (np.zeros((64, 64, 3), np.float32), "Maps are float32"),
    ],
)
def test_what_holds_no_palette_is_refused(street_map, sentence):
    with pytest.raises(DataError, match=sentence):
        find_palette([street_map])


# A palette


@pytest.mark.parametrize(
    ("classes", "sentence"),
    [
        ({"road": ("#ffffff",)}, r"a palette of 1 class\(es\) can't be used; give 2 to 20"),
        ({f"other_{n}": (f"#0000{n:02x}",) for n in range(21)}, r"a palette of 21 class\(es\)"),
        ({"Road": ("#ffffff",), "water": ("#0000ff",)}, "'Road' can't name a class; use a lower-case word"),
        ({"": ("#ffffff",), "water": ("#0000ff",)}, "'' can't name a class"),
        ({"road\n": ("#ffffff",), "water": ("#0000ff",)}, "can't name a class"),
        ({"road": (), "water": ("#0000ff",)}, "the class road has no colour; give it one or more"),
        ({"road": ("white",), "water": ("#0000ff",)}, "'white' of the class road is no colour; write #rrggbb"),
        ({"road": ("#FFFFFF",), "water": ("#0000ff",)}, "'#FFFFFF' of the class road is no colour"),
        ({"road": ("#0000ff", "#ffffff"), "water": ("#0000ff",)}, "#0000ff is in the classes road and water"),
    ],
)
def test_bad_palettes_are_refused(classes, sentence):
    with pytest.raises(ValidationError, match=sentence):
        Palette(classes=classes)


def test_a_palette_survives_json(painted):
    palette = find_palette(painted)
    again = Palette.model_validate_json(palette.model_dump_json())
    assert again == palette and list(again.classes) == list(palette.classes)


# Reading a map


def test_each_colour_is_read_as_its_own_class(painted):
    palette = find_palette(painted)
    colours = [(index, rgb(c)) for index, members in enumerate(palette.classes.values()) for c in members]
    image = np.array([colour for _, colour in colours], np.uint8)[None, None]
    classes = classify(image, palette)
    assert classes.dtype == np.uint8 and classes.shape == image.shape[:3]
    assert classes.ravel().tolist() == [index for index, _ in colours]


def test_a_pixel_is_of_the_class_of_the_nearest_colour(painted):
    """A cell of the table is 4 levels wide, its centre at most 3.5 off: nothing within twice that is compared."""
    palette = find_palette(painted)
    owners = [index for index, members in enumerate(palette.classes.values()) for _ in members]
    colours = np.array([rgb(c) for members in palette.classes.values() for c in members], float)
    pixels = np.random.default_rng(1).integers(0, 256, (2, 80, 80, 3), np.uint8)
    distances = np.linalg.norm(pixels[..., None, :] - colours, axis=-1)
    by_class = np.stack([distances[..., np.equal(owners, k)].min(axis=-1) for k in range(len(palette.classes))], -1)
    first, second = np.moveaxis(np.sort(by_class, axis=-1)[..., :2], -1, 0)
    clear = second - first > 7
    assert clear.mean() > 0.5
    assert (classify(pixels, palette) == by_class.argmin(axis=-1))[clear].all()


@pytest.mark.parametrize("quality", [60, 75, 90])
def test_jpeg_changes_no_class_but_on_borders(painted, quality):
    palette = find_palette(painted)
    clean = classify(np.stack(painted), palette)
    compressed = classify(np.stack([through_jpeg(image, quality) for image in painted]), palette)
    inside = minimum_filter(clean, (1, 3, 3)) == maximum_filter(clean, (1, 3, 3))
    assert inside.mean() > 0.8
    assert (clean == compressed)[inside].mean() > 0.99


def test_no_halo_becomes_water(painted):
    palette = find_palette(painted)
    water = list(palette.classes).index("water")
    clean = classify(np.stack(painted), palette) == water
    dry = np.stack([distance_transform_edt(~image) > 8 if image.any() else ~image for image in clean])
    compressed = classify(np.stack([through_jpeg(image, 50) for image in painted]), palette) == water
    assert dry.mean() > 0.5
    assert not (compressed & dry).any()


@pytest.mark.parametrize(
    "images", [np.zeros((8, 8, 3), np.uint8), np.zeros((1, 8, 8, 3)), np.zeros((0, 8, 8, 3), "u1")]
)
def test_only_uint8_rgb_images_are_read(images):
    palette = Palette(classes={"road": ("#ffffff",), "ground": ("#eeeae2",)})
    with pytest.raises(DataError, match="uint8 in"):
        classify(images, palette)
