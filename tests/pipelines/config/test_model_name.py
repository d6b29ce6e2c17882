"""The default name of the registered model, which depends on the direction."""

import pytest

from pipelines.config.loading import load
from pipelines.config.schema import DataConfig, RunConfig, TrackingConfig


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ([], "sat2map"),
        (["data.direction=photo_to_map"], "sat2map"),
        (["data.direction=map_to_photo"], "sat2map-map-to-photo"),
        (["data.direction=map_to_photo", "tracking.experiment=mine"], "sat2map-map-to-photo"),
        (["data.direction=map_to_photo", "tracking.model_name=sat2map"], "sat2map"),
        (["tracking.model_name=mine"], "mine"),
    ],
)
def test_a_model_of_the_other_direction_has_a_name_of_its_own(settings, name):
    config = load("default", settings)
    assert config.tracking.model_name == name == config.flat()["tracking.model_name"]
    assert RunConfig.model_validate_json(config.model_dump_json()) == config


def test_the_name_of_the_model_follows_sections_given_as_objects():
    photos = DataConfig(direction="map_to_photo")
    assert RunConfig(data=photos).tracking.model_name == "sat2map-map-to-photo"
    assert RunConfig(data=photos, tracking=TrackingConfig(patience=5)).tracking.patience == 5
    assert RunConfig(data=photos, tracking=TrackingConfig(model_name="mine")).tracking.model_name == "mine"
