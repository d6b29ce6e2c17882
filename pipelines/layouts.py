"""The layouts of folders that hold pairs: find what claims to be a pair, without opening a file.

```
side by side     train/*.jpg   val/*.jpg or test/*.jpg     one image, twice as wide as high: photo left, map right
two folders      trainA/ trainB/   valA/ valB/ or testA/ testB/     A = photo, B = map, joined by file name
no held-out set  only train/, only trainA/ and trainB/, or side-by-side images in the folder itself:
                 about a tenth is held out by a hash of the name, so that new files move nobody
```
Where val and test both stand, val is used and test is left alone. Hidden files and files without an image's suffix are
not looked at.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from model.errors import DataError
from model.images import is_image_name, short_name

LAYOUTS = (
    "Put the pairs (JPEG, PNG or WebP) in train/ and val/, each image with the photo left and the map right; "
    "or photos in trainA/ and maps of the same names in trainB/ (held-out ones in valA/ and valB/); "
    "or side-by-side images in the folder itself."
)


class Candidate(NamedTuple):
    """What claims to be a pair; `problem` says what is wrong with its file names, if something is."""

    split: str
    name: str
    files: tuple[Path, ...]
    problem: str


def find_candidates(folder: Path, val_fraction: float) -> list[Candidate]:
    """List what claims to be a pair, sorted by name.

    Raises:
        DataError: The folder is not there, or in none of the layouts.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is a file, not a folder." if folder.exists() else f"There is no folder {folder}.")
    folder = folder.absolute()
    two_folders = _has(folder, "trainA", "trainB")
    if two_folders and _has(folder, "train"):
        raise DataError(f"{folder} has both train/ and trainA/ or trainB/: keep one of the two layouts.")
    sides = ("A", "B") if two_folders else ("",)
    held_out = next((split for split in ("val", "test") if _has(folder, *(split + side for side in sides))), None)
    if two_folders or _has(folder, "train"):
        train = [folder / f"train{side}" for side in sides]
    elif held_out:
        raise DataError(f"{folder} has {held_out}/ but no train/. {LAYOUTS}")
    else:
        train = [folder]
    if held_out:
        held = [folder / f"{held_out}{side}" for side in sides]
        candidates = [
            *(_candidate("train", f"train/{key}", paths) for key, paths in _join(train)),
            *(_candidate("val", f"{held_out}/{key}", paths) for key, paths in _join(held)),
        ]
    else:
        candidates = [_candidate(_hash_split(key, val_fraction), key, paths) for key, paths in _join(train)]
    if not candidates:
        raise DataError(f"There are no pairs in {folder} (found: {_found(folder)}). {LAYOUTS}")
    return sorted(candidates, key=lambda candidate: candidate.name)


def _has(folder: Path, *names: str) -> bool:
    return any((folder / name).is_dir() for name in names)


def _found(folder: Path) -> str:
    names = sorted(_printable(path.name) + "/" * path.is_dir() for path in folder.iterdir())
    return first(names, 8, ", ") or "nothing"


def _images(folder: Path) -> Iterator[Path]:
    """Yield, in no order, the files that look like images; none if there is no such folder."""
    if folder.is_dir():
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_image_name(entry.name) and not entry.is_dir():
                    yield Path(entry.path)


def _join(halves: Sequence[Path]) -> Iterator[tuple[str, list[tuple[Path, list[Path]]]]]:
    """Yield each key (file name without suffix) with its files in each of the folders: the join of photo and map."""
    listings: list[dict[str, list[Path]]] = [{} for _ in halves]
    for folder, listing in zip(halves, listings, strict=True):
        for path in sorted(_images(folder)):
            listing.setdefault(path.stem, []).append(path)
    for key in sorted(set().union(*listings)):
        yield key, [(folder, listing.get(key, [])) for folder, listing in zip(halves, listings, strict=True)]


def _candidate(split: str, name: str, halves: list[tuple[Path, list[Path]]]) -> Candidate:
    """Note what is wrong with the file names alone: a missing half, or two files of one key."""
    problem = ""
    for part, (folder, paths) in zip(("photo", "map"), halves, strict=False):
        if not paths:
            problem = f"its {part} is missing in {folder.name}/"
        elif len(paths) > 1:
            problem = f"several files have this name: {', '.join(_printable(short_name(path)) for path in paths)}"
    if name != _printable(name):
        problem = "its file name is not UTF-8"
    return Candidate(split, _printable(name), tuple(path for _, paths in halves for path in paths), problem)


def _hash_split(name: str, val_fraction: float) -> str:
    number = int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:8], "big")
    return "val" if number < val_fraction * 2**64 else "train"


def is_paired(folder: Path) -> bool:
    """Tell whether `folder` has images in `train/`, or in both `trainA/` and `trainB/`; opens no image."""
    return any(all(any(_images(folder / name)) for name in names) for names in (["train"], ["trainA", "trainB"]))


def _printable(name: str) -> str:
    """Return a file name as text that can be written as UTF-8."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def first(items: list[str], count: int, separator: str) -> str:
    """Join the first items, and say how many more there are."""
    shown = separator.join(items[:count])
    return shown if len(items) <= count else f"{shown}{separator}and {len(items) - count} more"
