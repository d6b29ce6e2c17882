"""The name of the folder or file to which maps go."""

import os
import re
from pathlib import Path

from model.errors import DataError
from model.io.addresses import is_address
from model.io.locations import Location
from serving.encoding import OTHER_SUFFIXES, SUFFIXES, Format

_TARGETS = ("s3", "gs", "hdfs", "abfs", "abfss", "file")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/(/?)")
_VERSION = re.compile(r"\.v?\d*", re.IGNORECASE)
"""The end of a folder's name, such as that of maps.v2 or maps.2026, that is no suffix of a file."""
WRITTEN = f"maps are {', '.join(SUFFIXES)} files"


def parse_target(text: str, *, single: bool) -> Location:
    """Read the folder or file for maps from a command line.

    Args:
        text: A path or an address. A slash at its end makes it a folder; `~` is the home folder, as in a shell.
        single: Whether there is a single photo, so that a name with an unknown suffix is hardly meant as a folder.

    Raises:
        DataError: It is not the name of a folder or of a map, or its end has a blank or a wrong suffix.
    """
    if text == "-":
        raise DataError("Maps are not written to stdout; name a folder or a file (./- if its name is -).")
    if not text.strip():
        raise DataError(f"{text!r} is a blank name; name a folder for the maps, or a file for a single map.")
    if found := _SCHEME.match(text):
        _check_scheme(found[1], address=bool(found[2]))
    out = Location.parse(_expand(text))
    if not out.is_remote and os.path.isdir(out.path):
        return out
    name, ending = out.name_path.name, suffix_of(out)
    if name != name.strip():
        raise DataError(f"The name {name!r} begins or ends with a blank; omit it.")
    if text.endswith(("/", "/.", os.sep)):
        if ending in SUFFIXES:
            raise DataError(
                f"{text} ends with a slash, as a folder does, but {ending} is the suffix of a map; omit the slash."
            )
        return out
    is_bucket = out.is_remote and len(out.name_path.parts) < 2
    if single and ending not in SUFFIXES and not is_bucket and _looks_like_a_file(name, ending):
        raise DataError(f"{text} can't be written: {WRITTEN}. A folder of maps ends with a slash.")
    return out


def parse_file(text: str) -> Path:
    """Read the file for polygons from a command line.

    Raises:
        DataError: It is a folder, or not on a disk.
    """
    if is_address(text):
        raise DataError(f"Polygons are written to a disk, not to {text.partition(':')[0]}:// addresses; name a file.")
    if text.endswith(("/", os.sep)):
        raise DataError(f"{text} is the name of a folder; name a file that ends in .gpkg or .geojson.")
    return Path(_expand(text))


def _expand(text: str) -> str:
    """Return a path with the home folder for a `~` at its beginning, which shells keep in `--out=~/maps`."""
    return os.path.expanduser(text) if text == "~" or text.startswith("~/") else text


def file_format(out: Location) -> Format | None:
    """Return the format of a map that goes to a file, by its suffix; None if maps go to a folder.

    Raises:
        DataError: It has the suffix of a format that is not written, and is not a folder that exists.
    """
    ending = suffix_of(out)
    if (ending not in SUFFIXES and ending not in OTHER_SUFFIXES) or out.type() == "folder":
        return None
    if ending in OTHER_SUFFIXES:
        raise DataError(f"{out} can't be written: {WRITTEN}. If it is to be a folder of maps, make the folder first.")
    return SUFFIXES[ending]


def suffix_of(location: Location) -> str:
    """Return the suffix of a name in lower case; that of `.png` is `.png`."""
    _, dot, ending = location.name_path.name.rpartition(".")
    return f"{dot}{ending}".lower() if dot else ""


def _check_scheme(scheme: str, *, address: bool) -> None:
    """Check the beginning of an address."""
    if address and scheme.lower() not in _TARGETS:
        allowed = ", ".join(f"{name}://" for name in _TARGETS)
        raise DataError(f"Maps can't be written to {scheme}:// addresses; name a folder here, or one of {allowed}.")
    if not address and scheme.lower() in _TARGETS and not Path(f"{scheme}:").exists():
        raise DataError(f"{scheme}:/ is no address and no folder; an address begins with {scheme}://.")


def _looks_like_a_file(name: str, ending: str) -> bool:
    """Return whether a name ends in a suffix, as folders rarely do."""
    if ending == ".":
        return suffix_of(Location(Path(name[:-1]))) in SUFFIXES
    hidden = name.lower() == ending
    return bool(ending) and not hidden and not _VERSION.fullmatch(ending)
