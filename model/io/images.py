"""Image files as upright RGB pixels, with limits on the format, the bytes and the pixels.

EXIF orientation is applied, transparent pixels are blended with white, grey is repeated in three channels, 16 bits are
reduced to the upper 8, and CMYK becomes RGB without a colour profile. Other depths than 1, 8 and 16 bits are
rejected, because the range of their values is unknown.
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
# The decoder is chosen by the first bytes and called directly: Image.open has a check for decompression bombs of its
# own, which warns and fails at other sizes than MAX_PIXELS.
_DECODERS: dict[str, Callable[[io.BytesIO], ImageFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WebP": WebPImageFile,
    "TIFF": TiffImageFile,
}
PHOTOS = ("JPEG", "PNG", "WebP")
"""Formats of the images of a pair."""
SCANS = (*PHOTOS, "TIFF")
"""Formats of the images that can be scored."""
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
    """Return whether a file that is not hidden has the suffix of an image, of a format that can be read or not."""
    return Path(name).suffix.lower() in _SUFFIXES and not name.startswith(".")


def read_bytes(path: Path) -> bytes:
    """Read a file once and completely, if it is a regular file of at most `MAX_BYTES`.

    Raises:
        DataError: It is not a regular file, is too large, or can't be opened.
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
    """Decode a file completely into an upright RGB image.

    Args:
        path: Path of the file, for messages.
        content: Bytes of the file.
        formats: Allowed formats: `PHOTOS` or `SCANS`.

    Raises:
        DataError: The image is broken, too large, of another format, or one of several in the file.
    """
    names = (name for name, signature in _SIGNATURES.items() if re.match(signature, content, re.DOTALL))
    kind = next(names, "of an unknown format")
    if kind not in formats:
        raise DataError(f"{short_name(path)} is {kind}; {', '.join(formats)} are allowed")
    try:
        image = _DECODERS[kind](io.BytesIO(content))
        if image.width * image.height > MAX_PIXELS:
            raise DataError(f"{short_name(path)} has {pixel_size(image)} pixels; at most {MAX_PIXELS} are allowed")
        if problem := _header_problem(image):
            raise DataError(f"{short_name(path)} {problem}")
        return _to_rgb(ImageOps.exif_transpose(image))
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders raise anything from SyntaxError to struct.error.
        raise DataError(f"{short_name(path)} is broken or truncated ({error})") from error


def _header_problem(image: ImageFile) -> str:
    """Return the reason to reject an image by its header; empty if there is none."""
    if isinstance(image, TiffImageFile):
        width, height = (int(image.tag_v2.get(tag, 1)) for tag in (_TILE_WIDTH, _TILE_LENGTH))
        if width * height > MAX_PIXELS:
            return f"has tiles of {width}x{height} pixels; at most {MAX_PIXELS} are allowed"
        if image.mode in ("F", "I"):
            return "has 32-bit values; 8 or 16 bits are allowed: scale them first"
        try:
            # `n_frames` would follow the chain of pages to its end, and there may be millions.
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
    """Return width and height as text, such as `256x128`."""
    return f"{image.width}x{image.height}"


def short_name(path: PurePath) -> str:
    """Return the folder and name at the end of a path."""
    return f"{path.parent.name}/{path.name}"
