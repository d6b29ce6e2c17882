"""Polygons of maps whose coordinate system has no relation to degrees on the Earth."""

import math

import pytest
import shapely
from affine import Affine
from rasterio.crs import CRS

from model.errors import DataError
from serving.geo.grid import crs_name
from serving.vectors.vector_layer import write_vectors
from tests.fixtures.painted_maps import PALETTE, ROAD, read_layer, town

METRES = 'LOCAL_CS["site",UNIT["metre",1],AXIS["E",EAST],AXIS["N",NORTH]]'
FEET = 'LOCAL_CS["site",UNIT["foot",0.3048],AXIS["E",EAST],AXIS["N",NORTH]]'
MARS, MARS_DEGREES, MOON = "IAU_2015:49910", "IAU_2015:49900", "IAU_2015:30110"
HALF = Affine(0.5, 0, 1000, 0, -0.5, 2000)
SIZES = {"road": 8 * 160, "water": 30 * 50, "park": 40 * 60, "building": 10 * 16}
"""Areas of the town in pixels."""


def areas(file):
    _, shapes, fields = read_layer(file)
    assert shapely.is_valid(shapes).all()
    return dict(zip(fields["class"], fields["area_m2"], strict=True)), shapes


@pytest.mark.parametrize(
    ("crs", "square_metres"),
    # The scale of an equirectangular projection is true on the equator.
    [(METRES, 0.25), (FEET, 0.25 * 0.3048**2), ("EPSG:5800", 0.25), (MARS, 0.25), (MOON, 0.25)],
)
def test_areas_on_other_bodies_and_in_local_systems_are_true(paint, tmp_path, crs, square_metres):
    report = write_vectors(paint(town(), crs=crs, transform=HALF), tmp_path / "map.gpkg", PALETTE)
    found, shapes = areas(tmp_path / "map.gpkg")
    assert found == pytest.approx({name: size * square_metres for name, size in SIZES.items()}, rel=1e-4)
    assert shapely.total_bounds(shapes).tolist() == [1000, 1945, 1080, 1995]
    assert crs_name(CRS.from_user_input(report.crs)) in (crs_name(CRS.from_user_input(crs)), "Astra Minas Grid")


def test_areas_in_degrees_on_mars_shrink_towards_the_pole(paint, tmp_path):
    degrees = Affine(1e-4, 0, 30, 0, -1e-4, 60.006)
    write_vectors(paint(town(), crs=MARS_DEGREES, transform=degrees), tmp_path / "map.gpkg", PALETTE)
    pixel = (math.radians(1e-4) * 3_396_190) ** 2 * math.cos(math.radians(60))
    assert areas(tmp_path / "map.gpkg")[0]["park"] == pytest.approx(2400 * pixel, rel=3e-4)


def test_the_areas_of_a_whole_moon_add_up(paint, tmp_path):
    half = math.pi * 1_737_400
    whole = Affine(2 * half / 160, 0, -half, 0, -half / 120, half / 2)
    classes = town()
    classes[:] = ROAD
    write_vectors(paint(classes, crs=MOON, transform=whole), tmp_path / "map.gpkg", PALETTE)
    assert areas(tmp_path / "map.gpkg")[0]["road"] == pytest.approx(4 * math.pi * 1_737_400**2, rel=1e-6)


@pytest.mark.parametrize("crs", [METRES, MARS])
def test_geojson_needs_degrees_on_the_earth(paint, tmp_path, crs):
    with pytest.raises(
        DataError, match=r"map\.tif is in .*, which can't be converted to the degrees of GeoJSON; name a \.gpkg file\.$"
    ):
        write_vectors(paint(town(), crs=crs, transform=HALF), tmp_path / "map.geojson", PALETTE)


def test_a_map_beyond_the_pole_of_mars_is_refused(paint, tmp_path):
    beyond = Affine(1, 0, 0, 0, -1, 5_400_000)
    with pytest.raises(DataError, match=r"reaches beyond the area in which .* IAU_2015:49910, is valid;"):
        write_vectors(paint(town(), crs=MARS, transform=beyond), tmp_path / "map.gpkg", PALETTE)
    assert not (tmp_path / "map.gpkg").exists()
