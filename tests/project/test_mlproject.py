"""The entry points of MLproject: parameters become settings and options, and unknown ones are explained."""

import shlex
from itertools import pairwise

import pytest
from mlflow.projects._project_spec import load_project
from typer.main import get_group

from pipelines.cli.main import app
from pipelines.config.loading import load
from tests.fixtures.project import PROJECT

TYPED = {"epochs": "3", "batch_size": "8", "learning_rate": "3e-4", "workers": "2"}
MANY = {"workspace": "my [runs]", "set": "network.width=8 tracking.model_name='my maps'"}


def words_of(verb, **parameters):
    """Return the words of the command that `mlflow run` starts."""
    command = load_project(str(PROJECT)).get_entry_point(verb).compute_command(parameters, None)
    words = shlex.split(command)
    assert words[:6] == ["python", "-m", "pipelines", "-C", parameters.get("folder", "."), verb]
    return words[6:]


def settings_of(words):
    return [value for option, value in pairwise(words) if option == "--set"]


@pytest.mark.parametrize("verb", ["main", "train", "submit"])
def test_usual_parameters_are_settings(verb):
    required = {"address": "http://head:8265"} if verb == "submit" else {}
    config = load(None, settings_of(words_of(verb, **required, **TYPED, **MANY, data="my pairs")))
    training = config.training
    assert (training.epochs, training.batch_size, training.learning_rate, training.workers) == (3, 8, 3e-4, 2)
    assert (str(config.workspace), config.data.source) == ("my [runs]", "my pairs")
    assert (config.network.width, config.tracking.model_name) == (8, "my maps")


@pytest.mark.parametrize("verb", ["main", "prepare", "train", "tune", "export", "evaluate", "register", "rollback"])
def test_empty_parameters_change_nothing(verb):
    assert load(None, settings_of(words_of(verb))) == load(None)


@pytest.mark.parametrize(
    ("verb", "parameters"),
    [
        ("prepare", {}),
        ("tune", {"epochs": "3"}),
        ("export", {"run": "7"}),
        ("evaluate", {}),
        ("compare", {"runs": "7 8"}),
        ("register", {}),
        ("promote", {"version": "3", "force": "true", "reason": "the champion's pairs are gone"}),
        ("score", {"photos": "my photos", "out": "my maps", "format": "tiff"}),
    ],
)
def test_workspaces_are_passed_and_all_options_exist(verb, parameters):
    words = words_of(verb, **parameters, workspace="my runs")
    assert "workspace=my runs" in settings_of(words)
    parsed = get_group(app).commands[verb].make_context(verb, words).params
    assert set(parameters.values()) - {"3"} <= {str(value) for value in parsed.values()} | {"7 8", "my photos"}


def test_force_is_a_parameter(run_here):
    words = words_of("promote", force="maybe")
    assert "force=maybe is neither true nor false" in run_here("promote", *words).stderr
    words = words_of("promote", force="true")
    assert "A forced promotion needs a reason" in run_here("promote", *words).stderr


@pytest.mark.parametrize(
    ("name", "setting"), [("epoch", "training.epochs"), ("width", "network.width"), ("x", "KEY"), ("a b", "KEY")]
)
def test_an_unknown_parameter_is_explained(run_here, name, setting):
    done = run_here("train", *words_of("train", **{name: "3"}))
    assert done.returncode == 2 and f"No such option: --{name}" in done.stderr
    assert f'in `mlflow run` with -P set="{setting}=VALUE"' in done.stderr


def test_a_folder_that_cannot_be_opened_is_refused(run_here, tmp_path):
    done = run_here("-C", str(tmp_path / "nowhere"), "prepare")
    assert done.returncode == 2 and "nowhere is not a folder that can be opened" in done.stderr
