"""The images in a folder and in the folders below it, found by name; each folder is listed once."""

import os
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from model.errors import DataError
from model.io.images import is_image_name
from model.io.locations import Location

DEPTH = 6
"""Levels of folders below the source that are searched."""
MAX_FOLDERS = 1000
_ARCHIVE_METADATA = "__MACOSX"


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A file that has the name of an image.

    Attributes:
        location: The file, with an absolute path or an address.
        folders: The names of the folders from below the source down to the file.
        name: The file's name.
    """

    location: Location
    folders: tuple[str, ...]
    name: str

    @property
    def stem(self) -> str:
        """The file's name without its suffix."""
        return os.path.splitext(self.name)[0]


@dataclass(frozen=True, slots=True)
class Scan:
    """The content of a folder.

    Attributes:
        folder: The folder, absolute.
        images: Its images, sorted by folders and name.
        content: The names of what is directly in it, with a slash after those of folders.
        others: The numbers of other files that are not hidden, by folders and suffix.
        too_deep: Folders that were not searched, because they are deeper than `DEPTH`.
    """

    folder: Location
    images: tuple[ImageFile, ...]
    content: tuple[str, ...]
    others: Mapping[tuple[tuple[str, ...], str], int]
    too_deep: tuple[tuple[str, ...], ...]


def scan(source: Location, *, follow_links: bool = True) -> Scan:
    """List a folder and the folders below it, without those that are hidden.

    Args:
        source: A folder on this machine, or an address.
        follow_links: Enter links to folders, each folder once.

    Raises:
        StorageError: The storage does not answer.
        DataError: It is not a folder, can't be listed, or has more than `MAX_FOLDERS` folders.
    """
    folder = source.absolute()
    waiting: deque[tuple[str, ...]] = deque([()])
    images: list[ImageFile] = []
    content: tuple[str, ...] = ()
    others: Counter[tuple[tuple[str, ...], str]] = Counter()
    too_deep: list[tuple[str, ...]] = []
    seen: set[str] = set()
    while waiting:
        folders = waiting.popleft()
        here = folder.join(*folders) if folders else folder
        if folders and not follow_links and not here.is_remote and here.path.is_symlink():
            continue
        real = str(here if here.is_remote else here.path.resolve())
        if real in seen:
            continue
        seen.add(real)
        if len(folders) > DEPTH:
            too_deep.append(folders)
            continue
        if len(seen) + len(waiting) > MAX_FOLDERS:
            raise DataError(
                f"{folder} has more than {MAX_FOLDERS} folders; name the one with the pairs, or list the pairs in a "
                "CSV file."
            )
        listing = here.list() if folders else source.list()
        if not folders:
            content = (*(f"{name}/" for name in sorted(listing.folders)), *sorted(listing.files))
        names = sorted(name for name in listing.files if not name.startswith("."))
        images += [ImageFile(here.join(name), folders, name) for name in names if is_image_name(name)]
        others.update((folders, Path(name).suffix.lower()) for name in names if not is_image_name(name))
        below = sorted(name for name in listing.folders if not name.startswith(".") and name != _ARCHIVE_METADATA)
        waiting += [(*folders, name) for name in below]
    return Scan(
        folder, tuple(sorted(images, key=lambda image: (image.folders, image.name))), content, others, tuple(too_deep)
    )
