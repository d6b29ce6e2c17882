"""Sidecar files of a scene or photo, which are not read: masks, locations and colours in files next to it."""

import html
import os
import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from model.io.images import short_name
from serving.geo.bands import described_bands
from serving.geo.gdal import forget_errors, gdal_errors
from serving.geo.grid import Grid

MAX_BYTES = 2**20
"""Maximum number of bytes read from a sidecar file."""
COLOURS = ("red", "green", "blue")


class Held(NamedTuple):
    """The parts of a file that a sidecar file may change.

    Attributes:
        grid: Its grid.
        masked: Whether it has a mask, apart from an alpha band.
        nodata: Its nodata value, or None.
        kinds: The colour interpretation of each band.
        descriptions: The description of each band, or None.
    """

    grid: Grid
    masked: bool
    nodata: float | None
    kinds: tuple[str, ...]
    descriptions: tuple[str | None, ...]

    @classmethod
    def read(cls, dataset: Any) -> "Held":  # noqa: ANN401 - a rasterio dataset
        """Return the parts of an opened raster file."""
        from rasterio.enums import MaskFlags

        flags = dataset.mask_flag_enums[0]
        masked = MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags
        kinds = tuple(kind.name for kind in dataset.colorinterp)
        return cls(Grid.read(dataset), masked, dataset.nodata, kinds, dataset.descriptions)

    @classmethod
    def image(cls, width: int, height: int) -> "Held":
        """Return the parts of a JPEG, PNG or WebP image."""
        from rasterio import Affine

        return cls(Grid(width, height, None, Affine.identity(), ([], None), None), False, None, COLOURS, (None,) * 3)


class Sidecar(NamedTuple):
    """A file next to a scene that changes what GDAL reads from it.

    Attributes:
        path: The file.
        content: What it holds.
        options: Options of gdal_translate that are needed to put it inside the scene.
        crs: The coordinate system that it holds, if it is known.
    """

    path: Path
    content: str
    options: str = ""
    crs: Any = None


def find_sidecars(scene: Path, held: Held, *, located: bool = True) -> Iterator[str]:
    """Yield a warning that names the sidecar files that would change what a file holds, if there are any.

    Those with a location only are left out unless the map is `located`.
    """
    found = [*_masks(scene, held), *_metadata(scene, held, located=located)]
    if located:
        found += _locations(scene, held)
    if not found:
        return
    files, advice = _describe(scene, held.grid, found)
    yield f"{short_name(scene)} is drawn without the files next to it: {files}; {advice}"


def locate_by_sidecars(scene: Path, grid: Grid) -> str:
    """Return a sentence about files next to a scene that hold the location that its grid lacks, or an empty text."""
    held = Held(grid, masked=True, nodata=None, kinds=(), descriptions=())
    found = [*_metadata(scene, held, located=True), *_locations(scene, held)]
    if not found:
        return ""
    files, advice = _describe(scene, grid, found)
    return f"Files next to it are not read: {files}; {advice}"


def misplacing_files(map_file: Path, grid: Grid) -> list[str]:
    """Return the names of files next to a map that give it a location in other programs, which its grid lacks."""
    return [found.path.name for found in _locations(map_file, Held(grid, True, None, (), ()))]


def _describe(scene: Path, grid: Grid, found: list[Sidecar]) -> tuple[str, str]:
    """Return the names of sidecar files with what they hold, and what to do with them."""
    files = " and ".join(f"{sidecar.path.name} ({sidecar.content})" for sidecar in found)
    paths = f"{shlex.quote(str(scene))} {shlex.quote(str(_free_name(scene)))}"
    advice = f"put them inside with: gdal_translate{''.join(sidecar.options for sidecar in found)} {paths}"
    if not all(sidecar.crs is None or grid.can_store(sidecar.crs) for sidecar in found):
        advice = f"a TIFF can't hold that coordinate system, so warp it to another: gdalwarp -t_srs EPSG:CODE {paths}"
    return files, advice


def _free_name(scene: Path) -> Path:
    """Return a name for the file with everything inside that is not taken."""
    stem = re.sub(r"_inside\d*$", "", scene.stem)
    names = (scene.with_name(f"{stem}_inside{number or ''}.tif") for number in (0, *range(2, 100)))
    return next((name for name in names if not os.path.lexists(name)), scene.with_name("OUT.tif"))


def _masks(scene: Path, held: Held) -> Iterator[Sidecar]:
    if held.masked:
        return
    if path := _first(scene.with_name(scene.name + suffix) for suffix in _spellings(".msk")):
        yield Sidecar(path, "a mask", " --config GDAL_TIFF_INTERNAL_MASK YES")
    elif path := _first(scene.with_suffix(suffix) for suffix in _spellings(".msk")):
        yield Sidecar(path, f"a mask, if named {scene.name}.msk", " --config GDAL_TIFF_INTERNAL_MASK YES")


def _locations(scene: Path, held: Held) -> Iterator[Sidecar]:
    """Yield the file with a location and the one with a coordinate system that a scene lacks."""
    grid = held.grid
    if grid.gcps[0] or grid.rpcs is not None:
        return
    kind = scene.suffix[1:].lower()
    suffixes = [f".{kind[:1]}{kind[-1:]}w", f".{kind}w", ".tfw", ".wld", ".tab"]
    system = None
    if grid.crs is None:
        system = _first(scene.with_suffix(suffix) for suffix in _spellings(".prj"))
    if grid.transform.is_identity:
        path = _first(scene.with_suffix(spelling) for suffix in suffixes for spelling in _spellings(suffix))
        rational = scene.with_name(f"{scene.stem}_RPC.TXT"), scene.with_name(f"{scene.stem}_rpc.txt")
        if found := _first([*rational, *(scene.with_suffix(spelling) for spelling in _spellings(".rpb"))]):
            yield Sidecar(found, "rational polynomial coefficients")
        if path:
            lacking = grid.crs is None and not system and path.suffix.lower() != ".tab"
            yield Sidecar(path, "a location without coordinate system" if lacking else "a location")
    if system:
        crs = _parse_system(_read(system))
        yield Sidecar(system, "a coordinate system", f" -a_srs {shlex.quote(str(system))}", crs)


def _metadata(scene: Path, held: Held, *, located: bool) -> Iterator[Sidecar]:
    """Yield the file with GDAL's metadata (.aux.xml) if it would change a scene; often it holds statistics only."""
    path = _first(scene.with_name(scene.name + suffix) for suffix in _spellings(".aux.xml"))
    text = _read(path) if path else ""
    if path is None or not text:
        return
    whole, *bands = re.split(r"<PAMRasterBand\b", text)
    numbered = {int(number[1]) - 1: band for band in bands if (number := re.match(r'[^>]*band="(\d+)"', band))}
    bands = [numbered.get(index, "") for index in range(len(held.kinds))]
    system = re.search(r"<SRS[^>]*>([^<]*)", whole)
    crs = _parse_system(html.unescape(system[1])) if system else None
    nodata = [_element(band, "NoDataValue") for band in bands]
    changes = {
        "a location": located and _moves(whole, held.grid, crs, named=system is not None),
        "a nodata value": 'key="NODATA_VALUES"' in whole
        or any(value and not _is_number(value, held.nodata) for value in nodata),
        "colours": _recolours(bands, held.kinds),
        "band names": _renames([_element(band, "Description") for band in bands], held),
    }
    if any(changes.values()):
        contents = ", ".join(content for content, changed in changes.items() if changed)
        yield Sidecar(path, contents, crs=crs if changes["a location"] else None)


def _moves(text: str, grid: Grid, crs: Any, *, named: bool) -> bool:  # noqa: ANN401
    """Return whether GDAL's metadata holds another location than a grid; `named` if it holds a system."""
    if named and (crs is None or crs != grid.crs):
        return True
    if found := re.search(r"<GeoTransform>([^<]*)", text):
        try:
            values = [float(number) for number in found[1].split(",")]
            return not np.allclose(values, grid.transform.to_gdal(), rtol=1e-12)
        except ValueError:
            return True
    points = re.search(r"<GCPList|<GeodataXform", text) is not None and not grid.gcps[0]
    return points or ('domain="RPC"' in text and grid.rpcs is None)


def _recolours(bands: list[str], kinds: tuple[str, ...]) -> bool:
    """Return whether bands of GDAL's metadata have other colours than a file."""
    marks = [_element(band, "ColorInterp").casefold() for band in bands]
    marked = any(mark not in ("", "undefined", kind) for mark, kind in zip(marks, kinds, strict=True))
    return marked or (any("<ColorTable" in band for band in bands) and "palette" not in kinds)


def _renames(names: list[str], held: Held) -> bool:
    """Return whether names of bands in GDAL's metadata choose others than a file does."""
    if not any(names):
        return False
    if set(COLOURS) <= set(held.kinds):
        marked = tuple(held.kinds.index(colour) + 1 for colour in COLOURS)
        return described_bands(names) not in (None, marked)
    return any(name and name != own for name, own in zip(names, held.descriptions, strict=True))


def _element(text: str, name: str) -> str:
    """Return the text of the first XML element of a name, or an empty one."""
    found = re.search(rf"<{name}\b[^>]*>([^<]*)", text)
    return html.unescape(found[1]).strip() if found else ""


def _is_number(text: str, value: float | None) -> bool:
    try:
        return value is not None and bool(np.isclose(float(text), value, rtol=1e-6, atol=0, equal_nan=True))
    except ValueError:
        return False


def _parse_system(text: str) -> Any:  # noqa: ANN401
    """Return the coordinate system of a text in WKT, or None if it can't be read."""
    from rasterio.crs import CRS

    unreadable: tuple[type[Exception], ...] = (ValueError, *gdal_errors())
    try:
        return CRS.from_user_input(text)
    except unreadable:
        forget_errors()
        return None


def _read(path: Path) -> str:
    """Return the text of a sidecar file; one that can't be read, and so not be put inside either, is empty."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES).decode(errors="replace")
    except OSError:
        return ""


def _spellings(suffix: str) -> tuple[str, str, str]:
    return suffix, suffix.upper(), suffix.title()


def _first(paths: Iterable[Path]) -> Path | None:
    # Unlike Path.is_file, it takes names that are too long, which no file has.
    return next((path for path in paths if os.path.isfile(path)), None)
