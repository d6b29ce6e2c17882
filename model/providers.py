"""The execution providers of onnxruntime on this machine, and sessions that run on one of them.

These are the CPU, CUDA if there is a driver, and OpenVINO if its plug-in is installed or onnxruntime was built with it,
as the package onnxruntime-openvino is.
"""

import ctypes
import json
import logging
from collections import Counter
from functools import cache
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any, TypeAlias

import onnxruntime

from model.errors import BundleError, ConfigError
from model.hardware import has_int8_dot_products, usable_cores

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
OPENVINO = "OpenVINOExecutionProvider"
PLUGIN = "onnxruntime_ep_openvino"
"""The Python package that contains OpenVINO and its plug-in."""

Session: TypeAlias = onnxruntime.InferenceSession


_log = logging.getLogger(__name__)
_registration = Lock()


def available() -> tuple[str, ...]:
    """Return the execution providers that can run here, the fastest first and the CPU last.

    A plug-in that is installed but can't be used is logged once in each process: as a warning if it is broken or the
    processor has no VNNI, as information if it was made for other processors.
    """
    cuda = [CUDA] if _has_cuda() else []
    openvino = [OPENVINO] if _has_openvino() else []
    return (*cuda, *openvino, CPU)


def versions() -> dict[str, str]:
    """Return the version of onnxruntime, whichever package installed it, and that of the plug-in, by name."""
    plugin = {PLUGIN: metadata.version(PLUGIN)} if find_spec(PLUGIN) else {}
    return {"onnxruntime": onnxruntime.__version__} | plugin


def open_session(model: Path | bytes, provider: str = CPU, *, threads: int | None = None) -> Session:
    """Load a model; the CPU runs the operators that the provider can't, with a warning if it runs most of them.

    Args:
        model: An ONNX file, or a serialised model.
        provider: One of `available()`.
        threads: CPU threads of one `run`; by default one for each CPU that this process may use.

    Raises:
        ConfigError: The provider can't run here.
        BundleError: onnxruntime can't load the model.
    """
    # The CPU is always available; looking for the others would load their libraries.
    if provider != CPU and provider not in available():
        raise ConfigError(f"{provider} can't run here; use one of: {', '.join(available())}.")
    threads = threads or usable_cores()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Otherwise threads without work spin on the cores that decode the next image.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    names: Any = {CPU: [CPU], CUDA: [CUDA, CPU], OPENVINO: None}[provider]
    if provider == OPENVINO and _is_built_in():
        names = [(OPENVINO, {"device_type": "CPU"} | _openvino_settings(threads))]
    elif provider == OPENVINO:
        options.add_provider_for_devices([_openvino_cpu()], _openvino_settings(threads))
    try:
        # onnxruntime's own fallback prints on stdout, where results belong.
        session = onnxruntime.InferenceSession(model, options, providers=names, enable_fallback=0)
    except Exception as error:
        name = model if isinstance(model, Path) else "the model"
        raise BundleError(f"onnxruntime can't load {name}: {_one_line(error)}") from error
    if (used := running(session)) != provider:
        name = model.name if isinstance(model, Path) else "the model"
        _log.warning("%s does not take %s here; %s runs it.", provider, name, used)
    return session


def running(session: Session) -> str:
    """Return the provider that runs most operators of a session from `open_session`.

    The session's `get_providers()` lists the providers that were requested and loaded, even if they are idle.
    """
    counts = Counter({CPU: 0})
    for part in session.get_provider_graph_assignment_info():
        counts[part.ep_name] += len(part.get_nodes())
    return str(counts.most_common(1)[0][0])


def _has_cuda() -> bool:
    """Check for a driver: onnxruntime lists the providers it was built with, loadable or not."""
    if CUDA not in onnxruntime.get_available_providers():
        return False
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def _has_openvino() -> bool:
    """Check that OpenVINO is available and faster on this processor."""
    return has_int8_dot_products() if _is_built_in() else _openvino_cpu() is not None


def _is_built_in() -> bool:
    """Check whether onnxruntime was built with OpenVINO; a plug-in comes first, as two can't share a process."""
    return OPENVINO in onnxruntime.get_available_providers() and find_spec(PLUGIN) is None


def _openvino_cpu() -> Any:  # noqa: ANN401 - onnxruntime has no types
    """Return OpenVINO's CPU device, or None."""
    with _registration:  # onnxruntime refuses to register a plug-in twice.
        return _register_openvino()


@cache
def _register_openvino() -> Any:  # noqa: ANN401 - onnxruntime has no types
    """Register the plug-in and return its CPU device: the plug-in knows which processors it serves."""
    if find_spec(PLUGIN) is None:
        return None
    if not has_int8_dot_products():
        _log.warning("%s is installed but this processor has no VNNI, so OpenVINO is not used.", PLUGIN)
        return None
    try:
        onnxruntime.register_execution_provider_library(OPENVINO, import_module(PLUGIN).get_library_path())
    except Exception as error:
        _log.warning("%s is installed but can't be loaded, so OpenVINO is not used: %s", PLUGIN, _one_line(error))
        return None
    for device in onnxruntime.get_ep_devices():
        if device.ep_name == OPENVINO and device.ep_metadata.get("ov_device") == "CPU":
            return device
    _log.info("%s is installed but does not serve this processor, so OpenVINO is not used.", PLUGIN)
    return None


def _openvino_settings(threads: int) -> dict[str, str]:
    """Return settings that keep the precision of the file and leave the placement of threads to the system."""
    settings = {
        # By default, OpenVINO computes float32 operators in bfloat16 on processors that have it.
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": str(threads),
        # By default, it pins threads to cores, and two processes of one thread to the same core: half the speed.
        "ENABLE_CPU_PINNING": "NO",
    }
    return {"load_config": json.dumps({"CPU": settings})}


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
