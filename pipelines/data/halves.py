"""The two halves of a pair, photo and map, from one file or from two."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from PIL import Image

from model.errors import DataError, StorageError
from model.io.images import SCANS, decode, pixel_size, short_name
from model.io.locations import Location

SIDE_BY_SIDE = "photo and map side by side are twice as wide as high"


def read_files(files: Sequence[Location], names: Sequence[str]) -> list[bytes]:
    """Read the files of a pair, which are called `names` in errors.

    Raises:
        StorageError: The storage does not answer.
        DataError: A file is missing, too large or can't be opened; the message is a phrase without a full stop.
    """
    contents = []
    for file, name in zip(files, names, strict=True):
        with _naming(file, name):
            contents.append(file.read_bytes())
    return contents


def decode_halves(
    files: Sequence[Location], contents: Sequence[bytes], names: Sequence[str]
) -> tuple[Image.Image, Image.Image]:
    """Decode a pair completely into the photo and the map: RGB images of one size.

    Raises:
        DataError: A file is broken, or has the wrong format or size; the message is a phrase without a full stop.
    """
    images = []
    for file, content, name in zip(files, contents, names, strict=True):
        with _naming(file, name):
            images.append(decode(file.name_path, content, formats=SCANS))
    if len(images) == 1:
        width, height = images[0].size
        if width != 2 * height:
            found = f"{names[0]} has {pixel_size(images[0])} pixels".lstrip()
            raise DataError(f"{found}; {SIDE_BY_SIDE}")
        return images[0].crop((0, 0, height, height)), images[0].crop((height, 0, width, height))
    photo, street_map = images
    if photo.size != street_map.size:
        raise DataError(
            f"its photo has {pixel_size(photo)} pixels and its map {pixel_size(street_map)}; they must be equal"
        )
    return photo, street_map


def sha256(contents: Sequence[bytes]) -> str:
    """Return the hash of a pair: of the bytes of its files, in order."""
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    return digest.hexdigest()


@contextmanager
def _naming(file: Location, name: str) -> Iterator[None]:
    """Begin the message of an error with `name`, in place of the file's short name."""
    try:
        yield
    except StorageError:
        raise
    except DataError as error:
        reason = str(error).removeprefix(f"{short_name(file.name_path)} ")
        raise DataError(f"{name} {reason}".lstrip()) from error
