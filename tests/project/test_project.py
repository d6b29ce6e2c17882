"""The project's files agree with each other: pins, entry points, verbs, version."""

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
LOCAL = ["bench", "settings"]  # Not a step of a run, and no entry point.


@pytest.fixture(scope="module")
def pyproject():
    return tomllib.loads((PROJECT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def locked():
    lines = re.findall(r"^([a-z0-9].*?) *\\?$", (PROJECT / "requirements.lock").read_text(), re.MULTILINE)
    return [Requirement(line) for line in lines]


def test_conda_and_the_lock_have_the_same_pins(locked):
    conda = yaml.safe_load((PROJECT / "conda.yaml").read_text())
    python, pip, packages = conda["dependencies"]
    assert (python, pip) == ("python=3.11", "pip")
    assert [Requirement(line) for line in packages["pip"]] == locked


def test_all_declared_packages_are_pinned_and_hashed(pyproject, locked):
    project = pyproject["project"]
    declared = [Requirement(text) for text in project["dependencies"] + project["optional-dependencies"]["dev"]]
    pins = {(pin.name.lower(), str(pin.specifier)) for pin in locked}
    for requirement in declared:
        versions = [version for name, version in pins if name == requirement.name.lower()]
        assert versions, f"{requirement} is not in the lock; run `make lock`"
        assert all(requirement.specifier.contains(version.removeprefix("==")) for version in versions)
    entries = (PROJECT / "requirements.lock").read_text().split("\n    # via")
    assert all("--hash=sha256:" in entry for entry in entries if "==" in entry)


def test_the_cuda_extra_has_the_same_tensorflow(pyproject):
    [plain] = [text for text in pyproject["project"]["dependencies"] if text.startswith("tensorflow==")]
    assert pyproject["project"]["optional-dependencies"]["cuda"] == [plain.replace("==", "[and-cuda]==")]


def test_every_platform_gets_one_onnxruntime(locked):
    for platform, machine in (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"), ("win32", "AMD64")):
        environment = {"sys_platform": platform, "platform_machine": machine, "python_full_version": "3.11.9"}
        chosen = [
            pin.name
            for pin in locked
            if pin.name.startswith("onnxruntime") and (pin.marker is None or pin.marker.evaluate(environment))
        ]
        assert chosen == (["onnxruntime-gpu"] if (platform, machine) == ("linux", "x86_64") else ["onnxruntime"])


def test_the_lock_names_no_package_index():
    for name in ("requirements.lock", "conda.yaml"):
        assert "://" not in (PROJECT / name).read_text()


def test_entry_points_are_the_verbs():
    entry_points = yaml.safe_load((PROJECT / "MLproject").read_text())["entry_points"]
    assert sorted(entry_points) == sorted(VERBS)
    for verb, entry_point in entry_points.items():
        command = entry_point["command"]
        assert command.startswith(f"python -m pipelines -C {{folder}} {verb} ")
        assert set(re.findall(r"{(\w+)}", command)) == set(entry_point["parameters"])
        for parameter in entry_point["parameters"].values():
            assert parameter["type"] in {"string", "path", "float", "uri"}


def test_the_command_line_has_exactly_the_verbs():
    from typer.main import get_group

    from pipelines.cli.main import app

    assert sorted(get_group(app).commands) == sorted(VERBS + LOCAL)


def test_help_is_fast():
    """Check the limit of 0.5 s against processor time, which doesn't depend on how busy the machine is."""
    code = "import resource, subprocess, sys; subprocess.run([sys.executable, '-m', 'pipelines', '--help'], check=True)"
    code += "; used = resource.getrusage(resource.RUSAGE_CHILDREN); print(used.ru_utime + used.ru_stime)"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    for verb in VERBS:
        assert verb in done.stdout
    assert float(done.stdout.split()[-1]) < 0.5


def test_the_version_is_the_newest_of_the_changelog(pyproject):
    newest = re.search(r"^## \[(\d+\.\d+\.\d+)\]", (PROJECT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest
    assert pyproject["project"]["version"] == newest[1]


def test_the_cluster_file_is_valid_for_ray():
    jsonschema = pytest.importorskip("jsonschema", reason="installed with Ray")
    schema = json.loads((Path(ray.__file__).parent / "autoscaler/ray-schema.json").read_text())
    cluster = yaml.safe_load((PROJECT / "infra/ray-cluster.yaml").read_text())
    jsonschema.validate(cluster, schema)
    assert cluster["available_node_types"]["gpu_worker"]["resources"]["GPU"] == 1


def test_scripts_are_executable():
    for name in ("infra/check", "infra/lock", ".ci/run"):
        assert (PROJECT / name).stat().st_mode & 0o111


@pytest.mark.parametrize("words", [["make"], ["make", "help"]])
def test_make_shows_every_target_with_its_description(words):
    makefile = (PROJECT / "Makefile").read_text()
    targets = re.findall(r"^([a-z]+):", makefile, re.MULTILINE)
    shown = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line.split()[:2] for line in shown] == [["make", target] for target in targets]
    assert all(len(line.split()) > 3 for line in shown)
