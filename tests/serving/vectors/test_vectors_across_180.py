"""Polygons across 180 degrees and around the poles, in the map's own system and in degrees."""

import json

import numpy as np
import pytest
import shapely
from affine import Affine

from serving.vectors.vector_layer import write_vectors
from tests.fixtures.painted_maps import ALL_CLASSES, PALETTE, blobs, read_layer

SIZE = (300, 260)
PLACES = {
    "180 degrees, UTM 60": ("EPSG:32660", Affine(10, 0, 832_800, 0, -10, 200_000)),
    "180 degrees, UTM 1": ("EPSG:32701", Affine(10, 0, 164_500, 0, -10, 9_800_000)),
    "180 degrees, Mercator": ("EPSG:3857", Affine(10, 0, 20_036_000, 0, -10, 8_400_000)),
    "180 degrees, PDC Mercator": ("EPSG:3832", Affine(10, 0, 3_338_000, 0, -10, 8_400_000)),
    "180 degrees, degrees": ("EPSG:4326", Affine(1e-4, 0, 179.99, 0, -1e-4, 60)),
    "245 degrees": ("EPSG:4326", Affine(1e-4, 0, 245.2, 0, -1e-4, 60)),
    "north pole": ("EPSG:3413", Affine(10, 0, -1200, 0, -10, 1700) @ Affine.rotation(15)),
    "south pole": ("EPSG:3031", Affine(10, 0, -1200, 0, -10, 1700)),
}


@pytest.mark.parametrize(("crs", "transform"), PLACES.values(), ids=PLACES)
def test_polygons_are_complete_and_valid_in_both_formats(paint, tmp_path, crs, transform):
    map_file = paint(blobs(1, SIZE), crs=crs, transform=transform)
    for name in ("map.gpkg", "map.geojson"):
        write_vectors(map_file, tmp_path / name, PALETTE, classes=ALL_CLASSES)
    about, own, fields = read_layer(tmp_path / "map.gpkg")
    assert about["crs"] == crs and shapely.is_valid(own).all() and shapely.coverage_is_valid(own)
    assert shapely.area(own).sum() == pytest.approx(SIZE[0] * SIZE[1] * abs(transform.determinant), rel=1e-6)

    _, shapes, in_degrees = read_layer(tmp_path / "map.geojson")
    assert in_degrees["area_m2"] == pytest.approx(fields["area_m2"], rel=1e-6) and len(shapes) == len(own)
    assert shapely.is_valid(shapes).all() and shapely.coverage_is_valid(shapely.get_parts(shapes))
    west, south, east, north = shapely.total_bounds(shapes)
    assert -180 <= west and east <= 180 and -90 <= south and north <= 90
    # No polygon is on both sides of the antimeridian, unless a pole is in it.
    parts = shapely.bounds(shapely.get_parts(shapes))
    assert ((parts[:, 2] - parts[:, 0] < 180) | (np.abs(parts[:, [1, 3]]) == 90).any(axis=1)).all()
    written = json.loads((tmp_path / "map.geojson").read_text())["features"]
    kinds = {feature["geometry"]["type"] for feature in written}
    assert kinds == ({"Polygon"} if "245" in str(transform.c) else {"Polygon", "MultiPolygon"}), kinds
    # The areas on the ellipsoid are those of the shapes in degrees.
    measured = shapely.area(shapely.transform(shapes, to_equal_area))
    assert measured.sum() == pytest.approx(fields["area_m2"].sum(), rel=1e-3)


def to_equal_area(points):
    """Convert degrees to the cylindrical equal-area projection of the authalic sphere, in metres."""
    squared = 0.0066943799901413165
    root, sine = np.sqrt(squared), np.sin(np.radians(points[:, 1]))
    q = (1 - squared) * (sine / (1 - squared * sine**2) + np.arctanh(root * sine) / root)
    return 6_378_137 * np.column_stack([np.radians(points[:, 0]), q / 2])
