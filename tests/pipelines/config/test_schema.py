"""Values of settings that are refused: unknown keys, wrong types and ranges, and combinations."""

import pytest

from model.errors import ConfigError
from pipelines.config.loading import load
from tests.fixtures.refusals import refused_settings as refused

SECTIONS = "allowed here: workspace, seed, data, network, training, tune, export, evaluation, promotion, tracking."


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("zoom=3", SECTIONS),
        ("painting.zoom=3", SECTIONS),
        ("training.speed=3", "allowed here: epochs, steps, minutes, batch_size"),
        ("data.sample.test=3", "allowed here: train, val."),
        ("network.size=64", "allowed here: image_size, width, depth, dropout"),
        ("sed=3", "did you mean seed?"),
        ("epochs=5", "did you mean training.epochs?"),
        ("learning_rate=1", "did you mean training.learning_rate or tune.learning_rate?"),
        ("training.epoch=3", "did you mean training.epochs?"),
        ("train.epochs=3", "did you mean training.epochs?"),
        ("Training.Epochs=3", "did you mean training.epochs?"),
        ("batch-size=3", "did you mean training.batch_size?"),
        ("batch=3", "did you mean training.batch_size or training.discriminator_batch?"),
        ("lr=3", "did you mean training.learning_rate or tune.learning_rate?"),
    ],
)
def test_unknown_key_is_refused_with_the_nearest_or_the_known_ones(override, hint):
    key = override.partition("=")[0]
    assert refused(override).startswith(f"Invalid configuration: {key} is not a setting; {hint}")


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
        ("training.precision=int8", "'auto', 'float32', 'mixed_bfloat16' or 'mixed_float16' (found 'int8')"),
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
def test_value_of_wrong_type_or_range_is_refused_with_the_rule(override, rule):
    key = override.partition("=")[0]
    message = refused(override)
    assert message.startswith(f"Invalid configuration: {key}: ") and rule in message


def test_a_generator_without_a_loss_is_refused():
    message = refused("training.adversarial_weight=0 training.l1_weight=0 training.colour_weight=0")
    assert "adversarial_weight, l1_weight and colour_weight are 0; the generator needs one of them" in message


def test_all_problems_are_reported_at_once():
    message = refused("training.epochs=0 seed=-1 sed=3")
    assert all(key in message for key in ("training.epochs: ", "seed: ", "sed is not a setting"))


def test_image_size_that_cannot_be_halved_is_refused_with_the_multiple():
    assert "network: image_size 100 can't be halved 7 times (depth); use a multiple of 128" in refused(
        "network.image_size=100"
    )
    assert load(None, ["network.image_size=64 network.depth=6"]).network.image_size == 64


@pytest.mark.parametrize(("batch", "workers"), [(10, 4), (1, 2), (3, 2)])
def test_batch_must_be_divisible_by_the_workers(batch, workers):
    assert refused(f"training.batch_size={batch} training.workers={workers}") == (
        f"Batch size {batch} can't be divided over {workers} workers; "
        f"use a multiple of {workers} (training.batch_size)."
    )


@pytest.mark.parametrize(("batch", "workers"), [(4, 4), (8, 2), (1, 1)])
def test_divisible_batch_is_accepted(batch, workers):
    config = load(None, [f"training.batch_size={batch}", f"training.workers={workers}"])
    assert (config.training.batch_size, config.training.workers) == (batch, workers)


@pytest.mark.parametrize("other", ["training.gpu=true", "training.precision=mixed_bfloat16"])
def test_deterministic_is_refused_on_gpus_and_in_other_precisions(other):
    assert load("sample", ["training.deterministic=true"]).training.deterministic
    with pytest.raises(ConfigError, match=r"training\.deterministic needs CPUs and float32"):
        load("sample", ["training.deterministic=true", other])


def test_instance_norm_of_a_single_pixel_is_refused():
    assert load("default", ["network.norm=instance"]).network.norm == "instance"
    with pytest.raises(ConfigError, match="norm instance can't normalise a single pixel"):
        load("default", ["network.norm=instance", "network.depth=8"])
