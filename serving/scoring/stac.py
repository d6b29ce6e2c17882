"""STAC items for drawn maps: location, time, model and files (STAC 1.1)."""

import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from model.errors import ConfigError, DataError
from model.io.files import sha256, write_text
from model.io.images import short_name
from model.spec import Frozen
from serving.geo.antimeridian import DIGITS
from serving.geo.footprint import Footprint, has_degrees, measure_pixel
from serving.geo.gdal import gdal, metadata_errors
from serving.geo.raster import open_raster
from serving.vectors.surface import covered_box

EXTENSIONS = (
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/processing/v1.1.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
)
EARLIEST = "1970-01-01T00:00:00Z"
"""Start of the time range of a photo whose time is unknown: the earliest that every client can read."""
COG = "image/tiff; application=geotiff; profile=cloud-optimized"
VECTORS = {".gpkg": "application/geopackage+sqlite3", ".geojson": "application/geo+json"}
SHA256 = "1220"
"""Prefix of a sha256 multihash: the code of the function, 0x12, and its length of 32 bytes, 0x20."""


BOX = "an approximate box around the part in which the coordinate system is valid"


class ModelFacts(Frozen):
    """The model that drew a map."""

    name: str
    version: str | None
    """Version number in the registry; None for models that aren't registered."""
    sha256: str
    """sha256 of the model file."""
    variant: str
    """Variant of the model, for instance fp32 or int8."""
    run_id: str
    """ID of the run that trained the model."""
    software: str
    """Version of sat2map that drew the map."""


def write_item(map_file: Path, out: Path, *, model: ModelFacts, vector: Path | None = None) -> tuple[str, ...]:
    """Write a STAC 1.1 item for a map, with the projection, processing and file extensions.

    - `geometry` is the outline of the map in degrees of WGS 84, cut at the antimeridian; `bbox` of a map that crosses
      it has a western longitude greater than the eastern (RFC 7946, sections 3.1.9 and 5.2). If the map has no
      georeference, `geometry` is null, and `bbox` and all `proj:` fields but `proj:shape` are omitted.
    - If the map reaches beyond the area in which its coordinate system is valid, as a globe does in most projections,
      `geometry` is a box around the valid part, and `sat2map:outline` says so.
    - `datetime` is the time the photo was taken: the map's TIFFTAG_DATETIME, which has no time zone and is read as
      UTC. If it is missing or not in TIFF's format (then it is kept as `sat2map:tifftag_datetime`), `datetime` is null
      and the time range reaches from 1970 to the creation of the item.
    - `created` is the time the item was written.
    - `gsd` is the size in metres of a pixel on the ground, at the centre of the map; for pixels that aren't square,
      the geometric mean of their sides.
    - `sat2map:` fields identify the model. (STAC's `mlm:` fields describe a model itself, not its results.)

    Args:
        map_file: A Cloud Optimized GeoTIFF.
        out: The file to write; links to the map and to the polygons are relative to it.
        model: The model that drew the map.
        vector: The map's polygons, .gpkg or .geojson, if there are any.

    Returns:
        Sentences about the item for the user.

    Raises:
        ConfigError: `vector` has another suffix.
        DataError: The map can't be read or has no location on the Earth; or a file can't be read or written.
    """
    if vector is not None and vector.suffix.lower() not in VECTORS:
        raise ConfigError(f"{vector.name!r} can't be listed in an item; give polygons as a .gpkg or .geojson file.")
    item = _describe(map_file, model)
    try:
        item["assets"] = {"map": _asset(map_file, out, COG, "Street map", ["data", "visual"])}
        if vector is not None:
            kind = VECTORS[vector.suffix.lower()]
            item["assets"]["vector"] = _asset(vector, out, kind, "Street map as polygons", ["data"])
        write_text(out, json.dumps(item, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    except OSError as error:
        raise DataError(f"{out} can't be written ({error}); choose another folder or free some space.") from error
    if "sat2map:outline" not in item["properties"]:
        return ()
    return (
        f"{short_name(map_file)} reaches beyond the area in which its coordinate system is valid; the outline in its "
        "STAC item is an approximate box around the valid part.",
    )


def _describe(map_file: Path, model: ModelFacts) -> dict[str, Any]:
    """Return the item of a map without its assets."""
    created = datetime.now(UTC)
    with gdal(), open_raster(map_file) as dataset, metadata_errors(map_file):
        item = {
            "type": "Feature",
            "stac_version": "1.1.0",
            "stac_extensions": list(EXTENSIONS),
            "id": map_file.stem,
            **_location_fields(dataset, short_name(map_file)),
            "links": [],
        }
        item["properties"] = {
            **_time_fields(dataset.tags().get("TIFFTAG_DATETIME", ""), created),
            "created": _utc(created),
            **item["properties"],
            "processing:lineage": "A street map drawn from an aerial or satellite photo by a generative network.",
            "processing:software": {"sat2map": model.software},
            **{f"sat2map:{key}": value for key, value in _model_fields(model).items()},
        }
    return item


def _location_fields(dataset: Any, name: str) -> dict[str, Any]:  # noqa: ANN401 - a rasterio dataset
    """Return the item's geometry and bbox, and the properties that follow from the map's georeference."""
    shape = {"proj:shape": list(dataset.shape)}
    if dataset.crs is None or dataset.transform.is_identity:
        return {"geometry": None, "properties": shape}
    outline = _find_outline(dataset, name)
    # Not dataset.bounds, which is wrong for rotated rasters.
    xs, ys = zip(*(dataset.transform @ (x, y) for x in (0, dataset.width) for y in (0, dataset.height)), strict=True)
    authority = dataset.crs.to_authority()
    properties = {
        **outline.properties,
        "proj:code": ":".join(authority) if authority else None,
        **({} if authority else {"proj:wkt2": dataset.crs.to_wkt(version="WKT2_2019")}),
        **shape,
        "proj:bbox": [min(xs), min(ys), max(xs), max(ys)],
        "proj:transform": list(dataset.transform)[:6],
    }
    return {
        "geometry": outline.geometry,
        "bbox": [round(value, DIGITS) for value in outline.bounds],
        "properties": properties,
    }


class _Outline(NamedTuple):
    """The outline of a map in degrees, and the properties of an item that come with it."""

    geometry: dict[str, Any]
    bounds: tuple[float, float, float, float]
    properties: dict[str, Any]


def _find_outline(dataset: Any, name: str) -> _Outline:  # noqa: ANN401 - a rasterio dataset
    """Return the outline of a map, or a box around the part of it that can be converted to degrees.

    Raises:
        DataError: No part can be converted.
    """
    try:
        footprint = Footprint(dataset, name)
    except DataError:
        box = covered_box(dataset) if has_degrees(dataset.crs) else None
        if box is None:
            raise
        pixel = measure_pixel(dataset)
        size = {"gsd": round(pixel.mean, 3)} if pixel else {}
        return _Outline(box.geometry, box.bounds, {**size, "sat2map:outline": BOX})
    return _Outline(footprint.geojson(), footprint.bounds, {"gsd": round(footprint.pixel.mean, 3)})


def _time_fields(tag: str, created: datetime) -> dict[str, str | None]:
    """Return the fields of the time the photo was taken."""
    try:
        # TIFF 6.0, section 8; blank if unknown.
        return {"datetime": _utc(datetime.strptime(tag.strip(), "%Y:%m:%d %H:%M:%S"))}
    except ValueError:
        kept = {"sat2map:tifftag_datetime": tag} if tag.strip() else {}
        return {"datetime": None, "start_datetime": EARLIEST, "end_datetime": _utc(created), **kept}


def _utc(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def _model_fields(model: ModelFacts) -> dict[str, str]:
    """Return the known facts as fields."""
    facts = model.model_dump(exclude={"software"}, exclude_none=True)
    return {key if key == "run_id" else f"model_{key}": value for key, value in facts.items()}


def _asset(file: Path, item: Path, kind: str, title: str, roles: list[str]) -> dict[str, Any]:
    path = os.path.relpath(file.absolute(), item.absolute().parent)
    href = quote(path.replace(os.sep, "/"))
    return {
        "href": href if re.match(r"\.\./", href) else f"./{href}",
        "type": kind,
        "title": title,
        "roles": roles,
        "file:size": file.stat().st_size,
        "file:checksum": SHA256 + sha256(file),
    }
