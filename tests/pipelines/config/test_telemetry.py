"""Reports on their use that libraries would send home."""

import os
import subprocess
import sys

import pytest
from mlflow.telemetry.utils import is_telemetry_disabled

from pipelines.config import telemetry
from tests.fixtures.project import PROJECT

OPEN_MODEL = """
import sys
from pipelines.config import telemetry
telemetry.switch_off()
from model.providers import open_session
open_session(sys.stdin.buffer.read())
"""


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    for name in telemetry.SWITCHES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(name, "")
        os.environ.pop(name)


def test_nothing_is_reported_by_default():
    telemetry.switch_off()
    assert telemetry.chosen() == telemetry.SWITCHES
    assert is_telemetry_disabled()


def test_what_the_user_has_set_stays(monkeypatch):
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "false")
    telemetry.switch_off()
    assert telemetry.chosen() == telemetry.SWITCHES | {"MLFLOW_DISABLE_TELEMETRY": "false"}


def test_onnxruntime_keeps_no_id_of_the_device(tmp_path, make_bundle):
    model = make_bundle().joinpath("generator.onnx").read_bytes()
    home = {"HOME": str(tmp_path / "home"), "PYTHONPATH": str(PROJECT)}
    (tmp_path / "home").mkdir()
    subprocess.run([sys.executable, "-c", OPEN_MODEL], input=model, env=home, check=True)
    assert not list((tmp_path / "home").iterdir())


def test_the_command_line_switches_reports_off_for_the_processes_that_it_starts(monkeypatch, capsys):
    from pipelines.cli.main import main

    monkeypatch.setattr(sys, "argv", ["sat2map", "pull", "--no-such-option"])
    with pytest.raises(SystemExit):
        main()
    assert telemetry.chosen() == telemetry.SWITCHES
