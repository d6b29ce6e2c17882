"""Headers of TIFF and JPEG 2000 files, read without GDAL and without decoding pixels."""

import io
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from model.errors import DataError

MAX_PAGES = 1000
"""Maximum number of pages read from a TIFF."""
MAX_TAGS = 4096
"""Maximum number of tags read from a page; GeoTIFFs have a few dozen."""
MAX_VALUES = 64
"""Maximum number of values read from a tag."""
MAX_PARTS = 1_000_000
"""Maximum number of boxes or tile-parts read from a JPEG 2000 file."""
MAX_BOX = 2**20
"""Maximum number of bytes read from a box."""
GEOTIFF_BOX = bytes.fromhex("b14bf8bd083d4b43a5ae8cd7d5a6ce03")
"""UUID of the box that holds a georeference as a GeoTIFF (OGC 05-047r3 names it GeoJP2)."""
PIXEL_SCALE, TIE_POINTS, TRANSFORMATION, GEO_KEYS = 33550, 33922, 34264, 34735
PAGE_KIND, OLD_PAGE_KIND, COMPRESSION, ORIENTATION, SUB_PAGES, EXTRA_SAMPLES = 254, 255, 259, 274, 330, 338
REDUCED, MASK = 1, 4
"""Bits of the kind of a page (NewSubfileType)."""
OLD_REDUCED = 2
_NUMBERS = {1: "B", 3: "H", 4: "I", 16: "Q"}
Tags = dict[int, tuple[int, ...]]
"""The numbers of tags, with their values."""
_SOC, _SIZ, _SOT, _EOC = b"\xff\x4f", b"\xff\x51", b"\xff\x90", b"\xff\xd9"


def is_georeferenced(image: Path | bytes) -> bool:
    """Return whether a file has a coordinate system and a grid.

    For a TIFF, its first page is examined (OGC 19-008r4, sections 7.1 and 7.2); for a JPEG 2000 file, its boxes of
    GeoTIFF tags or GML (OGC 08-085r8).

    Args:
        image: The file, of which a few kilobytes are read, or its content. For other formats the result is False.
    """
    try:
        if isinstance(image, bytes):
            return _is_located(io.BytesIO(image), len(image))
        if not image.is_file():
            return False
        with image.open("rb") as file:
            return _is_located(file, image.stat().st_size)
    except (OSError, struct.error, OverflowError, ValueError):
        # A broken or unreadable file is reported when its pixels are read.
        return False


def _is_located(file: IO[bytes], size: int) -> bool:
    tags = read_tags(file)
    if tags:
        return GEO_KEYS in tags and bool({PIXEL_SCALE, TRANSFORMATION, TIE_POINTS} & tags.keys())
    file.seek(0)
    if file.read(8)[4:] != b"jP  ":
        return False
    file.seek(0)
    return any(_holds_location(file, kind, begin, end) for kind, begin, end in read_boxes(file, size))


def _holds_location(file: IO[bytes], kind: bytes, begin: int, end: int) -> bool:
    if kind not in (b"uuid", b"asoc"):
        return False
    file.seek(begin)
    content = file.read(min(end - begin, MAX_BOX))
    if kind == b"asoc":
        return b"gml.data" in content and b"offsetVector" in content
    tiff = content.removeprefix(GEOTIFF_BOX)
    return tiff != content and _is_located(io.BytesIO(tiff), len(tiff))


def read_tags(file: IO[bytes]) -> Tags:
    """Return the tags of a TIFF's first page; for anything but a TIFF the result is empty.

    Raises:
        struct.error, ValueError: As `read_pages`.
    """
    return next(read_pages(file), {})


def read_pages(file: IO[bytes]) -> Iterator[Tags]:
    """Yield the tags of each page of a TIFF with their integers (TIFF 6.0, section 2, or BigTIFF).

    Tags of other types, or with more than `MAX_VALUES`, have none.

    Raises:
        struct.error: The file is truncated.
        ValueError: An offset is impossible (OverflowError too).
    """
    start = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(start[:2])
    version = struct.unpack(f"{order}H", start[2:4])[0] if order else None
    if version not in (42, 43):
        return
    # The types of a page's offset and of its number of tags, and the length of each entry.
    address, number, length = (("I", "H", 12), ("Q", "Q", 20))[version - 42]
    (offset,) = struct.unpack_from(f"{order}{address}", start, struct.calcsize(address))
    for _ in range(MAX_PAGES):
        file.seek(offset)
        (count,) = struct.unpack(f"{order}{number}", file.read(struct.calcsize(number)))
        entries = file.read(min(count, MAX_TAGS) * length)
        file.seek(offset + struct.calcsize(number) + count * length)
        following = file.read(struct.calcsize(address))
        yield _read_entries(file, entries, order=order or "", address=address, length=length)
        offset = struct.unpack(f"{order}{address}", following)[0]
        if not offset:
            return


def _read_entries(file: IO[bytes], entries: bytes, *, order: str, address: str, length: int) -> Tags:
    tags: Tags = {}
    for at in range(0, len(entries) - length + 1, length):
        tag, kind, values = struct.unpack_from(f"{order}HH{address}", entries, at)
        tags[tag] = ()
        if kind in _NUMBERS and values <= MAX_VALUES:
            content = entries[at + 4 + struct.calcsize(address) : at + length]
            form = f"{order}{values}{_NUMBERS[kind]}"
            if struct.calcsize(form) > len(content):
                file.seek(struct.unpack(f"{order}{address}", content)[0])
                content = file.read(struct.calcsize(form))
            tags[tag] = struct.unpack_from(form, content)
    return tags


def find_full_page(file: IO[bytes]) -> int | None:
    """Return the number of the first page of a TIFF, from 1, that is neither reduced nor a mask; None if there is none.

    Raises:
        struct.error, ValueError: As `read_pages`.
    """
    pages = enumerate(read_pages(file), 1)
    return next((number for number, tags in pages if not _is_partial(tags)), None)


def _is_partial(tags: Tags) -> bool:
    kind = (tags.get(PAGE_KIND) or (0,))[0]
    return bool(kind & (REDUCED | MASK)) or tags.get(OLD_PAGE_KIND) == (OLD_REDUCED,)


def read_boxes(file: IO[bytes], size: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the type, begin and end of the content of each box of a JP2 file (ISO 15444-1, annex I.4).

    A bare codestream of `size` bytes is yielded as the content of a box.

    Raises:
        struct.error: The file is truncated.
    """
    start = 0
    if file.read(2) == _SOC:
        yield b"jp2c", 0, size
        return
    for _ in range(MAX_PARTS):
        if start >= size:
            return
        file.seek(start)
        length, kind = struct.unpack(">I4s", file.read(8))
        header = 8
        if length == 1:
            (length,), header = struct.unpack(">Q", file.read(8)), 16
        end = start + length if length else size
        if end < start + header:
            return
        yield kind, start + header, end
        start = end


def check_codestream(file: IO[bytes], size: int) -> None:
    """Check that the tile-parts of a JPEG 2000 file of `size` bytes lie inside it (ISO 15444-1, annex A).

    Raises:
        DataError: It has no codestream, or a tile is missing or truncated.
    """
    try:
        found = next(((begin, end) for kind, begin, end in read_boxes(file, size) if kind == b"jp2c"), (0, 0))
        complete = _has_all_tiles(file, *found, size)
    except struct.error:
        complete = False
    if not complete:
        raise DataError("some of its tiles lie beyond its end")


def _has_all_tiles(file: IO[bytes], begin: int, end: int, size: int) -> bool:
    """Return whether the tile-parts of a codestream and the mark of its end lie within the file."""
    tiles: set[int] = set()
    start, expected = begin + len(_SOC), 1
    for _ in range(MAX_PARTS):
        file.seek(start)
        marker = file.read(2)
        if marker == _EOC:
            return len(tiles) >= expected
        (length,) = struct.unpack(">H", file.read(2))
        if marker == _SIZ:
            expected = _count_tiles(*struct.unpack(">8I", file.read(34)[2:]))
        if marker == _SOT:
            tile, length = struct.unpack(">HI", file.read(6))
            tiles.add(tile)
            # The last tile-part may extend to the mark of the end.
            start += length or end - len(_EOC) - start
        else:
            start += 2 + length
        if start >= size:
            return False
    return True


def _count_tiles(width: int, height: int, _x: int, _y: int, across: int, down: int, tile_x: int, tile_y: int) -> int:
    """Return the number of tiles by the fields of a SIZ segment."""
    return math.ceil((width - tile_x) / max(1, across)) * math.ceil((height - tile_y) / max(1, down))
