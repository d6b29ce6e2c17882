"""Commands that are printed: parsed by a shell, they give the settings they were made from."""

import shlex
from itertools import pairwise
from pathlib import Path

import pytest

from pipelines.config import job
from pipelines.config.loading import follow, load, with_settings
from pipelines.config.next_commands import as_text, command, of_run, set_options

NAMES = [
    "plain",
    "two words",
    "a b=c",
    "it's",
    'say "hi"',
    "[bold] [x]",
    "été",
    "12",
    "null",
    "yes",
    " x ",
    "#1",
    "$HOME;ls",
]


def settings_of(line):
    words = shlex.split(line)
    return [value for option, value in pairwise(words) if option == "--set"]


def test_what_a_verb_finds_itself_is_left_out():
    config = load("sample")
    assert command("train", config=config, found=config) == "sat2map train"
    assert command("promote", "1", config=config) == "sat2map promote 1"
    assert of_run("export", workspace=Path("workspace").resolve()) == "sat2map export"


@pytest.mark.parametrize("name", NAMES)
def test_names_are_quoted(name):
    config = load("sample", [f"workspace={as_text('/data/' + name)}", f"tracking.model_name={as_text(name)}"])
    assert (config.workspace, config.tracking.model_name) == (Path("/data") / name, name)
    again = load("sample", settings_of(command("promote", "1", config=config)))
    assert (again.workspace, again.tracking.model_name) == (config.workspace, name)
    assert load(None, set_options({"seed": 4, "tracking.model_name": name, "workspace": "/x"})[1:]) == load(
        None, [f"seed=4 workspace=/x tracking.model_name={as_text(name)}"]
    )


@pytest.mark.parametrize("file", ["sample", "default", "few-pairs", "maps", "paper"])
def test_training_begins_with_the_same_settings(file):
    found = load(file, ["data.source='/my pairs'", "workspace=/a b"])
    changes = {
        "training.epochs": 3,
        "export.variants": [],
        "network.norm": "instance",
        "tracking.model_name": "my maps",
    }
    config = with_settings(found, changes)
    words = settings_of(command("train", config=config, found=found))
    assert follow(found, None, words) == config
    assert command("train", config=found, found=found) == "sat2map train --set 'workspace=/a b'"


def test_each_verb_gets_only_the_settings_that_it_reads():
    config = load("maps", ["workspace=/a", "promotion.min_gain=1", "tracking.model_name=mine"])
    assert command("rollback", config=config) == "sat2map rollback --set tracking.model_name=mine"
    expected = "sat2map promote 3 --set 'workspace=/a promotion.min_gain=1.0 tracking.model_name=mine'"
    assert command("promote", "3", config=config) == expected
    palette = {"classes": {"road": ["#ffffff"], "wood": ["#00aa00"]}}
    config = load("sample", [f"evaluation.palette={as_text(palette)}"])
    assert load("sample", settings_of(command("promote", config=config))) == config


def test_a_job_prints_commands_that_send_another_job(monkeypatch):
    monkeypatch.setenv(job.VARIABLE, "http://head:8265")
    assert of_run("train --resume", "1f0c", workspace=Path("/shared/work")) == (
        "sat2map submit --address http://head:8265 -- train --resume 1f0c --set workspace=/shared/work"
    )
    assert command("rollback", config=load()) == "sat2map submit --address http://head:8265 -- rollback"


def test_a_run_in_another_workspace_is_found():
    line = of_run("train --resume", "7", workspace=Path("/my runs"))
    assert shlex.split(line) == ["sat2map", "train", "--resume", "7", "--set", "workspace=/my runs"]
