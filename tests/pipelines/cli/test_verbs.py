"""All verbs: a stdout for the result only, errors in JSON, and help that fits the terminal."""

import json
import os
import re
import subprocess
import sys

import mlflow
import pytest
from typer.main import get_group

from pipelines.cli.main import app
from pipelines.cli.verbs import paragraphs, print_json, stdout_to_stderr
from pipelines.workspace import Workspace
from tests.fixtures.mlflow_servers import mlflow_server
from tests.fixtures.runs import configure, make_run

VERBS = {name: command for name, command in get_group(app).commands.items() if name != "bench"}
VERBS |= {f"bench {name}": command for name, command in get_group(app).commands["bench"].commands.items()}


# Stdout


def test_only_the_result_reaches_stdout(capfd):
    with stdout_to_stderr():
        print("from Python")
        os.write(1, b"from C\n")
        subprocess.run([sys.executable, "-c", "print('from a child process')"], check=True)
    print("result")
    out, err = capfd.readouterr()
    assert out == "result\n"
    assert {"from Python", "from C", "from a child process"} <= set(err.splitlines())


def test_stdout_is_restored_after_an_error(capfd):
    with pytest.raises(ValueError, match="no"), stdout_to_stderr():
        raise ValueError("no")
    os.write(1, b"result\n")
    assert capfd.readouterr().out == "result\n"


def test_numbers_that_are_not_finite_are_null(capsys):
    print_json({"a": float("nan"), "b": [float("inf"), 1.5], "c": {"d": (float("-inf"), "NaN")}})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, 1.5], "c": {"d": [None, "NaN"]}}


@pytest.mark.slow
def test_json_is_all_that_is_printed_with_a_server(tmp_path, monkeypatch, run_here, capfd):
    """MLflow prints the addresses of runs and experiments to stdout."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", raising=False)
    with mlflow_server(tmp_path, f"sqlite:///{tmp_path}/server.db") as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        with stdout_to_stderr(), mlflow.start_run():
            pass
        out, err = capfd.readouterr()
        assert out == "" and "View run" in err
        config = configure(tmp_path)
        Workspace(config.workspace).set_latest(make_run(config))
        done = run_here("register", "--json")
        assert json.loads(done.stdout).get("version") == 1, done.stdout + done.stderr
        refused = run_here("promote", "challenger", "--json", "--set", "promotion.max_parity=1e-9")
        answer = json.loads(refused.stdout)
        assert refused.returncode == answer["error"]["exit_code"] == 3 and answer["decision"] == "refused"


# Errors


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("words", "kind", "message"),
    [
        (["export"], "missing_step", "No trained run in workspace"),
        (["prepare", "--set", "training.epochs=0"], "config", "training.epochs"),
        (["prepare", "--set", "data.source=nowhere"], "data", "There is no folder"),
        (["prepare", "--nonsense"], "usage", "No such option: --nonsense"),
        (["paint"], "usage", "No such command 'paint'"),
        (["pull"], "usage", "Missing"),
        (["score", "photos"], "config", "No folder was named for the maps"),
        (["compare", "1"], "missing_step", "No run '1'"),
        (["submit", "--address", "nowhere", "--", "paint"], "config", "Can't submit the verb 'paint'"),
        (["bench", "inference", "--rounds", "none"], "usage", "Invalid value for '--rounds'"),
    ],
)
def test_errors_are_json_too(run_here, words, kind, message):
    done = run_here(*words, "--json")
    error = json.loads(done.stdout)["error"]
    assert (error["kind"], error["exit_code"], done.returncode) == (kind, 2, 2)
    assert message in error["message"] and message in done.stderr
    assert run_here(*words).stdout == ""


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["score", "a.tif", "-o", "b.tif", "--out", "c.tif"], "--out"),
        (["score", "a.tif", "b.tif", "--vector", "a.gpkg", "--vector", "a.gpkg"], "--vector"),
        (["train", "--config", "sample", "--config=maps"], "--config"),
        (["-C", ".", "-C", "..", "settings"], "-C"),
    ],
)
def test_an_option_with_one_value_cannot_be_given_twice(run_here, words, option):
    done = run_here(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"Error: {option} is given 2 times; give it once.")
    assert run_here("settings", "--set", "training.epochs=1", "--set", "training.epochs=2", "--json", "--json").stdout


def test_ctrl_c_is_json_too(run_here, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.data.prepare.prepare", interrupt)
    done = run_here("prepare", "--json")
    assert done.returncode == json.loads(done.stdout)["error"]["exit_code"] == 130
    assert json.loads(done.stdout)["error"]["kind"] == "stopped"


# Help


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("columns", [60, 120])
def test_the_terminal_wraps_help(run_here, monkeypatch, verb, columns):
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", columns)
    lines = run_here(*verb.split(), "--help").stdout.splitlines()
    assert max(map(len, lines)) == columns
    shown = " ".join(" ".join(lines).split())
    prose = [block for block in VERBS[verb].help.split("\n\n") if not block.startswith("sat2map ")]
    assert prose and all(" ".join(block.split()) in shown for block in prose)
    assert not re.search(r"<\w+", shown)


def test_lines_of_a_paragraph_are_joined_but_not_those_of_commands():
    text = """Do it.

    One long
    sentence.

    sat2map do it
    sat2map do more
    """
    assert paragraphs(text) == "Do it.\n\nOne long sentence.\n\nsat2map do it\nsat2map do more"
