"""Fixtures for all tests, from tests/fixtures/."""

import signal

# Before TensorFlow: it exports the functions of a SQLite without spatial indexes. Loaded later, these would use them
# instead of their own, and crash. No command draws polygons in a process with TensorFlow.
import sqlite3  # noqa: F401

import pyogrio  # noqa: F401
import pytest
import rasterio  # noqa: F401

from pipelines.config import telemetry

# Before onnxruntime is imported.
telemetry.switch_off()

pytest_plugins = [
    f"tests.fixtures.{name}"
    for name in (
        "bundles",
        "command_line",
        "flow",
        "mlflow_servers",
        "object_stores",
        "painted_scenes",
        "scored_folders",
        "surveys",
        "trainings",
    )
]


@pytest.fixture(scope="session", autouse=True)
def interruptible():
    """Restore the handler of SIGINT, which background processes of a shell ignore and their children inherit."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
