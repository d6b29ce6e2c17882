"""Fixtures for tests of georeferenced rasters."""

import pytest

from tests.fixtures.scenes import write_scene


@pytest.fixture
def make_scene(tmp_path):
    """Return a function that writes bands (n, h, w) as scene.tif, or as another file of the test's folder."""
    return lambda bands, *, name="scene.tif", **profile: write_scene(tmp_path / name, bands, **profile)
