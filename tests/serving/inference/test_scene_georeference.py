"""The georeference of a map is that of its scene; what a GeoTIFF can't hold is reported."""

import numpy as np
import pytest
import rasterio
from PIL import Image, TiffImagePlugin
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS

from model.errors import StorageError
from serving.geo.gdal import gdal
from serving.geo.grid import Grid
from tests.fixtures.scenes import draw, noise, write_rgb

IDENTITY = rasterio.Affine.identity()
PROJECTED, GEOGRAPHIC = {1024: 1, 1025: 1}, {1024: 2, 1025: 1}
GRADS_FROM_PARIS = {2048: 32767, 2054: 9105, 2050: 6258, 2051: 8903}
"""A geographic system, whose prime meridian GDAL 3.10 writes in another unit than it reads."""


def write_keys(path, keys, *, minor=0):
    """Write a scene of 60x50 pixels with GeoTIFF keys, key -> number (OGC 19-008r4, section 7.1)."""
    entries = [number for key, value in sorted(keys.items()) for number in (key, 0, 1, value)]
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, kind, values in (
        (33550, 12, (0.5, 0.5, 0.0)),
        (33922, 12, (0.0, 0.0, 0.0, 5e5, 5.3e6, 0.0)),
        (34735, 3, (1, 1, minor, len(keys), *entries)),
    ):
        tags[tag], tags.tagtype[tag] = values, kind
    Image.fromarray(np.moveaxis(noise(3, 50, 60), 0, -1)).save(path, tiffinfo=tags)
    return path


@pytest.mark.parametrize("minor", [0, 1])
@pytest.mark.parametrize(
    ("code", "vertical", "horizontal"), [(32633, 4979, 32633), (25833, 4937, 25833), (2193, 4959, 2193)]
)
def test_heights_that_a_geotiff_cannot_hold_are_left_out_with_a_warning(tmp_path, code, vertical, horizontal, minor):
    source = write_keys(tmp_path / "scene.tif", PROJECTED | {3072: code, 4096: vertical}, minor=minor)
    report = draw(source, tmp_path / "map.tif")
    with gdal(), rasterio.open(tmp_path / "map.tif") as file:
        assert file.crs.to_epsg() == horizontal and file.transform == rasterio.Affine(0.5, 0, 5e5, 0, -0.5, 5.3e6)
    assert report.crs == f"EPSG:{horizontal}" and report.ground == pytest.approx((0.5, 0.5), rel=2e-2)
    assert report.warnings == (
        f"A GeoTIFF can't hold the heights in the coordinate system of {tmp_path.name}/scene.tif; its map is in the "
        f"horizontal part, EPSG:{horizontal}.",
    )


@pytest.mark.parametrize("vertical", [5773, 5703])
def test_compound_coordinate_systems_are_kept(tmp_path, vertical):
    source = write_keys(tmp_path / "scene.tif", PROJECTED | {3072: 32633, 4096: vertical}, minor=1)
    report = draw(source, tmp_path / "map.tif")
    with gdal(), rasterio.open(source) as before, rasterio.open(tmp_path / "map.tif") as after:
        assert after.crs == before.crs and "VERT_CS" in after.crs.to_wkt() and report.warnings == ()


def test_a_coordinate_system_that_a_geotiff_changes_is_reported(tmp_path):
    source = write_keys(tmp_path / "scene.tif", GEOGRAPHIC | GRADS_FROM_PARIS)
    with gdal(), rasterio.open(source, "r+") as file:
        file.transform = rasterio.Affine(1e-5, 0, 10, 0, -1e-5, 50)
    report = draw(source, tmp_path / "map.tif")
    assert any(
        warning.startswith(f"A GeoTIFF can't hold the coordinate system of {tmp_path.name}/scene.tif")
        and warning.endswith("Warp the scene to another one first (gdalwarp -t_srs EPSG:CODE IN OUT).")
        for warning in report.warnings
    )
    with gdal(), rasterio.open(tmp_path / "map.tif") as file:
        assert report.crs == file.crs.to_string()


def test_whatever_is_lost_in_writing_is_reported(tmp_path, monkeypatch):
    source = write_rgb(tmp_path / "scene.tif", noise(3, 40, 50))

    def forget(_, dataset):
        dataset.transform = rasterio.Affine(0.5, 0, 500_001, 0, -0.5, 600_000)

    monkeypatch.setattr(Grid, "write_to", forget)
    report = draw(source, tmp_path / "map.tif")
    name = f"{tmp_path.name}/scene.tif"
    assert report.crs is None and report.warnings == (
        f"A GeoTIFF can't hold the coordinate system of {name}, EPSG:2180: the map has none. Warp the scene to another "
        "one first (gdalwarp -t_srs EPSG:CODE IN OUT).",
        f"The corners of the map lie up to 2 pixels from those of {name}.",
    )


@pytest.mark.parametrize(
    "transform",
    [
        rasterio.Affine(0.5, 0, 5e5, 0, 0.5, 5.3e6),
        rasterio.Affine(0.5, 0, 5e5, 0, -0.5, 5.3e6) @ rasterio.Affine.rotation(30) @ rasterio.Affine.shear(10, 0),
        rasterio.Affine(-0.5, 0, 5e5, 0, -0.5, 5.3e6),
        rasterio.Affine(0.001, 0, 123456789.012345, 0, -0.001, -987654321.098765),
        rasterio.Affine(0.5, 0, 5e5, 0, -0.25, 5.3e6),
    ],
)
def test_transforms_of_any_kind_are_kept(tmp_path, transform):
    source = write_rgb(tmp_path / "scene.tif", noise(3, 40, 50), crs="EPSG:32633", transform=transform)
    report = draw(source, tmp_path / "map.tif")
    with gdal(), rasterio.open(tmp_path / "map.tif") as file:
        assert file.transform.almost_equals(transform, precision=1e-9)
    assert not any("corners" in warning for warning in report.warnings)


def test_ground_control_points_are_kept_and_scaled(tmp_path):
    source = write_rgb(tmp_path / "scene.tif", noise(3, 60, 80), crs=None, transform=IDENTITY)
    corners = [(0, 0), (0, 80), (60, 0), (60, 80)]
    points = [GroundControlPoint(row, col, 500_000 + 2 * col, 5e6 - 2 * row, 3) for row, col in corners]
    with rasterio.open(source, "r+") as file:
        file.gcps = points, CRS.from_epsg(32633)
    report = draw(source, tmp_path / "map.tif", resolution=4.0)
    with gdal(), rasterio.open(tmp_path / "map.tif") as file:
        kept, crs = file.gcps
        assert crs == "EPSG:32633" and file.shape == (30, 40)
    assert [(point.row, point.col, point.x, point.y, point.z) for point in kept] == [
        (row / 2, col / 2, 500_000 + 2 * col, 5e6 - 2 * row, 3) for row, col in corners
    ]
    (warning,) = report.warnings
    assert "scene.tif has 4 ground control points and no transform; its map keeps them." in warning


def test_the_check_sees_the_maps_grid_before_anything_is_drawn(tmp_path):
    source = write_rgb(tmp_path / "scene.tif", noise(3, 60, 80))
    seen = []

    def refuse(grid):
        seen.append((grid.width, grid.height, grid.crs.to_epsg(), grid.transform.a))
        raise RuntimeError

    with pytest.raises(RuntimeError):
        draw(source, tmp_path / "map.tif", pytest.fail, resolution=1.0, check=refuse)
    assert seen == [(40, 30, 2180, pytest.approx(1.0))]
    assert [path.name for path in tmp_path.iterdir()] == ["scene.tif"]


def test_a_map_is_written_through_a_link(tmp_path):
    source = write_rgb(tmp_path / "scene.tif", noise(3, 40, 50))
    (tmp_path / "real").mkdir()
    (tmp_path / "map.tif").symlink_to("real/other.tif")
    for _ in range(2):
        assert draw(source, tmp_path / "map.tif").map == "map.tif"
        assert (tmp_path / "map.tif").is_symlink()
        assert [path.name for path in (tmp_path / "real").iterdir()] == ["other.tif"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.tif", "real", "scene.tif"]


def test_a_folder_that_cannot_be_written_is_refused_before_the_drawing(tmp_path):
    source = write_rgb(tmp_path / "scene.tif", noise(3, 40, 50))
    (tmp_path / "file").touch()
    for out in (tmp_path / "file" / "map.tif", tmp_path / "file" / "deep" / "map.tif"):
        with pytest.raises(StorageError, match=r"map\.tif can't be written \(Not a directory\): a file is in the"):
            draw(source, out, pytest.fail)
