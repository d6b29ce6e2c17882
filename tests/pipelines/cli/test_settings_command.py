"""`sat2map settings`, `--version`, completion, and near names of verbs, each in a process of its own."""

import json
import os
import subprocess
import sys
from importlib import metadata

import pytest

from pipelines.config.schema import RunConfig
from tests.fixtures.project import PROJECT


@pytest.fixture
def sat2map(tmp_path):
    def call(*words, **environment):
        return subprocess.run(
            [sys.executable, "-m", "pipelines", *words],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT), "HOME": str(tmp_path)} | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return call


def test_settings_are_shown_with_default_meaning_and_origin(sat2map, tmp_path):
    (tmp_path / "mine.yaml").write_text("training: {batch_size: 2}\n")
    done = sat2map("settings", "training", "--config", "mine.yaml", "--set", "training.epochs=5", COLUMNS="200")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:2] == [
        "training.epochs = 5  (--set; default 40)",
        "    Passes over the training pairs. Allowed: a whole number, at least 1.",
    ]
    assert lines[2] == "training.steps = null"
    assert "training.minutes = null" in lines
    begin = next(number for number, line in enumerate(lines) if line.startswith("training.batch_size"))
    assert lines[begin : begin + 3] == [
        "training.batch_size = 2  (mine.yaml; default 4)",
        "    Pairs per step, over all workers together; a multiple of `workers`. Allowed: a whole number, at",
        "    least 1.",
    ]
    assert "training.precision = auto" in lines
    assert all(line.startswith(("training.", "    ")) and line == line.rstrip() for line in lines)
    assert os.listdir(tmp_path) == ["mine.yaml"]


def test_all_settings_are_json(sat2map):
    done = sat2map("settings", "--json")
    shown = {one["key"]: one for one in json.loads(done.stdout)["settings"]}
    assert shown["training.epochs"]["value"] == 20 and shown["training.epochs"]["default"] == 40
    assert shown["training.epochs"]["origin"] == "configuration sample"
    assert shown["network.norm"]["allowed"] == "batch, sync_batch or instance"
    assert len(shown) > 60


def test_settings_of_a_run_are_shown(sat2map, tmp_path):
    folder = tmp_path / "my work" / "runs" / "1f0c"
    folder.mkdir(parents=True)
    config = RunConfig(seed=7)
    (folder / "config.json").write_text(config.model_dump_json())
    words = ("--run", "1f0c", "--set", "workspace='my work' training.epochs=3")
    shown = sat2map("settings", "seed", "training.epochs", *words).stdout.splitlines()
    assert shown[0] == "seed = 7  (run 1f0c; default 0)" and "training.epochs = 3  (--set; default 40)" in shown
    done = sat2map("settings", "--run", "77")
    assert done.returncode == 2 and "No run '77'" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["settings", "trainin"], "trainin is not a setting; did you mean training?"),
        (["settings", "--config", "sampel"], "did you mean sample?"),
        (["settings", "--set", "epochs=5"], "epochs is not a setting; did you mean training.epochs?"),
        (["prepar"], "Did you mean 'prepare'?"),
        (["train", "--resum", "x"], "--resume"),
    ],
)
def test_near_names_are_suggested(sat2map, words, message):
    done = sat2map(*words)
    assert done.returncode == 2 and message in done.stderr and done.stdout == ""


def test_the_version_is_that_of_the_package(sat2map):
    done = sat2map("--version")
    assert (done.returncode, done.stdout) == (0, f"sat2map {metadata.version('sat2map')}\n")


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("sat2map pre", {"prepare"}),
        ("sat2map settings network.n", {"network.norm"}),
        ("sat2map train --set training.ep", {"training.epochs="}),
        ("sat2map train --config m", {"maps", "mine.yaml"}),
        ("sat2map export --run 1", {"1f0c"}),
    ],
)
def test_the_shell_completes(sat2map, tmp_path, typed, offered):
    (tmp_path / "mine.yaml").touch()
    (tmp_path / "workspace" / "runs" / "1f0c").mkdir(parents=True)
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1), "_SAT2MAP_COMPLETE": "complete_bash"}
    assert set(sat2map(**words).stdout.split()) == offered


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_installed(sat2map, tmp_path, shell):
    done = sat2map("--install-completion", shell, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert done.returncode == 0, done.stderr
    assert any("sat2map" in path.read_text() for path in tmp_path.rglob("*") if path.is_file())


# Closed and full outputs


def shell(tmp_path, command):
    """Run a shell command with `sat2map` in it; return the exit codes of its parts, and stderr."""
    script = (
        f'sat2map() {{ "{sys.executable}" -m pipelines "$@"; }}; cd "{tmp_path}"; {command}; echo "${{PIPESTATUS[@]}}"'
    )
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT), "HOME": str(tmp_path)}
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1], done.stderr


@pytest.mark.parametrize("words", ["settings", "settings --json", "--help"])
def test_a_reader_may_end_early(tmp_path, words):
    codes, errors = shell(tmp_path, f"sat2map {words} | head -1 >first")
    assert codes in ("0 0", "1 0") and errors == ""
    assert (tmp_path / "first").exists()


@pytest.mark.parametrize("closed", [">&-", ">out 2>&-", ">out <&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_error(tmp_path, closed):
    assert shell(tmp_path, f"sat2map settings {closed}") == ("0", "")


def test_a_full_disk_for_the_output_is_explained(tmp_path):
    codes, errors = shell(tmp_path, "sat2map settings --json > /dev/full")
    assert codes == "2" and errors.startswith("Error: A disk is full (No space left on device)")
    assert errors.count("\n") == 1


def test_a_deleted_folder_is_explained(tmp_path):
    codes, errors = shell(tmp_path, "mkdir gone; cd gone; rmdir ../gone; sat2map settings")
    assert (codes, errors) == ("2", "Error: The current folder was deleted; change to another one.\n")
