"""Loading of settings: shipped and other files, overrides, and names in MLflow."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from model.errors import ConfigError
from pipelines.config.loading import change, load
from pipelines.config.schema import RunConfig
from pipelines.config.yaml_files import preset_names
from tests.fixtures.refusals import refused_settings as refused


def changed(*overrides, file="default"):
    """Return the settings that differ from the defaults."""
    defaults = RunConfig().flat()
    return {key: value for key, value in load(file, overrides).flat().items() if value != defaults[key]}


def written(folder, text, name="mine.yaml"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


# Shipped files


def test_default_file_changes_nothing():
    assert load("default") == RunConfig()


def test_shipped_files_load_and_differ():
    names = preset_names()
    assert names == ["default", "few-pairs", "maps", "paper", "sample"]
    assert len({load(name).model_dump_json() for name in names}) == 5


def test_sample_trains_a_small_network_on_painted_scenes():
    config = load("sample")
    assert config.data.source == "sample" and config.network.width < RunConfig().network.width


def test_maps_has_the_settings_of_the_paper():
    assert changed(file="maps") == {
        "data.source": "kaggle://vikramtiwari/pix2pix-dataset#maps",
        "training.epochs": "200",
        "training.batch_size": "1",
    }
    training = load("maps").training
    assert (training.learning_rate, training.beta_1, training.l1_weight) == (2e-4, 0.5, 100)
    assert round(256 * training.jitter) == 286


@pytest.mark.parametrize(
    ("overrides", "file"),
    [
        ([], "sample"),
        (["seed=0"], "sample"),
        (["data.source=sample"], "sample"),
        (["data.source=/my/pairs"], "few-pairs"),
        (["seed=0 data.source=kaggle://a/b"], "few-pairs"),
        (["data.source=/my/pairs", "data.source=sample"], "sample"),
    ],
)
def test_source_determines_the_default_file(overrides, file):
    assert load(None, overrides) == load(file, overrides)
    assert load(None, overrides) != load("maps", overrides)


@pytest.mark.parametrize(
    ("settings", "length"),
    [
        (["training.epochs=5"], ("epochs", 5)),
        (["training.minutes=30"], ("minutes", 30)),
        (["training.steps=70"], ("steps", 70)),
        (["training.steps=70", "training.minutes="], ("steps", 70)),
    ],
)
def test_a_length_replaces_those_of_other_units(tmp_path, settings, length):
    file = written(tmp_path, "training:\n  minutes: 7\n")
    assert load(file, settings).training.length == length
    began = load("few-pairs")
    assert change(began, settings, verb="train --resume").training.length == length
    assert change(began, settings, verb="train --resume", file=file).training.length == length


def test_two_lengths_are_refused(tmp_path):
    message = "training.epochs and training.minutes are both set, and a training has one length; set one of them."
    with pytest.raises(ConfigError, match=message):
        load(None, ["training.epochs=3", "training.minutes=3"])
    with pytest.raises(ConfigError, match="steps is 3 and minutes is 3; a training has one length"):
        load(written(tmp_path, "training:\n  minutes: 3\n  steps: 3\n"))
    with pytest.raises(ConfigError, match=r"decay is 1, and with minutes at most 0\.9"):
        load(None, ["training.minutes=3 training.decay=1"])


def test_named_file_is_used_for_any_source():
    assert load("sample", ["data.source=/my/pairs"]).network.width == load("sample").network.width


# Other files


def test_file_changes_only_its_own_settings(tmp_path):
    file = written(tmp_path, "seed: 7\ntraining:\n  epochs: 3\n")
    assert changed(file=file) == {"seed": "7", "training.epochs": "3"}
    assert load(str(file)) == load(file)


@pytest.mark.parametrize("text", ["", "# only a comment\n", "{}"])
def test_empty_file_changes_nothing(tmp_path, text):
    assert load(written(tmp_path, text)) == RunConfig()


@pytest.mark.parametrize(("text", "found"), [("- seed", "list"), ("seed", "str"), ("3", "int")])
def test_file_without_sections_is_refused(tmp_path, text, found):
    message = refused(file=written(tmp_path, text))
    assert f"mine.yaml contains a {found}; it must contain sections such as `training:`" in message


@pytest.mark.parametrize(
    "text",
    [
        "seed: [",
        "\tseed: 3",
        "a: 1\n---\nb: 2",
        b"\xff\xfe\xfa",
        "seed: !!python/name:os.system",
        "tracking: {experiment: 2024-13-45}",
    ],
)
def test_invalid_yaml_is_refused_in_one_line(tmp_path, text):
    message = refused(file=written(tmp_path, text))
    assert "mine.yaml is not valid YAML" in message and "\n" not in message


def test_missing_file_is_refused_with_the_shipped_ones(tmp_path):
    for file in ("nowhere.yaml", "", tmp_path / "default"):
        assert refused(file=file) == (
            f"There is no configuration {str(file)!r}; use a YAML file, or one of: default, few-pairs, maps, paper, "
            "sample."
        )


def test_key_that_is_not_text_is_refused(tmp_path):
    assert "1: Keys should be strings (found 1)" in refused(file=written(tmp_path, "1: 2"))


def test_empty_section_is_refused(tmp_path):
    assert "training: " in refused(file=written(tmp_path, "training:\n"))


# Overrides


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["training.epochs=5"], {"training.epochs": "5"}),
        (["training.epochs=5", "training.epochs=6"], {"training.epochs": "6"}),
        (["training.epochs=5 training.workers=2"], {"training.epochs": "5", "training.workers": "2"}),
        (["  training.epochs=5\t seed=3\n"], {"training.epochs": "5", "seed": "3"}),
        (["training.epochs=5 training.epochs=6", "training.epochs=7"], {"training.epochs": "7"}),
        (["data.source=/my dir/x"], {"data.source": "/my dir/x"}),
        (["data.source=/my dir/x seed=4"], {"data.source": "/my dir/x", "seed": "4"}),
        (["seed=4 data.source=/my dir/x"], {"data.source": "/my dir/x", "seed": "4"}),
        (["data.source=/my dir/a=b"], {"data.source": "/my dir/a=b"}),
        (["data.source=kaggle://a/b#two words"], {"data.source": "kaggle://a/b#two words"}),
        (["data.sample.train=9 data.sample.val=8"], {"data.sample.train": "9", "data.sample.val": "8"}),
        ([""], {}),
        (["  ", "\n", "seed=4", ""], {"seed": "4"}),
        (["training.mirror=false"], {"training.mirror": "false"}),
        (["training.learning_rate=1e-3"], {"training.learning_rate": "0.001"}),
        (["tracking.experiment='12'"], {"tracking.experiment": "12"}),
    ],
)
def test_overrides_change_settings(overrides, expected):
    assert changed(*overrides) == expected


def test_overrides_leave_other_settings_of_the_file(tmp_path):
    file = written(tmp_path, "training:\n  epochs: 3\n  l1_weight: 10\n")
    assert changed("training.epochs=5", file=file) == {"training.epochs": "5", "training.l1_weight": "10.0"}


def test_key_without_a_value_changes_nothing():
    assert load("maps", ["data.source=", "training.epochs= training.workers="]) == load("maps")
    assert load(None, ["data.source="]) == load()


def test_unknown_key_without_a_value_is_refused():
    assert "training.speed is not a setting; allowed here: epochs, steps, minutes, batch_size" in refused(
        "training.speed="
    )


@pytest.mark.parametrize("text", ["seed", "training.epochs "])
def test_a_setting_without_a_value_is_refused(text):
    assert refused(text) == f"{text.strip()} has no value; write {text.strip()}=VALUE."


@pytest.mark.parametrize("text", ["speed", "=3", " =3", "training.epochs 5", "seed: 3"])
def test_malformed_override_is_refused_with_an_example(text):
    expected = f"{text.strip()!r} is not a setting; write section.key=value, for instance training.batch_size=8."
    assert refused(text) == expected


def test_value_that_is_not_yaml_is_refused_with_its_key():
    assert refused("data.source=[a") == "The value of data.source ('[a') is not valid YAML; quote it."


@pytest.mark.parametrize("character", ["\udce9", "\x07"])
def test_character_that_yaml_cannot_hold_is_named(character):
    message = f"The value of workspace contains the character {character!r}, which a setting can't hold."
    assert refused(f"workspace=/data/caf{character}") == message


def test_invalid_date_is_refused_like_any_other_value():
    assert "tracking.experiment" in refused("tracking.experiment=2024-13-45")


def test_value_cannot_be_used_as_a_section():
    message = refused("training.epochs.x=3", file="sample")
    assert message == "epochs in 'training.epochs.x' is a value, not a section; write section.key=value."
    assert "seed: Input should be a valid integer" in refused("seed.x=3", file="default")


# The configuration as a value


def test_settings_are_frozen():
    config = load()
    with pytest.raises(ValidationError, match="frozen"):
        config.seed = 3
    with pytest.raises(ValidationError, match="frozen"):
        config.training.epochs = 3


def test_configuration_survives_serialisation():
    config = load("maps", ["workspace=/some where/else", "training.jitter=1"])
    assert RunConfig.model_validate(config.model_dump(mode="json")) == config
    assert config.workspace == Path("/some where/else")


def test_flat_lists_every_setting_once_in_order():
    flat = RunConfig().flat()
    assert list(flat)[:4] == ["workspace", "seed", "data.source", "data.direction"]
    assert {"data.sample.train", "network.image_size", "training.batch_size", "tracking.model_name"} <= set(flat)
    assert all(isinstance(value, str) for value in flat.values())
    assert load(None, [f"{key}={value}" for key, value in flat.items()]) == RunConfig()


# Names in MLflow


@pytest.mark.parametrize("name", ["a/b", "a:b", "sat2map@2", "what?", "/", "..", ".", "..a", "' '"])
def test_model_name_that_the_registry_refuses_is_refused_before_training(name):
    assert f"tracking.model_name is {name.strip(chr(39))!r}" in refused(f"tracking.model_name={name}")


@pytest.mark.parametrize("name", ["sat2map", "my maps", "a.b", "karte-v2", "été", "a#b", "[bold]"])
def test_other_model_names_are_accepted(name):
    from mlflow.utils.validation import _validate_model_name

    assert load(None, [f"tracking.model_name='{name}'"]).tracking.model_name == name
    _validate_model_name(name)


@pytest.mark.parametrize("name", ["' '", "x" * 501])
def test_experiment_name_that_mlflow_refuses_is_refused(name):
    assert "an experiment in MLflow needs a name of 1 to 500 characters" in refused(f"tracking.experiment={name}")


# Quotes


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ('workspace="/my dir/a b=c"', {"workspace": "/my dir/a b=c"}),
        ("workspace='/my dir/a b=c' seed=4", {"workspace": "/my dir/a b=c", "seed": "4"}),
        ("data.source=/bob's pairs seed=4", {"data.source": "/bob's pairs", "seed": "4"}),
        ("data.source=/bob's tracking.model_name=ann's", {"data.source": "/bob's", "tracking.model_name": "ann's"}),
        ('export.variants=["fp16", "int8"] seed=4', {"export.variants": "['fp16', 'int8']", "seed": "4"}),
    ],
)
def test_quoted_values_may_contain_anything(override, expected):
    assert changed(override) == expected
