"""Image files as RGB pixels: bounded in bytes and pixels, formats by allow-list, upright.

EXIF orientation is applied, transparency is laid on white, grey is repeated, and 16 bits are cut to the upper 8.
"""

import io
import os
import re
from collections.abc import Callable
from pathlib import Path, PurePath

import numpy as np
from PIL import Image, ImageOps
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
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
}
_SIGNATURES = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "WebP": rb"RIFF.{4}WEBP",
    "GIF": rb"GIF8",
    "BMP": rb"BM",
    "TIFF": rb"II\*\0|MM\0\*",
    "an empty file": rb"\Z",
}


def is_image_name(name: str) -> bool:
    """Tell whether a file claims to be an image, of a format that can be read or not; hidden files do not."""
    return Path(name).suffix.lower() in _SUFFIXES and not name.startswith(".")


def read_bytes(path: Path) -> bytes:
    """Read a file once and whole, if it is a regular file of at most `MAX_BYTES`.

    Raises:
        DataError: It is not, or it can't be opened.
    """
    if not path.is_file():
        raise DataError(f"{short_name(path)} is missing or no regular file")
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_BYTES:
                raise DataError(f"{short_name(path)} has {size} bytes; at most {MAX_BYTES} are allowed")
            return file.read(MAX_BYTES)
    except OSError as error:
        raise DataError(f"{short_name(path)} can't be opened ({error.strerror})") from error


def decode(path: PurePath, content: bytes) -> Image.Image:
    """Decode what `path` holds fully, upright and as RGB.

    Raises:
        DataError: It is broken, too large, an animation, or of another format than JPEG, PNG or WebP.
    """
    names = (name for name, signature in _SIGNATURES.items() if re.match(signature, content, re.DOTALL))
    kind = next(names, "of an unknown format")
    if kind not in _DECODERS:
        raise DataError(f"{short_name(path)} is {kind}; {', '.join(_DECODERS)} are allowed")
    try:
        image = _DECODERS[kind](io.BytesIO(content))
        if image.width * image.height > MAX_PIXELS:
            raise DataError(f"{short_name(path)} has {pixel_size(image)} pixels; at most {MAX_PIXELS} are allowed")
        if getattr(image, "n_frames", 1) > 1:
            raise DataError(f"{short_name(path)} is an animation; a single image is needed")
        return _to_rgb(ImageOps.exif_transpose(image))
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders raise a dozen kinds, from SyntaxError to struct.error.
        raise DataError(f"{short_name(path)} is broken or truncated ({error})") from error


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
