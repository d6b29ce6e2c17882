"""Outlines and polygons across 180 degrees and around the poles (RFC 7946, sections 3.1.9, 5.2 and 5.3)."""

from itertools import pairwise

import numpy as np
import pytest
import shapely
from affine import Affine
from pyproj import Transformer
from rasterio.crs import CRS

from serving.geo.footprint import Footprint
from serving.geo.gdal import gdal
from serving.geo.grid import Grid

WIDTH, HEIGHT = 300, 200


@pytest.fixture(autouse=True)
def settings():
    with gdal():
        yield


def footprint_of(crs, transform):
    """Return the footprint of a raster of 300x200 pixels."""
    return Footprint(Grid(WIDTH, HEIGHT, CRS.from_user_input(crs), transform, ([], None), None), "a.tif")


@pytest.mark.parametrize(
    ("crs", "transform", "bounds", "cut"),
    [
        ("EPSG:32660", Affine(100, 0, 815_000, 0, -100, 200_000), (179.83, 1.62, -179.9, 1.81), True),
        ("EPSG:32701", Affine(100, 0, 160_000, 0, -100, 9_900_000), (179.94, -1.09, -179.79, -0.9), True),
        ("EPSG:3857", Affine(1000, 0, 19_900_000, 0, -1000, 5e6), (178.76, 39.55, -178.54, 40.92), True),
        ("EPSG:3832", Affine(1000, 0, 3_200_000, 0, -1000, 5e6), (178.75, 39.73, -178.56, 41.11), True),
        ("EPSG:4326", Affine(1e-5, 0, 245.2, 0, -1e-5, 35), (-114.8, 34.998, -114.797, 35), False),
        ("EPSG:4326", Affine(1e-3, 0, 179.9, 0, -1e-3, 35), (179.9, 34.8, -179.8, 35), True),
        ("EPSG:4326", Affine(1e-3, 0, 179.7, 0, -1e-3, 35), (179.7, 34.8, 180, 35), False),
        ("EPSG:4326", Affine(1e-3, 0, -180, 0, -1e-3, 35), (-180, 34.8, -179.7, 35), False),
        ("EPSG:4326", Affine(1.1, 0, -165, 0, -0.5, 50), (-165, -50, 165, 50), False),
        ("EPSG:4326", Affine(1.1, 0, 15, 0, -0.5, 50), (15, -50, -15, 50), True),
        ("EPSG:4326", Affine(1.2, 0, -180, 0, -0.9, 90), (-180, -90, 180, 90), False),
        ("EPSG:4326", Affine(1.2, 0, 0, 0, -0.9, 90), (-180, -90, 180, 90), False),
        # Pixels that are centred on the poles.
        ("EPSG:4326", Affine(1.2, 0, -0.6, 0, -180 / 199, 90 + 90 / 199), (-180, -90, 180, 90), False),
        (
            "EPSG:3857",
            Affine(133583.389, 0, -20037508.342, 0, -200375.083, 20037508.342),
            (-180, -85.05, 180, 85.05),
            False,
        ),
        ("EPSG:3413", Affine(1000, 0, -150_000, 0, -1000, 100_000), (-180, 88.34, 180, 90), False),
        ("EPSG:3031", Affine(1000, 0, -150_000, 0, -1000, 100_000), (-180, -90, 180, -88.34), False),
        ("EPSG:3413", Affine(1000, 0, -150_000, 0, 1000, -100_000), (-180, 88.34, 180, 90), False),
        ("EPSG:32633", Affine(1000, 0, 350_000, 0, -1000, 1.01e7), (-180, 88.375, 180, 90), False),
        # A corner, and an edge, on the pole.
        ("EPSG:3413", Affine(1000, 0, 0, 0, -1000, 0), (-45, 86.67, 45, 90), False),
        ("EPSG:3413", Affine(1000, 0, -150_000, 0, -1000, 0), (-135, 87.69, 45, 90), False),
        ("EPSG:3413", Affine(1000, 0, -150_000, 0, -1000, 200_000), (45, 87.69, -135, 90), True),
    ],
)
def test_outlines_are_cut_at_180_degrees_and_reach_the_poles(crs, transform, bounds, cut):
    footprint = footprint_of(crs, transform)
    assert footprint.bounds == pytest.approx(bounds, abs=0.01)
    shape = footprint.shape()
    assert shape.is_valid and shape.geom_type == ("MultiPolygon" if cut else "Polygon")
    west, south, east, north = shape.bounds
    assert -180 <= west < east <= 180 and (south, north) == footprint.bounds[1::2]
    assert (west == -180 and east == 180) or not cut
    assert all(part.exterior.is_ccw for part in shapely.get_parts(shape))
    # The area is that of all pixels, measured on the ellipsoid.
    (area,) = footprint.areas(np.array([shapely.box(0, 0, WIDTH, HEIGHT)]))
    equal_area = Transformer.from_crs("OGC:CRS84", "+proj=cea +datum=WGS84", always_xy=True)
    on_plane = shapely.transform(shapely.segmentize(shape, 0.1), equal_area.transform, interleaved=False)
    assert area == pytest.approx(on_plane.area, rel=2e-3)


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:32660", Affine(100, 0, 815_000, 0, -100, 200_000)),
        ("EPSG:3413", Affine(1, 0, -150, 0, -1, 100) @ Affine.rotation(20)),
        ("EPSG:3031", Affine(1000, 0, -150_000, 0, 1000, -100_000)),
        ("EPSG:4326", Affine(1.2, 0, 0, 0, -0.9, 90)),
        ("EPSG:3857", Affine(133583.389, 0, -20037508.342, 0, -200375.083, 20037508.342)),
    ],
)
def test_polygons_across_180_degrees_are_valid_and_cover_the_raster_once(crs, transform):
    footprint = footprint_of(crs, transform)
    rings = [shapely.box(0, 0, 300, 200)]
    rings += [shapely.box(20 * step, 10 * step, 300 - 20 * step, 200 - 10 * step) for step in range(1, 7)]
    polygons = np.array([outer - inner for outer, inner in pairwise(rings)] + rings[-1:])
    found = footprint.polygons_to_degrees(polygons)
    assert shapely.is_valid(found).all() and shapely.bounds(found)[:, [0, 2]] == pytest.approx(0, abs=180)
    shape = footprint.shape()
    assert shapely.area(found).sum() == pytest.approx(shape.area, rel=1e-3)
    assert shapely.union_all(found).area == pytest.approx(shape.area, rel=1e-3)
    assert footprint.areas(polygons).sum() == pytest.approx(footprint.areas(np.array(rings[:1]))[0])


def test_borders_are_shared_across_180_degrees():
    footprint = footprint_of("EPSG:32660", Affine(100, 0, 815_000, 0, -100, 200_000))
    left, right = shapely.box(0, 0, 120, 200), shapely.box(120, 0, 300, 200)
    found = footprint.polygons_to_degrees(np.array([left, right]))
    parts = shapely.get_parts(found)
    assert shapely.coverage_is_valid(parts) and len(parts) > 2
