"""Detection of georeferenced TIFFs by their tags, without GDAL and without decoding pixels."""

import io
import struct
from pathlib import Path
from typing import IO

PIXEL_SCALE, TRANSFORMATION, GEO_KEYS = 33550, 34264, 34735
MAX_TAGS = 4096
"""Maximum number of tags read from a page; GeoTIFFs have a few dozen."""


def is_georeferenced(tiff: Path | bytes) -> bool:
    """Return whether the first page of a TIFF has a coordinate system and a grid (OGC 19-008r4, sections 7.1 and 7.2).

    Args:
        tiff: The file, of which a few kilobytes are read, or its content. For anything but a TIFF the result is False.
    """
    try:
        if isinstance(tiff, bytes):
            return _is_located(_read_tags(io.BytesIO(tiff)))
        if not tiff.is_file():
            return False
        with tiff.open("rb") as file:
            return _is_located(_read_tags(file))
    except (OSError, struct.error, OverflowError, ValueError):
        # A broken or unreadable file is reported when its pixels are read.
        return False


def _is_located(tags: set[int]) -> bool:
    return GEO_KEYS in tags and bool({PIXEL_SCALE, TRANSFORMATION} & tags)


def _read_tags(file: IO[bytes]) -> set[int]:
    """Return the tags of the first page, TIFF 6.0 (section 2) or BigTIFF."""
    start = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(start[:2])
    version = struct.unpack(f"{order}H", start[2:4])[0] if order else None
    if version not in (42, 43):
        return set()
    # The types of the page's offset and of its number of tags, and the length of each entry.
    address, number, length = (("I", "H", 12), ("Q", "Q", 20))[version - 42]
    (offset,) = struct.unpack_from(f"{order}{address}", start, struct.calcsize(address))
    file.seek(offset)
    (count,) = struct.unpack(f"{order}{number}", file.read(struct.calcsize(number)))
    entries = file.read(min(count, MAX_TAGS) * length)
    return {struct.unpack_from(f"{order}H", entries, at)[0] for at in range(0, len(entries) - 1, length)}
