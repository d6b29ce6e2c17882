"""The class of every pixel: that of the nearest colour, without the strips made by blurred borders."""

import numpy as np
import pytest
import rasterio

from model.palette import classify
from serving.geo.gdal import gdal
from serving.geo.raster import open_raster
from serving.vectors.classes import BLOCK, BLUR, NOTHING, read_classes, remove_blur, remove_small_areas
from tests.fixtures.painted_maps import PALETTE

ROAD, WATER, PARK, BUILDING, GROUND = range(1, 6)


@pytest.fixture
def read(tmp_path):
    """Return a function that writes colours, uint8 (H, W, 3 or 4), to a file and reads their classes."""

    def write_and_read(colours, **changes):
        height, width, count = colours.shape
        profile = {"driver": "GTiff", "height": height, "width": width, "count": count, "dtype": "uint8"}
        file = tmp_path / "map.tif"
        with gdal():
            with rasterio.open(file, "w", **profile, photometric="RGB", **changes) as dataset:
                dataset.write(np.moveaxis(colours, -1, 0))
            with open_raster(file) as dataset:
                return read_classes(dataset, file, PALETTE)

    return write_and_read


def noise(*size):
    return np.random.default_rng(3).integers(0, 256, size, dtype=np.uint8)


def test_colours_have_the_same_classes_as_in_the_scores(read):
    colours = noise(70, BLOCK + 50, 3)
    codes = read(colours)
    assert NOTHING not in codes and np.array_equal(codes - 1, classify(colours[None], PALETTE)[0])


def test_transparent_pixels_and_nodata_have_no_class(read):
    colours = noise(40, 50, 4)
    colours[..., 3] = np.where(np.arange(50) < 20, 0, 255)
    assert np.array_equal(read(colours, alpha="YES") == NOTHING, np.broadcast_to(np.arange(50) < 20, (40, 50)))
    empty = np.full((40, 50, 3), 200, np.uint8)
    empty[:10] = 0
    assert np.array_equal((read(empty, nodata=0) == NOTHING).all(axis=1), np.arange(40) < 10)


def classes_across(before, inside, after, *, width, transposed=False):
    """Return the classes across a strip between two areas once its blur is removed."""
    across = np.repeat(np.array([before, inside, after], np.uint8), [10, width, 10])
    codes = np.repeat(across[None], 8, axis=0)
    codes = np.ascontiguousarray(codes.T) if transposed else codes
    remove_blur(codes, PALETTE)
    rows = codes.T if transposed else codes
    assert (rows == rows[0]).all()
    return rows[0].tolist()


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("width", range(1, BLUR + 1))
def test_a_blend_of_park_and_ground_is_divided_between_them(width, transposed):
    upper = 10 + (width + 1) // 2
    expected = [PARK] * upper + [GROUND] * (20 + width - upper)
    assert classes_across(PARK, BUILDING, GROUND, width=width, transposed=transposed) == expected


@pytest.mark.parametrize(
    ("before", "inside", "after", "width"),
    [
        (PARK, BUILDING, GROUND, BLUR + 1),  # Wide enough to be a house.
        (GROUND, ROAD, GROUND, 2),  # A lane.
        (PARK, ROAD, GROUND, 3),  # White is no blend of green and beige.
        (PARK, WATER, GROUND, 3),
        (ROAD, GROUND, BUILDING, 2),  # A house close to a road.
        (NOTHING, BUILDING, GROUND, 2),
        (PARK, NOTHING, GROUND, 2),
    ],
)
def test_other_strips_are_kept(before, inside, after, width):
    assert classes_across(before, inside, after, width=width) == [before] * 10 + [inside] * width + [after] * 10


def test_strips_are_divided_across_window_edges_too():
    codes = np.full((3, 2 * BLOCK + 9), GROUND, np.uint8)
    for left in (100, BLOCK - 2, 2 * BLOCK - 1):
        codes[:, left : left + 3] = BUILDING
        codes[:, left + 3 : left + 30] = PARK
    remove_blur(codes, PALETTE)
    assert BUILDING not in codes[:, : 2 * BLOCK]


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 2), (3, 40)])
def test_the_smallest_maps_are_handled(size):
    codes = np.full(size, PARK, np.uint8)
    remove_blur(codes, PALETTE)
    remove_small_areas(codes, 25)
    assert (codes == PARK).all()


def test_small_areas_are_merged_into_their_largest_neighbour():
    codes = np.full((30, 40), GROUND, np.uint8)
    codes[:, 30:] = PARK
    codes[10:14, 26:30] = BUILDING
    codes[2:7, 2:7] = ROAD
    remove_small_areas(codes, 17)
    assert (codes[10:14, 26:30] == GROUND).all() and (codes == ROAD).sum() == 25
