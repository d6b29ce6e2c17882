"""STAC items of maps: valid, with location, time, model and files."""

import hashlib
import json
import math
from datetime import UTC, datetime, timedelta

import jsonschema
import numpy as np
import pystac
import pytest
import rasterio
import shapely
from affine import Affine
from pystac.validation.local_validator import get_local_schema_cache
from referencing import Registry, Resource

from model.errors import ConfigError, DataError
from serving.geo.gdal import gdal
from serving.inference.scene import draw_scene
from serving.scoring.map_files import item_file
from serving.scoring.stac import ModelFacts, write_item

MODEL = ModelFacts(name="sat2map", version="7", sha256="ab" * 32, variant="int8", run_id="1f0c", software="0.1.0")
TRANSFORM = Affine(0.5, 0, 500000, 0, -0.5, 5540000)


@pytest.fixture
def make_map(tmp_path):
    """Return a function that writes a small map."""

    def make(*, name="map.tif", crs="EPSG:32633", transform=TRANSFORM, **tags):
        profile = {"driver": "GTiff", "height": 200, "width": 300, "count": 3, "dtype": "uint8"}
        with gdal(), rasterio.open(tmp_path / name, "w", crs=crs, transform=transform, **profile) as dataset:
            dataset.write(np.full((3, 200, 300), 200, np.uint8))
            dataset.update_tags(**tags)
        return tmp_path / name

    return make


@pytest.fixture(scope="module")
def problems():
    """Return a function that validates an item against the schema of STAC 1.1.0 and returns the problems."""
    schemas = get_local_schema_cache()
    registry = Registry().with_resources((uri, Resource.from_contents(schema)) for uri, schema in schemas.items())
    schema = next(schema for uri, schema in schemas.items() if uri.endswith("/item.json"))
    validator = jsonschema.Draft7Validator(schema, registry=registry)
    return lambda item: [error.message for error in validator.iter_errors(item)]


def write(map_file, **options):
    """Write the item next to the map and return it."""
    assert write_item(map_file, item_file(map_file), model=MODEL, **options) == ()
    return json.loads(item_file(map_file).read_text(encoding="utf-8"))


def test_the_schema_finds_problems(make_map, problems):
    item = write(make_map())
    assert problems(item) == []
    assert problems(item | {"bbox": "none"}) and problems({**item, "properties": {}}) and problems({"type": "Feature"})


def test_the_item_has_the_maps_location(make_map, problems):
    item = write(make_map())
    assert problems(item) == [] and (item["stac_version"], item["id"]) == ("1.1.0", "map")
    footprint = shapely.geometry.shape(item["geometry"])
    assert footprint.is_valid and footprint.exterior.is_ccw
    assert item["bbox"] == pytest.approx([15.0, 50.0114, 15.0021, 50.0123], abs=1e-4) == list(footprint.bounds)
    properties = item["properties"]
    assert (properties["gsd"], properties["proj:code"], properties["proj:shape"]) == (0.5, "EPSG:32633", [200, 300])
    assert properties["proj:transform"] == [0.5, 0, 500000, 0, -0.5, 5540000] and "proj:wkt2" not in properties
    assert {uri.split("/")[3] for uri in item["stac_extensions"]} == {"projection", "processing", "file"}


@pytest.mark.parametrize(
    ("crs", "transform", "metres"),
    [
        # Sixty degrees north, where a metre of Web Mercator is half a metre.
        ("EPSG:3857", Affine(2, 0, 1500000, 0, -2, 8399738), 1.0),
        ("EPSG:4326", Affine(1 / 3600, 0, 15, 0, -1 / 3600, 60), math.sqrt(15.50 * 30.95)),
        ("EPSG:32633", TRANSFORM @ Affine.rotation(20) @ Affine.shear(20, 0), 0.5 / math.sqrt(math.cos(0.349))),
    ],
)
def test_gsd_is_the_ground_resolution_that_the_manifest_reports(make_map, tmp_path, crs, transform, metres):
    scene = make_map(name="scene.tif", crs=crs, transform=transform)
    report = draw_scene(lambda tiles: tiles, scene, tmp_path / "map.tif", side=64, model="none")
    gsd = write(tmp_path / "map.tif")["properties"]["gsd"]
    assert gsd == pytest.approx(metres, rel=3e-3) and gsd == round(math.sqrt(report.ground[0] * report.ground[1]), 3)


def test_the_item_names_the_model(make_map):
    properties = write(make_map())["properties"]
    assert {key: value for key, value in properties.items() if key.startswith("sat2map:")} == {
        "sat2map:model_name": "sat2map",
        "sat2map:model_version": "7",
        "sat2map:model_sha256": "ab" * 32,
        "sat2map:model_variant": "int8",
        "sat2map:run_id": "1f0c",
    }
    assert properties["processing:software"] == {"sat2map": "0.1.0"}


def test_a_model_that_is_not_registered_has_no_version(make_map):
    map_file = make_map()
    write_item(map_file, item_file(map_file), model=MODEL.model_copy(update={"version": None}))
    assert "sat2map:model_version" not in json.loads(item_file(map_file).read_text())["properties"]


def test_the_time_of_the_photo_is_read_from_the_map(make_map, problems):
    item = write(make_map(TIFFTAG_DATETIME="2019:07:05 09:30:00"))
    properties = item["properties"]
    assert problems(item) == [] and properties["datetime"] == "2019-07-05T09:30:00Z"
    assert "start_datetime" not in properties and properties["created"] > "2020"


@pytest.mark.parametrize("tag", [None, "   ", "2019-07-05", "2019:13:05 09:30:00", "0000:00:00 00:00:00"])
def test_an_unknown_time_is_a_range(make_map, problems, tag):
    item = write(make_map(**({} if tag is None else {"TIFFTAG_DATETIME": tag})))
    properties = item["properties"]
    assert problems(item) == [] and properties["datetime"] is None
    assert properties["start_datetime"] == "1970-01-01T00:00:00Z"
    assert properties["end_datetime"] == properties["created"]
    created = datetime.strptime(properties["created"], "%Y-%m-%dT%H:%M:%S%z")
    assert timedelta() <= datetime.now(UTC) - created < timedelta(minutes=5)
    assert properties.get("sat2map:tifftag_datetime", "") == (tag or "").strip()


def test_files_are_listed_with_size_and_checksum(make_map, tmp_path, problems):
    map_file = make_map()
    polygons = tmp_path / "map.gpkg"
    polygons.write_bytes(b"polygons")
    item = write(map_file, vector=polygons)
    assert problems(item) == [] and list(item["assets"]) == ["map", "vector"]
    content = map_file.read_bytes()
    assert item["assets"]["map"] == {
        "href": "./map.tif",
        "type": "image/tiff; application=geotiff; profile=cloud-optimized",
        "title": "Street map",
        "roles": ["data", "visual"],
        "file:size": len(content),
        "file:checksum": "1220" + hashlib.sha256(content).hexdigest(),
    }
    assert item["assets"]["vector"]["type"] == "application/geopackage+sqlite3"
    polygons = polygons.rename(tmp_path / "map.geojson")
    assert write(map_file, vector=polygons)["assets"]["vector"]["type"] == "application/geo+json"
    assert "vector" not in write(map_file)["assets"]


def test_links_are_relative_and_can_be_followed(make_map, tmp_path):
    map_file = make_map(name="Łódź, Süd 2.tif")
    assert item_file(map_file).name == "Łódź, Süd 2.stac.json"
    item = write(map_file)
    assert (
        item["id"] == "Łódź, Süd 2" and item["assets"]["map"]["href"] == "./%C5%81%C3%B3d%C5%BA%2C%20S%C3%BCd%202.tif"
    )
    elsewhere = tmp_path / "items" / "a.stac.json"
    write_item(make_map(), elsewhere, model=MODEL)
    assert json.loads(elsewhere.read_text())["assets"]["map"]["href"] == "../map.tif"
    # Another reader finds the file.
    read = pystac.Item.from_file(elsewhere)
    assert read.assets["map"].get_absolute_href() == str(tmp_path / "map.tif")


def test_a_map_without_georeference_has_no_geometry(make_map, problems):
    item = write(make_map(crs=None, transform=Affine.identity()))
    assert problems(item) == [] and item["geometry"] is None and "bbox" not in item
    assert {key for key in item["properties"] if key.startswith(("proj:", "gsd"))} == {"proj:shape"}


def test_a_coordinate_system_without_a_code_is_written_as_wkt(make_map, problems):
    item = write(make_map(crs="+proj=laea +lat_0=50 +lon_0=15 +datum=WGS84", transform=Affine(0.5, 0, 0, 0, -0.5, 0)))
    assert problems(item) == [] and item["properties"]["proj:code"] is None
    assert item["properties"]["proj:wkt2"].startswith("PROJCRS[")
    assert item["bbox"] == pytest.approx([15, 49.9991, 15.0021, 50], abs=1e-4)


@pytest.mark.parametrize(
    ("crs", "transform", "bbox", "kind"),
    [
        ("EPSG:32660", Affine(500, 0, 750000, 0, -500, 100000), [179.25, 0, -179.41, 0.9], "MultiPolygon"),
        ("EPSG:3031", Affine(100, 0, -15000, 0, -100, 10000), [-180, -90, 180, -89.83], "Polygon"),
        ("EPSG:4326", Affine(1.2, 0, 0, 0, -0.9, 90), [-180, -90, 180, 90], "Polygon"),
        ("EPSG:4326", Affine(1e-4, 0, 245.2, 0, -1e-4, 35), [-114.8, 34.98, -114.77, 35], "Polygon"),
    ],
)
def test_a_map_across_180_degrees_or_at_a_pole_has_an_item(make_map, problems, crs, transform, bbox, kind):
    item = write(make_map(crs=crs, transform=transform))
    assert problems(item) == [] and item["bbox"] == pytest.approx(bbox, abs=0.01)
    footprint = shapely.geometry.shape(item["geometry"])
    assert footprint.is_valid and footprint.geom_type == kind and item["properties"]["gsd"] > 0
    west, _, east, _ = footprint.bounds
    assert -180 <= west < east <= 180


def test_a_rotated_map_has_its_own_extent(make_map, problems):
    item = write(make_map(transform=Affine(0, 0.5, 500000, 0.5, 0, 5540000)))
    assert problems(item) == [] and item["properties"]["proj:bbox"] == [500000, 5540000, 500100, 5540150]


def test_codes_of_other_authorities_are_kept(make_map, problems):
    item = write(make_map(crs="ESRI:54009"))
    assert problems(item) == [] and item["properties"]["proj:code"] == "ESRI:54009"


@pytest.mark.parametrize(
    ("crs", "half", "box"),
    [
        ("ESRI:54009", (18_040_095, 9_020_047), (-180, -90, 180, 90)),
        ("EPSG:3408", (12_700_000, 12_700_000), (-180, -85, 180, 90)),
        # A geostationary satellite sees 81 degrees to each side.
        ("+proj=geos +h=35785831 +lon_0=-75 +sweep=x", (5_500_000, 5_500_000), (-156, -81, 6, 81)),
        ("+proj=geos +h=35785831 +lon_0=140 +sweep=x", (5_500_000, 5_500_000), (59, -81, -139, 81)),
    ],
)
def test_a_globe_has_a_box_for_an_outline(make_map, problems, crs, half, box):
    x, y = half
    map_file = make_map(crs=crs, transform=Affine(2 * x / 300, 0, -x, 0, -2 * y / 200, y))
    (warning,) = write_item(map_file, item_file(map_file), model=MODEL)
    assert warning.endswith(
        "map.tif reaches beyond the area in which its coordinate system is valid; the outline in its STAC item is an "
        "approximate box around the valid part."
    )
    item = json.loads(item_file(map_file).read_text())
    assert problems(item) == [] and item["properties"]["sat2map:outline"].startswith("an approximate box around")
    assert item["bbox"] == pytest.approx(box, abs=12)
    outline = shapely.geometry.shape(item["geometry"])
    assert outline.is_valid and outline.geom_type == ("MultiPolygon" if box[0] > box[2] else "Polygon")
    assert all(part.exterior.is_ccw for part in getattr(outline, "geoms", [outline]))


def test_a_map_off_the_earth_is_refused_and_an_earlier_item_stays(make_map):
    map_file = make_map()
    write(map_file)
    before = item_file(map_file).read_bytes()
    make_map(crs='LOCAL_CS["building site",UNIT["metre",1]]')
    with pytest.raises(
        DataError, match=r"^The coordinate system of .*map\.tif, building site, can't be converted to deg"
    ):
        write(map_file)
    assert item_file(map_file).read_bytes() == before


def test_files_that_cannot_be_listed_or_written_are_reported(make_map, tmp_path):
    map_file = make_map()
    with pytest.raises(ConfigError, match=r"^'map\.shp' can't be listed in an item; give polygons as a \.gpkg"):
        write(map_file, vector=tmp_path / "map.shp")
    with pytest.raises(DataError, match="can't be written"):
        write(map_file, vector=tmp_path / "gone.gpkg")
    with pytest.raises(DataError, match="can't be written"):
        write_item(map_file, map_file / "a.stac.json", model=MODEL)
    with pytest.raises(DataError, match=r"gone\.tif is missing"):
        write_item(tmp_path / "gone.tif", tmp_path / "a.stac.json", model=MODEL)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.tif"]
