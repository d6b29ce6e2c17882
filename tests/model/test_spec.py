"""Settings of the networks, their tensors, and palettes: defaults, limits and error messages."""

import pytest
from pydantic import ValidationError

from model.spec import NetworkConfig, Palette, TensorSignature, signature


def test_defaults_are_those_of_the_paper_at_256_pixels():
    network = NetworkConfig()
    assert network.model_dump() == {
        "image_size": 256,
        "width": 64,
        "depth": 7,
        "dropout": 0.5,
        "norm": "batch",
        "upsampling": "transposed",
    }
    assert network.level_widths() == [64, 128, 256, 512, 512, 512, 512]


@pytest.mark.parametrize(
    ("width", "depth", "widths"), [(4, 2, [4, 8]), (1, 5, [1, 2, 4, 8, 8]), (64, 4, [64, 128, 256, 512])]
)
def test_levels_double_the_filters_up_to_eight_times_the_first(width, depth, widths):
    assert NetworkConfig(width=width, depth=depth).level_widths() == widths


def test_a_size_that_cannot_be_halved_is_refused_with_a_remedy():
    with pytest.raises(ValidationError, match=r"image_size 96 can't be halved 6 times \(depth\); use a multiple of 64"):
        NetworkConfig(image_size=96, depth=6)
    assert NetworkConfig(image_size=96, depth=5).image_size == 96


def test_a_size_too_small_for_the_discriminator_is_refused():
    with pytest.raises(ValidationError, match="32"):
        NetworkConfig(image_size=16, depth=2)
    assert NetworkConfig(image_size=32, depth=5).image_size == 32


@pytest.mark.parametrize(
    ("key", "value"),
    [("image_size", 4096), ("width", 0), ("depth", 1), ("depth", 12), ("dropout", 1.0), ("dropout", -0.1)],
)
def test_a_value_out_of_range_is_refused_by_name(key, value):
    with pytest.raises(ValidationError) as refusal:
        NetworkConfig(**{key: value})
    assert refusal.value.errors()[0]["loc"] == (key,)


def test_an_unknown_key_is_refused_by_name():
    with pytest.raises(ValidationError, match=r"detph\n.*not permitted"):
        NetworkConfig(detph=7)


def test_a_network_config_is_immutable():
    network = NetworkConfig()
    with pytest.raises(ValidationError, match="frozen"):
        network.width = 32
    assert NetworkConfig.model_validate_json(network.model_dump_json()) == network


@pytest.mark.parametrize(
    ("direction", "names"), [("photo_to_map", ("photo", "map")), ("map_to_photo", ("map", "photo"))]
)
def test_tensors_are_named_after_their_content(direction, names):
    tensors = signature(NetworkConfig(image_size=64, depth=3), direction)
    assert (tensors.input, tensors.output) == names
    assert tensors.shape == ("batch", 64, 64, 3)


def test_photo_to_map_is_the_default_direction():
    assert signature(NetworkConfig()) == TensorSignature(input="photo", output="map", height=256, width=256)


@pytest.mark.parametrize(
    ("classes", "sentence"),
    [
        ({"road": ("#ffffff",)}, r"a palette of 1 class\(es\) can't be used; name 2 to 20"),
        ({f"other_{n}": (f"#0000{n:02x}",) for n in range(21)}, r"a palette of 21 class\(es\)"),
        ({"Road": ("#ffffff",), "water": ("#0000ff",)}, "'Road' is not a valid name of a class; use a lower-case word"),
        ({"": ("#ffffff",), "water": ("#0000ff",)}, "'' is not a valid name"),
        ({"road\n": ("#ffffff",), "water": ("#0000ff",)}, "is not a valid name"),
        ({"road": (), "water": ("#0000ff",)}, "the class road has no colour; list one or more"),
        ({"road": ("white",), "water": ("#0000ff",)}, "'white' of the class road is not a colour; write #rrggbb"),
        ({"road": ("#FFFFFF",), "water": ("#0000ff",)}, "'#FFFFFF' of the class road is not a colour"),
        ({"road": ("#0000ff", "#ffffff"), "water": ("#0000ff",)}, "#0000ff is in the classes road and water"),
    ],
)
def test_invalid_palettes_are_refused(classes, sentence):
    with pytest.raises(ValidationError, match=sentence):
        Palette(classes=classes)


def test_a_palette_survives_json_with_its_order():
    palette = Palette(classes={"water": ("#0000ff",), "road": ("#ffffff", "#fff000")})
    again = Palette.model_validate_json(palette.model_dump_json())
    assert again == palette and list(again.classes) == list(palette.classes)
