"""The files of polygons: a GeoPackage with a layer for the map, or a GeoJSON file."""

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.errors import ConfigError, DataError
from model.io.files import check_writable, new_file, scratch_folder
from model.spec import Frozen, Palette
from serving.geo.antimeridian import DIGITS
from serving.geo.gdal import check_path, reason
from serving.vectors.geopackage import check_geopackage, copy_of

FORMATS = {".gpkg": "GPKG", ".geojson": "GeoJSON"}
LAYER = "map"
FIELDS = ("class", "colour", "area_m2")
DEGREES = "EPSG:4326"


class ClassPolygons(Frozen):
    """The features of one class."""

    polygons: int
    area_m2: float


@dataclass(frozen=True)
class Features:
    """Polygons ready to be written, and their areas.

    Attributes:
        shapes: Polygons as well-known binary (n,), which takes a fraction of the memory of geometries.
        areas: Areas in square metres, (n,).
    """

    shapes: NDArray[np.object_]
    areas: NDArray[np.float64]

    @classmethod
    def join(cls, parts: Sequence["Features"]) -> "Features":
        """Return the features of all parts."""
        return cls(np.concatenate([part.shapes for part in parts]), np.concatenate([part.areas for part in parts]))

    def summary(self) -> ClassPolygons:
        """Return the number of polygons and their total area."""
        return ClassPolygons(polygons=len(self.areas), area_m2=float(self.areas.sum()))


def vector_driver(out: Path) -> str:
    """Return the GDAL driver for a file name.

    Raises:
        ConfigError: The name doesn't end in .gpkg or .geojson.
    """
    driver = FORMATS.get(out.suffix.lower())
    if driver is None:
        raise ConfigError(
            f"Polygons can't be written as {out.name or str(out)!r}; name a file that ends in .gpkg or .geojson."
        )
    return driver


def check_vector_file(out: Path, crs: Any = DEGREES) -> None:  # noqa: ANN401 - a text or rasterio's
    """Check that polygons in a coordinate system can be written to `out`, before long work.

    Raises:
        ConfigError: The name doesn't end in .gpkg or .geojson.
        DataError: The folder or the file can't be written, is a GeoPackage that can't take the layer or a GeoJSON file
            of something else; or GDAL can't write such files.
    """
    driver = vector_driver(out)
    check_path(out)
    check_writable(out)
    if out.is_dir():
        raise DataError(f"{out} is a folder; name a file for the polygons.")
    if out.exists() and not os.access(out, os.W_OK):
        raise DataError(f"{out} is read-only; name another file for the polygons.")
    if driver == "GPKG":
        check_geopackage(out, LAYER, FIELDS)
    elif out.exists() and not _is_own(out):
        raise DataError(f"{out} exists and holds something else than the polygons of a map; name another file.")
    _try_driver(driver, DEGREES if driver == "GeoJSON" else crs)


def _try_driver(driver: str, crs: Any) -> None:  # noqa: ANN401
    """Write a file without features; the driver may lack its data.

    Raises:
        DataError: GDAL can't write it.
    """
    import pyogrio

    suffix = next(ending for ending, known in FORMATS.items() if known == driver)
    try:
        with scratch_folder() as folder:
            nothing = np.array([], object)
            _write(folder / f"try{suffix}", nothing, {name: nothing for name in FIELDS}, driver, crs)
    except (OSError, pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, pyogrio.errors.CRSError) as error:
        raise DataError(
            f"GDAL can't write {suffix} files here ({reason(error)}); name a file of the other format."
        ) from error


def _is_own(geojson: Path) -> bool:
    """Return whether a GeoJSON file is empty or begins as those that `write_features` writes."""
    with geojson.open("rb") as file:
        begin = file.read(4096)
    fields = all(f'"{name}":'.encode() in begin for name in FIELDS)
    return not begin.strip() or (f'"name": "{LAYER}"'.encode() in begin and (fields or b'"features": [\n]' in begin))


def write_features(features: Mapping[str, Features], palette: Palette, out: Path, crs: str) -> str:
    """Write the features of each class, completely or not at all, and return the file's coordinate system.

    Other layers and tables of an existing GeoPackage stay as they are.

    Raises:
        DataError: The file can't be written.
    """
    import pyogrio

    counts = [len(found.areas) for found in features.values()]
    fields = {
        "class": np.repeat(np.array(list(features), object), counts),
        "colour": np.repeat(np.array([palette.classes[name][0] for name in features], object), counts),
        "area_m2": np.concatenate([found.areas for found in features.values()]),
    }
    driver = vector_driver(out)
    mode = out.stat().st_mode if out.exists() else None
    shapes = np.concatenate([found.shapes for found in features.values()])
    try:
        with new_file(out) as draft:
            with _layer_in(draft, out, driver) as layer:
                _write(draft, shapes, fields, driver, crs, layer=layer)
            stored = read_crs(draft)
        if mode is not None:
            out.chmod(mode)
        return stored
    except (OSError, pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise DataError(
            f"{out} can't be written ({reason(error)}); choose another folder or free some space."
        ) from error


def _write(
    file: Path,
    shapes: NDArray[np.object_],
    fields: Mapping[str, NDArray[Any]],
    driver: str,
    crs: Any,  # noqa: ANN401
    *,
    layer: str = LAYER,
) -> None:
    """Write a layer into a file that may have others."""
    import pyogrio

    # The polygons are cut at the antimeridian already.
    geojson = {"RFC7946": "YES", "COORDINATE_PRECISION": str(DIGITS), "WRAPDATELINE": "NO"}
    with _no_warnings():
        pyogrio.raw.write(
            file,
            shapes,
            list(fields.values()),
            list(fields),
            layer=layer,
            driver=driver,
            geometry_type="Polygon" if driver == "GPKG" else "Unknown",
            crs=crs if isinstance(crs, str) else crs.to_wkt(),
            **(geojson if driver == "GeoJSON" else {}),
        )


def read_crs(file: Path) -> str:
    """Return the coordinate system of a file's layer: its code, or well-known text."""
    import pyogrio
    from rasterio.crs import CRS

    with _no_warnings():
        return str(CRS.from_user_input(pyogrio.read_info(file, layer=LAYER)["crs"]).to_string())


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Ignore GDAL's warnings of what it doesn't know in the other tables of a GeoPackage."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


@contextmanager
def _layer_in(draft: Path, out: Path, driver: str) -> Iterator[str]:
    """Prepare the draft of `out` for a new layer, and yield the layer's name there."""
    if driver == "GPKG":
        with copy_of(out, draft, LAYER) as layer:
            yield layer
    else:
        draft.unlink()
        yield LAYER
