"""The shape of the code, read from its syntax: who may import whom, and how long things may be."""

import ast
import json
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter

import pytest

from tests.fixtures.project import PROJECT

PACKAGES = ("model", "pipelines", "serving")
FILES = {
    ".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in PACKAGES
    for path in sorted((PROJECT / package).rglob("*.py"))
}

HOMES = {
    "mlflow": {
        "pipelines.registry.artifacts",
        "pipelines.tracking.mlflow_runs",
        "pipelines.registry.versions",
        "pipelines.registry.promotion_lock",
    },
    "ray": {
        "pipelines.cluster.resources",
        "pipelines.cluster.distributed_scoring",
        "pipelines.cluster.scoring_actor",
        "pipelines.cluster.jobs",
        "pipelines.training.train",
        "pipelines.training.worker",
        "pipelines.training.channel",
        "pipelines.training.tune",
        "pipelines.training.trial",
    },
    "tf2onnx": {"pipelines.export.conversion"},
    "onnxruntime": {
        "model.graph.calibration",
        "model.providers",
        "model.translator",
        "pipelines.metrics.pretrained.onnx_layers",
    },
    "tensorflow": {
        "model.networks.optimizers",
        "model.networks.convolution",
        "model.networks.layers",
        "model.networks.losses",
        "model.networks.winograd",
        "model.networks.pix2pix",
        "model.networks.train_step",
        "pipelines.benchmarks.bare_step",
        "pipelines.training.worker",
        "pipelines.training.loop",
        "pipelines.export.conversion",
    },
    "keras": {
        "model.networks.optimizers",
        "model.networks.layers",
        "model.networks.losses",
        "model.networks.pix2pix",
        "model.networks.train_step",
        "pipelines.benchmarks.bare_step",
        "pipelines.export.conversion",
        "pipelines.training.worker",
    },
    "kagglehub": {"pipelines.data.kaggle"},
    "kagglesdk": {"pipelines.data.kaggle"},
    "pyarrow": {"model.io.locations", "model.place_writing", "serving.scoring.manifest"},
    "imagecodecs": {"serving.encoding"},
    "pyogrio": {"serving.vectors.vector_layer"},
    "rasterio": {
        "pipelines.benchmarks.inference_bench",
        "serving.geo.bands",
        "serving.vectors.polygons",
        "serving.vectors.classes",
        "serving.geo.geotiff",
        "serving.geo.footprint",
        "serving.geo.imagery",
        "serving.vectors.vector_layer",
    },
    "shapely": {"serving.vectors.polygons", "serving.vectors.vector_layer"},
    "jinja2": {"pipelines.report.page"},
    "matplotlib": {"pipelines.report.pictures"},
}
LOADS_TENSORFLOW = HOMES["tensorflow"] | {"pipelines.training.checkpoint", "pipelines.training.checkpoint_store"}
VAGUE = {"utils", "util", "helpers", "helper", "common", "misc", "base", "manager", "tools", "shared", "core"}
MAX_FILE, MAX_FUNCTION = 350, 60


@cache
def tree(module):
    return ast.parse(FILES[module].read_text(encoding="utf-8"))


def imports(nodes, module):
    """Return the modules that import statements name; `from model.networks import losses` names the module."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} imports relatively in line {node.lineno}"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in FILES else node.module for name in names}
    return found


def all_imports(module):
    """Return every import of a module, those inside functions too."""
    return imports(ast.walk(tree(module)), module)


def import_time(module):
    """Return what is imported as soon as the module is: neither inside functions nor for type checkers alone."""

    def reached(nodes):
        for node in nodes:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                continue
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                continue
            yield node
            yield from reached(ast.iter_child_nodes(node))

    return imports(reached(tree(module).body), module)


def package(name):
    return name.partition(".")[0]


def own(names):
    return {name for name in names if package(name) in PACKAGES}


def closure(module):
    """Return all that is imported with a module, by way of this project's own modules."""
    found, waiting = set(), {module}
    while waiting:
        names = import_time(waiting.pop())
        waiting |= own(names) - found
        found |= names
    return found


# The reader itself


def test_the_modules_are_found():
    known = {"model", "model.networks.train_step", "pipelines.__main__", "serving.scoring.scorer"}
    assert len(FILES) > 40 and known <= set(FILES)


def test_imports_are_read_wherever_they_stand():
    assert "pipelines.data.kaggle" in all_imports("pipelines.data.prepare")
    assert "kagglehub" in all_imports("pipelines.data.kaggle") and "kagglehub" not in import_time(
        "pipelines.data.kaggle"
    )
    assert "pydantic" in all_imports("pipelines.cli.options") and "pydantic" not in import_time("pipelines.cli.options")
    assert "tensorflow" in closure("pipelines.training.checkpoint") and "tensorflow" not in import_time(
        "pipelines.training.checkpoint"
    )


# Directions


@pytest.mark.parametrize("module", FILES)
def test_imports_point_downwards(module):
    found = own(all_imports(module))
    assert found <= set(FILES), "a module that does not exist"
    if package(module) == "model":
        assert {package(name) for name in found} <= {"model"}
    elif package(module) == "serving":
        assert {package(name) for name in found} <= {"model", "serving"}
    else:
        users = {"pipelines.cluster.distributed_scoring", "pipelines.cluster.scoring_actor", "pipelines.scene_score"}
        users |= {"pipelines.cli.score_options", "pipelines.cli.score_command"}
        assert module in users or not {name for name in found if package(name) == "serving"}


def test_no_module_imports_itself_in_a_circle():
    TopologicalSorter({module: own(all_imports(module)) for module in FILES}).prepare()


def test_nobody_imports_a_command_line():
    assert not any(name.endswith("__main__") for module in FILES for name in all_imports(module))


def test_the_flow_is_used_by_the_command_line_alone():
    users = {module for module in FILES if "pipelines.flow" in all_imports(module)}
    assert users == {"pipelines.__main__", "pipelines.cli.summary"}


@pytest.mark.parametrize("module", ["model.errors", "model.pixels", "model.spec"])
def test_leaves_import_nothing_of_the_project(module):
    assert own(all_imports(module)) == set()


# Heavy libraries


@pytest.mark.parametrize("library", HOMES)
def test_a_heavy_library_is_imported_at_home_alone(library):
    users = {module for module in FILES if library in {package(name) for name in all_imports(module)}}
    assert users and users <= HOMES[library]


def test_tensorflow_comes_with_few_modules():
    """The driver, the verbs and the service import none of them, but the checkpoint, by way of the training step."""
    loading = {module for module in FILES if {package(name) for name in closure(module)} & {"tensorflow", "keras"}}
    assert loading == LOADS_TENSORFLOW


@pytest.mark.parametrize("module", [module for module in FILES if package(module) == "serving"])
def test_the_service_knows_none_of_the_training(module):
    libraries = {package(name) for name in closure(module)}
    assert not libraries & {"tensorflow", "keras", "ray", "mlflow", "tf2onnx", "kagglehub", "pyarrow", "typer", "yaml"}


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


def test_a_wrong_setting_is_told_before_anything_heavy_is_loaded():
    program = HELP.format(words=["train", "--set", "sed=3"]).replace("not stop.code", "stop.code == 2")
    loaded, _ = modules_after(program)
    assert "pydantic" in loaded and not loaded & (HEAVY | {"numpy", "PIL", "onnxruntime"})


# Names and lengths


def test_module_names_are_unique_across_the_packages():
    modules = [module for module, path in FILES.items() if path.name not in ("__init__.py", "__main__.py")]
    names = [module.rpartition(".")[2] for module in modules]
    assert sorted(names) == sorted(set(names))


def test_no_name_is_vague():
    words = {module: set(module.rpartition(".")[2].split("_")) for module in FILES}
    assert not {module for module, parts in words.items() if parts & VAGUE}


@pytest.mark.parametrize("module", FILES)
def test_a_file_can_be_read_at_a_sitting(module):
    assert len(FILES[module].read_text(encoding="utf-8").splitlines()) <= MAX_FILE


@pytest.mark.parametrize("module", FILES)
def test_a_function_fits_on_a_screen(module):
    lengths = {
        node.name: node.end_lineno - node.lineno + 1
        for node in ast.walk(tree(module))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: length for name, length in lengths.items() if length > MAX_FUNCTION} == {}


@pytest.mark.parametrize("module", FILES)
def test_nothing_is_caught_unnamed(module):
    assert not [
        node.lineno for node in ast.walk(tree(module)) if isinstance(node, ast.ExceptHandler) and node.type is None
    ]


def test_the_scale_of_pixels_stands_in_one_place():
    numbers = {
        module
        for module in FILES
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Constant) and node.value == 127.5
    }
    assert numbers == {"model.pixels"}
