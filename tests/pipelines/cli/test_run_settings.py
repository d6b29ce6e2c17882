"""Verbs that work on a trained run start from its settings, and refuse those that can't change any more."""

import json

import mlflow
import pytest

from pipelines.workspace import Workspace
from tests.fixtures.runs import configure, make_run


@pytest.fixture(scope="module", autouse=True)
def trained(own_mlflow):
    """Make a run of the model `my maps`, without variants."""
    config = configure(own_mlflow, "my maps", **{"export.variants": [], "training.epochs": 7})
    Workspace(config.workspace).set_latest(make_run(config))


def test_register_takes_the_name_of_the_command_line(run_here):
    done = run_here("register", "--json", "--set", "tracking.model_name=my other maps")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["name"] == "my other maps"
    assert [model.name for model in mlflow.MlflowClient().search_registered_models()] == ["my other maps"]


@pytest.mark.parametrize(
    ("verb", "setting", "message"),
    [
        ("register", "training.epochs=9", "training.epochs was 7 when the run was trained and can't become 9"),
        ("export", "network.width=9", "network.width was 2 when the run was trained and can't become 9"),
        ("evaluate", "data.source=pairs", 'data.source was "sample" when the run was trained'),
        ("evaluate", "export.variants=[int8]", "`evaluate` does not use export.variants; only evaluation.* can"),
        ("register", "tracking.model_name=a/b", "tracking.model_name is 'a/b'"),
    ],
)
def test_other_settings_are_refused(run_here, verb, setting, message):
    done = run_here(verb, "--set", setting)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


def test_score_refuses_settings_that_are_not_those_of_the_run(run_here):
    done = run_here("score", "photos", "maps", "--set", "network.width=9")
    assert done.returncode == 2 and "can't become 9; no setting can be changed here." in done.stderr
    done = run_here("score", "photos", "maps", "--set", "network.width=2 workspace=workspace")
    assert done.returncode == 2 and "photos" in done.stderr and "network" not in done.stderr


def test_the_settings_of_the_training_may_be_repeated(run_here):
    done = run_here("register", "--set", "training.epochs=7 network.width=2 tracking.model_name=repeated", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["name"] == "repeated"
