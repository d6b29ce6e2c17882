"""Drawn maps become polygons that a GIS can use: valid, in the right place, of the right class."""

import json
import subprocess
import sys

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from affine import Affine
from scipy.ndimage import gaussian_filter

from model.errors import ConfigError, DataError
from model.spec import Palette
from serving.geo.geotiff import gdal
from serving.vectors.classes import BLOCK
from serving.vectors.vector_layer import write_vectors
from tests.fixtures.progress import RecordedProgress

CLASSES = {
    "road": ("#ffffff", "#ffaa33"),
    "water": ("#aad3ff",),
    "park": ("#c8dfab",),
    "building": ("#d9d0c9",),
    "ground": ("#f2efe9",),
}
PALETTE = Palette(classes=CLASSES)
ROAD, WATER, PARK, BUILDING, GROUND = range(5)
EVERYTHING = tuple(CLASSES)
HALF_METRES = Affine(0.5, 0, 500000, 0, -0.5, 5540000)
TRUE_AREA = 0.25 / 0.9996**2
"""Of a pixel of these on the ground: the scale on the central meridian of a UTM zone is 0.9996."""


@pytest.fixture
def paint(tmp_path):
    """Return a function that writes classes, (H, W), as a map; `alpha` is what can be seen of it."""

    def write(classes, *, crs="EPSG:32633", transform=HALF_METRES, alpha=None, name="map.tif", **changes):
        colours = np.array([list(bytes.fromhex(colours[0][1:])) for colours in CLASSES.values()], np.uint8)
        bands = np.moveaxis(colours[np.array(classes)], -1, 0)
        if alpha is not None:
            bands = np.concatenate([bands, np.where(alpha, 255, 0).astype(np.uint8)[None]])
            changes["alpha"] = "YES"
        profile = {"driver": "GTiff", "count": len(bands), "dtype": "uint8", "photometric": "RGB", "tiled": True}
        size = {"height": bands.shape[1], "width": bands.shape[2]}
        with (
            gdal(),
            rasterio.open(tmp_path / name, "w", crs=crs, transform=transform, **profile | size | changes) as dataset,
        ):
            dataset.write(bands)
        return tmp_path / name

    return write


def town(size=(120, 160)):
    """Lay out a lake, a park, a house and a road from west to east on open ground."""
    classes = np.full(size, GROUND)
    classes[10:40, 20:70] = WATER
    classes[70:110, 90:150] = PARK
    classes[80:90, 20:36] = BUILDING
    classes[50:58] = ROAD
    return classes


def blobs(seed, size, sigma=3):
    noise = np.random.default_rng(seed).normal(size=(5, *size))
    return np.stack([gaussian_filter(layer, sigma) for layer in noise]).argmax(axis=0)


def read(file):
    """Read a layer as its metadata, and features of geometry and attributes."""
    about, _, shapes, fields = pyogrio.raw.read(file)
    assert list(about["fields"]) == ["class", "colour", "area_m2"]
    return about, shapely.from_wkb(shapes), dict(zip(about["fields"], fields, strict=True))


def boxes(file, transform=HALF_METRES):
    """Return the pixel bounds (left, top, right, bottom) of every feature by class."""
    _, shapes, fields = read(file)
    back = ~transform
    found = {}
    for name, shape in zip(fields["class"], shapes, strict=True):
        (left, bottom), (right, top) = (back @ end for end in (shape.bounds[:2], shape.bounds[2:]))
        found.setdefault(name, []).append(tuple(round(value, 6) for value in (left, top, right, bottom)))
    return found


def refused(kind, map_file, out, **options):
    """See that nothing is written, and return the message."""
    before = sorted(out.parent.iterdir())
    with pytest.raises(kind) as stopped:
        write_vectors(map_file, out, PALETTE, **options)
    assert sorted(out.parent.iterdir()) == before
    return str(stopped.value)


# What is written


def test_each_class_is_where_it_was_painted(paint, tmp_path):
    report = write_vectors(paint(town()), tmp_path / "out" / "map.gpkg", PALETTE)
    assert boxes(tmp_path / "out" / "map.gpkg") == {
        "road": [(0, 50, 160, 58)],
        "water": [(20, 10, 70, 40)],
        "park": [(90, 70, 150, 110)],
        "building": [(20, 80, 36, 90)],
    }
    _, shapes, fields = read(tmp_path / "out" / "map.gpkg")
    assert fields["colour"].tolist() == ["#ffffff", "#aad3ff", "#c8dfab", "#d9d0c9"]
    pixels = [8 * 160, 30 * 50, 40 * 60, 10 * 16]
    assert fields["area_m2"] == pytest.approx(np.array(pixels) * TRUE_AREA, rel=1e-4)
    assert shapely.area(shapes) == pytest.approx(np.array(pixels) * 0.25)
    assert {name: found.polygons for name, found in report.classes.items()} == dict.fromkeys(EVERYTHING[:4], 1)
    assert report.classes["park"].area_m2 == pytest.approx(2400 * TRUE_AREA, rel=1e-4)
    assert (report.crs, report.min_pixels, report.file) == ("EPSG:32633", 25, "map.gpkg")


def test_a_geopackage_has_one_layer_in_the_maps_coordinate_system(paint, tmp_path):
    write_vectors(paint(town()), tmp_path / "map.gpkg", PALETTE)
    assert pyogrio.list_layers(tmp_path / "map.gpkg").tolist() == [["map", "Polygon"]]
    assert read(tmp_path / "map.gpkg")[0]["crs"] == "EPSG:32633"


def test_geojson_follows_its_standard(paint, tmp_path):
    report = write_vectors(paint(town()), tmp_path / "map.geojson", PALETTE, classes=EVERYTHING)
    written = json.loads((tmp_path / "map.geojson").read_text())
    assert report.crs == "EPSG:4326" and written["type"] == "FeatureCollection" and "crs" not in written
    for feature in written["features"]:
        shell, *holes = feature["geometry"]["coordinates"]
        assert shapely.LinearRing(shell).is_ccw and shell[0] == shell[-1]
        assert not any(shapely.LinearRing(hole).is_ccw for hole in holes)
    road = next(feature for feature in written["features"] if feature["properties"]["class"] == "road")
    # x = 500000 is the zone's meridian, 15 degrees east; 80 m to the east of it are 0.0011 degrees.
    west, south, east, north = shapely.geometry.shape(road["geometry"]).bounds
    assert (west, east) == (15.0, pytest.approx(15.00112, abs=2e-5)) and 50.0 < south < north < 50.02
    assert {len(str(value).partition(".")[2]) for point in shell for value in point} <= set(range(9))


@pytest.mark.parametrize("name", ["map.gpkg", "map.geojson"])
def test_polygons_of_a_wild_map_are_valid_and_share_their_borders(paint, tmp_path, name):
    transform = HALF_METRES @ Affine.rotation(20)
    write_vectors(paint(blobs(1, (300, 260)), transform=transform), tmp_path / name, PALETTE, classes=EVERYTHING)
    _, shapes, fields = read(tmp_path / name)
    assert len(shapes) > 50 and shapely.is_valid(shapes).all() and shapely.coverage_is_valid(shapes)
    # Neither a hole between the classes nor an overlap.
    assert fields["area_m2"].sum() == pytest.approx(300 * 260 * TRUE_AREA, rel=1e-4)


@pytest.mark.parametrize("size", [(BLOCK + 152, 150), (150, BLOCK + 152)])
def test_windows_leave_no_cuts(paint, tmp_path, size):
    classes = blobs(2, size, sigma=4)
    along = np.arange(max(size))
    band = (60 + along // 40)[:, None] + np.arange(8)
    if size[0] > size[1]:
        classes[along[:, None], band] = ROAD
    else:
        classes[band, along[:, None]] = ROAD
    write_vectors(paint(classes), tmp_path / "map.gpkg", PALETTE, classes=EVERYTHING)
    _, shapes, fields = read(tmp_path / "map.gpkg")
    assert shapely.is_valid(shapes).all() and shapely.coverage_is_valid(shapes)
    assert set(shapely.get_type_id(shapes)) == {shapely.GeometryType.POLYGON}
    for name in EVERYTHING:
        own = shapes[fields["class"] == name]
        touching = shapely.STRtree(own).query(own, predicate="intersects")
        lengths = shapely.length(shapely.intersection(own[touching[0]], own[touching[1]]))
        assert not lengths[touching[0] != touching[1]].any(), "two features of a class share a border"
    longest = max(shapely.length(shapes[fields["class"] == "road"]))
    assert longest > 2 * 0.5 * max(size), "the road is one piece from end to end"


def test_stairs_become_lines_and_corners_stay(paint, tmp_path):
    y, x = np.mgrid[:200, :200]
    classes = np.full((200, 200), GROUND)
    classes[np.abs(y - 40 - x / 3) < 6] = ROAD
    classes[150:170, 20:50] = BUILDING
    write_vectors(paint(classes), tmp_path / "map.gpkg", PALETTE)
    _, shapes, fields = read(tmp_path / "map.gpkg")
    road, building = (shapes[fields["class"] == name][0] for name in ("road", "building"))
    assert shapely.get_num_coordinates(building) == 5
    assert shapely.get_num_coordinates(road) < 15
    assert road.area == pytest.approx((classes == ROAD).sum() * 0.25, rel=0.01)


def test_progress_counts_windows(paint, tmp_path, capfd):
    progress = RecordedProgress()
    write_vectors(paint(town((BLOCK + 1, 160))), tmp_path / "map.gpkg", PALETTE, progress=progress)
    assert progress.totals == progress.counts == {"Reading the map": 2, "Tracing borders": 2}
    assert progress.steps == ["Clearing blurred borders and specks", "Writing map.gpkg"]
    assert capfd.readouterr() == ("", "")


# What is left out


def test_the_background_is_written_if_it_is_asked_for(paint, tmp_path):
    map_file = paint(town())
    report = write_vectors(map_file, tmp_path / "map.gpkg", PALETTE, classes=["ground", "water"])
    assert list(boxes(tmp_path / "map.gpkg")) == list(report.classes) == ["water", "ground"]
    _, shapes, fields = read(tmp_path / "map.gpkg")
    # The road cuts the ground in two, in which the lake, the park and the house are holes.
    assert sorted(len(shape.interiors) for shape in shapes[fields["class"] == "ground"]) == [1, 2]


@pytest.mark.parametrize(("min_area", "left"), [(None, [49]), (0, [4, 16, 49]), (4, [16, 49]), (4.1, [49]), (20, [])])
def test_specks_go_to_what_is_around_them(paint, tmp_path, min_area, left):
    classes = np.full((60, 60), GROUND)
    for side, place in ((2, 5), (4, 15), (7, 40)):
        classes[place : place + side, place : place + side] = BUILDING
    write_vectors(paint(classes), tmp_path / "map.gpkg", PALETTE, classes=EVERYTHING, min_area=min_area, tolerance=0)
    _, shapes, fields = read(tmp_path / "map.gpkg")
    assert np.rint(4 * shapely.area(shapes[fields["class"] == "building"])).tolist() == left
    assert shapely.area(shapes).sum() == pytest.approx(900)


def test_no_area_is_too_large_to_ask_for(paint, tmp_path):
    report = write_vectors(paint(town()), tmp_path / "map.gpkg", PALETTE, min_area=1e308)
    # GDAL's sieve leaves areas that have none but specks beside them.
    assert report.min_pixels == 600_000_000


def test_there_is_nothing_where_the_map_is_transparent(paint, tmp_path):
    y, x = np.mgrid[:120, :160]
    alpha = y > x / 2
    write_vectors(paint(town(), alpha=alpha), tmp_path / "map.gpkg", PALETTE, classes=EVERYTHING)
    _, shapes, _ = read(tmp_path / "map.gpkg")
    assert shapely.coverage_is_valid(shapes)
    seen = shapely.union_all(shapes)
    assert seen.area == pytest.approx(alpha.sum() * 0.25, rel=0.01)
    # The slanting edge is a line too: its stairs have 160 corners.
    assert shapely.get_num_coordinates(seen) < 30


def test_a_map_without_features_gives_an_empty_layer(paint, tmp_path):
    map_file = paint(town(), alpha=np.zeros((120, 160)))
    for name in ("map.gpkg", "map.geojson"):
        report = write_vectors(map_file, tmp_path / name, PALETTE)
        assert {found.polygons for found in report.classes.values()} == {0}
    about, shapes, _ = read(tmp_path / "map.gpkg")
    assert len(shapes) == 0 and about["crs"] == "EPSG:32633"
    assert json.loads((tmp_path / "map.geojson").read_text())["features"] == []


def test_the_blur_of_a_border_is_no_feature(paint, tmp_path):
    colours = np.zeros((80, 90, 3)) + list(bytes.fromhex(CLASSES["ground"][0][1:]))
    colours[20:60, 20:70] = list(bytes.fromhex(CLASSES["park"][0][1:]))
    blurred = np.stack([gaussian_filter(channel, 1.2) for channel in np.moveaxis(colours, -1, 0)])
    with gdal(), rasterio.open(paint(town((80, 90))), "r+") as dataset:
        dataset.write(np.rint(blurred).astype(np.uint8))
    report = write_vectors(tmp_path / "map.tif", tmp_path / "map.gpkg", PALETTE)
    assert {name: found.polygons for name, found in report.classes.items() if found.polygons} == {"park": 1}
    (park,) = read(tmp_path / "map.gpkg")[1]
    # Its border is less than a pixel off, all around.
    assert abs(park.area - 0.25 * 40 * 50) < 0.25 * 180


# What is refused


@pytest.mark.parametrize("name", ["map.shp", "map", "map.json", "gpkg"])
def test_other_formats_are_refused(paint, tmp_path, name):
    told = refused(ConfigError, paint(town()), tmp_path / name)
    assert told == f"Polygons can't be written as {name!r}; name a file that ends in .gpkg or .geojson."


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"classes": ["road", "rail"]}, "'rail' is no class of this map; it has road, water, park, building, ground."),
        ({"classes": []}, "No class is named; it has road, water, park, building, ground."),
        ({"min_area": -1.0}, "The smallest area can't be -1 square metres; give 0 or more."),
        ({"min_area": float("nan")}, "The smallest area can't be nan square metres; give 0 or more."),
        ({"tolerance": -0.5}, "A tolerance of -0.5 pixels can't be used; give 0 to 50."),
        ({"tolerance": float("inf")}, "A tolerance of inf pixels can't be used; give 0 to 50."),
    ],
)
def test_arguments_out_of_range_are_refused(paint, tmp_path, options, told):
    assert refused(ConfigError, paint(town()), tmp_path / "map.gpkg", **options) == told


@pytest.mark.parametrize("name", ["map.gpkg", "map.geojson"])
def test_a_map_without_georeference_is_refused(paint, tmp_path, name):
    map_file = paint(town(), crs=None, transform=Affine.identity())
    told = refused(DataError, map_file, tmp_path / name)
    assert "map.tif has no coordinate system, so its location is unknown" in told


def test_what_is_no_drawn_map_is_refused(paint, tmp_path):
    out = tmp_path / "map.gpkg"
    profile = {"driver": "GTiff", "height": 8, "width": 8, "crs": "EPSG:32633", "transform": HALF_METRES}
    profile["photometric"] = "MINISBLACK"
    for count, kind, told in (
        (1, "uint8", "1 band(s) of uint8"),
        (3, "uint16", "3 band(s) of uint16"),
        (4, "uint8", "4 band(s) of uint8"),
    ):
        with rasterio.open(tmp_path / "other.tif", "w", count=count, dtype=kind, **profile):
            pass
        assert f"other.tif has {told}" in refused(DataError, tmp_path / "other.tif", out)
    assert "gone.tif is missing" in refused(DataError, tmp_path / "gone.tif", out)
    (tmp_path / "text.tif").write_text("no map")
    assert "text.tif is of another format" in refused(DataError, tmp_path / "text.tif", out)


def test_a_map_too_large_for_memory_is_refused_before_it_is_read(tmp_path):
    profile = {"driver": "GTiff", "count": 3, "dtype": "uint8", "crs": "EPSG:32633", "transform": HALF_METRES}
    layout = {"tiled": True, "blockxsize": 2048, "blockysize": 2048, "sparse_ok": True}
    with rasterio.open(tmp_path / "large.tif", "w", height=30_000, width=30_000, **profile, **layout):
        pass
    told = refused(DataError, tmp_path / "large.tif", tmp_path / "map.gpkg")
    assert "large.tif has 30000x30000 pixels; maps of at most 600000000 can become polygons" in told


def test_pixels_too_fine_for_the_decimals_of_geojson_are_refused(paint, tmp_path):
    fine = Affine(0.001, 0, 500000, 0, -0.001, 5540000)
    told = refused(DataError, paint(town(), transform=fine), tmp_path / "map.geojson")
    assert told.endswith("has pixels of 0.001 m, too fine for GeoJSON with 8 decimals; name a .gpkg file.")
    write_vectors(paint(town(), transform=fine), tmp_path / "map.gpkg", PALETTE)
    assert len(boxes(tmp_path / "map.gpkg", fine)) == 4


def test_a_broken_map_leaves_the_earlier_polygons(paint, tmp_path):
    map_file = paint(blobs(3, (600, 600)), compress="deflate")
    write_vectors(map_file, tmp_path / "map.gpkg", PALETTE)
    before = (tmp_path / "map.gpkg").read_bytes()
    content = bytearray(map_file.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    map_file.write_bytes(content)
    assert "is broken or truncated" in refused(DataError, map_file, tmp_path / "map.gpkg")
    assert (tmp_path / "map.gpkg").read_bytes() == before


def test_earlier_polygons_are_replaced(paint, tmp_path):
    for name in ("map.gpkg", "map.geojson"):
        (tmp_path / name).write_bytes(b"something else")
        write_vectors(paint(town()), tmp_path / name, PALETTE)
        assert len(read(tmp_path / name)[1]) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.geojson", "map.gpkg", "map.tif"]


def test_a_place_that_cannot_be_written_is_told(paint, tmp_path):
    (tmp_path / "file").touch()
    map_file = paint(town())
    with pytest.raises(DataError, match=r"file/map\.gpkg can't be written \(.*\); choose another place, or make room"):
        write_vectors(map_file, tmp_path / "file" / "map.gpkg", PALETTE)


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from model.errors import DataError
from model.spec import Palette
from serving.vectors.vector_layer import write_vectors
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    write_vectors(Path(sys.argv[1]), Path(sys.argv[2]), Palette.model_validate_json(sys.argv[3]))
except DataError as error:
    print(error)
"""


@pytest.mark.parametrize("name", ["map.gpkg", "map.geojson"])
def test_a_full_disk_is_told_and_leaves_nothing(paint, tmp_path, name):
    out = tmp_path / "out" / name
    command = [sys.executable, "-c", FULL_DISK, paint(blobs(4, (500, 500))), out, PALETTE.model_dump_json()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert f"{name} can't be written (" in done.stdout and done.stdout.endswith("make room.\n")
    assert list(out.parent.iterdir()) == []
