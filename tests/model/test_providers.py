"""Available providers are listed, the one that runs is reported, and unusable plug-ins are logged."""

import ctypes
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from model.errors import BundleError, ConfigError
from model.hardware import has_int8_dot_products
from model.providers import CPU, CUDA, OPENVINO, PLUGIN, available, open_session, running
from model.spec import NetworkConfig, signature
from tests.fixtures.project import PROJECT

MAPPED = Path("/proc/self/maps")

TENSORS = signature(NetworkConfig(image_size=32, width=2, depth=3))


@pytest.fixture
def negative(tmp_path, onnx_model):
    """Return the file of a model that draws the negative."""
    file = tmp_path / "negative.onnx"
    file.write_bytes(onnx_model(TENSORS))
    return file


def draw(session):
    """Draw two photos and return the largest difference from their negatives."""
    photos = np.random.default_rng(4).uniform(-1, 1, (2, 32, 32, 3)).astype(np.float32)
    (drawn,) = session.run([TENSORS.output], {TENSORS.input: photos})
    return np.abs(drawn + photos).max()


def run(program, **environment):
    """Run a program in a new process; return its lines on stdout, and the lines that this project logs on stderr."""
    done = subprocess.run(
        [sys.executable, "-c", "from model.providers import *\n" + program],
        cwd=PROJECT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    own = [line for line in done.stderr.splitlines() if "onnxruntime:" not in line and line.strip("\x1b[m")]
    return done.stdout.splitlines(), own


def has_driver():
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def test_the_cpu_is_always_available_and_comes_last():
    assert available()[-1] == CPU and set(available()) <= {CUDA, OPENVINO, CPU}


def test_available_providers_run_models(negative):
    for provider in available():
        session = open_session(negative, provider, threads=1)
        assert draw(session) < 1e-6 and running(session) == provider


def test_the_number_of_threads_can_be_set(negative):
    assert open_session(negative, CPU, threads=3).get_session_options().intra_op_num_threads == 3
    assert open_session(negative, CPU).get_session_options().intra_op_num_threads == len(os.sched_getaffinity(0))


def test_an_unavailable_provider_is_refused_with_the_available_ones(negative):
    with pytest.raises(ConfigError) as stopped:
        open_session(negative, "TensorrtExecutionProvider")
    assert str(stopped.value) == f"TensorrtExecutionProvider can't run here; use one of: {', '.join(available())}."


@pytest.mark.parametrize("content", [b"", b"no model", None])
def test_a_model_that_can_not_be_loaded_is_reported_in_one_line(tmp_path, negative, content):
    file = tmp_path / "broken.onnx"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(BundleError, match=r"^onnxruntime can't load .*broken\.onnx: ") as stopped:
        open_session(file, CPU)
    assert "\n" not in str(stopped.value)


def test_a_serialised_model_runs_like_its_file(negative):
    assert draw(open_session(negative.read_bytes(), threads=1)) < 1e-6
    with pytest.raises(BundleError, match=r"^onnxruntime can't load the model: "):
        open_session(b"no model")


# CUDA


@pytest.mark.skipif(has_driver(), reason="this machine has a driver")
def test_without_a_driver_there_is_no_cuda():
    assert CUDA not in available()


@pytest.mark.skipif(
    has_driver() or CUDA not in onnxruntime.get_available_providers() or find_spec("nvidia") is not None,
    reason="needs a machine where CUDA can't be loaded, and an onnxruntime that would",
)
def test_cuda_without_its_libraries_falls_back_to_the_cpu_with_a_warning(tmp_path, negative):
    some_library = next(line.split()[-1] for line in MAPPED.read_text().splitlines() if "/libc.so" in line)
    (tmp_path / "libcuda.so.1").symlink_to(some_library)
    program = f"""
print(available()[0])
session = open_session(Path({str(negative)!r}), CUDA)
print(running(session))
"""
    shown, warnings = run(program, LD_LIBRARY_PATH=str(tmp_path))
    assert shown == [CUDA, CPU]
    assert warnings[-1] == f"{CUDA} does not take negative.onnx here; {CPU} runs it."


# OpenVINO


@pytest.fixture
def plugin(tmp_path):
    """Return a function that makes a package with the plug-in's name, and returns the environment to import it."""

    def make(body):
        folder = tmp_path / "packages" / PLUGIN
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(body)
        return {"PYTHONPATH": str(folder.parent)}

    return make


TWICE = "print(OPENVINO in available(), OPENVINO in available())"


needs_int8 = pytest.mark.skipif(not has_int8_dot_products(), reason="the plug-in is not loaded on this processor")


@needs_int8
def test_a_plugin_with_a_broken_library_is_logged_once(tmp_path, plugin):
    (tmp_path / "library.so").write_text("not a library")
    where = plugin(f"def get_library_path(): return {str(tmp_path / 'library.so')!r}")
    shown, warnings = run(TWICE, **where)
    assert shown == ["False False"] and len(warnings) == 1
    assert warnings[0].startswith(f"{PLUGIN} is installed but can't be loaded, so OpenVINO is not used: ")
    assert "library.so" in warnings[0]


@needs_int8
def test_a_plugin_that_can_not_be_imported_is_logged_once(plugin):
    shown, warnings = run(TWICE, **plugin("raise ImportError('libtbb is missing')"))
    assert shown == ["False False"]
    assert warnings == [f"{PLUGIN} is installed but can't be loaded, so OpenVINO is not used: libtbb is missing"]


needs_plugin = pytest.mark.skipif(find_spec(PLUGIN) is None, reason=f"{PLUGIN} is not installed")


@needs_plugin
def test_the_plugin_serves_this_processor_or_logs_that_it_does_not():
    logging_all = "import logging\nlogging.basicConfig(level=logging.INFO, format='%(message)s')\n"
    [shown], warnings = run(logging_all + TWICE)
    if shown == "True True":
        assert warnings == []
    else:
        reason = "does not serve this processor" if has_int8_dot_products() else "this processor has no VNNI"
        assert shown == "False False"
        assert warnings == [f"{PLUGIN} is installed but {reason}, so OpenVINO is not used."]


@needs_plugin
def test_threads_that_ask_at_the_same_time_get_the_same_answer():
    program = """
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
start = Barrier(8)
with ThreadPoolExecutor(8) as pool:
    answers = list(pool.map(lambda _: start.wait() >= 0 and available(), range(8)))
print(len(set(answers)))
"""
    shown, warnings = run(program)
    assert shown == ["1"]
    assert [line for line in warnings if "can't be loaded" in line] == [] and len(warnings) <= 1


@pytest.mark.skipif(OPENVINO not in available(), reason="OpenVINO can't run here")
def test_several_sessions_of_openvino_can_be_open(negative):
    sessions = [open_session(negative, OPENVINO, threads=threads) for threads in (1, 2)]
    assert [running(session) for session in sessions] == [OPENVINO] * 2
    assert max(draw(session) for session in sessions) < 1e-6


@pytest.mark.parametrize(("info", "expected"), [("avx512_vnni", True), ("avx2", False)])
def test_built_in_openvino_comes_first_on_processors_with_int8(tmp_path, info, expected):
    (tmp_path / "cpuinfo").write_text(f"flags\t\t: {info}\n")
    program = f"""
onnxruntime.get_available_providers = lambda: [OPENVINO, CPU]
find_spec = lambda _: None
has_int8_dot_products.__defaults__ = (Path({str(tmp_path / "cpuinfo")!r}),)
print(*available())
"""
    shown, warnings = run("import model.providers as here\n" + program.replace("find_spec", "here.find_spec"))
    assert shown == [f"{OPENVINO} {CPU}" if expected else CPU] and warnings == []
