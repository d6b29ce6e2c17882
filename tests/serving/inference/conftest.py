"""Fixtures for tests of inference on scenes."""

import pytest

from tests.fixtures.scenes import noise, write_rgb


@pytest.fixture
def scene(tmp_path):
    """Return the file of a scene of 150x200 pixels."""
    return write_rgb(tmp_path / "scene.tif", noise(3, 150, 200))
