"""The class of every pixel: the nearest colour's, without the strips that blurred borders make."""

import numpy as np
import pytest
import rasterio

from model.palette import classify
from model.spec import Palette
from serving.geo.geotiff import gdal, open_geotiff
from serving.vectors.classes import BLOCK, BLUR, NOTHING, drop_blends, drop_specks, read_classes

PALETTE = Palette(
    classes={
        "road": ("#ffffff", "#ffaa33"),
        "water": ("#aad3ff",),
        "park": ("#c8dfab",),
        "building": ("#d9d0c9",),
        "ground": ("#f2efe9",),
    }
)
ROAD, WATER, PARK, BUILDING, GROUND = range(1, 6)


@pytest.fixture
def read(tmp_path):
    """Return a function that reads the classes of colours, uint8 (H, W, 3 or 4), by way of a file."""

    def by_file(colours, **changes):
        height, width, count = colours.shape
        profile = {"driver": "GTiff", "height": height, "width": width, "count": count, "dtype": "uint8"}
        file = tmp_path / "map.tif"
        with gdal():
            with rasterio.open(file, "w", **profile, photometric="RGB", **changes) as dataset:
                dataset.write(np.moveaxis(colours, -1, 0))
            with open_geotiff(file) as dataset:
                return read_classes(dataset, file, PALETTE)

    return by_file


def noise(*size):
    return np.random.default_rng(3).integers(0, 256, size, dtype=np.uint8)


def test_colours_are_told_as_the_scores_of_maps_tell_them(read):
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


def strip(before, inside, after, *, width, turned=False):
    """Return what becomes of a strip between two areas, as the pixels across it."""
    across = np.repeat(np.array([before, inside, after], np.uint8), [10, width, 10])
    codes = np.repeat(across[None], 8, axis=0)
    codes = np.ascontiguousarray(codes.T) if turned else codes
    drop_blends(codes, PALETTE)
    rows = codes.T if turned else codes
    assert (rows == rows[0]).all()
    return rows[0].tolist()


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("width", range(1, BLUR + 1))
def test_what_looks_like_a_house_between_park_and_ground_is_the_middle_of_a_border(width, turned):
    upper = 10 + (width + 1) // 2
    expected = [PARK] * upper + [GROUND] * (20 + width - upper)
    assert strip(PARK, BUILDING, GROUND, width=width, turned=turned) == expected


@pytest.mark.parametrize(
    ("before", "inside", "after", "width"),
    [
        (PARK, BUILDING, GROUND, BLUR + 1),  # Wide enough to be a house.
        (GROUND, ROAD, GROUND, 2),  # A lane.
        (PARK, ROAD, GROUND, 3),  # White is no blend of green and beige.
        (PARK, WATER, GROUND, 3),
        (ROAD, GROUND, BUILDING, 2),  # A house near a road.
        (NOTHING, BUILDING, GROUND, 2),
        (PARK, NOTHING, GROUND, 2),
    ],
)
def test_other_strips_stay(before, inside, after, width):
    assert strip(before, inside, after, width=width) == [before] * 10 + [inside] * width + [after] * 10


def test_strips_are_shared_out_alike_wherever_windows_end():
    codes = np.full((3, 2 * BLOCK + 9), GROUND, np.uint8)
    for left in (100, BLOCK - 2, 2 * BLOCK - 1):
        codes[:, left : left + 3] = BUILDING
        codes[:, left + 3 : left + 30] = PARK
    drop_blends(codes, PALETTE)
    assert BUILDING not in codes[:, : 2 * BLOCK]


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 2), (3, 40)])
def test_small_maps_are_no_exception(size):
    codes = np.full(size, PARK, np.uint8)
    drop_blends(codes, PALETTE)
    drop_specks(codes, 25)
    assert (codes == PARK).all()


def test_specks_go_to_the_largest_area_beside_them():
    codes = np.full((30, 40), GROUND, np.uint8)
    codes[:, 30:] = PARK
    codes[10:14, 26:30] = BUILDING
    codes[2:7, 2:7] = ROAD
    drop_specks(codes, 17)
    assert (codes[10:14, 26:30] == GROUND).all() and (codes == ROAD).sum() == 25
