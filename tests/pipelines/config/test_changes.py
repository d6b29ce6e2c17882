"""Settings of a trained run, which the verbs after training start from."""

from pathlib import Path

import pytest

from model.errors import ConfigError
from pipelines.config.loading import CHANGEABLE, change, load, workspace_of

TRAINED = ["network.width=8", "training.epochs=20", "export.variants=[]", "tracking.model_name=mine"]


def refused_change(verb, *overrides, file=None):
    with pytest.raises(ConfigError) as caught:
        change(load("sample", TRAINED), overrides, verb=verb, file=file)
    return str(caught.value)


def written(path, text):
    path.write_text(text)
    return path


@pytest.mark.parametrize("verb", CHANGEABLE)
def test_a_verb_starts_from_the_settings_of_the_run(verb):
    began = load("maps", TRAINED)
    assert change(began, [], verb=verb) == began
    assert change(began, [*TRAINED, "training.epochs="], verb=verb) == began


@pytest.mark.parametrize(
    ("verb", "overrides"),
    [
        ("train --resume", ["training.epochs=40 training.workers=2", "tracking.patience=5"]),
        (
            "export",
            ["export.dtype=uint8", 'evaluation.palette={"classes": {"road": ["#ffffff"], "park": ["#00ff00"]}}'],
        ),
        ("evaluate", ["evaluation.inception_weights=x.pth"]),
        ("compare", ["evaluation.lpips_weights=x"]),
        ("register", ["tracking.model_name=other"]),
    ],
)
def test_a_verb_changes_its_own_settings(verb, overrides):
    began = load("default", TRAINED)
    assert change(began, overrides, verb=verb) == load("default", [*TRAINED, *overrides])


@pytest.mark.parametrize("verb", CHANGEABLE)
@pytest.mark.parametrize(
    ("override", "key", "was", "now"),
    [
        ("network.width=16", "network.width", "8", "16"),
        ("seed=1", "seed", "0", "1"),
        ("data.source=x", "data.source", '"sample"', '"x"'),
        ("data.sample.val=9", "data.sample.val", "48", "9"),
    ],
)
def test_what_a_run_was_trained_with_cannot_be_changed(verb, override, key, was, now):
    assert f"{key} was {was} when the run was trained and can't become {now}; " in refused_change(verb, override)


@pytest.mark.parametrize(
    ("verb", "override", "message"),
    [
        ("evaluate", "tracking.model_name=x", "`evaluate` does not use tracking.model_name; only evaluation.* can"),
        ("export", "promotion.min_gain=1", "only export.* and evaluation.palette can be changed here."),
        ("register", "tracking.experiment=x", "only tracking.model_name can be changed here."),
        ("tune --resume", "tune.trials=9", "`tune --resume` does not use tune.trials; no setting can be changed here."),
    ],
)
def test_settings_that_a_verb_does_not_use_are_refused(verb, override, message):
    assert message in refused_change(verb, override)


def test_a_palette_can_be_added_and_replaced():
    white = 'evaluation.palette={"classes": {"road": ["#ffffff"], "park": ["#00ff00"]}}'
    grey = 'evaluation.palette={"classes": {"wood": ["#aaaaaa"], "park": ["#00ff00"]}}'
    began = change(load("default"), [white], verb="export")
    assert began == load("default", [white])
    assert change(began, [grey], verb="export") == load("default", [grey])


def test_a_file_may_hold_settings_of_other_verbs_but_not_of_another_training(tmp_path):
    file = written(
        tmp_path / "mine.yaml", "network: {width: 8}\npromotion: {min_gain: 1}\nevaluation: {lpips_weights: here}\n"
    )
    config = change(load("sample", TRAINED), ["evaluation.inception_weights=x"], verb="evaluate", file=file)
    assert (config.evaluation.lpips_weights, config.evaluation.inception_weights) == ("here", "x")
    assert config.export.variants == () and config.training.epochs == 20
    other = written(tmp_path / "other.yaml", "network: {width: 9}\n")
    assert "network.width was 8 when the run was trained" in refused_change("evaluate", file=other)


def test_the_workspace_is_not_a_setting_of_the_run(tmp_path):
    assert change(load("sample"), ["workspace=/elsewhere"], verb="evaluate").workspace == Path("/elsewhere")
    file = written(tmp_path / "mine.yaml", "workspace: /mine\n")
    assert workspace_of(None, ["training.epochs=5 training.workers=3"]) == Path("workspace")
    assert workspace_of(file, []) == Path("/mine")
    assert workspace_of(file, ["workspace=/my other"]) == Path("/my other")


def test_changes_are_checked_like_any_setting():
    assert "training.epoch is not a setting" in refused_change("evaluate", "training.epoch=3")
    assert "training.epoch is not a setting" in refused_change("evaluate", "training.epoch=")
