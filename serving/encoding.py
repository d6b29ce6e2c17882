"""Maps as image files: PNG, JPEG, WebP, TIFF."""

import io
import struct
import zlib
from typing import Literal

import numpy as np
from PIL import Image

from model.errors import DataError
from model.pixels import Pixels

Format = Literal["png", "jpeg", "webp", "tiff"]
SUFFIXES: dict[str, Format] = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".webp": "webp",
    ".tif": "tiff",
    ".tiff": "tiff",
}
"""What a file's suffix says of its format; the first of a format is the one that maps get."""
QUALITY = 90
"""Of JPEG and WebP, whose pixels are not quite those that were drawn; PNG and TIFF keep all."""
_MAX_SIDE = {"jpeg": 65_500, "webp": 16_383}
_TIFF_PREDICTOR = 317


def suffix(format: Format) -> str:
    """Return the suffix of maps in a format."""
    return next(ending for ending, known in SUFFIXES.items() if known == format)


def encode(pixels: Pixels, format: Format) -> bytes:
    """Write pixels, uint8 (H, W, 3), as an image file; the same pixels give the same bytes.

    Raises:
        DataError: The format has no images of this size.
    """
    side, limit = max(pixels.shape[:2]), _MAX_SIDE.get(format)
    if limit and side > limit:
        raise DataError(f"a map of {side} pixels a side is no {format}, which has at most {limit}; use png or tiff")
    if format == "png":
        return _png(pixels)
    target = io.BytesIO()
    image = Image.fromarray(pixels)
    if format == "jpeg":
        image.save(target, "JPEG", quality=QUALITY)
    elif format == "webp":
        image.save(target, "WEBP", quality=QUALITY, method=0)
    else:
        image.save(target, "TIFF", compression="tiff_lzw", tiffinfo={_TIFF_PREDICTOR: 2})
    return target.getvalue()


def _png(pixels: Pixels) -> bytes:
    """Write a PNG of 8-bit RGB (PNG specification, third edition).

    Every row is stored as its difference from the row above (filter 2) and compressed by runs: that takes a third of
    the time that a search for the best filter of each row takes, and maps do not get larger by it.
    """
    height, width = pixels.shape[:2]
    flat = pixels.reshape(height, 3 * width)
    rows = np.empty((height, 1 + 3 * width), np.uint8)
    rows[:, 0] = 2
    rows[0, 1:] = flat[0]
    np.subtract(flat[1:], flat[:-1], out=rows[1:, 1:])
    packer = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
    packed = packer.compress(rows.data) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", packed) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))
