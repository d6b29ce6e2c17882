"""Configuration files that can't be read, and names of configurations that are not found."""

import os
from pathlib import Path

import pytest

from tests.fixtures.refusals import refused_settings as refused


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def message(text):
    Path("mine.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    return refused(file="mine.yaml")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("seed: 1\ntraining: epochs: 3\n", ", line 2, column 17: mapping values are not allowed here."),
        (
            "training:\n\tepochs: 3\n",
            ", line 2, column 1: found character '\\t' that cannot start any token; indent wi",
        ),
        ("seed: [1, 2", ", line 1, column 12: expected ',' or ']'"),
        ("seed: 1\n\nseed: 2\n", ", line 3, column 1: seed occurs twice."),
        ("training:\n  epochs: 1\n  epochs: 2\n", ", line 3, column 3: epochs occurs twice."),
        ("seed: *other", ", line 1, column 7: found undefined alias 'other'."),
        (b"\x89PNG\r\n", ": it is not text in UTF-8."),
        ("seed: \x01", ": unacceptable character #x0001"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_column(text, problem):
    found = message(text)
    assert found.startswith(f"mine.yaml is not valid YAML{problem}") and "\n" not in found


def test_a_dotted_name_is_shown_as_a_section():
    written = "In YAML, training.epochs is written as a section; write training: {epochs: 3}"
    assert written in message("training.epochs: 3\n")


def test_the_same_key_in_two_sections_is_allowed():
    assert "seed" not in message("tune: {learning_rate: [1, 2]}\ntraining: {learning_rate: 0}\n")


@pytest.mark.parametrize(("name", "near"), [("sampel", "sample"), ("Maps", "maps"), ("mine.yml", "mine.yaml")])
def test_a_near_name_is_suggested(name, near):
    Path("mine.yaml").touch()
    expected = f"There is no configuration {name!r}; did you mean {near}? Use a YAML file, or one of: default,"
    assert refused(file=name).startswith(expected)


def test_files_in_other_folders_are_suggested(tmp_path):
    (tmp_path / "settings").mkdir()
    (tmp_path / "settings" / "small.yaml").touch()
    assert "did you mean settings/small.yaml?" in refused(file="settings/smal.yaml")


def test_a_folder_is_refused(tmp_path):
    assert (
        refused(file=tmp_path)
        == f"{tmp_path} is a folder; use a YAML file, or one of: default, few-pairs, maps, paper, sample."
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_refused(tmp_path):
    (tmp_path / "mine.yaml").touch(mode=0)
    assert refused(file="mine.yaml") == "mine.yaml can't be read (Permission denied); make it readable."
