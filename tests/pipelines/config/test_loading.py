"""Settings: the shipped files load, overrides win, and whatever is wrong is refused with what to do."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from model.errors import ConfigError
from pipelines.config.loading import CONFIGS, change, load
from pipelines.config.schema import RunConfig


def refused(*overrides, file=None):
    with pytest.raises(ConfigError) as stopped:
        load(file, overrides)
    return str(stopped.value)


def changed(*overrides, file="default"):
    """Return the settings that differ from the defaults."""
    defaults = RunConfig().flat()
    return {key: value for key, value in load(file, overrides).flat().items() if value != defaults[key]}


def written(folder, text, name="mine.yaml"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


# The shipped files


def test_the_defaults_stand_in_the_class_alone():
    assert load("default") == RunConfig()


def test_every_shipped_file_loads_and_says_something():
    names = sorted(path.stem for path in CONFIGS.iterdir())
    assert names == ["default", "maps", "sample"]
    assert len({load(name).model_dump_json() for name in names}) == 3


def test_sample_trains_a_narrow_net_on_painted_scenes():
    config = load("sample")
    assert config.data.source == "sample" and config.network.width < RunConfig().network.width


def test_maps_is_the_setting_of_the_paper():
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
        (["data.source=/my/pairs"], "default"),
        (["seed=0 data.source=kaggle://a/b"], "default"),
        (["data.source=/my/pairs", "data.source=sample"], "sample"),
    ],
)
def test_without_a_file_the_source_decides(overrides, file):
    assert load(None, overrides) == load(file, overrides)
    assert load(None, overrides) != load("maps", overrides)


def test_a_named_file_is_used_whatever_the_source_is():
    assert load("sample", ["data.source=/my/pairs"]).network.width == load("sample").network.width


# Own files


def test_a_file_is_a_difference_from_the_defaults(tmp_path):
    file = written(tmp_path, "seed: 7\ntraining:\n  epochs: 3\n")
    assert changed(file=file) == {"seed": "7", "training.epochs": "3"}
    assert load(str(file)) == load(file)


@pytest.mark.parametrize("text", ["", "# only a comment\n", "{}"])
def test_an_empty_file_is_the_defaults(tmp_path, text):
    assert load(written(tmp_path, text)) == RunConfig()


@pytest.mark.parametrize(("text", "found"), [("- seed", "list"), ("seed", "str"), ("3", "int")])
def test_a_file_that_is_no_mapping_is_refused(tmp_path, text, found):
    message = refused(file=written(tmp_path, text))
    assert f"mine.yaml holds a {found}; it must hold sections such as `training:`" in message


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
def test_a_file_that_is_no_yaml_is_refused_in_one_line(tmp_path, text):
    message = refused(file=written(tmp_path, text))
    assert "mine.yaml can't be read as YAML" in message and "\n" not in message


def test_a_file_that_is_not_there_is_named_with_those_that_are(tmp_path):
    for file in ("nowhere.yaml", "", tmp_path, tmp_path / "default"):
        assert refused(file=file) == (
            f"No configuration {str(file)!r}; name a YAML file, or one of: default, maps, sample."
        )


def test_a_key_that_is_no_text_is_refused(tmp_path):
    assert "1: Keys should be strings (found 1)" in refused(file=written(tmp_path, "1: 2"))


def test_an_empty_section_is_refused(tmp_path):
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
        (["training.mirror=false"], {"training.mirror": "False"}),
        (["training.learning_rate=1e-3"], {"training.learning_rate": "0.001"}),
        (["tracking.experiment='12'"], {"tracking.experiment": "12"}),
    ],
)
def test_overrides_win(overrides, expected):
    assert changed(*overrides) == expected


def test_overrides_lie_over_the_file_and_leave_its_other_keys(tmp_path):
    file = written(tmp_path, "training:\n  epochs: 3\n  l1_weight: 10\n")
    assert changed("training.epochs=5", file=file) == {"training.epochs": "5", "training.l1_weight": "10.0"}


def test_a_key_with_nothing_behind_it_stays_as_the_file_has_it():
    assert load("maps", ["data.source=", "training.epochs= training.workers="]) == load("maps")
    assert load(None, ["data.source="]) == load()


def test_an_unknown_key_with_nothing_behind_it_is_refused():
    assert "training.speed is no setting; allowed are: workspace, seed" in refused("training.speed=")


@pytest.mark.parametrize("text", ["seed", "=3", " =3", "training.epochs 5", "seed: 3"])
def test_a_text_that_is_no_setting_is_refused_with_an_example(text):
    assert (
        refused(text) == f"{text.strip()!r} is no setting; write section.key=value, for instance training.batch_size=8."
    )


def test_a_value_that_is_no_yaml_is_named_with_its_key():
    assert refused("data.source=[a") == "The value of data.source ('[a') can't be read; quote it as in YAML."


def test_a_date_that_is_none_is_refused_like_any_other_value():
    assert "tracking.experiment" in refused("tracking.experiment=2024-13-45")


def test_a_value_is_not_entered_like_a_section():
    message = refused("training.epochs.x=3", file="sample")
    assert message == "epochs in 'training.epochs.x' is a value and not a section."
    assert "seed: Input should be a valid integer" in refused("seed.x=3", file="default")


# What is refused


@pytest.mark.parametrize(
    ("override", "allowed"),
    [
        (
            "sed=3",
            "allowed here: workspace, seed, data, network, training, tune, export, evaluation, promotion, tracking",
        ),
        (
            "train.epochs=3",
            "allowed here: workspace, seed, data, network, training, tune, export, evaluation, promotion, tracking",
        ),
        ("training.epoch=3", "allowed here: epochs, batch_size, learning_rate"),
        ("data.sample.test=3", "allowed here: train, val."),
        ("network.size=64", "allowed here: image_size, width, depth, dropout"),
    ],
)
def test_an_unknown_key_is_refused_with_the_known_ones(override, allowed):
    key = override.partition("=")[0]
    unknown = key if key.partition(".")[0] != "train" else "train"
    message = refused(override)
    assert message.startswith(f"The configuration can't be used: {unknown} is no setting; ") and allowed in message


@pytest.mark.parametrize(
    ("override", "rule"),
    [
        ("training.batch_size=0", "greater than or equal to 1 (found 0)"),
        ("training.epochs=0", "greater than or equal to 1 (found 0)"),
        ("training.workers=0", "greater than or equal to 1 (found 0)"),
        ("training.epochs=many", "a valid integer, unable to parse string as an integer (found 'many')"),
        ("training.epochs=2.5", "(found 2.5)"),
        ("training.learning_rate=0", "greater than 0 (found 0)"),
        ("training.l1_weight=-1", "greater than or equal to 0 (found -1)"),
        ("training.l1_weight=.nan", "(found nan)"),
        ("training.beta_1=1", "less than 1 (found 1)"),
        ("training.jitter=0.9", "greater than or equal to 1 (found 0.9)"),
        ("training.jitter=2.1", "less than or equal to 2 (found 2.1)"),
        ("training.mirror=maybe", "a valid boolean, unable to interpret input (found 'maybe')"),
        ("training.precision=int8", "'float32', 'mixed_bfloat16' or 'mixed_float16' (found 'int8')"),
        ("training.sheet_pairs=33", "less than or equal to 32 (found 33)"),
        ("training=3", "(found 3)"),
        ("data.source=''", "at least 1 character (found '')"),
        ("data.direction=both", "'photo_to_map' or 'map_to_photo' (found 'both')"),
        ("data.val_fraction=0", "greater than 0 (found 0)"),
        ("data.val_fraction=1", "less than 1 (found 1)"),
        ("data.sample.val=0", "greater than or equal to 1 (found 0)"),
        ("seed=-1", "greater than or equal to 0 (found -1)"),
        ("seed=2147483648", "less than 2147483648 (found 2147483648)"),
        ("network.dropout=1", "less than 1 (found 1)"),
        ("workspace=3", "(found 3)"),
    ],
)
def test_a_value_out_of_type_or_range_is_named_with_the_rule(override, rule):
    key = override.partition("=")[0]
    message = refused(override)
    assert message.startswith(f"The configuration can't be used: {key}: ") and rule in message


def test_every_problem_is_told_at_once():
    message = refused("training.epochs=0 seed=-1 sed=3")
    assert all(key in message for key in ("training.epochs: ", "seed: ", "sed is no setting"))


def test_an_image_that_can_not_be_halved_is_refused_with_the_multiple():
    assert "network: image_size 100 can't be halved 7 times (depth); use a multiple of 128" in refused(
        "network.image_size=100"
    )
    assert load(None, ["network.image_size=64 network.depth=6"]).network.image_size == 64


@pytest.mark.parametrize(("batch", "workers"), [(10, 4), (1, 2), (3, 2)])
def test_a_batch_must_be_divisible_by_the_workers(batch, workers):
    assert refused(f"training.batch_size={batch} training.workers={workers}") == (
        f"Batch size {batch} can't be divided over {workers} workers; "
        f"use a multiple of {workers} (training.batch_size)."
    )


@pytest.mark.parametrize(("batch", "workers"), [(4, 4), (8, 2), (1, 1)])
def test_a_batch_that_can_be_divided_is_taken(batch, workers):
    config = load(None, [f"training.batch_size={batch}", f"training.workers={workers}"])
    assert (config.training.batch_size, config.training.workers) == (batch, workers)


# The value


def test_settings_never_change():
    config = load()
    with pytest.raises(ValidationError, match="frozen"):
        config.seed = 3
    with pytest.raises(ValidationError, match="frozen"):
        config.training.epochs = 3


def test_a_configuration_survives_the_trip_to_a_worker():
    config = load("maps", ["workspace=/some where/else", "training.jitter=1"])
    assert RunConfig.model_validate(config.model_dump(mode="json")) == config
    assert config.workspace == Path("/some where/else")


def test_flat_names_every_setting_once_in_order():
    flat = RunConfig().flat()
    assert list(flat)[:4] == ["workspace", "seed", "data.source", "data.direction"]
    assert {"data.sample.train", "network.image_size", "training.batch_size", "tracking.model_name"} <= set(flat)
    assert all(isinstance(value, str) for value in flat.values())
    assert load(None, [f"{key}={value}" for key, value in flat.items()]) == RunConfig()


# A training that goes on


def test_a_training_that_goes_on_can_change_how_it_is_trained():
    began = load("default", ["training.epochs=20", "network.width=8"])
    changed = change(began, ["training.epochs=40 training.workers=2", "tracking.patience=5"])
    assert (changed.training.epochs, changed.training.workers, changed.tracking.patience) == (40, 2, 5)
    assert changed.network == began.network and changed.data == began.data
    assert change(began, []) == began


@pytest.mark.parametrize(
    ("override", "key", "was"),
    [("network.width=16", "network.width", "8"), ("seed=1", "seed", "0"), ("data.source=x", "data.source", "sample")],
)
def test_what_is_trained_on_what_can_t_change(override, key, was):
    began = load("sample", ["network.width=8"])
    with pytest.raises(ConfigError, match=re.escape(f"{key} was {was} when the training began and can't become")):
        change(began, [override])


def test_a_change_is_checked_as_any_setting():
    with pytest.raises(ConfigError, match=r"training\.epoch is no setting"):
        change(load("sample"), ["training.epoch=3"])


@pytest.mark.parametrize("other", ["training.gpu=true", "training.precision=mixed_bfloat16"])
def test_deterministic_is_refused_where_it_does_not_hold(other):
    assert load("sample", ["training.deterministic=true"]).training.deterministic
    with pytest.raises(ConfigError, match=r"training\.deterministic holds on CPUs in float32"):
        load("sample", ["training.deterministic=true", other])


def test_instance_norm_of_one_pixel_is_refused():
    assert load("default", ["network.norm=instance"]).network.norm == "instance"
    with pytest.raises(ConfigError, match="norm instance makes nothing of one pixel"):
        load("default", ["network.norm=instance", "network.depth=8"])
