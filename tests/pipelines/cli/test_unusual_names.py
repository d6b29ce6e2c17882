"""Names that look like rich's markup, and texts that the terminal's encoding can't show, through several verbs."""

import json
import os
import subprocess
import sys

import mlflow
import pytest

from pipelines.workspace import Workspace
from tests.fixtures.project import PROJECT
from tests.fixtures.runs import configure, make_run

NAME, MODEL = "[bold] été :heart: [x]", "[bold] été [x]"
TINY = "network.image_size=32 network.depth=3 data.sample.train=3 data.sample.val=3"


@pytest.fixture(scope="module")
def folder(own_mlflow):
    """Make a run of the model MODEL in a folder and a workspace with such names."""
    folder = own_mlflow / "[red] [/x] é"
    folder.mkdir(parents=True)
    config = configure(folder, MODEL)
    Workspace(config.workspace).set_latest(make_run(config))
    return folder


@pytest.fixture(autouse=True)
def in_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)


def test_prepare_shows_names_as_they_are(run_here):
    done = run_here("prepare", "--set", f"workspace='{NAME}' {TINY}")
    assert done.returncode == 0, done.stderr
    assert f"  Index     {NAME}/pairs.json\n" in done.stdout
    assert f"sat2map train --set 'workspace=\"{NAME}\" training.batch_size=3'\n" in done.stdout


def test_register_shows_names_as_they_are(run_here):
    done = run_here("register")
    assert done.returncode == 0, done.stderr
    assert f"Registered {MODEL} version 1 as challenger.\n" in done.stdout
    assert f"sat2map promote 1 --set 'tracking.model_name=\"{MODEL}\"'" in done.stdout
    assert [model.name for model in mlflow.MlflowClient().search_registered_models()] == [MODEL]


@pytest.mark.parametrize(
    "words",
    [
        ["prepare", "--set", "data.source=[/x] nowhere"],
        ["export", "--run", "[/x]"],
        ["train", "--config", "[/x].yaml"],
        ["score", "[/x].png", "maps"],
        ["prepare", "--[/x]"],
        ["[/x]"],
    ],
)
def test_errors_show_names_as_they_are(run_here, words):
    done = run_here(*words)
    assert done.returncode == 2 and "[/x]" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_a_character_gets_an_escape(folder, encoding):
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-m", "pipelines", "prepare", "--set", f"workspace='→ {NAME}' {TINY}"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr
    shown = NAME.encode(encoding, "backslashreplace")
    assert b"Index     \\u2192 " + shown + b"/pairs.json" in done.stdout
    done = subprocess.run([*command, "--json"], cwd=folder, env=environment, capture_output=True)
    assert len(json.loads(done.stdout)["val"]) == 3
