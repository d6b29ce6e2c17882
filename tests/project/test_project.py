"""The project's own shape: the places that must say the same thing do."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import ray
import yaml
from packaging.requirements import Requirement

from tests.fixtures.project import PROJECT

VERBS = ["main", "prepare", "train", "tune", "export", "evaluate", "compare", "register", "promote", "rollback"]
VERBS += ["pull", "score", "submit"]
LOCAL = ["bench"]  # For those who work on the project; no step of a run.


@pytest.fixture(scope="module")
def pyproject():
    return tomllib.loads((PROJECT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def locked():
    lines = re.findall(r"^([a-z0-9].*?) *\\?$", (PROJECT / "requirements.lock").read_text(), re.MULTILINE)
    return [Requirement(line) for line in lines]


def test_conda_says_the_same_pins_as_the_lock(locked):
    conda = yaml.safe_load((PROJECT / "conda.yaml").read_text())
    python, pip, packages = conda["dependencies"]
    assert (python, pip) == ("python=3.11", "pip")
    assert [Requirement(line) for line in packages["pip"]] == locked


def test_the_lock_pins_and_hashes_everything_that_is_declared(pyproject, locked):
    project = pyproject["project"]
    declared = [Requirement(text) for text in project["dependencies"] + project["optional-dependencies"]["dev"]]
    pins = {(pin.name.lower(), str(pin.specifier)) for pin in locked}
    for requirement in declared:
        versions = [version for name, version in pins if name == requirement.name.lower()]
        assert versions, f"{requirement} is not in the lock; run `make lock`"
        assert all(requirement.specifier.contains(version.removeprefix("==")) for version in versions)
    entries = (PROJECT / "requirements.lock").read_text().split("\n    # via")
    assert all("--hash=sha256:" in entry for entry in entries if "==" in entry)


def test_the_extra_for_gpus_is_the_same_tensorflow(pyproject):
    [plain] = [text for text in pyproject["project"]["dependencies"] if text.startswith("tensorflow==")]
    assert pyproject["project"]["optional-dependencies"]["cuda"] == [plain.replace("==", "[and-cuda]==")]


def test_the_two_onnxruntimes_never_meet(locked):
    for platform, machine in (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"), ("win32", "AMD64")):
        environment = {"sys_platform": platform, "platform_machine": machine, "python_full_version": "3.11.9"}
        chosen = [
            pin.name
            for pin in locked
            if pin.name.startswith("onnxruntime") and (pin.marker is None or pin.marker.evaluate(environment))
        ]
        assert chosen == (["onnxruntime-gpu"] if (platform, machine) == ("linux", "x86_64") else ["onnxruntime"])


def test_nothing_in_the_lock_names_a_package_index():
    for name in ("requirements.lock", "conda.yaml"):
        assert "://" not in (PROJECT / name).read_text()


def test_entry_points_are_the_verbs():
    entry_points = yaml.safe_load((PROJECT / "MLproject").read_text())["entry_points"]
    assert sorted(entry_points) == sorted(VERBS)
    for verb, entry_point in entry_points.items():
        command = entry_point["command"]
        assert command.startswith(f"python -m pipelines {verb} ")
        assert set(re.findall(r"{(\w+)}", command)) == set(entry_point["parameters"])
        for parameter in entry_point["parameters"].values():
            assert parameter["type"] in {"string", "path", "float", "uri"}


def test_the_command_line_has_exactly_the_verbs():
    from typer.main import get_group

    from pipelines.cli.main import app

    assert sorted(get_group(app).commands) == sorted(VERBS + LOCAL)


def test_help_answers_at_once():
    """The limit is 0.5 s of wall time; processor time is what a busy machine can't stretch."""
    code = "import resource, subprocess, sys; subprocess.run([sys.executable, '-m', 'pipelines', '--help'], check=True)"
    code += "; used = resource.getrusage(resource.RUSAGE_CHILDREN); print(used.ru_utime + used.ru_stime)"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    for verb in VERBS:
        assert verb in done.stdout
    assert float(done.stdout.split()[-1]) < 0.5


def test_the_version_is_the_changelog_s_newest(pyproject):
    newest = re.search(r"^## \[(\d+\.\d+\.\d+)\]", (PROJECT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest
    assert pyproject["project"]["version"] == newest[1]


def test_ray_reads_the_cluster_file():
    jsonschema = pytest.importorskip("jsonschema", reason="Ray brings it")
    schema = json.loads((Path(ray.__file__).parent / "autoscaler/ray-schema.json").read_text())
    cluster = yaml.safe_load((PROJECT / "infra/ray-cluster.yaml").read_text())
    jsonschema.validate(cluster, schema)
    assert cluster["available_node_types"]["gpu_worker"]["resources"]["GPU"] == 1


def test_scripts_can_be_run():
    for name in ("infra/check", "infra/lock", ".ci/run"):
        assert (PROJECT / name).stat().st_mode & 0o111
