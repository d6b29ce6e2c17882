"""Image files as upright RGB pixels, with limits on the format, the bytes and the pixels.

EXIF orientation is applied, grey is repeated in three channels, 16 bits are reduced to the upper 8, and CMYK becomes
RGB without a colour profile. Transparent pixels are blended with white, or their alpha is returned. Other depths than
1, 8 and 16 bits are rejected, because the range of their values is unknown.
"""

import errno
import io
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path, PurePath

import numpy as np
from PIL import Image, ImageOps
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from model.errors import DataError
from model.io.formats import JPEG, PNG, TIFF, UNKNOWN, WEBP, Format, identify

MAX_BYTES = 256 * 2**20
MAX_PIXELS = 64_000_000

_SUFFIXES = {
    ".jpg",
    ".jpeg",
    ".png",
    ".webp",
    ".gif",
    ".bmp",
    ".tif",
    ".tiff",
    ".jp2",
    ".j2k",
    ".avif",
    ".heic",
    ".heif",
}
# The decoder is chosen by the first bytes and called directly: Image.open has a check for decompression bombs of its
# own, which warns and fails at other sizes than MAX_PIXELS.
_DECODERS: dict[Format, Callable[[io.BytesIO], ImageFile]] = {
    JPEG: JpegImageFile,
    PNG: PngImageFile,
    WEBP: WebPImageFile,
    TIFF: TiffImageFile,
}
PHOTOS = (JPEG, PNG, WEBP)
SCANS = (*PHOTOS, TIFF)
"""Formats that `decode` can read."""

_TILE_WIDTH, _TILE_LENGTH, _BITS, _SAMPLE_FORMAT = 322, 323, 258, 339
_PAGE_TYPE, _OVERVIEW, _MAX_OVERVIEWS = 254, 1, 32
_TIFF_COMPRESSIONS = frozenset(
    """
    raw tiff_ccitt group3 group4 tiff_raw_16 tiff_lzw tiff_jpeg jpeg tiff_adobe_deflate tiff_deflate packbits lzma zstd
    """.split()
)
_UNKNOWN_MODE = "unknown pixel mode"
_UNREAD_TIFF = "is a TIFF image of a kind that is not read; convert it to a PNG image"
_PNG_DEPTH = 24
"""Position in a PNG of the number of bits of a channel."""
_PNG_TEXTS = re.compile(rb"[zi]TXt|tEXt|iCCP")
_DIM = 64
"""Upper 8 bits of 16 below which all values of a photo are of 14 bits or fewer."""


class TooLarge(DataError):
    """A file has more bytes or pixels than are allowed."""


def is_image_name(name: str) -> bool:
    """Return whether a file that is not hidden has the suffix of an image, of a format that can be read or not."""
    return Path(name).suffix.lower() in _SUFFIXES and not name.startswith(".")


@contextmanager
def open_file(path: Path) -> Iterator[BufferedReader]:
    """Open a regular file to read it.

    Raises:
        DataError: It is missing, not a regular file, or can't be opened or read.
    """
    name = short_name(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise DataError(
                f"{name} is {'a folder' if path.is_dir() else 'a pipe, socket or device'}, not a regular file"
            )
        with path.open("rb") as file:
            yield file
    except FileNotFoundError as error:
        found = f"is a link to {os.readlink(path)}, which is missing" if path.is_symlink() else "is missing"
        raise DataError(f"{name} {found}") from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise DataError(f"{name} is a link that leads back to itself") from error
        raise DataError(f"{name} can't be opened ({error.strerror})") from error
    except ValueError as error:  # From a zero byte.
        raise DataError(f"{name} is not the name of a file") from error


def read_bytes(path: Path, *, limit: int | None = None) -> bytes:
    """Read a file once and completely, if it is a regular file of at most `limit` bytes, by default `MAX_BYTES`.

    Raises:
        TooLarge: It has more bytes.
        DataError: It is not a regular file, or can't be opened.
    """
    limit = MAX_BYTES if limit is None else limit
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise TooLarge(f"{short_name(path)} has {size} bytes; at most {limit} are allowed")
        return file.read(limit)


def check_format(path: PurePath, content: bytes, allowed: Sequence[Format]) -> Format:
    """Return the format of a file, which must be one of `allowed`.

    Raises:
        DataError: It is another.
    """
    found = identify(content)
    if found not in allowed:
        advice = found.advice or "convert it to JPEG, PNG or WebP"
        if found == UNKNOWN:
            advice = f"{', '.join(format.short for format in allowed)} are allowed"
        raise DataError(f"{short_name(path)} is {found.name}; {advice}")
    return found


def decode(
    path: PurePath, content: bytes, *, formats: Sequence[Format] = PHOTOS, max_pixels: int | None = None
) -> Image.Image:
    """Decode a file completely into an upright RGB image, blended with white where it is transparent.

    Args:
        path: Path of the file, for messages.
        content: Bytes of the file.
        formats: Allowed formats: `PHOTOS` or `SCANS`.
        max_pixels: Maximum number of pixels, by default `MAX_PIXELS`.

    Raises:
        TooLarge: The image has more pixels.
        DataError: The image is broken, of another format, or one of several in the file.
    """
    image, alpha = decode_with_alpha(path, content, formats=formats, max_pixels=max_pixels)
    if alpha is None:
        return image
    image.putalpha(alpha)
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def decode_with_alpha(
    path: PurePath, content: bytes, *, formats: Sequence[Format] = PHOTOS, max_pixels: int | None = None
) -> tuple[Image.Image, Image.Image | None]:
    """Decode a file as `decode` does, but return its colours as they are, and its alpha (L) if it has any.

    Raises:
        TooLarge, DataError: As `decode`.
    """
    found = check_format(path, content, formats)
    limit = MAX_PIXELS if max_pixels is None else max_pixels
    try:
        image = _open(found, content)
        if image.width * image.height > limit:
            raise TooLarge(f"{short_name(path)} has {pixel_size(image)} pixels; at most {limit} are allowed")
        if problem := _header_problem(image):
            raise DataError(f"{short_name(path)} {problem}")
        return _split(ImageOps.exif_transpose(image))
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders raise anything from SyntaxError to struct.error.
        if isinstance(error.__cause__, KeyError) or str(error) == _UNKNOWN_MODE:
            raise DataError(f"{short_name(path)} {_UNREAD_TIFF}") from error
        if bits := re.search(r"cannot handle (\d+)-bit layers", str(error)):
            raise DataError(
                f"{short_name(path)} is a JPEG image of {bits[1]} bits a channel; convert it to one of 8 bits"
            ) from error
        raise DataError(f"{short_name(path)} is broken or truncated ({error})") from error


def find_unused_range(path: PurePath, content: bytes, image: Image.Image, alpha: Image.Image | None = None) -> str:
    """Return a warning if a PNG of 16 bits, decoded with its alpha, is almost black because its values need fewer.

    Otherwise, the result is empty.
    """
    if identify(content) != PNG or content[_PNG_DEPTH] != 16:
        return ""
    # Without the pixels whose alpha is 0.
    highest = max((level % 256 for level, count in enumerate(image.histogram(alpha)) if count), default=_DIM)
    if highest >= _DIM:
        return ""
    return (
        f"{short_name(path)} has 16 bits a channel, but all values are below {256 * (highest + 1)}, so it is almost "
        "black; convert it to a TIFF (gdal_translate), whose values are stretched."
    )


def _open(format: Format, content: bytes) -> ImageFile:
    """Read the header of an image."""
    try:
        return _DECODERS[format](io.BytesIO(content))
    except ValueError:
        # Pillow limits the size of texts and colour profiles, which are not used.
        if format != PNG:
            raise
        return PngImageFile(io.BytesIO(_without_texts(content)))


def _without_texts(png: bytes) -> bytes:
    """Remove texts and colour profiles from a PNG."""
    parts, start = [png[:8]], 8
    while start + 8 <= len(png):
        end = start + 12 + int.from_bytes(png[start : start + 4], "big")
        if not _PNG_TEXTS.match(png, start + 4):
            parts.append(png[start:end])
        start = end
    return b"".join(parts)


def _header_problem(image: ImageFile) -> str:
    """Return the reason to reject an image by its header; empty if there is none."""
    if isinstance(image, TiffImageFile):
        width, height = (int(image.tag_v2.get(tag, 1)) for tag in (_TILE_WIDTH, _TILE_LENGTH))
        if width * height > MAX_PIXELS:
            return f"has tiles of {width}x{height} pixels; at most {MAX_PIXELS} are allowed"
        bits, kinds = image.tag_v2.get(_BITS, (1,)), image.tag_v2.get(_SAMPLE_FORMAT, (1,))
        if image.mode in ("F", "I") or set(kinds) != {1}:
            described = {1: "", 2: " signed", 3: " floating-point"}.get(kinds[0], " unusual")
            return f"has{described} values of {bits[0]} bits; 8 or 16 bits without a sign are allowed: scale them first"
        if image.info.get("compression") not in _TIFF_COMPRESSIONS:
            return _UNREAD_TIFF
        return _page_problem(image)
    return "is an animation; a single image is needed" if getattr(image, "n_frames", 1) > 1 else ""


def _page_problem(image: TiffImageFile) -> str:
    """Return the reason to reject a TIFF by its further pages, of which overviews are none."""
    try:
        # `n_frames` would follow the chain of pages to its end, and there may be millions.
        for page in range(1, _MAX_OVERVIEWS + 1):
            image.seek(page)
            if image.tag_v2.get(_PAGE_TYPE, 0) != _OVERVIEW:
                break
    except EOFError:
        image.seek(0)
        return ""
    return "has several pages; a single image is needed"


def _split(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Return the colours (RGB) and the alpha (L) of an image, or None if it has none."""
    if image.mode.startswith("I;16"):
        levels = np.asarray(image)
        grey = Image.fromarray((levels >> 8).astype(np.uint8)).convert("RGB")
        if (transparent := image.info.get("transparency")) is None:
            return grey, None
        return grey, Image.fromarray(np.where(levels == transparent, 0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return image.convert("RGB"), image.getchannel("A")
    return image.convert("RGB"), None


def pixel_size(image: Image.Image) -> str:
    """Return width and height as text, such as `256x128`."""
    return f"{image.width}x{image.height}"


def short_name(path: PurePath) -> str:
    """Return the folder and name at the end of a path, for messages."""
    return printable(f"{path.parent.name}/{path.name}" if path.parent.name else path.name)


def printable(text: str) -> str:
    """Return text with line breaks, control characters and bytes that are not UTF-8 escaped."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text.encode("utf-8", "backslashreplace").decode()
    )
