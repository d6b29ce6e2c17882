"""The layouts of folders that hold pairs: find what claims to be a pair, without opening a file.

```
side by side     train/*.jpg   val/*.jpg or test/*.jpg     one image, twice as wide as high: photo left, map right
two folders      trainA/ trainB/   valA/ valB/ or testA/ testB/     A = photo, B = map, joined by file name
no held-out set  only train/, only trainA/ and trainB/, or side-by-side images in the folder itself:
                 about a tenth is held out by a hash of the name, so that new files move nobody
```
Where val and test both stand, val is used and test is left alone. Hidden files and files without an image's suffix are
not looked at. The folder is any place that `model.io.locations` can list; each folder is listed once.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from model.errors import DataError
from model.io import locations
from model.io.images import is_image_name, short_name

LAYOUTS = (
    "Put the pairs (JPEG, PNG or WebP) in train/ and val/, each image with the photo left and the map right; "
    "or photos in trainA/ and maps of the same names in trainB/ (held-out ones in valA/ and valB/); "
    "or side-by-side images in the folder itself."
)


class Candidate(NamedTuple):
    """What claims to be a pair; `problem` says what is wrong with its file names, if something is."""

    split: str
    name: str
    files: tuple[str, ...]
    problem: str


class _Half(NamedTuple):
    """A folder that holds whole pairs, only photos or only maps: its name, and its images in order."""

    name: str
    images: list[str]


def find_candidates(folder: str | Path, val_fraction: float) -> list[Candidate]:
    """List what claims to be a pair, sorted by name.

    Raises:
        DataError: The folder is not there, or in none of the layouts.
    """
    folder = locations.locate(folder)
    listing = locations.list_folder(folder)
    folder = locations.absolute(folder)
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
        train = [_Half(locations.as_path(folder).name, _images(folder, listing))]
    if held_out:
        held = _list_halves(folder, listing, held_out, sides)
        candidates = [
            *(_candidate("train", f"train/{key}", halves) for key, halves in _join(train)),
            *(_candidate("val", f"{held_out}/{key}", halves) for key, halves in _join(held)),
        ]
    else:
        candidates = [_candidate(_hash_split(key, val_fraction), key, halves) for key, halves in _join(train)]
    if not candidates:
        raise DataError(f"There are no pairs in {folder} (found: {_found(listing)}). {LAYOUTS}")
    return sorted(candidates, key=lambda candidate: candidate.name)


def _found(listing: locations.Listing) -> str:
    names = sorted([*(f"{_printable(name)}/" for name in listing.folders), *map(_printable, listing.files)])
    return first(names, 8, ", ") or "nothing"


def _images(folder: str, listing: locations.Listing) -> list[str]:
    """Return the files that look like images, in order."""
    return [locations.inside(folder, name) for name in sorted(filter(is_image_name, listing.files))]


def _list_halves(folder: str, listing: locations.Listing, split: str, sides: Sequence[str]) -> list[_Half]:
    """List the folders of a split; one that is not there has no images."""
    names = [split + side for side in sides]
    below = {name: locations.inside(folder, name) for name in names if name in listing.folders}
    images = {name: _images(place, locations.list_folder(place)) for name, place in below.items()}
    return [_Half(name, images.get(name, [])) for name in names]


def _join(halves: Sequence[_Half]) -> Iterator[tuple[str, list[_Half]]]:
    """Yield each key (file name without suffix) with its files in each of the folders: the join of photo and map."""
    listings: list[dict[str, list[str]]] = [{} for _ in halves]
    for half, listing in zip(halves, listings, strict=True):
        for file in half.images:
            listing.setdefault(locations.as_path(file).stem, []).append(file)
    for key in sorted(set().union(*listings)):
        yield key, [_Half(half.name, listing.get(key, [])) for half, listing in zip(halves, listings, strict=True)]


def _candidate(split: str, name: str, halves: list[_Half]) -> Candidate:
    """Note what is wrong with the file names alone: a missing half, or two files of one key."""
    problem = ""
    for part, half in zip(("photo", "map"), halves, strict=False):
        if not half.images:
            problem = f"its {part} is missing in {half.name}/"
        elif len(half.images) > 1:
            names = ", ".join(_printable(short_name(locations.as_path(file))) for file in half.images)
            problem = f"several files have this name: {names}"
    if name != _printable(name):
        problem = "its file name is not UTF-8"
    return Candidate(split, _printable(name), tuple(file for half in halves for file in half.images), problem)


def _hash_split(name: str, val_fraction: float) -> str:
    number = int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:8], "big")
    return "val" if number < val_fraction * 2**64 else "train"


def is_paired(folder: Path) -> bool:
    """Tell whether `folder` has images in `train/`, or in both `trainA/` and `trainB/`; opens no image."""
    listing = locations.list_folder(str(folder))
    return any(
        all(half.images for half in _list_halves(str(folder), listing, "train", sides)) for sides in (("",), ("A", "B"))
    )


def _printable(name: str) -> str:
    """Return a file name as text that can be written as UTF-8."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def first(items: list[str], count: int, separator: str) -> str:
    """Join the first items, and say how many more there are."""
    shown = separator.join(items[:count])
    return shown if len(items) <= count else f"{shown}{separator}and {len(items) - count} more"
