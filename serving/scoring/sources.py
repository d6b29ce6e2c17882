"""The photos to score: files, folders, globs, lists and addresses, each photo with the name of its map."""

import codecs
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from model.errors import DataError, StorageError
from model.io.addresses import Address
from model.io.images import is_image_name
from model.io.locations import Location
from serving.geo.gdal import find_name_problem, readable

_MAGIC = re.compile(r"[*?\[]")
_REMOTE_MAGIC = re.compile(r"[*\[]")
"""In an address, a question mark begins the options."""
MAX_DEPTH = 32
"""Maximum depth of folders that `**` searches."""


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo that may exist, and the name of its map.

    Attributes:
        location: An absolute path or an address.
        name: Name of the map in the folder of maps, without suffix; includes the folders that a glob went through.
        problem: Why it can't be drawn, if that is known already.
    """

    location: Location
    name: str
    problem: str = ""


def find_photos(sources: Sequence[str]) -> list[Photo]:
    """Find the photos that `sources` name, each once, sorted by location.

    Args:
        sources: Each one of: an image file; a folder, for the images directly in it; a glob, with `**` for any
            folders; a text file with the location of one image per line, as `LIST.txt` or `@LIST`, in which empty
            lines and those that begin with # are skipped; or an address of any of these. What can't be read in a
            folder, glob or list is a photo with a problem. The files of a list are not checked before they are read.

    Raises:
        StorageError: The storage does not answer.
        DataError: A source does not exist, or holds no images.
    """
    found: dict[Location, Photo] = {}
    for source in sources:
        for photo in _expand(source):
            found.setdefault(photo.location, photo)
    if not found:
        raise DataError("No photos were named: name photos, a folder of them, a glob or a list (@LIST).")
    return _make_names_unique(sorted(found.values(), key=lambda photo: str(photo.location)))


def _expand(source: str) -> Iterable[Photo]:
    if not source:
        raise DataError("A source of photos is an empty text; name photos, a folder of them, a glob or a list (@LIST).")
    if source.startswith("@"):
        return _in_list(Location.parse(source[1:]).absolute())
    location = Location.parse(source).absolute()
    magic = _REMOTE_MAGIC if location.is_remote else _MAGIC
    is_glob = magic.search(str(location.name_path)) is not None
    # A local name may hold the magic letters of a glob, so it is tried as it is first.
    kind = None if is_glob and location.is_remote else location.type()
    if kind == "folder":
        return _in_folder(location)
    if kind == "file":
        return _in_list(location) if location.name_path.suffix.lower() == ".txt" else [_photo(location)]
    folder, parts = _split(location) if is_glob else (location, [])
    if parts:
        return _in_glob(location, folder, parts)
    if not location.is_remote and os.path.islink(location.path):
        return [_photo(location)]
    raise DataError(f"There is no {source}: name photos, a folder of them, a glob or a list (@LIST).")


def _photo(location: Location, folder: Location | None = None) -> Photo:
    """Name the map after the path below `folder`, or after the file if there is no folder."""
    path = PurePosixPath(location.name_path)
    name = path.relative_to(PurePosixPath(folder.name_path)) if folder else PurePosixPath(path.name)
    if not location.is_remote and (problem := find_name_problem(str(location))):
        escaped = readable(str(location))
        return Photo(Location(Path(escaped)), "", f"{escaped!r} {problem}")
    if not name.name:
        return Photo(location, "", f"{location} is a folder, not a regular file")
    return Photo(location, str(name.with_suffix("")))


def _in_folder(folder: Location) -> list[Photo]:
    names = [name for name in folder.list().files if is_image_name(name)]
    if not names:
        raise DataError(
            f"{folder} holds no photos; put images directly into it, or give a glob such as 'FOLDER/**/*.jpg'."
        )
    return [_photo(folder.join(name)) for name in names]


def _in_list(file: Location) -> list[Photo]:
    if file.type() != "file":
        raise DataError(f"There is no list {file}: name a text file with the location of one photo per line.")
    content = file.read_bytes()
    if b"\0" in content:
        raise DataError(f"{file} is not a list of photos: write UTF-8 text with one location per line.")
    lines = [os.fsdecode(line.strip()) for line in content.removeprefix(codecs.BOM_UTF8).splitlines()]
    photos = [_listed(line) for line in lines if line and not line.startswith("#")]
    if not photos:
        raise DataError(f"{file} is an empty list; write the location of one photo per line.")
    return photos


def _listed(line: str) -> Photo:
    """Return the photo that a line of a list names."""
    if find_name_problem(line):
        return _photo(Location(Path(line)).absolute())
    try:
        return _photo(Location.parse(line).absolute())
    except DataError as error:
        return Photo(Location(Path(line)), "", str(error))


def _in_glob(pattern: Location, folder: Location, parts: list[str]) -> list[Photo]:
    if ".." in parts:
        raise DataError("A glob can't go back up by '..'; write the folder itself.")
    if wrong := next((part for part in parts if "**" in part and part != "**"), None):
        raise DataError(f"{wrong!r} is not a glob: ** stands for whole folders; use * in names.")
    photos = list(_search(folder, parts, folder))
    if not photos:
        raise DataError(f"No photos match {pattern}; check the spelling, and put quotes around it.")
    return photos


def _split(pattern: Location) -> tuple[Location, list[str]]:
    """Split a glob into the folder before the first magic name, and the names from there on: none if it is no glob."""
    if isinstance(pattern.target, Address):
        names = pattern.target.path.split("/")
        first = next(number for number, name in enumerate(names) if _REMOTE_MAGIC.search(name))
        return Location(pattern.target._replace(path="/".join(names[:first]))), names[first:]
    names, folder = list(pattern.target.parts), Path()
    # A folder may have the magic letters in its name.
    while names and (not _MAGIC.search(names[0]) or (len(names) > 1 and (folder / names[0]).is_dir())):
        folder /= names.pop(0)
    return Location(folder), names


def _search(top: Location, parts: list[str], folder: Location, depth: int = 0) -> Iterator[Photo]:
    """Yield the images whose path below `folder` matches `parts`, with one listing per folder; `top` is for names.

    A folder below `top` that can't be listed is a photo with a problem. `**` does not follow links.
    """
    try:
        listing, (part, *rest) = folder.list(), parts
    except StorageError:
        raise
    except DataError as error:
        if folder == top:
            raise
        yield Photo(folder, "", str(error))
        return
    below = [folder.join(name) for name in sorted(listing.folders) if name and not name.startswith(".")]
    if part == "**":
        yield from _search(top, rest, folder, depth) if rest else ()
        for entry in below if depth < MAX_DEPTH else ():
            if entry.is_remote or not os.path.islink(entry.path):
                yield from _search(top, parts, entry, depth + 1)
    elif rest:
        for entry in below:
            if fnmatchcase(entry.name_path.name, part):
                yield from _search(top, rest, entry, depth)
    else:
        names = (name for name in listing.files if fnmatchcase(name, part) and is_image_name(name))
        yield from (_photo(folder.join(name), top) for name in names)


def _make_names_unique(photos: list[Photo]) -> list[Photo]:
    """Keep the suffix in the names of photos that would share one; if that does not help, only the first keeps it."""
    shared = {name for name, count in Counter(photo.name for photo in photos).items() if count > 1}
    named: dict[str, Photo] = {}
    result = []
    for photo in photos:
        name = photo.name
        if photo.name in shared and not photo.problem:
            name += photo.location.name_path.suffix
        first = named.setdefault(name, photo)
        problem = photo.problem
        if first is not photo and not problem:
            problem = f"{photo.location} and {first.location} have the same name; draw them into different folders"
        result.append(Photo(photo.location, name, problem))
    return result
