"""Layouts of folders of pairs; candidates are found by name, without opening a file.

```
side by side     train/*.jpg   val/*.jpg or test/*.jpg     one image, twice as wide as high: photo left, map right
two folders      trainA/ trainB/   valA/ valB/ or testA/ testB/     A = photo, B = map, joined by file name
no held-out set  only train/, only trainA/ and trainB/, or side-by-side images in the folder itself:
                 about a tenth is held out by a hash of the name, so that new files move no pair to the other split
```
If there are both val and test, val is used and test is ignored. Hidden files and files without an image's suffix are
ignored. The folder is any location that can be listed; each folder is listed once.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from model.errors import DataError
from model.io.images import is_image_name, short_name
from model.io.locations import Location
from model.io.object_store import Listing

LAYOUTS = (
    "Put the pairs (JPEG, PNG or WebP) in train/ and val/, each image with the photo left and the map right; "
    "or photos in trainA/ and maps of the same names in trainB/ (held-out ones in valA/ and valB/); "
    "or side-by-side images in the folder itself."
)


class Candidate(NamedTuple):
    """The files of a possible pair; `problem` says what is wrong with their names, if anything."""

    split: str
    name: str
    files: tuple[Location, ...]
    problem: str


class _Half(NamedTuple):
    """A folder of side-by-side pairs, of photos or of maps: its name, and its images in order."""

    name: str
    images: list[Location]


def find_candidates(folder: Location, val_fraction: float) -> list[Candidate]:
    """List the candidates in a folder, sorted by name.

    Raises:
        DataError: The folder does not exist, or has none of the layouts.
    """
    listing = folder.list()
    folder = folder.absolute()
    two_folders = bool(listing.folders & {"trainA", "trainB"})
    if two_folders and "train" in listing.folders:
        raise DataError(f"{folder} has both train/ and trainA/ or trainB/: keep one of the two layouts.")
    sides = ("A", "B") if two_folders else ("",)
    held_out = next((split for split in ("val", "test") if listing.folders & {split + side for side in sides}), None)
    if two_folders or "train" in listing.folders:
        train = _list_halves(folder, listing, "train", sides)
    elif held_out:
        raise DataError(f"{folder} has {held_out}/ but no train/. {LAYOUTS}")
    else:
        train = [_Half(folder.name_path.name, _list_images(folder, listing))]
    if held_out:
        held = _list_halves(folder, listing, held_out, sides)
        candidates = [
            *(_candidate("train", f"train/{key}", halves) for key, halves in _match_halves(train)),
            *(_candidate("val", f"{held_out}/{key}", halves) for key, halves in _match_halves(held)),
        ]
    else:
        candidates = [_candidate(_hash_split(key, val_fraction), key, halves) for key, halves in _match_halves(train)]
    if not candidates:
        raise DataError(f"There are no pairs in {folder} (found: {_describe_content(listing)}). {LAYOUTS}")
    return sorted(candidates, key=lambda candidate: candidate.name)


def _describe_content(listing: Listing) -> str:
    names = sorted([*(f"{_printable(name)}/" for name in listing.folders), *map(_printable, listing.files)])
    return join_first(names, 8, ", ") or "nothing"


def _list_images(folder: Location, listing: Listing) -> list[Location]:
    """Return the files whose names are those of images, in order."""
    return [folder.join(name) for name in sorted(filter(is_image_name, listing.files))]


def _list_halves(folder: Location, listing: Listing, split: str, sides: Sequence[str]) -> list[_Half]:
    """List the folders of a split; one that does not exist has no images."""
    names = [split + side for side in sides]
    below = {name: folder.join(name) for name in names if name in listing.folders}
    images = {name: _list_images(half, half.list()) for name, half in below.items()}
    return [_Half(name, images.get(name, [])) for name in names]


def _match_halves(halves: Sequence[_Half]) -> Iterator[tuple[str, list[_Half]]]:
    """Yield each file name without suffix, with its files in each folder; this matches maps to photos."""
    listings: list[dict[str, list[Location]]] = [{} for _ in halves]
    for half, listing in zip(halves, listings, strict=True):
        for file in half.images:
            listing.setdefault(file.name_path.stem, []).append(file)
    for key in sorted(set().union(*listings)):
        yield key, [_Half(half.name, listing.get(key, [])) for half, listing in zip(halves, listings, strict=True)]


def _candidate(split: str, name: str, halves: list[_Half]) -> Candidate:
    """Return a candidate with the problem of its file names, if any: a missing half, or several files of one name."""
    problem = ""
    for part, half in zip(("photo", "map"), halves, strict=False):
        if not half.images:
            problem = f"its {part} is missing in {half.name}/"
        elif len(half.images) > 1:
            names = ", ".join(_printable(short_name(file.name_path)) for file in half.images)
            problem = f"several files have this name: {names}"
    if name != _printable(name):
        problem = "its file name is not UTF-8"
    return Candidate(split, _printable(name), tuple(file for half in halves for file in half.images), problem)


def _hash_split(name: str, val_fraction: float) -> str:
    number = int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:8], "big")
    return "val" if number < val_fraction * 2**64 else "train"


def is_paired(folder: Location) -> bool:
    """Return whether `folder` has images in `train/`, or in both `trainA/` and `trainB/`; opens no image."""
    listing = folder.list()
    return any(
        all(half.images for half in _list_halves(folder, listing, "train", sides)) for sides in (("",), ("A", "B"))
    )


def _printable(name: str) -> str:
    """Return a file name as text that can be written as UTF-8."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def join_first(items: list[str], count: int, separator: str) -> str:
    """Join the first items, followed by the number of the others."""
    shown = separator.join(items[:count])
    return shown if len(items) <= count else f"{shown}{separator}and {len(items) - count} more"
