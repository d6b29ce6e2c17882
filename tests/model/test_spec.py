"""The settings of the networks: what is allowed, what is refused and in which words."""

import pytest
from pydantic import ValidationError

from model.spec import NetworkConfig, TensorSignature, signature


def test_the_defaults_are_those_of_the_paper_at_256_pixels():
    network = NetworkConfig()
    assert network.model_dump() == {"image_size": 256, "width": 64, "depth": 7, "dropout": 0.5, "norm": "batch"}
    assert network.level_widths() == [64, 128, 256, 512, 512, 512, 512]


@pytest.mark.parametrize(
    ("width", "depth", "widths"), [(4, 2, [4, 8]), (1, 5, [1, 2, 4, 8, 8]), (64, 4, [64, 128, 256, 512])]
)
def test_each_level_doubles_the_filters_up_to_eight_times_the_first(width, depth, widths):
    assert NetworkConfig(width=width, depth=depth).level_widths() == widths


def test_a_size_that_cannot_be_halved_is_refused_with_one_that_can():
    with pytest.raises(ValidationError, match=r"image_size 96 can't be halved 6 times \(depth\); use a multiple of 64"):
        NetworkConfig(image_size=96, depth=6)
    assert NetworkConfig(image_size=96, depth=5).image_size == 96


def test_a_size_below_the_discriminators_is_refused_with_the_smallest():
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


def test_a_network_never_changes():
    network = NetworkConfig()
    with pytest.raises(ValidationError, match="frozen"):
        network.width = 32
    assert NetworkConfig.model_validate_json(network.model_dump_json()) == network


@pytest.mark.parametrize(
    ("direction", "names"), [("photo_to_map", ("photo", "map")), ("map_to_photo", ("map", "photo"))]
)
def test_tensors_are_named_after_what_they_hold(direction, names):
    tensors = signature(NetworkConfig(image_size=64, depth=3), direction)
    assert (tensors.input, tensors.output) == names
    assert tensors.shape == ("batch", 64, 64, 3)


def test_photo_to_map_is_the_direction_unless_told():
    assert signature(NetworkConfig()) == TensorSignature(input="photo", output="map", height=256, width=256)
