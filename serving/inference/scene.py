"""A whole scene: a GeoTIFF in, its map as a Cloud Optimized GeoTIFF out, resumable strip by strip.

The map has the model's ground resolution and the scene's extent and coordinate system: a finer grid would only hold
interpolated pixels, and a GIS lays both over one another by their georeference. Where the scene has alpha or nodata,
the map has an alpha band. Finished strips wait in a hidden folder beside the map until it is whole.
"""

import fcntl
import glob
import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from model.errors import DataError, Sat2mapError, StorageError
from model.io.files import write_bytes
from model.io.images import short_name
from model.io.prefetch import run_ahead
from model.io.progress import track, working
from model.pixels import Pixels
from model.spec import Frozen
from model.translator import Translate
from serving.geo.geotiff import encode_strip, gdal, join_strips, read_note
from serving.geo.imagery import Imagery, open_imagery
from serving.inference.seams import Seams
from serving.inference.tiling import OVERLAP, Strip, draw_tiles, tile_starts

FORMAT = 1
"""Of strips: those of another number are not gone on with."""
SUFFIXES = (".tif", ".tiff")


class SceneReading(Frozen):
    """How a scene is read; see `draw_scene`."""

    resolution: float | None = None
    bands: tuple[int, ...] | None = None
    stretch: tuple[float, float] | None = None

    def filled(self, resolution: float | None) -> "SceneReading":
        """Return it with the model's resolution where none is given."""
        return self if self.resolution else self.model_copy(update={"resolution": resolution})

    def __str__(self) -> str:
        """Return what is given, as a row of a manifest has it."""
        lists = {name: value for name, value in (("bands", self.bands), ("stretch", self.stretch)) if value}
        told = [f"{name}={','.join(f'{number:g}' for number in value)}" for name, value in lists.items()]
        return " ".join(["scene", *([f"resolution={self.resolution!r}"] if self.resolution else []), *told])


class SceneReport(Frozen):
    """What was drawn, and how."""

    source: str
    map: str
    model: str
    width: int
    """Of the map, in pixels; likewise `height`."""
    height: int
    crs: str | None
    ground: tuple[float, float] | None
    """Metres on the ground of one pixel of the map at its centre, across and down; None: not known."""
    bands: tuple[int, ...]
    levels: tuple[tuple[float, float], ...] | None
    """The values of each band that became black and white; None: they were 8 bits already."""
    side: int
    overlap: float
    tiles: int
    """Drawn, in this run and in the ones before that it went on with."""
    skipped: int
    """Tiles left out because nothing in them is valid."""
    seams: float | None
    """Mean step between pixels across the edges of tiles divided by that beside them; see `Seams`."""
    resumed: int
    """Rows of the map that were there when this run began."""
    milliseconds: int
    """Of this run."""
    warnings: tuple[str, ...]


class _Note(Frozen):
    """What a strip says about itself."""

    top: int
    height: int
    drawn: int
    skipped: int
    seams: tuple[int, int, int, int]


def draw_scene(
    draw: Translate,
    source: Path,
    out: Path,
    *,
    side: int,
    model: str,
    resolution: float | None = None,
    bands: tuple[int, ...] | None = None,
    stretch: tuple[float, float] | None = None,
    overlap: float = OVERLAP,
) -> SceneReport:
    """Draw the map of a GeoTIFF; run again after a stop of any kind, it goes on and the result is the same.

    Args:
        draw: Draws tiles, uint8 (N, side, side, 3).
        source: The scene; no file beside it is read.
        out: The map to make, .tif; what stood there is replaced when the new one is whole.
        side: Of a tile, in pixels.
        model: Names what draws, for instance by its sha256. It is written into the map (tag MODEL), and strips of
            another model are not gone on with.
        resolution: Metres on the ground of a pixel in the model's photos; None: the scene's own pixels are drawn.
        bands: One or three band numbers, from 1; None: red, green and blue by the rule of `serving.geo.bands`.
        stretch: Two percentiles that become black and white; None: 2 and 98 of what is not 8 bits.
        overlap: Part of a tile's side that neighbours share at least.

    Raises:
        ConfigError: A setting is out of range.
        DataError: The scene can't be read, or the map can't be written (PlaceError: to this disk); strips are kept.
    """
    began = time.perf_counter()
    _check_places(source, out)
    with gdal(), _open(source, resolution=resolution, bands=bands, stretch=stretch) as imagery:
        tile_starts(1, side, overlap)
        found = source.stat()
        key = [FORMAT, found.st_size, found.st_mtime_ns, model, side, overlap, resolution, bands, stretch]
        with _unfinished(out, key) as folder:
            resumed = _finished(folder)
            notes = [*resumed, *_draw_missing(draw, imagery, folder, out, resumed, side=side, overlap=overlap)]
            _write_map(imagery, [folder / _name(note.top) for note in notes], out, model=model)
    seams = sum((Seams(*note.seams) for note in notes), Seams())
    return SceneReport(
        source=source.name,
        map=out.name,
        model=model,
        width=imagery.width,
        height=imagery.height,
        crs=imagery.crs.to_string() if imagery.crs else None,
        ground=imagery.map_ground,
        bands=imagery.colours.bands,
        levels=None if imagery.colours.levels is None else tuple(map(tuple, imagery.colours.levels.tolist())),
        side=side,
        overlap=overlap,
        tiles=sum(note.drawn for note in notes),
        skipped=sum(note.skipped for note in notes),
        seams=seams.ratio,
        resumed=sum(note.height for note in resumed),
        milliseconds=round(1000 * (time.perf_counter() - began)),
        warnings=tuple(imagery.warnings),
    )


@contextmanager
def _open(source: Path, **reading: Any) -> Iterator[Imagery]:  # noqa: ANN401 - as open_imagery has them
    with ExitStack() as opened:
        try:
            imagery = opened.enter_context(open_imagery(source, **reading))
        except Sat2mapError:
            raise
        except Exception as error:  # GDAL's errors on broken tags have no public class.
            raise DataError(f"{short_name(source)} is broken: its description can't be read ({error})") from error
        yield imagery


def _check_places(source: Path, out: Path) -> None:
    if out.suffix.lower() not in SUFFIXES:
        raise DataError(f"A scene's map is a GeoTIFF; {out.name} must end in {' or '.join(SUFFIXES)}.")
    if out.is_dir():
        raise DataError(f"{out} is a folder; name a file for the map.")
    if out.exists() and source.exists() and out.samefile(source):
        raise DataError(f"The map can't take the place of its photo {source}; name another file.")


@contextmanager
def _unfinished(out: Path, key: list[object]) -> Iterator[Path]:
    """Yield the hidden folder for strips of just these settings; when the map is whole, all such folders of it go.

    Raises:
        DataError: It can't be made, or another process draws into it.
    """
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
    folder = out.parent / f".{out.name}-{digest}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise DataError(f"{out.parent} can't be written ({error.strerror}); name another place.") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(f"Another process is drawing {out}; wait for it.") from error
        try:
            yield folder
        except BaseException:
            if not _strips(folder):
                shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)
        for left in out.parent.glob(f".{glob.escape(out.name)}-" + "[0-9a-f]" * 16):
            _remove_unused(left)


def _remove_unused(folder: Path) -> None:
    """Remove the strips of other settings, unless another process is drawing them."""
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        shutil.rmtree(folder, ignore_errors=True)


def _name(top: int) -> str:
    return f"strip-{top:06d}.tif"


def _strips(folder: Path) -> list[Path]:
    return sorted(folder.glob("strip-*.tif"))


def _finished(folder: Path) -> list[_Note]:
    """Read the notes of the strips from the top that are whole, without a gap."""
    notes: list[_Note] = []
    for strip in _strips(folder):
        if strip.name != _name(notes[-1].top + notes[-1].height if notes else 0):
            break
        try:
            notes.append(_Note.model_validate_json(read_note(strip)))
        except DataError:
            # A file that was cut short by a crash of the machine: it is drawn again.
            break
    return notes


def _draw_missing(
    draw: Translate, imagery: Imagery, folder: Path, out: Path, finished: list[_Note], *, side: int, overlap: float
) -> Iterator[_Note]:
    """Draw the strips below the finished ones, write each while the next one is drawn, and yield its note."""

    def write(strip: Strip) -> _Note:
        note = _Note(
            top=strip.top,
            height=len(strip.rows),
            drawn=strip.drawn,
            skipped=strip.skipped,
            seams=tuple(asdict(strip.seams).values()),
        )
        content = encode_strip(_with_alpha(strip, imagery), note=note.model_dump_json())
        with _writing(out, f"{strip.top} of {imagery.height} rows"):
            write_bytes(folder / _name(strip.top), content)
        return note

    start = finished[-1].top + finished[-1].height if finished else 0
    shape = {"height": imagery.height, "width": imagery.width, "side": side, "overlap": overlap}
    strips = draw_tiles(imagery.read, draw, **shape, start=start)
    left = len(tile_starts(imagery.height, side, overlap)) - len(finished)
    with ThreadPoolExecutor(1, "write") as writer:
        yield from run_ahead(writer, write, track(strips, f"Drawing {out.name}", total=left), 1)


def _with_alpha(strip: Strip, imagery: Imagery) -> Pixels:
    """Add the scene's alpha to a strip of a scene that has any, and empty what is fully transparent."""
    if not imagery.masked:
        return strip.rows
    alpha = imagery.alpha(strip.top, 0, *strip.rows.shape[:2])
    return np.dstack([np.where(alpha[..., None] > 0, strip.rows, 0), alpha]).astype(np.uint8)


def _write_map(imagery: Imagery, strips: list[Path], out: Path, *, model: str) -> None:
    draft = strips[0].with_name("map.tif")
    tags = {"TIFFTAG_SOFTWARE": "sat2map", "MODEL": model} | imagery.taken
    with _writing(out, "all rows"), working(f"Writing {out.name}"):
        shape = (imagery.height, imagery.width, 4 if imagery.masked else 3)
        join_strips(strips, draft, shape=shape, crs=imagery.crs, transform=imagery.transform, tags=tags)
        draft.replace(out)


@contextmanager
def _writing(out: Path, kept: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # What has no number is no word of the system on the disk, but GDAL's on this one map.
        kind = StorageError if error.errno else DataError
        raise kind(
            f"{out.parent} can't be written ({error.strerror or error}); {kept} are drawn and kept there: make room, "
            "and run again to go on."
        ) from error
