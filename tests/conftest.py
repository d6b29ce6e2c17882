"""The fixtures of all tests, from tests/fixtures/."""

import signal

import pytest

pytest_plugins = [
    f"tests.fixtures.{name}"
    for name in ("bundles", "flow", "mlflow_servers", "object_stores", "scored_folders", "trainings")
]


@pytest.fixture(scope="session", autouse=True)
def interruptible():
    """Let tests interrupt their processes: what a shell starts in the background ignores SIGINT, and hands that on."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
