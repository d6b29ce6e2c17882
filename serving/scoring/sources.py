"""What is to be drawn: files, folders, globs, lists and addresses -> photos, each with a name for its map."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from model.errors import DataError
from model.io import locations
from model.io.addresses import parse
from model.io.images import is_image_name

_MAGIC = re.compile(r"[*?\[]")
_REMOTE_MAGIC = re.compile(r"[*\[]")
"""In an address, a question mark begins the options."""
MAX_DEPTH = 32
"""Folders below each other that `**` looks into at an address."""


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo that may be there, and what its map is called.

    Attributes:
        place: Where it lies: an absolute path or an address.
        name: Of the map in the folder of maps, without suffix; with folders if a glob went through some.
        problem: Why it can't be drawn, if that is known already.
    """

    place: str
    name: str
    problem: str = ""


def find_photos(sources: Sequence[str]) -> list[Photo]:
    """Find what people mean by `sources`, each photo once, sorted by place.

    Args:
        sources: Each one of: an image file; a folder, of which the images straight in it are meant; a glob, `**` for
            any folders; a text file with the place of one image a line, as `LIST.txt` or `@LIST`; or an address of any
            of these. What the files of a list are is seen when they are read.

    Raises:
        PlaceError: A place does not answer.
        DataError: A source is not there, or holds no images.
    """
    found: dict[str, Photo] = {}
    for source in sources:
        for photo in _expand(source):
            found.setdefault(photo.place, photo)
    if not found:
        raise DataError("Nothing to draw was named: name photos, a folder of them, a glob or a list (@LIST).")
    return _name_once(sorted(found.values(), key=lambda photo: photo.place))


def _expand(source: str) -> Iterable[Photo]:
    if source.startswith("@"):
        return _in_list(locations.absolute(locations.locate(source[1:])))
    # As it stands first: a name may hold what is magic in a glob.
    place = locations.absolute(locations.locate(source))
    magic = _REMOTE_MAGIC if locations.is_remote(place) else _MAGIC
    globbed = magic.search(str(locations.as_path(place))) is not None
    kind = None if globbed and locations.is_remote(place) else locations.kind(place)
    if kind == "folder":
        return _in_folder(place)
    if kind == "file":
        return _in_list(place) if locations.as_path(place).suffix.lower() == ".txt" else [_photo(place)]
    if globbed:
        return _in_glob(place)
    raise DataError(f"There is no {source}: name photos, a folder of them, a glob or a list (@LIST).")


def _photo(place: str, folder: str = "") -> Photo:
    """Name the map after the path below `folder`, or else after the file alone."""
    path = PurePosixPath(locations.as_path(place))
    name = path.relative_to(PurePosixPath(locations.as_path(folder))) if folder else PurePosixPath(path.name)
    readable = _readable(place)
    if readable != place:
        return Photo(readable, "", f"{readable!r} is no name in UTF-8; rename it")
    return Photo(place, str(name.with_suffix("")))


def _in_folder(folder: str) -> list[Photo]:
    names = [name for name in locations.list_folder(folder).files if is_image_name(name)]
    if not names:
        raise DataError(
            f"{folder} holds no photos; put images straight into it, or give a glob such as 'FOLDER/**/*.jpg'."
        )
    return [_photo(locations.inside(folder, name)) for name in names]


def _in_list(file: str) -> list[Photo]:
    if locations.kind(file) != "file":
        raise DataError(f"There is no list {file}: name a text file with the place of one photo a line.")
    try:
        lines = locations.read_bytes(file).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is no list of photos: a list is UTF-8 text, one place a line.") from error
    photos = [_photo(locations.absolute(locations.locate(line.strip()))) for line in lines if line.strip()]
    if not photos:
        raise DataError(f"{file} is an empty list; write the place of one photo a line.")
    return photos


def _in_glob(pattern: str) -> list[Photo]:
    folder, parts = _split(pattern)
    matches = _remote_matches(folder, parts) if locations.is_remote(folder) else _local_matches(folder, parts)
    photos = [_photo(match, folder) for match in matches if is_image_name(locations.as_path(match).name)]
    if not photos:
        raise DataError(f"No photos match {pattern}; mind its spelling, and put quotes around it.")
    return photos


def _split(pattern: str) -> tuple[str, list[str]]:
    """Cut a glob into the folder before the first magic name, and the names from there on."""
    remote = locations.is_remote(pattern)
    address = parse(pattern) if remote else None
    names = (address.path if address else pattern).split("/")
    magic = _REMOTE_MAGIC if remote else _MAGIC
    first = next(number for number, name in enumerate(names) if magic.search(name))
    before = "/".join(names[:first])
    return (str(address._replace(path=before)) if address else before or "/"), names[first:]


def _local_matches(folder: str, parts: list[str]) -> Iterator[str]:
    if ".." in parts:
        raise DataError("A glob can't go back up by '..'; write the folder that is meant.")
    try:
        for path in Path(folder).glob("/".join(parts)):
            if path.is_file() and not any(name.startswith(".") for name in path.relative_to(folder).parts):
                yield str(path)
    except ValueError as error:
        raise DataError(f"{'/'.join(parts)!r} is no glob ({error}).") from error


def _remote_matches(folder: str, parts: list[str], depth: int = 0) -> Iterator[str]:
    """Walk down an address, a listing a folder."""
    listing, (part, *rest) = locations.list_folder(folder), parts
    below = [name for name in listing.folders if name and not name.startswith(".")]
    if part == "**":
        yield from _remote_matches(folder, rest, depth) if rest else ()
        for name in below if depth < MAX_DEPTH else ():
            yield from _remote_matches(locations.inside(folder, name), parts, depth + 1)
    elif rest:
        for name in below:
            if fnmatchcase(name, part):
                yield from _remote_matches(locations.inside(folder, name), rest, depth)
    else:
        yield from (locations.inside(folder, name) for name in listing.files if fnmatchcase(name, part))


def _name_once(photos: list[Photo]) -> list[Photo]:
    """Let photos that would have maps of one name keep their suffix in it; leave it to the first if that is no help."""
    shared = {name for name, count in Counter(photo.name for photo in photos).items() if count > 1}
    named: dict[str, Photo] = {}
    result = []
    for photo in photos:
        name = photo.name
        if photo.name in shared and not photo.problem:
            name += PurePosixPath(locations.as_path(photo.place)).suffix
        first = named.setdefault(name, photo)
        problem = photo.problem
        if first is not photo and not problem:
            problem = f"{photo.place} and {first.place} have the same name; draw them into different folders"
        result.append(Photo(photo.place, name, problem))
    return result


def _readable(text: str) -> str:
    """Return a name with bytes that are no UTF-8 written out."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")
