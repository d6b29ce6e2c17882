"""Footprints: outlines in degrees, pixel sizes in metres, areas that are true in every coordinate system."""

import math

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine

# rio-cogeo of the development tools requires morecantile, which requires pyproj; requirements.lock pins it.
from pyproj import Geod, Transformer

from model.errors import DataError
from serving.geo.footprint import Footprint, measure_pixel
from serving.geo.gdal import gdal
from serving.geo.raster import open_raster

SIZE = (200, 300)
UTM = Affine(0.5, 0, 500000, 0, -0.5, 5540000)
NO_SIZE = Affine(1e-12, 0, 500000, 0, -1e-12, 5540000)
"""Pixels that are smaller than the spacing of floating-point numbers."""
GEODESICS = Geod(ellps="WGS84")
TOLERANCE = {"rel": 4e-8, "abs": 1e-8}
"""The error that `measure_pixel` documents."""


@pytest.fixture
def raster(tmp_path):
    """Return a function that writes an empty raster of 300x200 pixels and applies another function to it."""

    def write(crs, transform, function):
        profile = {"driver": "GTiff", "height": SIZE[0], "width": SIZE[1], "count": 1, "dtype": "uint8"}
        with gdal():
            with rasterio.open(tmp_path / "a.tif", "w", crs=crs, transform=transform, **profile):
                pass
            with open_raster(tmp_path / "a.tif") as dataset:
                return function(dataset)

    return write


@pytest.fixture
def pixel_of(raster):
    """Return a function that measures the central pixel of a raster."""
    return lambda crs, transform: raster(crs, transform, measure_pixel)


@pytest.fixture
def footprint_of(raster):
    """Return a function that finds the footprint of a raster."""
    return lambda crs, transform: raster(crs, transform, lambda dataset: Footprint(dataset, "a.tif"))


def centred(crs, step, longitude, latitude):
    """Return the transform of a raster around a point, with pixels of `step` units of its coordinate system."""
    x, y = Transformer.from_crs("OGC:CRS84", crs, always_xy=True).transform(longitude, latitude)
    return Affine(step, 0, x - step * SIZE[1] / 2, 0, -step, y + step * SIZE[0] / 2)


def around_centre(transform, turn):
    """Rotate or shear a raster about its centre."""
    centre = SIZE[1] / 2, SIZE[0] / 2
    return transform @ Affine.translation(*centre) @ turn @ Affine.translation(-centre[0], -centre[1])


def geodesic_sides(crs, transform):
    """Return the sides of the central pixel, across and down, as geodesic distances on WGS 84."""
    x, y = SIZE[1] / 2, SIZE[0] / 2
    to_degrees = Transformer.from_crs(crs, "OGC:CRS84", always_xy=True)
    ends = [to_degrees.transform(*(transform @ at)) for at in ((x - 0.5, y), (x + 0.5, y), (x, y - 0.5), (x, y + 0.5))]
    return GEODESICS.inv(*ends[0], *ends[1])[2], GEODESICS.inv(*ends[2], *ends[3])[2]


# Sizes of pixels


@pytest.mark.parametrize("step", [1e-8, 1e-6, 1 / 3600, 0.1])
@pytest.mark.parametrize("latitude", [0, 45, 60, 80, -60])
def test_pixels_in_degrees_have_their_geodesic_size(pixel_of, latitude, step):
    transform = centred("EPSG:4326", step, 7, latitude)
    pixel = pixel_of("EPSG:4326", transform)
    assert pixel[:2] == pytest.approx(geodesic_sides("EPSG:4326", transform), **TOLERANCE)
    assert pixel.area == pytest.approx(pixel.across * pixel.down, rel=1e-6)


@pytest.mark.parametrize("turn", [Affine.identity(), Affine.rotation(30), Affine.shear(20, 0), Affine.scale(0.2, -1)])
@pytest.mark.parametrize("step", [0.002, 0.5, 10, 10_000])
@pytest.mark.parametrize("crs", ["EPSG:3857", "EPSG:32633"])
def test_projected_pixels_have_their_geodesic_size(pixel_of, crs, step, turn):
    transform = around_centre(centred(crs, step, 17, 60), turn)
    assert pixel_of(crs, transform)[:2] == pytest.approx(geodesic_sides(crs, transform), **TOLERANCE)


def test_a_mercator_metre_at_60_degrees_is_half_a_metre_on_the_ground(pixel_of):
    pixel = pixel_of("EPSG:3857", centred("EPSG:3857", 1, 13, 60))
    # Twice too long on a sphere; the ellipsoid makes a difference of a quarter of a percent.
    assert pixel == pytest.approx((0.5, 0.5, 0.25), rel=6e-3) and pixel.mean == pytest.approx(0.5, rel=3e-3)


@pytest.mark.parametrize(
    ("crs", "transform", "scale"),
    [
        # The pole itself, where the scale of NSIDC's stereographic projection is 0.973; and the antimeridian.
        ("EPSG:3413", Affine(10, 0, -1500, 0, -10, 1000), 0.9728),
        ("EPSG:3413", Affine(0.1, 0, -15, 0, -0.1, 10), 0.9728),
        ("EPSG:3031", Affine(0.1, 0, -16, 0, -0.1, 11), 0.9728),
        ("EPSG:3832", Affine(10, 0, 3339584.7 - 1500, 0, -10, 1000), 1),
    ],
)
def test_poles_and_the_antimeridian_are_no_exception(pixel_of, crs, transform, scale):
    assert pixel_of(crs, transform)[:2] == pytest.approx((transform.a / scale, transform.a / scale), rel=7e-3)


def test_sizes_change_with_the_distance_from_the_centre_as_documented(pixel_of):
    centre, north = (
        pixel_of("EPSG:3857", centred("EPSG:3857", 1, 13, latitude)).mean for latitude in (60, 60 + 10 / 111.4)
    )
    assert 1 - north / centre == pytest.approx(0.003, abs=5e-4)


def test_utm_pixels_of_half_a_metre_measure_half_a_metre(pixel_of):
    # On the central meridian of a UTM zone the scale is 0.9996.
    assert pixel_of("EPSG:32633", UTM) == pytest.approx((0.5 / 0.9996, 0.5 / 0.9996, 0.25 / 0.9996**2), rel=1e-5)


def test_feet_are_converted_to_metres(pixel_of):
    assert pixel_of("EPSG:2263", Affine(2, 0, 980000, 0, -2, 200000)).mean == pytest.approx(2 * 0.3048, rel=1e-3)


def test_the_area_of_a_sheared_pixel_is_less_than_the_product_of_its_sides(pixel_of):
    sheared = pixel_of("EPSG:32633", UTM @ Affine.shear(30, 0))
    assert sheared.area == pytest.approx(0.25 / 0.9996**2, rel=1e-5)
    assert sheared.across * sheared.down == pytest.approx(sheared.area / math.cos(math.radians(30)), rel=1e-4)


def test_a_scaled_pixel_keeps_its_proportions(pixel_of):
    pixel = pixel_of("EPSG:32633", UTM)
    assert pixel.scaled(2, 3) == pytest.approx((2 * pixel.across, 3 * pixel.down, 6 * pixel.area))


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        (None, UTM),
        ("EPSG:32633", Affine.identity()),
        ('LOCAL_CS["building site",UNIT["metre",1]]', UTM),
        ("EPSG:32633", Affine(0.5, 0, 5e9, 0, -0.5, 5e9)),
        ("EPSG:32633", NO_SIZE),
    ],
)
def test_without_a_usable_georeference_the_size_is_unknown(pixel_of, crs, transform):
    assert pixel_of(crs, transform) is None


# Footprints


def test_areas_are_the_same_in_every_coordinate_system(footprint_of):
    utm = footprint_of("EPSG:32633", UTM)
    ring = utm.to_map(np.array([[0, 0], [300, 0], [300, 200], [0, 200]], np.float64))
    area = shapely.Polygon(utm.to_metres(ring)).area
    degrees = footprint_of("EPSG:4326", Affine(1e-6, 0, 15, 0, -1e-6, 50.01))
    assert shapely.Polygon(degrees.to_metres(utm.to_degrees(ring))).area == pytest.approx(area, rel=1e-6)
    assert area == pytest.approx(utm.pixel.area * 300 * 200, rel=1e-6)


@pytest.mark.parametrize("transform", [UTM, UTM @ Affine.rotation(30), UTM @ Affine.scale(1, -1)])
def test_the_outline_runs_counterclockwise_around_the_raster(footprint_of, transform):
    outline = footprint_of("EPSG:32633", transform).outline
    ring = shapely.LinearRing(outline)
    assert ring.is_ccw and ring.is_valid and np.array_equal(outline[0], outline[-1])
    centre = shapely.Point(15 + 75 / (111320 * math.cos(math.radians(50))), 50.01)
    assert shapely.Polygon(ring).distance(centre) < 0.005


def test_the_outline_follows_curved_edges(footprint_of):
    outline = footprint_of("EPSG:3035", Affine(5000, 0, 2600000, 0, -5000, 5400000)).outline
    assert len(outline) >= 65
    north = outline[np.argsort(outline[:, 1])[-17:]]
    # Between its corners the northern edge deviates from a straight line.
    assert np.ptp(north[:, 1]) > 0.3


@pytest.mark.parametrize(
    ("crs", "transform", "missing"), [(None, UTM, "coordinate system"), ("EPSG:32633", None, "transform")]
)
def test_a_raster_without_georeference_is_refused(footprint_of, crs, transform, missing):
    with pytest.raises(DataError, match=rf"^a\.tif has no {missing}, so its location is unknown; georeference it"):
        footprint_of(crs, transform or Affine.identity())


def test_latitudes_beyond_the_poles_are_refused(footprint_of):
    with pytest.raises(
        DataError, match=r"a\.tif reaches beyond the area in which its coordinate system, EPSG:4326, is "
    ):
        footprint_of("EPSG:4326", Affine(0.5, 0, 0, 0, -0.5, 95))


@pytest.mark.parametrize(
    ("crs", "transform", "advice"),
    [
        (None, UTM, r"gdal_edit -a_srs EPSG:CODE FILE"),
        ("EPSG:32633", Affine.identity(), r"gdal_edit -a_ullr LEFT TOP RIGHT BOTTOM FILE"),
        (None, Affine.identity(), r"gdal_edit -a_srs EPSG:CODE -a_ullr LEFT TOP RIGHT BOTTOM FILE"),
    ],
)
def test_the_advice_names_what_is_missing(footprint_of, crs, transform, advice):
    with pytest.raises(DataError) as refused:
        footprint_of(crs, transform)
    assert str(refused.value).endswith(f"; georeference it first ({advice}).")


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:32633", Affine(0.5, 0, 5e9, 0, -0.5, 5e9)),
        # Maps and views of the whole Earth, whose corners are not on it.
        ("ESRI:54009", Affine(451_000, 0, -18_040_000, 0, -282_000, 9_020_000)),
        ("+proj=geos +h=35785831 +lon_0=0 +sweep=y", Affine(137_500, 0, -5.5e6, 0, -171_875, 5.5e6)),
    ],
)
def test_rasters_beyond_the_area_of_their_system_are_refused(footprint_of, crs, transform):
    with pytest.raises(DataError) as refused:
        footprint_of(crs, transform)
    assert str(refused.value).startswith("a.tif reaches beyond the area in which its coordinate system, ")
    assert str(refused.value).endswith(", is valid; cut it to that area, or check its georeference.")


def test_pixels_of_no_size_are_refused(footprint_of):
    with pytest.raises(DataError, match=r"^The pixels of a\.tif have no size on the ground; check its georeference"):
        footprint_of("EPSG:32633", NO_SIZE)


def test_a_local_coordinate_system_is_refused(footprint_of):
    site = 'LOCAL_CS["building site",UNIT["metre",1]]'
    with pytest.raises(DataError) as refused:
        footprint_of(site, UTM)
    assert str(refused.value) == (
        "The coordinate system of a.tif, building site, can't be converted to degrees; check its georeference."
    )
