"""Traced borders: polygons are valid and share their borders with their neighbours, also across windows."""

import numpy as np
import pytest
import shapely
from scipy.ndimage import gaussian_filter

from serving.vectors.polygons import dissolve, touches_edge, trace

OUTSIDE = 255


def blobs(seed, *, classes=4, size=(60, 70), sigma=1.0):
    """Return areas of random shapes, or of single pixels if sigma is 0."""
    noise = np.random.default_rng(seed).normal(size=(classes, *size))
    return (np.stack([gaussian_filter(layer, sigma) for layer in noise]).argmax(axis=0) + 1).astype(np.uint8)


def trace_all(codes, *, side, tolerance):
    """Trace a raster in windows of `side` pixels; return all polygons, their classes, and which were cut."""
    margin = np.pad(codes, 1, constant_values=OUTSIDE)
    pieces, classes, cut = [], [], []
    for top in range(0, codes.shape[0], side):
        for left in range(0, codes.shape[1], side):
            bottom, right = min(top + side, codes.shape[0]), min(left + side, codes.shape[1])
            found, own = trace(margin[top : bottom + 2, left : right + 2], top=top, left=left, tolerance=tolerance)
            pieces.append(found)
            classes.append(own)
            cut.append(touches_edge(found, (left, top, right, bottom)))
    return np.concatenate(pieces), np.concatenate(classes), np.concatenate(cut)


def trace_one(codes, tolerance=1.5):
    return trace_all(np.array(codes, np.uint8), side=1000, tolerance=tolerance)


@pytest.mark.parametrize("side", [1000, 32])
@pytest.mark.parametrize("tolerance", [0, 1.5, 4])
@pytest.mark.parametrize(("seed", "classes", "sigma"), [(0, 2, 0), (1, 4, 0), (2, 4, 0.8), (3, 3, 2), (4, 2, 4)])
def test_polygons_are_valid_and_share_their_borders(seed, classes, sigma, tolerance, side):
    codes = blobs(seed, classes=classes, sigma=sigma)
    pieces, own, cut = trace_all(codes, side=side, tolerance=tolerance)
    assert shapely.is_valid(pieces).all() and shapely.coverage_is_valid(pieces)
    # There are no overlaps and no gaps: the areas add up to that of the raster.
    assert shapely.area(pieces).sum() == pytest.approx(codes.size)
    merged = np.concatenate(
        [
            part
            for code in range(1, classes + 1)
            for part in (pieces[(own == code) & ~cut], dissolve(pieces[(own == code) & cut]))
        ]
    )
    assert shapely.is_valid(merged).all() and shapely.coverage_is_valid(merged)
    assert set(shapely.get_type_id(merged)) == {shapely.GeometryType.POLYGON}
    assert shapely.area(merged).sum() == pytest.approx(codes.size)


def test_polygons_cut_by_windows_are_merged_again():
    codes = blobs(7, sigma=2)
    entire, entire_classes, _ = trace_all(codes, side=1000, tolerance=1.5)
    pieces, classes, cut = trace_all(codes, side=32, tolerance=1.5)
    assert len(pieces) > len(entire)
    for code in np.unique(codes):
        joined = [*pieces[(classes == code) & ~cut], *dissolve(pieces[(classes == code) & cut])]
        assert len(joined) == (entire_classes == code).sum()
        difference = shapely.union_all(joined) ^ shapely.union_all(entire[entire_classes == code])
        # Borders aren't smoothed where they cross the edge of a window, a difference of less than a pixel.
        assert difference.area < 0.03 * codes.size


def test_rectangles_keep_their_corners():
    codes = np.ones((20, 30), np.uint8)
    codes[3:9, 4:16] = 2
    pieces, classes, _ = trace_one(codes)
    assert shapely.equals(pieces[classes == 2][0], shapely.box(4, 3, 16, 9))
    assert shapely.equals(pieces[classes == 1][0], shapely.box(0, 0, 30, 20) - shapely.box(4, 3, 16, 9))


@pytest.mark.parametrize("run", [1, 2, 3, 7, 20])
def test_the_stairs_of_a_slope_become_a_line(run):
    y, x = np.mgrid[:60, :200]
    codes = np.where(y + 0.5 > 20 + (x + 0.5) / run, 1, 2)
    pieces, classes, _ = trace_one(codes)
    (above,) = pieces[classes == 2]
    points = shapely.get_coordinates(above)
    slope = points[(points[:, 1] > 0) & (points[:, 1] < 60) & (points[:, 0] < 200)]
    assert len(points) <= 10, "stairs have two points a step"
    assert np.abs(slope[:, 1] - 20 - slope[:, 0] / run).max() <= 1
    assert above.area == pytest.approx((codes == 2).sum(), rel=0.01)


def test_a_greater_tolerance_removes_more_points():
    codes = blobs(5, sigma=3, size=(200, 200))
    counts = [shapely.get_num_coordinates(trace_one(codes, tolerance)[0]).sum() for tolerance in (0, 1, 2, 4, 8)]
    assert counts == sorted(counts, reverse=True) and counts[-1] < counts[0] / 3


def test_areas_that_touch_at_a_corner_are_separate():
    codes = np.ones((8, 8), np.uint8)
    codes[:4, :4] = codes[4:, 4:] = 2
    pieces, classes, _ = trace_one(codes)
    assert len(pieces) == 4 and shapely.area(pieces).tolist() == [16.0] * 4
    assert (classes == 2).sum() == 2


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (2, 2)])
def test_the_smallest_rasters_are_traced(size):
    pieces, classes, cut = trace_one(np.full(size, 3))
    assert classes.tolist() == [3] and cut.all()
    assert shapely.equals(pieces[0], shapely.box(0, 0, size[1], size[0]))


def test_strips_of_one_pixel_are_kept():
    codes = np.ones((30, 30), np.uint8)
    codes[10, 2:28] = 2
    codes[np.arange(12, 25), np.arange(3, 16)] = 3
    codes[np.arange(12, 25), np.arange(4, 17)] = 3
    pieces, classes, _ = trace_one(codes)
    assert shapely.is_valid(pieces).all() and shapely.coverage_is_valid(pieces)
    assert pieces[classes == 2][0].area == pytest.approx(26, abs=1)
    assert pieces[classes == 3][0].area == pytest.approx(26, abs=3)
