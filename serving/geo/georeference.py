"""Whether a TIFF says where on Earth it lies, told from its tags alone: no pixel is decoded, and GDAL is not needed."""

import io
import struct
from pathlib import Path
from typing import IO

PIXEL_SCALE, TRANSFORMATION, GEO_KEYS = 33550, 34264, 34735
MAX_TAGS = 4096
"""Of a page; those of GeoTIFFs are a few dozen."""


def is_georeferenced(tiff: Path | bytes) -> bool:
    """Tell whether the first page of a TIFF has a coordinate system and a grid in it (OGC 19-008r4, sections 7.1, 7.2).

    Args:
        tiff: The file, of which a few kilobytes are read, or all it holds. Of anything else the answer is no.
    """
    try:
        if isinstance(tiff, bytes):
            return _is_placed(_read_tags(io.BytesIO(tiff)))
        if not tiff.is_file():
            return False
        with tiff.open("rb") as file:
            return _is_placed(_read_tags(file))
    except (OSError, struct.error, OverflowError, ValueError):
        # Broken, or not to be opened: whoever reads its pixels tells so.
        return False


def _is_placed(tags: set[int]) -> bool:
    return GEO_KEYS in tags and bool({PIXEL_SCALE, TRANSFORMATION} & tags)


def _read_tags(file: IO[bytes]) -> set[int]:
    """Return the tags of the first page, TIFF 6.0 (section 2) or BigTIFF."""
    start = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(start[:2])
    version = struct.unpack(f"{order}H", start[2:4])[0] if order else None
    if version not in (42, 43):
        return set()
    # Where the page begins, how many tags it has, and how long each entry is.
    place, number, length = (("I", "H", 12), ("Q", "Q", 20))[version - 42]
    (offset,) = struct.unpack_from(f"{order}{place}", start, struct.calcsize(place))
    file.seek(offset)
    (count,) = struct.unpack(f"{order}{number}", file.read(struct.calcsize(number)))
    entries = file.read(min(count, MAX_TAGS) * length)
    return {struct.unpack_from(f"{order}H", entries, at)[0] for at in range(0, len(entries) - 1, length)}
