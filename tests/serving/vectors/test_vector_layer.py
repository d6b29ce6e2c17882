"""Polygons of drawn maps: valid, in the right position, of the right class."""

import json

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from affine import Affine
from scipy.ndimage import gaussian_filter

from serving.geo.gdal import gdal
from serving.vectors.classes import BLOCK
from serving.vectors.vector_layer import write_vectors
from tests.fixtures.painted_maps import (
    ALL_CLASSES,
    BUILDING,
    CLASSES,
    GROUND,
    HALF_METRES,
    PALETTE,
    ROAD,
    TRUE_AREA,
    blobs,
    read_layer,
    town,
)
from tests.fixtures.progress import RecordedProgress


def boxes(file, transform=HALF_METRES):
    """Return the pixel bounds (left, top, right, bottom) of every feature by class."""
    _, shapes, fields = read_layer(file)
    back = ~transform
    found = {}
    for name, shape in zip(fields["class"], shapes, strict=True):
        (left, bottom), (right, top) = (back @ end for end in (shape.bounds[:2], shape.bounds[2:]))
        found.setdefault(name, []).append(tuple(round(value, 6) for value in (left, top, right, bottom)))
    return found


# Features


def test_each_class_has_the_extent_that_was_painted(paint, tmp_path):
    report = write_vectors(paint(town()), tmp_path / "out" / "map.gpkg", PALETTE)
    assert boxes(tmp_path / "out" / "map.gpkg") == {
        "road": [(0, 50, 160, 58)],
        "water": [(20, 10, 70, 40)],
        "park": [(90, 70, 150, 110)],
        "building": [(20, 80, 36, 90)],
    }
    _, shapes, fields = read_layer(tmp_path / "out" / "map.gpkg")
    assert fields["colour"].tolist() == ["#ffffff", "#aad3ff", "#c8dfab", "#d9d0c9"]
    pixels = [8 * 160, 30 * 50, 40 * 60, 10 * 16]
    assert fields["area_m2"] == pytest.approx(np.array(pixels) * TRUE_AREA, rel=1e-4)
    assert shapely.area(shapes) == pytest.approx(np.array(pixels) * 0.25)
    assert {name: found.polygons for name, found in report.classes.items()} == dict.fromkeys(ALL_CLASSES[:4], 1)
    assert report.classes["park"].area_m2 == pytest.approx(2400 * TRUE_AREA, rel=1e-4)
    assert (report.crs, report.min_pixels, report.file) == ("EPSG:32633", 25, "map.gpkg")


def test_a_geopackage_has_one_layer_in_the_maps_coordinate_system(paint, tmp_path):
    write_vectors(paint(town()), tmp_path / "map.gpkg", PALETTE)
    assert pyogrio.list_layers(tmp_path / "map.gpkg").tolist() == [["map", "Polygon"]]
    assert read_layer(tmp_path / "map.gpkg")[0]["crs"] == "EPSG:32633"


def test_geojson_follows_rfc_7946(paint, tmp_path):
    report = write_vectors(paint(town()), tmp_path / "map.geojson", PALETTE, classes=ALL_CLASSES)
    written = json.loads((tmp_path / "map.geojson").read_text())
    assert report.crs == "EPSG:4326" and written["type"] == "FeatureCollection" and "crs" not in written
    for feature in written["features"]:
        shell, *holes = feature["geometry"]["coordinates"]
        assert shapely.LinearRing(shell).is_ccw and shell[0] == shell[-1]
        assert not any(shapely.LinearRing(hole).is_ccw for hole in holes)
    road = next(feature for feature in written["features"] if feature["properties"]["class"] == "road")
    # x = 500000 is the zone's meridian, 15 degrees east; 80 m to the east of it is 0.0011 degrees.
    west, south, east, north = shapely.geometry.shape(road["geometry"]).bounds
    assert (west, east) == (15.0, pytest.approx(15.00112, abs=2e-5)) and 50.0 < south < north < 50.02
    assert {len(str(value).partition(".")[2]) for point in shell for value in point} <= set(range(9))


@pytest.mark.parametrize("name", ["map.gpkg", "map.geojson"])
def test_polygons_of_random_areas_are_valid_and_share_their_borders(paint, tmp_path, name):
    transform = HALF_METRES @ Affine.rotation(20)
    write_vectors(paint(blobs(1, (300, 260)), transform=transform), tmp_path / name, PALETTE, classes=ALL_CLASSES)
    _, shapes, fields = read_layer(tmp_path / name)
    assert len(shapes) > 50 and shapely.is_valid(shapes).all() and shapely.coverage_is_valid(shapes)
    # There are no gaps between the classes and no overlaps.
    assert fields["area_m2"].sum() == pytest.approx(300 * 260 * TRUE_AREA, rel=1e-4)


@pytest.mark.parametrize("size", [(BLOCK + 152, 150), (150, BLOCK + 152)])
def test_windows_leave_no_cuts_in_polygons(paint, tmp_path, size):
    classes = blobs(2, size, sigma=4)
    along = np.arange(max(size))
    band = (60 + along // 40)[:, None] + np.arange(8)
    if size[0] > size[1]:
        classes[along[:, None], band] = ROAD
    else:
        classes[band, along[:, None]] = ROAD
    write_vectors(paint(classes), tmp_path / "map.gpkg", PALETTE, classes=ALL_CLASSES)
    _, shapes, fields = read_layer(tmp_path / "map.gpkg")
    assert shapely.is_valid(shapes).all() and shapely.coverage_is_valid(shapes)
    assert set(shapely.get_type_id(shapes)) == {shapely.GeometryType.POLYGON}
    for name in ALL_CLASSES:
        own = shapes[fields["class"] == name]
        touching = shapely.STRtree(own).query(own, predicate="intersects")
        lengths = shapely.length(shapely.intersection(own[touching[0]], own[touching[1]]))
        assert not lengths[touching[0] != touching[1]].any(), "two features of a class share a border"
    longest = max(shapely.length(shapes[fields["class"] == "road"]))
    assert longest > 2 * 0.5 * max(size), "the road is one piece from end to end"


def test_stairs_become_lines_and_corners_are_kept(paint, tmp_path):
    y, x = np.mgrid[:200, :200]
    classes = np.full((200, 200), GROUND)
    classes[np.abs(y - 40 - x / 3) < 6] = ROAD
    classes[150:170, 20:50] = BUILDING
    write_vectors(paint(classes), tmp_path / "map.gpkg", PALETTE)
    _, shapes, fields = read_layer(tmp_path / "map.gpkg")
    road, building = (shapes[fields["class"] == name][0] for name in ("road", "building"))
    assert shapely.get_num_coordinates(building) == 5
    assert shapely.get_num_coordinates(road) < 15
    assert road.area == pytest.approx((classes == ROAD).sum() * 0.25, rel=0.01)


def test_progress_counts_windows(paint, tmp_path, capfd):
    progress = RecordedProgress()
    write_vectors(paint(town((BLOCK + 1, 160))), tmp_path / "map.gpkg", PALETTE, progress=progress)
    assert progress.totals == progress.counts == {"Reading the map": 2, "Tracing borders": 2}
    assert progress.steps == ["Removing blurred borders and small areas", "Writing map.gpkg"]
    assert capfd.readouterr() == ("", "")


def test_earlier_polygons_are_replaced(paint, tmp_path):
    for name in ("map.gpkg", "map.geojson"):
        (tmp_path / name).touch()
        write_vectors(paint(town()), tmp_path / name, PALETTE, classes=["park"])
        write_vectors(paint(town()), tmp_path / name, PALETTE)
        assert len(read_layer(tmp_path / name)[1]) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.geojson", "map.gpkg", "map.tif"]


# Omitted areas


def test_the_background_is_written_on_request(paint, tmp_path):
    map_file = paint(town())
    report = write_vectors(map_file, tmp_path / "map.gpkg", PALETTE, classes=["ground", "water"])
    assert list(boxes(tmp_path / "map.gpkg")) == list(report.classes) == ["water", "ground"]
    _, shapes, fields = read_layer(tmp_path / "map.gpkg")
    # The road cuts the ground in two, in which the lake, the park and the house are holes.
    assert sorted(len(shape.interiors) for shape in shapes[fields["class"] == "ground"]) == [1, 2]


@pytest.mark.parametrize(("min_area", "left"), [(None, [49]), (0, [4, 16, 49]), (4, [16, 49]), (4.1, [49]), (20, [])])
def test_small_areas_are_merged_into_their_surroundings(paint, tmp_path, min_area, left):
    classes = np.full((60, 60), GROUND)
    for side, start in ((2, 5), (4, 15), (7, 40)):
        classes[start : start + side, start : start + side] = BUILDING
    write_vectors(paint(classes), tmp_path / "map.gpkg", PALETTE, classes=ALL_CLASSES, min_area=min_area, tolerance=0)
    _, shapes, fields = read_layer(tmp_path / "map.gpkg")
    assert np.rint(4 * shapely.area(shapes[fields["class"] == "building"])).tolist() == left
    assert shapely.area(shapes).sum() == pytest.approx(900)


def test_any_minimum_area_is_accepted(paint, tmp_path):
    report = write_vectors(paint(town()), tmp_path / "map.gpkg", PALETTE, min_area=1e308)
    # GDAL's sieve keeps areas if all their neighbours are small too.
    assert report.min_pixels == 600_000_000


def test_transparent_parts_have_no_features(paint, tmp_path):
    y, x = np.mgrid[:120, :160]
    alpha = y > x / 2
    write_vectors(paint(town(), alpha=alpha), tmp_path / "map.gpkg", PALETTE, classes=ALL_CLASSES)
    _, shapes, _ = read_layer(tmp_path / "map.gpkg")
    assert shapely.coverage_is_valid(shapes)
    seen = shapely.union_all(shapes)
    assert seen.area == pytest.approx(alpha.sum() * 0.25, rel=0.01)
    # The slanting edge is a line too; as stairs it would have 160 corners.
    assert shapely.get_num_coordinates(seen) < 30


def test_a_map_without_features_gives_an_empty_layer(paint, tmp_path):
    map_file = paint(town(), alpha=np.zeros((120, 160)))
    for name in ("map.gpkg", "map.geojson"):
        report = write_vectors(map_file, tmp_path / name, PALETTE)
        assert {found.polygons for found in report.classes.values()} == {0}
    about, shapes, _ = read_layer(tmp_path / "map.gpkg")
    assert len(shapes) == 0 and about["crs"] == "EPSG:32633"
    assert json.loads((tmp_path / "map.geojson").read_text())["features"] == []


def test_a_blurred_border_is_not_a_feature(paint, tmp_path):
    colours = np.zeros((80, 90, 3)) + list(bytes.fromhex(CLASSES["ground"][0][1:]))
    colours[20:60, 20:70] = list(bytes.fromhex(CLASSES["park"][0][1:]))
    blurred = np.stack([gaussian_filter(channel, 1.2) for channel in np.moveaxis(colours, -1, 0)])
    with gdal(), rasterio.open(paint(town((80, 90))), "r+") as dataset:
        dataset.write(np.rint(blurred).astype(np.uint8))
    report = write_vectors(tmp_path / "map.tif", tmp_path / "map.gpkg", PALETTE)
    assert {name: found.polygons for name, found in report.classes.items() if found.polygons} == {"park": 1}
    (park,) = read_layer(tmp_path / "map.gpkg")[1]
    # Its border is off by less than a pixel on all sides.
    assert abs(park.area - 0.25 * 40 * 50) < 0.25 * 180
