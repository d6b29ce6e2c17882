"""The shape of the code, read from its syntax: who may import whom, where heavy libraries live."""

import ast
import json
import subprocess
import sys
from graphlib import TopologicalSorter

import pytest

from tests.fixtures.project import PROJECT
from tests.project.modules import FILES, all_imports, closure, import_time, own, package, tree

LEVELS = {
    "model": [
        {"errors", "spec", "provenance"},
        {"pixels", "hardware", "io"},
        {"palette", "networks", "providers"},
        {"bundle", "graph"},
        {"translator"},
    ],
    "serving": [
        {"encoding", "geo"},
        {"inference"},
        {"vectors"},
        {"scoring"},
    ],
    "pipelines": [
        {"metrics"},
        {"config"},
        {"run_record"},
        {"run_folder"},
        {"workspace"},
        {"data"},
        {"tracking"},
        {"report", "cluster"},
        {"training", "evaluation"},
        {"export", "registry"},
        {"start"},
        {"flow", "benchmarks"},
        {"cli"},
        {"__main__"},
    ],
}
"""Rooms of each package, the lowest level first: a room imports from lower levels, and from itself."""
USES_SERVING = {"pipelines.cluster", "pipelines.cli"}
HOMES = {
    "mlflow": {"pipelines.tracking", "pipelines.registry"},
    "ray": {"pipelines.cluster", "pipelines.training"},
    "tf2onnx": {"pipelines.export.conversion"},
    "onnxruntime": {"model.providers", "model.translator"},
    "tensorflow": {
        "model.networks",
        "pipelines.benchmarks.bare_step",
        "pipelines.export.conversion",
        "pipelines.training.loop",
        "pipelines.training.worker",
    },
    "keras": {
        "model.networks",
        "pipelines.benchmarks.bare_step",
        "pipelines.export.conversion",
        "pipelines.training.worker",
    },
    "kagglehub": {"pipelines.data.kaggle"},
    "kagglesdk": {"pipelines.data.kaggle"},
    "pyarrow": {"model.io.object_store", "pipelines.data.candidates.pair_list", "serving.scoring.manifest"},
    "imagecodecs": {"serving.encoding"},
    "pyogrio": {"serving.vectors"},
    "rasterio": {"serving.geo", "serving.vectors", "pipelines.benchmarks.inputs"},
    "shapely": {"serving.geo", "serving.vectors"},
    "jinja2": {"pipelines.report"},
    "matplotlib": {"pipelines.report"},
}
"""The rooms, or the modules, that may import a heavy library."""
LOADS_TENSORFLOW = {
    "model.networks.augmentation",
    "model.networks.convolution",
    "model.networks.keras_file",
    "model.networks.layers",
    "model.networks.losses",
    "model.networks.optimizers",
    "model.networks.pix2pix",
    "model.networks.train_step",
    "model.networks.view",
    "model.networks.winograd",
    "pipelines.benchmarks.bare_step",
    "pipelines.export.conversion",
    "pipelines.training.checkpoints.checkpoint",
    "pipelines.training.checkpoints.checkpoint_store",
    "pipelines.training.loop",
    "pipelines.training.schedule",
    "pipelines.training.worker",
}


SERVING = [module for module in FILES if package(module) == "serving"]


def room(module):
    """Return what stands below the package in a module's name: a sub-package, or a module of its own."""
    return module.split(".")[1] if "." in module else ""


def level(module):
    """Return the number of the level that a module is on."""
    rooms = LEVELS[package(module)]
    return next(number for number, names in enumerate(rooms) if room(module) in names)


def is_inside(module, homes):
    return any(module == home or module.startswith(f"{home}.") for home in homes)


# The reader itself


def test_the_modules_are_found():
    known = {"model", "model.networks.train_step", "pipelines.__main__", "serving.scoring.scorer"}
    assert len(FILES) > 100 and known <= set(FILES)


def test_imports_are_read_wherever_they_stand():
    assert "pipelines.data.kaggle" in all_imports("pipelines.data.prepare")
    kaggle = "pipelines.data.kaggle"
    assert "kagglehub" in all_imports(kaggle) and "kagglehub" not in import_time(kaggle)
    verbs = "pipelines.cli.verbs"
    assert "pydantic" in all_imports(verbs) and "pydantic" not in import_time(verbs)
    checkpoint = "pipelines.training.checkpoints.checkpoint"
    assert "tensorflow" in closure(checkpoint) and "tensorflow" not in import_time(checkpoint)


def test_every_room_has_a_level():
    rooms = {(package(module), room(module)) for module in FILES if room(module)}
    assert rooms == {(name, room) for name, levels in LEVELS.items() for names in levels for room in names}


# Directions


def test_imports_point_downwards():
    for module in filter(room, FILES):
        found = own(all_imports(module))
        assert found <= set(FILES), f"{module} imports a module that does not exist"
        inside = {name for name in found if package(name) == package(module) and room(name) != room(module)}
        assert {name for name in inside if level(name) >= level(module)} == set(), module


def test_packages_know_only_those_below():
    for module in FILES:
        found = {package(name) for name in own(all_imports(module))}
        if package(module) == "model":
            assert found <= {"model"}, module
        elif package(module) == "serving":
            assert found <= {"model", "serving"}, module
        elif not is_inside(module, USES_SERVING):
            assert "serving" not in found, module


def test_serving_knows_neither_networks_nor_graphs():
    for module in SERVING:
        assert not {name for name in all_imports(module) if is_inside(name, {"model.networks", "model.graph"})}, module


def test_networks_and_graphs_do_not_know_each_other_nor_files():
    for module in FILES:
        for one, others in (
            ("model.networks", {"model.graph", "model.io"}),
            ("model.graph", {"model.networks", "model.io"}),
        ):
            if is_inside(module, {one}):
                assert not {name for name in all_imports(module) if is_inside(name, others)}, module


def test_no_module_imports_itself_in_a_circle():
    TopologicalSorter({module: own(all_imports(module)) for module in FILES}).prepare()


@pytest.mark.parametrize("module", ["model.errors", "model.spec", "model.provenance"])
def test_leaves_import_nothing_of_the_project(module):
    assert own(all_imports(module)) == set()


# Heavy libraries


@pytest.mark.parametrize("library", HOMES)
def test_a_heavy_library_is_imported_at_home_alone(library):
    users = {module for module in FILES if library in {package(name) for name in all_imports(module)}}
    assert users and {module for module in users if not is_inside(module, HOMES[library])} == set()


def test_tensorflow_comes_with_few_modules():
    """The driver, the verbs and the service import none of them, but the checkpoint, by way of the training step."""
    loading = {module for module in FILES if {package(name) for name in closure(module)} & {"tensorflow", "keras"}}
    assert loading == LOADS_TENSORFLOW


def test_serving_knows_none_of_the_training():
    training = {"tensorflow", "keras", "ray", "mlflow", "tf2onnx", "kagglehub", "pyarrow", "typer", "yaml"}
    for module in SERVING:
        assert not {package(name) for name in closure(module)} & training, module


def test_the_engine_does_not_write_to_the_terminal():
    for module in FILES:
        if package(module) == "pipelines" or module == "model.io.progress":
            continue
        nodes = [*ast.walk(tree(module))]
        names = {ast.unparse(node) for node in nodes if isinstance(node, ast.Name | ast.Attribute)}
        assert not names & {"print", "sys.stdout", "sys.stderr"}, module
        assert "rich" not in {package(name) for name in all_imports(module)}, module
        used = [node.names for node in nodes if isinstance(node, ast.ImportFrom) and node.module == "model.io.progress"]
        assert {alias.name for names in used for alias in names} <= {"Progress", "SILENT"}, module


def modules_after(program):
    """Run a program in a process of its own and return the top-level packages that it has imported."""
    program += "\nimport json, sys\nprint('\\n' + json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True)
    *shown, last = done.stdout.splitlines()
    return set(json.loads(last)), "\n".join(shown)


HEAVY = {
    "tensorflow",
    "keras",
    "ray",
    "mlflow",
    "tf2onnx",
    "torch",
    "kagglehub",
    "pyarrow",
    "rasterio",
    "shapely",
    "pyogrio",
}


def test_importing_the_scorer_loads_nothing_of_the_training():
    loaded, _ = modules_after("import serving.scoring.scorer")
    assert {"serving", "model", "onnxruntime"} <= loaded
    assert loaded & (HEAVY | {"pipelines", "scipy", "onnx", "yaml", "typer"}) == set()


HELP = """
import runpy, sys
sys.argv = ["sat2map", *{words}]
try:
    runpy.run_module("pipelines", run_name="__main__", alter_sys=True)
except SystemExit as stop:
    assert not stop.code, stop.code
"""


@pytest.mark.parametrize("words", [["--help"], ["main", "--help"], ["score", "--help"], ["submit", "--help"]])
def test_help_loads_the_command_line_alone(words):
    loaded, shown = modules_after(HELP.format(words=words))
    assert "Usage: sat2map" in shown and {"pipelines", "typer"} <= loaded
    # Typer imports pydantic by itself as soon as it parses options.
    assert loaded & (HEAVY | {"numpy", "yaml", "PIL", "onnx", "onnxruntime", "scipy"}) == set()
    assert "pydantic" not in loaded or len(words) > 1


def test_preparing_pairs_loads_nothing_of_the_training(tmp_path):
    tiny = "network.image_size=32 network.depth=3 data.sample.train=3 data.sample.val=3"
    loaded, shown = modules_after(HELP.format(words=["-C", str(tmp_path), "prepare", "--set", tiny]))
    assert "3 training pairs" in shown
    assert loaded & {"tensorflow", "keras", "ray", "mlflow", "onnx", "onnxruntime", "matplotlib", "pandas"} == set()


def test_a_wrong_setting_is_refused_before_anything_heavy_is_loaded():
    program = HELP.format(words=["train", "--set", "sed=3"]).replace("not stop.code", "stop.code == 2")
    loaded, _ = modules_after(program)
    assert "pydantic" in loaded and not loaded & (HEAVY | {"numpy", "PIL", "onnxruntime"})
