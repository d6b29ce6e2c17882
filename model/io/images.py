"""Image files as RGB pixels: bounded in bytes and pixels, formats by allow-list, upright.

EXIF orientation is applied, transparency is laid on white, grey is repeated, 16 bits are cut to the upper 8, and CMYK
becomes RGB without a colour profile. Other numbers than 1, 8 and 16 bits have no range that is known, and are refused.
"""

import io
import os
import re
from collections.abc import Callable, Collection
from pathlib import Path, PurePath

import numpy as np
from PIL import Image, ImageOps
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from model.errors import DataError

MAX_BYTES = 256 * 2**20
MAX_PIXELS = 64_000_000

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".jp2", ".avif", ".heic"}
# The decoder is chosen by the first bytes and called directly, without Image.open and its own bomb check: that one
# warns and fails at other sizes than ours.
_DECODERS: dict[str, Callable[[io.BytesIO], ImageFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WebP": WebPImageFile,
    "TIFF": TiffImageFile,
}
PHOTOS = ("JPEG", "PNG", "WebP")
"""What pairs may be."""
SCANS = (*PHOTOS, "TIFF")
"""What can be scored."""
_SIGNATURES = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "WebP": rb"RIFF.{4}WEBP",
    "GIF": rb"GIF8",
    "BMP": rb"BM",
    "TIFF": rb"II[*+]\0|MM\0[*+]",
    "an empty file": rb"\Z",
}

_TILE_WIDTH, _TILE_LENGTH = 322, 323


def is_image_name(name: str) -> bool:
    """Tell whether a file claims to be an image, of a format that can be read or not; hidden files do not."""
    return Path(name).suffix.lower() in _SUFFIXES and not name.startswith(".")


def read_bytes(path: Path) -> bytes:
    """Read a file once and whole, if it is a regular file of at most `MAX_BYTES`.

    Raises:
        DataError: It is not, or it can't be opened.
    """
    if not path.is_file():
        raise DataError(f"{short_name(path)} is missing or not a regular file")
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_BYTES:
                raise DataError(f"{short_name(path)} has {size} bytes; at most {MAX_BYTES} are allowed")
            return file.read(MAX_BYTES)
    except OSError as error:
        raise DataError(f"{short_name(path)} can't be opened ({error.strerror})") from error


def decode(path: PurePath, content: bytes, *, formats: Collection[str] = PHOTOS) -> Image.Image:
    """Decode what `path` holds fully, upright and as RGB.

    Args:
        path: For messages.
        content: The file.
        formats: Those allowed: `PHOTOS` or `SCANS`.

    Raises:
        DataError: It is broken, too large, of several images, or of another format.
    """
    names = (name for name, signature in _SIGNATURES.items() if re.match(signature, content, re.DOTALL))
    kind = next(names, "of an unknown format")
    if kind not in formats:
        raise DataError(f"{short_name(path)} is {kind}; {', '.join(formats)} are allowed")
    try:
        image = _DECODERS[kind](io.BytesIO(content))
        if image.width * image.height > MAX_PIXELS:
            raise DataError(f"{short_name(path)} has {pixel_size(image)} pixels; at most {MAX_PIXELS} are allowed")
        if problem := _unusable(image):
            raise DataError(f"{short_name(path)} {problem}")
        return _to_rgb(ImageOps.exif_transpose(image))
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders raise a dozen kinds, from SyntaxError to struct.error.
        raise DataError(f"{short_name(path)} is broken or truncated ({error})") from error


def _unusable(image: ImageFile) -> str:
    """Say what is against an image, as far as its header tells."""
    if isinstance(image, TiffImageFile):
        width, height = (int(image.tag_v2.get(tag, 1)) for tag in (_TILE_WIDTH, _TILE_LENGTH))
        if width * height > MAX_PIXELS:
            return f"has tiles of {width}x{height} pixels; at most {MAX_PIXELS} are allowed"
        if image.mode in ("F", "I"):
            return "has numbers of 32 bits; 8 or 16 bits are allowed: scale them first"
        try:
            # Not by `n_frames`, which follows a chain of pages to its end, and there may be millions.
            image.seek(1)
        except EOFError:
            return ""
        return "has several pages; a single image is needed"
    return "is an animation; a single image is needed" if getattr(image, "n_frames", 1) > 1 else ""


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def pixel_size(image: Image.Image) -> str:
    """Write width and height as people do."""
    return f"{image.width}x{image.height}"


def short_name(path: PurePath) -> str:
    """Write a path as its folder and name."""
    return f"{path.parent.name}/{path.name}"
