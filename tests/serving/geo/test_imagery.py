"""GeoTIFFs as photos: nodata, alpha and ground resolution."""

import numpy as np
import pytest
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.rpc import RPC
from rasterio.transform import RPCTransformer

from model.errors import ConfigError
from serving.geo.gdal import gdal
from serving.geo.imagery import open_imagery
from tests.fixtures.scenes import HALF_METRE, as_photo, noise, opening_error, read_scene

# Nodata and alpha


def with_empty_columns(count):
    """Return bands that are zero in their first 30 columns only."""
    bands = noise(count).clip(1)
    bands[:, :, :30] = 0
    return bands


def test_nodata_is_transparent_and_filled_by_reflection(make_scene):
    bands = with_empty_columns(3)
    photo, alpha, imagery = read_scene(make_scene(bands, nodata=0))
    assert imagery.masked and (alpha[:, :30] == 0).all() and (alpha[:, 30:] == 255).all()
    assert np.array_equal(photo[:, 30:], as_photo(bands)[:, 30:])
    # The photo is reflected at the edge of its valid pixels.
    assert np.array_equal(photo[:, 20:30], photo[:, 40:30:-1])


def test_a_window_of_nodata_has_no_photo(make_scene):
    path = make_scene(with_empty_columns(3), nodata=0)
    with gdal(), open_imagery(path) as imagery:
        assert imagery.read(0, 0, 64, 30) is None
        assert imagery.read(0, 0, 64, 31) is not None


def test_alpha_is_kept_exactly(make_scene):
    bands = noise(4)
    photo, alpha, imagery = read_scene(make_scene(bands, photometric="RGB", alpha="YES"))
    assert np.array_equal(alpha, bands[3]) and imagery.colours.bands == (1, 2, 3)
    assert np.array_equal(photo[alpha > 0], as_photo(bands[:3])[alpha > 0])


def test_alpha_of_16_bits_is_scaled_to_8(make_scene):
    bands = noise(4, kind=np.uint16)
    bands[3, 0, :4] = 0, 1, 257, 65535
    alpha = read_scene(make_scene(bands, photometric="RGB", alpha="YES"))[1]
    assert alpha[0, :4].tolist() == [0, 1, 1, 255]


def test_a_coarser_pixel_that_is_partly_valid_is_opaque(make_scene):
    bands = noise(3).clip(1)
    bands[:, :, :31] = 0
    photo, alpha, _ = read_scene(make_scene(bands, nodata=0), resolution=1.0)
    assert not alpha[:, :15].any() and (alpha[:, 15:] == 255).all() and photo.min() > 0


def test_alpha_of_coarser_pixels_is_the_mean(make_scene):
    bands = noise(4)
    bands[3] = 0
    bands[3, :, 31:] = 200
    alpha = read_scene(make_scene(bands, photometric="RGB", alpha="YES"), resolution=1.0)[1]
    assert not alpha[:, :15].any() and (alpha[:, 15] == 100).all() and (alpha[:, 16:] == 200).all()


def test_an_internal_mask_becomes_alpha(make_scene):
    path = make_scene(noise(3))
    mask = np.full((64, 80), 255, np.uint8)
    mask[:20] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
        file.write_mask(mask)
    assert np.array_equal(read_scene(path)[1], mask)


def test_nan_and_infinity_are_nodata(make_scene):
    bands = noise(3, kind=np.float32)
    bands[1, :10] = np.nan
    bands[2, 10:12] = np.inf
    photo, alpha, _ = read_scene(make_scene(bands))
    assert (alpha[:12] == 0).all() and (alpha[12:] == 255).all() and photo[12:].std() > 50


# Ground resolution


def test_a_scene_is_read_at_the_models_resolution(make_scene):
    photo, _, imagery = read_scene(make_scene(noise(3, 200, 300)), resolution=1.0)
    assert imagery.pixel[:2] == pytest.approx((0.5, 0.5), rel=2e-3)
    assert (imagery.height, imagery.width) == photo.shape[:2] == (100, 150)
    assert imagery.map_pixel[:2] == pytest.approx((1, 1), rel=2e-3) and imagery.warnings == []
    # The extent is kept.
    assert imagery.grid.transform @ (150, 100) == pytest.approx(HALF_METRE @ (300, 200))
    assert imagery.grid.transform @ (0, 0) == (500_000, 600_000)


def test_coarser_pixels_are_averaged(make_scene):
    stripes = np.zeros((3, 200, 200), np.uint8)
    stripes[:, :, ::2] = 255
    assert np.abs(read_scene(make_scene(stripes), resolution=1.0)[0][:, 2:-2].astype(int) - 127).max() < 10


def test_windows_are_parts_of_the_same_photo(make_scene):
    path = make_scene(noise(3, 300, 300))
    with gdal(), open_imagery(path, resolution=0.83) as imagery:
        photo = imagery.read(0, 0, imagery.height, imagery.width)
        for top, left, height, width in ((0, 0, 50, 50), (31, 77, 64, 64), (100, 3, 80, 100)):
            window = imagery.read(top, left, height, width).astype(int)
            assert np.abs(window - photo[top : top + height, left : left + width]).max() <= 1


@pytest.mark.parametrize(
    ("crs", "pixel", "metres"),
    [
        # One second of arc at 60 degrees north: 55.8 km and 111.4 km a degree.
        ("EPSG:4326", (1 / 3600, 60.0), (55.80 / 3.6, 111.41 / 3.6)),
        # There, Mercator metres are about half a metre on the ground.
        ("EPSG:3857", (10.0, 8_399_737.9), (5.0126, 5.0042)),
        # US survey feet, in New York.
        ("EPSG:2263", (3.0, 200_000.0), (0.9144, 0.9144)),
    ],
)
def test_pixels_are_measured_on_the_ground(make_scene, crs, pixel, metres):
    step, y = pixel
    x = 1_000_000 if crs == "EPSG:2263" else 20
    transform = rasterio.Affine(step, 0, x, 0, -step, y + 32 * step)
    *_, imagery = read_scene(make_scene(noise(3), crs=crs, transform=transform))
    assert imagery.pixel[:2] == pytest.approx(metres, rel=1e-3)


def test_a_mercator_scene_is_resampled_by_metres_on_the_ground(make_scene):
    # Pixels of 2 Mercator metres at 60 degrees north: one metre on the ground.
    transform = rasterio.Affine(2, 0, 1_500_000, 0, -2, 8_399_737.9 + 200)
    path = make_scene(noise(3, 200, 300), crs="EPSG:3857", transform=transform)
    photo, _, imagery = read_scene(path, resolution=1.0)
    assert photo.shape == (200, 301, 3) and imagery.warnings == []
    assert imagery.map_pixel[:2] == pytest.approx((1, 1), rel=3e-3)
    photo, _, imagery = read_scene(path, resolution=2.0)
    assert photo.shape == (100, 150, 3) and imagery.map_pixel[:2] == pytest.approx((2, 2), rel=3e-3)
    assert imagery.grid.transform @ (150, 100) == pytest.approx(transform @ (300, 200))


def test_a_rotated_scene_stays_rotated(make_scene):
    transform = HALF_METRE @ rasterio.Affine.rotation(30)
    *_, imagery = read_scene(make_scene(noise(3, 200, 200), transform=transform), resolution=1.0)
    assert (imagery.height, imagery.width) == (100, 100)
    assert imagery.grid.transform @ (100, 50) == pytest.approx(transform @ (200, 100))


def test_a_resolution_far_from_the_models_is_reported(make_scene):
    path = make_scene(noise(3))
    assert read_scene(path, resolution=0.99)[2].warnings == []
    (warning,) = read_scene(path, resolution=1.5)[2].warnings
    assert warning.endswith("scene.tif has pixels of 0.5 m and is drawn at 1.5 m, 3.0 times off: expect a poor map.")
    assert "more than 16 times off" in opening_error(path, resolution=20)


@pytest.mark.parametrize("resolution", [0, -1, float("nan"), float("inf")])
def test_resolutions_out_of_range_are_refused(make_scene, resolution):
    with gdal(), pytest.raises(ConfigError, match="give the metres on the ground"):
        read_scene(make_scene(noise(3)), resolution=resolution)


def test_a_scene_without_georeference_keeps_its_own_pixels(make_scene):
    photo, _, imagery = read_scene(make_scene(noise(3), crs=None, transform=rasterio.Affine.identity()), resolution=1.0)
    assert photo.shape == (64, 80, 3) and imagery.grid.crs is None
    assert [warning.split("scene.tif ")[1] for warning in imagery.warnings] == [
        "has no coordinate system, and its map has none either.",
        "is drawn at its own resolution, which may not be 1 m.",
    ]


def test_without_a_transform_the_ground_resolution_is_unknown(make_scene):
    *_, imagery = read_scene(make_scene(noise(3), transform=rasterio.Affine.identity()))
    assert imagery.pixel is None and imagery.warnings[0].endswith("has no transform, and its map has none either.")


def test_in_a_local_coordinate_system_the_ground_resolution_is_unknown(make_scene):
    site = 'LOCAL_CS["building site",UNIT["metre",1]]'
    photo, _, imagery = read_scene(make_scene(noise(3), crs=site), resolution=1.0)
    assert imagery.pixel is None and photo.shape == (64, 80, 3)
    assert "The ground resolution of" in imagery.warnings[0] and "drawn at its own resolution" in imagery.warnings[1]


def located_by(make_scene, **location):
    """Return a scene of 80x64 pixels that has ground control points or RPCs and no transform."""
    path = make_scene(noise(3), crs=None, transform=rasterio.Affine.identity())
    with rasterio.open(path, "r+") as file:
        for name, value in location.items():
            setattr(file, name, value)
    return path


def test_ground_control_points_give_the_ground_resolution(make_scene):
    corners = ((0, 0), (0, 80), (64, 0), (64, 80))
    points = [GroundControlPoint(row, col, 500_000 + 2 * col, 600_000 - 2 * row, 7) for row, col in corners]
    path = located_by(make_scene, gcps=(points, rasterio.crs.CRS.from_epsg(32633)))
    *_, imagery = read_scene(path, resolution=4.0)
    assert (imagery.height, imagery.width) == (32, 40) and imagery.map_pixel.mean == pytest.approx(4, rel=1e-3)
    kept, crs = imagery.grid.gcps
    assert crs == "EPSG:32633" and imagery.grid.transform.is_identity
    assert [(point.row, point.col) for point in kept] == pytest.approx(np.array(corners) / 2)
    assert [(point.x, point.y, point.z) for point in kept] == [(point.x, point.y, 7) for point in points]
    assert imagery.warnings[0].endswith(
        "has 4 ground control points and no transform; its map keeps them. To georeference it, warp it first "
        "(gdalwarp -t_srs EPSG:CODE IN OUT)."
    )


def test_points_in_an_unknown_system_need_to_be_told_theirs(make_scene):
    points = [GroundControlPoint(row, col, 11 + col, 48 - row) for row, col in ((0, 0), (0, 80), (64, 0))]
    *_, imagery = read_scene(located_by(make_scene, gcps=(points, rasterio.crs.CRS())))
    assert imagery.warnings[0].endswith(
        "has 3 ground control points in an unknown coordinate system and no transform; its map keeps them. To "
        "georeference it, warp it first (gdalwarp -s_srs EPSG:CODE_OF_POINTS -t_srs EPSG:CODE IN OUT)."
    )


@pytest.mark.parametrize(
    ("crs", "left", "why"),
    [
        ('LOCAL_CS["site",UNIT["metre",1]]', 0, "can't be converted to degrees"),
        ("EPSG:32633", 1e9, "lie outside the valid area of its coordinate system"),
    ],
)
def test_an_unknown_ground_resolution_is_explained(make_scene, crs, left, why):
    path = make_scene(noise(3), crs=crs, transform=rasterio.Affine(1, 0, left, 0, -1, 0))
    (warning,) = read_scene(path)[2].warnings
    assert warning.endswith(f"The ground resolution of {path.parent.name}/scene.tif is unknown: its coordinates {why}.")


def test_points_on_a_line_give_no_ground_resolution(make_scene):
    points = [GroundControlPoint(0, col, 11 + col / 1e5, 48) for col in (0, 40, 80)]
    *_, imagery = read_scene(located_by(make_scene, gcps=(points, rasterio.crs.CRS.from_epsg(4326))), resolution=4.0)
    assert imagery.pixel is None and (imagery.height, imagery.width) == (64, 80)
    assert imagery.warnings[1].endswith("is drawn at its own resolution, which may not be 4 m.")


def test_rpcs_scale_with_the_pixels(make_scene):
    # A camera right above: one line is 1e-5 degrees, about 1.1 m; numbers of lines begin at the centre of the first.
    line, sample = ([0.0] * 20 for _ in range(2))
    line[2], sample[1], one = -1.0, 1.0, [1.0, *[0.0] * 19]
    scales = {"lat_scale": 32e-5, "long_scale": 40e-5, "height_scale": 100.0, "line_scale": 32.0, "samp_scale": 40.0}
    offsets = {"lat_off": 0.0, "long_off": 11.0, "height_off": 50.0, "line_off": 31.5, "samp_off": 39.5}
    coefficients = {"line_num_coeff": line, "line_den_coeff": one, "samp_num_coeff": sample, "samp_den_coeff": one}
    path = located_by(make_scene, rpcs=RPC(**scales, **offsets, **coefficients))
    *_, imagery = read_scene(path, resolution=2.22)
    assert (imagery.height, imagery.width) == (32, 40)
    with RPCTransformer(imagery.grid.rpcs, rpc_height=50.0) as camera:
        corners = np.array(camera.xy([0, 32], [0, 40], offset="ul"))
    assert corners == pytest.approx(np.array([[11 - 40e-5, 11 + 40e-5], [32e-5, -32e-5]]), abs=1e-9)
    assert "has RPCs, which describe its camera, and no transform; its map keeps them." in imagery.warnings[0]
    assert "gdalwarp -rpc" in imagery.warnings[0]
