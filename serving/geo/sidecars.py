"""Sidecar files of a scene, which are not read: masks, locations and colours in files next to it."""

import html
import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from serving.geo.gdal import forget_errors, gdal_errors

MAX_BYTES = 2**20
"""Maximum number of bytes read from a sidecar file."""


class Sidecar(NamedTuple):
    """A file next to a scene that changes what GDAL reads from it.

    Attributes:
        path: The file.
        content: What it holds.
        options: Options of gdal_translate that are needed to put it inside the scene.
    """

    path: Path
    content: str
    options: str = ""


def find_sidecars(
    scene: Path,
    dataset: Any,  # noqa: ANN401 - a rasterio dataset
    *,
    located: bool = True,
) -> Iterator[str]:
    """Yield a warning that names the sidecar files that would change an opened scene, if there are any.

    Those with a location only are left out unless the map is `located`.
    """
    found = [*_masks(scene, dataset), *_metadata(scene, dataset, located=located)]
    if located:
        found += _locations(scene, dataset)
    if not found:
        return
    files = " and ".join(f"{sidecar.path.name} ({sidecar.content})" for sidecar in found)
    options = "".join(sidecar.options for sidecar in found)
    inside = scene.with_name(f"{scene.stem}_inside.tif")
    command = f"gdal_translate{options} {shlex.quote(str(scene))} {shlex.quote(str(inside))}"
    yield f"{scene.name} is drawn without the files next to it: {files}; put them inside with: {command}"


def _masks(scene: Path, dataset: Any) -> Iterator[Sidecar]:  # noqa: ANN401
    from rasterio.enums import MaskFlags

    flags = dataset.mask_flag_enums[0]
    if MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags:
        return
    if path := _first(scene.with_name(scene.name + suffix) for suffix in _spellings(".msk")):
        yield Sidecar(path, "a mask", " --config GDAL_TIFF_INTERNAL_MASK YES")
    elif path := _first(scene.with_suffix(suffix) for suffix in _spellings(".msk")):
        yield Sidecar(path, f"a mask, if named {scene.name}.msk", " --config GDAL_TIFF_INTERNAL_MASK YES")


def _locations(scene: Path, dataset: Any) -> Iterator[Sidecar]:  # noqa: ANN401
    """Yield the file with a location and the one with a coordinate system that a scene lacks."""
    if dataset.gcps[0] or dataset.rpcs is not None:
        return
    kind = scene.suffix[1:]
    suffixes = [f".{kind[:1]}{kind[-1:]}w", f".{kind}w", ".tfw", ".wld", ".tab"]
    system = None
    if dataset.crs is None:
        system = _first(scene.with_suffix(suffix) for suffix in _spellings(".prj"))
    if dataset.transform.is_identity:
        path = _first(scene.with_suffix(spelling) for suffix in suffixes for spelling in _spellings(suffix))
        rational = scene.with_name(f"{scene.stem}_RPC.TXT"), scene.with_name(f"{scene.stem}_rpc.txt")
        if found := _first([*rational, *(scene.with_suffix(spelling) for spelling in _spellings(".rpb"))]):
            yield Sidecar(found, "rational polynomial coefficients")
        if path:
            lacking = dataset.crs is None and not system and path.suffix.lower() != ".tab"
            yield Sidecar(path, "a location without coordinate system" if lacking else "a location")
    if system:
        yield Sidecar(system, "a coordinate system", f" -a_srs {shlex.quote(str(system))}")


def _metadata(scene: Path, dataset: Any, *, located: bool) -> Iterator[Sidecar]:  # noqa: ANN401
    """Yield the file with GDAL's metadata (.aux.xml) if it would change a scene; often it holds statistics only."""
    path = _first(scene.with_name(scene.name + suffix) for suffix in _spellings(".aux.xml"))
    if path is None:
        return
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES).decode(errors="replace")
    except OSError:  # A file that can't be read can't be put inside either.
        return
    kinds = {kind.name for kind in dataset.colorinterp}
    changes = {
        "a location": located and _moves(text, dataset),
        "a nodata value": dataset.nodata is None and "<NoDataValue" in text,
        "colours": not kinds & {"red", "palette"} and re.search(r"<Color(Interp|Table)>", text),
        "band names": not (any(dataset.descriptions) or "red" in kinds) and "<Description>" in text,
    }
    if any(changes.values()):
        yield Sidecar(path, ", ".join(content for content, changed in changes.items() if changed))


def _moves(text: str, dataset: Any) -> bool:  # noqa: ANN401
    """Return whether GDAL's metadata holds another location than a scene."""
    from rasterio.crs import CRS

    unreadable: tuple[type[Exception], ...] = (ValueError, *gdal_errors())
    grid = re.search(r"<GeoTransform>([^<]*)", text)
    system = re.search(r"<SRS[^>]*>([^<]*)", text)
    try:
        values = [float(number) for number in grid[1].split(",")] if grid else []
        moved = bool(grid) and not np.allclose(values, dataset.transform.to_gdal(), rtol=1e-12)
        renamed = bool(system) and CRS.from_wkt(html.unescape(system[1])) != dataset.crs if system else False
    except unreadable:
        forget_errors()
        return True
    return moved or renamed or ("<GCPList" in text and not dataset.gcps[0])


def _spellings(suffix: str) -> tuple[str, str, str]:
    return suffix, suffix.upper(), suffix.title()


def _first(paths: Iterable[Path]) -> Path | None:
    return next((path for path in paths if path.is_file()), None)
