"""Fixtures for tests of polygons."""

import pytest

from tests.fixtures.painted_maps import paint_map


@pytest.fixture
def paint(tmp_path):
    """Return a function that paints map.tif in the test's folder; see `paint_map`."""
    return lambda classes, **options: paint_map(tmp_path / "map.tif", classes, **options)
