"""Descriptions of settings: every setting of the schema, with allowed values and what set it."""

from pathlib import Path

import pytest
import yaml

from model.errors import ConfigError
from pipelines.config.descriptions import as_yaml, describe, of_run, origins, set_by
from pipelines.config.loading import leaves, load, with_settings
from pipelines.config.schema import RunConfig

ALL = describe(RunConfig()).settings
BY_KEY = {one.key: one for one in ALL}


def test_every_setting_is_described_in_order():
    assert [one.key for one in ALL] == [key for key, _ in leaves(RunConfig().model_dump(mode="json"))]
    for one in ALL:
        assert one.meaning.endswith((".", ")")) and "\n" not in one.meaning and one.allowed
        assert one.value == one.default and one.origin == "default"


@pytest.mark.parametrize(
    ("key", "allowed"),
    [
        ("workspace", "a path"),
        ("seed", "a whole number, at least 0, below 2,147,483,648"),
        ("data.source", "text, not empty"),
        ("data.direction", "photo_to_map or map_to_photo"),
        ("data.resolution", "a number, above 0; or null"),
        ("data.sample.train", "a whole number, at least 1, at most 100,000"),
        ("training.precision", "auto, float32, mixed_bfloat16 or mixed_float16"),
        ("training.mirror", "true or false"),
        ("tune.learning_rate", "a list of 2, [a number, a number]"),
        ("tune.norm", "a list; each: batch, sync_batch or instance, not empty"),
        ("export.variants", "a list; each: fp16, int8 or int8-openvino"),
        ("evaluation.palette", "a section; or null"),
        ("promotion.max_loss", "values by name, {name: a number}"),
    ],
)
def test_allowed_values_are_in_words(key, allowed):
    assert BY_KEY[key].allowed == allowed


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.key)
def test_a_shown_value_can_be_set(one):
    assert yaml.safe_load(as_yaml(one.value)) == one.value
    if one.value is not None:
        assert load("default", [f"{one.key}={as_yaml(one.value)}"]) == RunConfig()


def test_sections_and_single_settings_are_chosen():
    names = [one.key for one in describe(RunConfig(), ["network", "data.sample", "seed"]).settings]
    assert names[:2] == ["seed", "data.sample.train"] and names[-1] == "network.upsampling" and len(names) == 9
    with pytest.raises(ConfigError, match=r"^trainin is not a setting; did you mean training\?$"):
        describe(RunConfig(), ["trainin"])
    with pytest.raises(ConfigError, match=r"^epochs is not a setting; did you mean training\.epochs\?$"):
        describe(RunConfig(), ["seed", "epochs"])


def test_the_origin_of_a_value_is_the_last_that_sets_it(tmp_path):
    assert origins(None, [])["training.epochs"] == "configuration sample"
    found = origins(None, ["data.source=/pairs training.steps=5"])
    assert {key for key, origin in found.items() if origin == "--set"} == {"data.source", "training.steps"}
    assert {origin for origin in found.values()} == {"--set", "configuration few-pairs"}
    assert origins("maps", ["training.epochs=3"]) == {
        "data.source": "configuration maps",
        "training.batch_size": "configuration maps",
        "training.epochs": "--set",
    }
    file = Path(tmp_path, "mine.yaml")
    file.write_text("training: {epochs: 3}\nseed: 4\n")
    assert origins(file, ["seed=5", "data.source="]) == {"training.epochs": str(file), "seed": "--set"}


def test_a_section_in_one_value_sets_its_settings():
    config = load("default", ["training={epochs: 3, mirror: false}"])
    found = {one.key: one.origin for one in describe(config, origins=origins("default", [])).settings}
    assert set(found.values()) == {"default"}
    changes = {"training": {"epochs": 3, "mirror": False}}
    described = describe(config, ["training"], origins=set_by(changes)).settings
    assert {one.key for one in described if one.origin == "--set"} == {"training.epochs", "training.mirror"}


def test_settings_of_a_run_are_those_that_differ_from_the_defaults():
    run = with_settings(RunConfig(), {"training.epochs": 3, "promotion.max_loss": {"ssim": 0.5}})
    assert of_run(run, "1f0c") == {"training.epochs": "run 1f0c", "promotion.max_loss": "run 1f0c"}
