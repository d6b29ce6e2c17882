"""Where rasters lie: degrees, and areas that are true in every coordinate system."""

import math

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine

from model.errors import DataError
from serving.geo.footprint import Footprint, metres_per_pixel
from serving.geo.geotiff import gdal, open_geotiff

SIZE = (200, 300)
UTM = Affine(0.5, 0, 500000, 0, -0.5, 5540000)


@pytest.fixture
def ground_of(tmp_path):
    """Return a function that places a raster of 300x200 pixels."""

    def place(crs, transform, size=SIZE):
        profile = {"driver": "GTiff", "height": size[0], "width": size[1], "count": 1, "dtype": "uint8"}
        with gdal():
            with rasterio.open(tmp_path / "a.tif", "w", crs=crs, transform=transform, **profile):
                pass
            with open_geotiff(tmp_path / "a.tif") as dataset:
                return Footprint(dataset, "a.tif")

    return place


def test_pixels_of_half_a_metre_measure_that(ground_of):
    ground = ground_of("EPSG:32633", UTM)
    # On the central meridian of a UTM zone a metre of the map is 1 / 0.9996 metres.
    assert ground.pixel_area == pytest.approx(0.25 / 0.9996**2, rel=1e-5)
    assert metres_per_pixel(ground) == 0.5


def test_a_metre_of_web_mercator_is_none(ground_of):
    ground = ground_of("EPSG:3857", Affine(1, 0, 1500000, 0, -1, 8399738))
    # Latitude 60, where a sphere's Mercator is twice too large; the ellipsoid makes half a percent of difference.
    assert ground.outline[:, 1].mean() == pytest.approx(60, abs=0.01)
    assert ground.pixel_area == pytest.approx(0.25, rel=0.01)


def test_degrees_and_feet_are_turned_into_metres(ground_of):
    degrees = ground_of("EPSG:4326", Affine(1e-5, 0, 7.0, 0, -1e-5, 0.001))
    assert degrees.pixel_area == pytest.approx(1.11319 * 1.10574, rel=1e-4)
    feet = ground_of("EPSG:2263", Affine(2, 0, 980000, 0, -2, 200000))
    assert metres_per_pixel(feet) == pytest.approx(2 * 0.3048, rel=1e-3)


def test_areas_are_the_same_in_every_coordinate_system(ground_of):
    utm = ground_of("EPSG:32633", UTM)
    ring = utm.to_map(np.array([[0, 0], [300, 0], [300, 200], [0, 200]], np.float64))
    area = shapely.Polygon(utm.to_metres(ring)).area
    degrees = ground_of("EPSG:4326", Affine(1e-6, 0, 15, 0, -1e-6, 50.01))
    assert shapely.Polygon(degrees.to_metres(utm.to_degrees(ring))).area == pytest.approx(area, rel=1e-6)


@pytest.mark.parametrize("transform", [UTM, UTM @ Affine.rotation(30), UTM @ Affine.scale(1, -1)])
def test_the_outline_runs_counterclockwise_around_the_raster(ground_of, transform):
    outline = ground_of("EPSG:32633", transform).outline
    ring = shapely.LinearRing(outline)
    assert ring.is_ccw and ring.is_valid and np.array_equal(outline[0], outline[-1])
    centre = shapely.Point(15 + 75 / (111320 * math.cos(math.radians(50))), 50.01)
    assert shapely.Polygon(ring).distance(centre) < 0.005


def test_the_outline_follows_edges_that_are_bent(ground_of):
    outline = ground_of("EPSG:3035", Affine(5000, 0, 2600000, 0, -5000, 5400000)).outline
    assert len(outline) == 65
    north = outline[np.argsort(outline[:, 1])[-17:]]
    # Between the corners the northern edge lies more than a degree beside the straight line.
    assert np.ptp(north[:, 1]) > 0.3


@pytest.mark.parametrize(
    ("crs", "transform", "missing"), [(None, UTM, "coordinate system"), ("EPSG:32633", None, "transform")]
)
def test_what_has_no_place_is_refused(ground_of, crs, transform, missing):
    with pytest.raises(DataError, match=rf"^a\.tif has no {missing}, so what it shows lies nowhere; take a georef"):
        ground_of(crs, transform or Affine.identity())


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:32660", Affine(500, 0, 800000, 0, -500, 100000)),
        ("EPSG:3413", Affine(1000, 0, -150000, 0, -1000, 100000)),
    ],
)
def test_the_antimeridian_and_the_pole_are_refused(ground_of, crs, transform):
    with pytest.raises(DataError, match=r"a\.tif lies across the antimeridian or around a pole \(longitudes from -1"):
        ground_of(crs, transform)


def test_a_place_off_the_earth_is_refused(ground_of):
    with pytest.raises(DataError, match=r"check its georeference|coordinate system of a\.tif can't be used"):
        ground_of("EPSG:32633", Affine(0.5, 0, 5e9, 0, -0.5, 5e9))


def test_a_coordinate_system_of_a_site_is_refused(ground_of):
    site = 'LOCAL_CS["building site",UNIT["metre",1]]'
    with pytest.raises(DataError, match=r"The coordinate system of a\.tif can't be used"):
        ground_of(site, UTM)
