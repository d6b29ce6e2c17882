"""The grid of a raster: its pixels, and everything that relates them to the ground."""

import json
import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from serving.geo.gdal import forget_errors, gdal_errors

SAME = 1e-3
"""Largest distance in pixels between positions that count as the same."""


class Raster(Protocol):
    """The part of a rasterio dataset that a grid is made of."""

    @property
    def width(self) -> int: ...  # noqa: D102
    @property
    def height(self) -> int: ...  # noqa: D102
    @property
    def crs(self) -> Any: ...  # noqa: ANN401, D102
    @property
    def transform(self) -> Any: ...  # noqa: ANN401, D102
    @property
    def gcps(self) -> tuple[list[Any], Any]: ...  # noqa: D102
    @property
    def rpcs(self) -> Any: ...  # noqa: ANN401, D102


@dataclass(frozen=True)
class Grid:
    """A grid of pixels with its georeference, under the names that rasterio uses.

    Attributes:
        width: Number of columns.
        height: Number of rows.
        crs: The coordinate system, or None.
        transform: Transform from pixels to the coordinate system; the identity if it is unknown.
        gcps: Ground control points and their coordinate system; ([], None) without any.
        rpcs: Rational polynomial coefficients, the model of a satellite's camera; None without any.
    """

    width: int
    height: int
    crs: Any
    transform: Any
    gcps: tuple[list[Any], Any]
    rpcs: Any

    @classmethod
    def read(cls, raster: Raster) -> "Grid":
        """Return the grid of an opened raster."""
        return cls(raster.width, raster.height, raster.crs, raster.transform, raster.gcps, raster.rpcs)

    def resized(self, width: int, height: int) -> "Grid":
        """Return the grid of the same extent with another number of pixels."""
        across, down = self.width / width, self.height / height
        points, crs = self.gcps
        return Grid(
            width,
            height,
            self.crs,
            self.transform if self.transform.is_identity else self.transform @ self.transform.scale(across, down),
            ([_scale_point(point, across, down) for point in points], crs),
            self.rpcs and _scale_rpcs(self.rpcs, across, down),
        )

    def storable(self) -> "Grid":
        """Return this grid with what a GeoTIFF can hold of its coordinate system: all, or the horizontal part.

        If it can hold neither, the coordinate system stays as it is.
        """
        if self.crs is None or self.can_store(self.crs):
            return self
        flat = _horizontal(self.crs)
        return replace(self, crs=flat) if self.can_store(flat) else self

    def can_store(self, crs: Any) -> bool:  # noqa: ANN401 - rasterio's
        """Return whether a GeoTIFF of this grid can hold a coordinate system."""
        return self.has_system(_store(crs), crs)

    def write_to(self, dataset: Any) -> None:  # noqa: ANN401 - a rasterio dataset
        """Write the georeference into a new GeoTIFF, which holds either a transform or ground control points."""
        from rasterio.crs import CRS

        points, crs = self.gcps
        if self.rpcs:
            dataset.rpcs = self.rpcs
        if points and self.transform.is_identity:
            dataset.gcps = points, crs or CRS()
            return
        if self.crs:
            dataset.crs = self.crs
        if not self.transform.is_identity:
            dataset.transform = self.transform

    def differences(self, planned: "Grid", written: "Grid", name: str) -> tuple[str, ...]:
        """Return a sentence for each difference between this grid, of the scene `name`, and that of its map.

        Args:
            planned: This grid as `storable` returned it.
            written: The grid of the map's file.
            name: The scene's name.
        """
        sentences = []
        if not planned.has_system(written.crs, planned.crs):
            name_kept = written.crs and crs_name(written.crs)
            other = "another of that name" if name_kept == crs_name(self.crs) else f"{name_kept} instead"
            kept = f"the map has {other}" if written.crs else "the map has none"
            sentences.append(
                f"A GeoTIFF can't hold the coordinate system of {name}, {crs_name(self.crs)}: {kept}. Warp the scene "
                "to another one first (gdalwarp -t_srs EPSG:CODE IN OUT)."
            )
        elif planned.crs != self.crs:
            sentences.append(
                f"A GeoTIFF can't hold the heights in the coordinate system of {name}; its map is in the horizontal "
                f"part, {crs_name(planned.crs)}."
            )
        off = self._distance([written.transform @ at for at in self._corners()])
        if not off <= SAME:
            sentences.append(f"The corners of the map lie up to {off:.3g} pixels from those of {name}.")
        points, kept_points = len(self.gcps[0]), len(written.gcps[0])
        if points != kept_points:
            sentences.append(f"The map has {kept_points} of the {points} ground control points of {name}.")
        if self.rpcs and not written.rpcs:
            sentences.append(f"The map doesn't have the RPCs of {name}.")
        return tuple(sentences)

    def has_system(self, found: Any, wanted: Any) -> bool:  # noqa: ANN401 - rasterio's
        """Return whether the corners of this grid have the same positions in both coordinate systems."""
        from rasterio.warp import transform

        if found is None or wanted is None or found == wanted:
            return bool(found == wanted)
        try:
            # For instance, two systems are different for rasterio if their axes have another order.
            xs, ys = transform(wanted, found, *zip(*(self.transform @ at for at in self._corners()), strict=True))
        except gdal_errors():
            forget_errors()
            return False
        return self._distance(list(zip(xs, ys, strict=True))) <= SAME

    def _corners(self) -> list[tuple[int, int]]:
        return [(x, y) for x in (0, self.width) for y in (0, self.height)]

    def _distance(self, corners: list[tuple[float, float]]) -> float:
        """Return the largest distance in pixels between these corners and the grid's own."""
        own = np.array([self.transform @ at for at in self._corners()])
        if np.array_equal(own, corners, equal_nan=True):
            return 0.0
        side = np.abs(np.array(self.transform)[[0, 1, 3, 4]]).max()
        return float(np.hypot(*(np.array(corners) - own).T).max() / side) if side else math.inf


class Gap(NamedTuple):
    """The part of a georeference that a raster lacks.

    Attributes:
        found: A clause that says what it lacks.
        advice: A clause that says what to do.
        kept: Whether it has ground control points or RPCs instead, which a map can keep.
    """

    found: str
    advice: str
    kept: bool = False


def find_gap(raster: Raster, name: str) -> Gap | None:
    """Return what is missing in the georeference of the raster `name`, or None if it is complete."""
    if raster.crs is not None and not raster.transform.is_identity:
        return None
    if points := len(raster.gcps[0]):
        found = f"{name} has {points} ground control point{'s' * (points > 1)}"
        if raster.gcps[1]:
            return Gap(f"{found} and no transform", "warp it first (gdalwarp -t_srs EPSG:CODE IN OUT)", kept=True)
        advice = "warp it first (gdalwarp -s_srs EPSG:CODE_OF_POINTS -t_srs EPSG:CODE IN OUT)"
        return Gap(f"{found} in an unknown coordinate system and no transform", advice, kept=True)
    if raster.rpcs is not None:
        advice = "warp it first (gdalwarp -rpc -t_srs EPSG:CODE IN OUT)"
        return Gap(f"{name} has RPCs, which describe its camera, and no transform", advice, kept=True)
    options = ["-a_srs EPSG:CODE"] if raster.crs is None else []
    options += ["-a_ullr LEFT TOP RIGHT BOTTOM"] if raster.transform.is_identity else []
    missing = "transform" if raster.crs else "coordinate system"
    return Gap(f"{name} has no {missing}", f"georeference it first (gdal_edit {' '.join(options)} FILE)")


def locate(raster: Raster, pixels: list[tuple[float, float]]) -> tuple[Any, NDArray[np.float64]]:
    """Return a coordinate system and the points in it (n, 2) of pixel coordinates; (None, ...) without a georeference.

    Without a transform, the points are those of the plane through the ground control points, or of the RPCs at their
    mean height.
    """
    from rasterio.crs import CRS
    from rasterio.transform import RPCTransformer

    at = np.array(pixels, np.float64)
    if raster.crs is not None and not raster.transform.is_identity:
        return raster.crs, np.array([raster.transform @ pixel for pixel in pixels])
    points, crs = raster.gcps
    if len(points) >= 3 and crs:
        known = np.array([(point.col, point.row, 1) for point in points])
        plane, _, rank, _ = np.linalg.lstsq(known, np.array([(point.x, point.y) for point in points]))
        if rank == 3:
            return crs, np.column_stack([at, np.ones(len(at))]) @ plane
    if raster.rpcs is not None:
        with RPCTransformer(raster.rpcs, RPC_HEIGHT=raster.rpcs.height_off) as camera:
            return CRS.from_epsg(4326), np.array(camera.xy(at[:, 1], at[:, 0], offset="ul")).T
    return None, at


def crs_name(crs: Any) -> str:  # noqa: ANN401 - rasterio's
    """Return the code of a coordinate system, or its name if it has no code."""
    authority = crs.to_authority()
    return ":".join(authority) if authority else str(crs.to_dict(projjson=True).get("name", "unnamed"))


def _store(crs: Any) -> Any:  # noqa: ANN401
    """Return the coordinate system that a GeoTIFF has after this one was written into it, or None."""
    from rasterio.io import MemoryFile

    profile = {"driver": "GTiff", "width": 1, "height": 1, "count": 1, "dtype": "uint8"}
    with MemoryFile() as memory:
        with memory.open(**profile, crs=crs):
            pass
        with memory.open() as dataset:
            return dataset.crs


def _horizontal(crs: Any) -> Any:  # noqa: ANN401
    """Return a coordinate system without heights, under the code that it then has; itself if it has no such part."""
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    try:
        flat = CRS.from_user_input(json.dumps(_without_height(crs.to_dict(projjson=True))))
    except CRSError:
        return crs
    authority = flat.to_authority()
    named = CRS.from_authority(*authority) if authority else flat
    return named if named == flat else flat


def _without_height(system: dict[str, Any]) -> dict[str, Any]:
    """Return a coordinate system in PROJJSON without its vertical axis, and without its code."""
    while system["type"] in ("CompoundCRS", "BoundCRS"):
        system = system["components"][0] if system["type"] == "CompoundCRS" else system["source_crs"]
    flat = {key: value for key, value in system.items() if key != "id"}
    if axes := flat.get("coordinate_system"):
        flat["coordinate_system"] = axes | {"axis": axes["axis"][:2]}
    if base := flat.get("base_crs"):
        flat["base_crs"] = _without_height(base)
    return flat


def _scale_point(point: Any, across: float, down: float) -> Any:  # noqa: ANN401 - rasterio's
    from rasterio.control import GroundControlPoint

    return GroundControlPoint(point.row / down, point.col / across, point.x, point.y, point.z, point.id, point.info)


def _scale_rpcs(rpcs: Any, across: float, down: float) -> Any:  # noqa: ANN401 - rasterio's
    """Return RPCs for pixels that are `across` and `down` times as large; they count from the first pixel's centre."""
    from attr import evolve

    return evolve(
        rpcs,
        line_off=(rpcs.line_off + 0.5) / down - 0.5,
        line_scale=rpcs.line_scale / down,
        samp_off=(rpcs.samp_off + 0.5) / across - 0.5,
        samp_scale=rpcs.samp_scale / across,
    )
