"""Layouts of folders of pairs; candidates are found by name, without opening a file.

```
side by side   train/*.jpg   val/*.jpg             one image, twice as wide as high: photo left, map right
two folders    trainA/ trainB/   A/train/ B/train/   train/images/ train/masks/   photos/ maps/
               photos and maps, joined by file name and by the folders below
two names      1_sat.jpg 1_map.png   A_1.png B_1.png    photos and maps in one folder, joined by the rest of the name
```
`roles` has all words for splits, photos and maps. In two folders the names may differ by such words as
well (`images/1_sat.jpg`, `masks/1_mask.png`), or by what all names of a folder begin or end with. Pairs may lie in
folders below; their names then include these folders. If there are both val and test, val is used. Without a held-out
part, pairs have no split, and `pipelines.data.splits` divides them by name. Images that are in no pair are counted in
`Layout.unused`.
"""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from model.errors import DataError
from model.io.images import short_name
from model.io.locations import Location
from pipelines.data.candidates.folder_scan import DEPTH, ImageFile, Scan, scan
from pipelines.data.candidates.joining import SIDES, Joined, Naming, Part, find_naming, find_words
from pipelines.data.candidates.roles import Side, Split, find_role, names_letter, opposite, uses_letter

LISTS = (".csv", ".tsv", ".parquet")
"""Suffixes of lists of pairs."""
MANY_FILES = 3
"""Number of files from which those that are no images are reported, if there are as many as images."""
_HELD_OUT: tuple[Split, Split] = ("val", "test")
_TITLES: dict[Side, str] = {"": "side-by-side images", "photo": "photos", "map": "maps"}
LAYOUTS = (
    "Put the pairs (JPEG, PNG, WebP or TIFF) in train/ and val/, each image with the photo left and the map right; "
    "or photos in trainA/ and maps of the same names in trainB/ (held-out ones in valA/ and valB/), or in photos/ and "
    "maps/; "
    "or side-by-side images in the folder itself; or list them in a CSV file with the columns photo and map."
)


class Candidate(NamedTuple):
    """The files of a possible pair; `problem` says what is wrong with their names, if anything."""

    split: Split
    name: str
    files: tuple[Location, ...]
    problem: str


class Unused(NamedTuple):
    """Images that are in no pair: their folder, and the reason."""

    name: str
    reason: str


class Layout(NamedTuple):
    """The candidates of a data set, sorted by name, a description of where they were found, and what was left over."""

    candidates: list[Candidate]
    description: str
    unused: list[Unused]
    doubtful: bool = False
    """Whether photos and maps are told apart by words in the names of files, or by the letters A and B."""


def find_candidates(folder: Location) -> Layout:
    """Find the layout of a folder.

    Raises:
        StorageError: The storage does not answer.
        DataError: The folder does not exist, or has none of the layouts, or several.
    """
    found = scan(folder)
    if not found.images:
        raise _no_images(found)
    parts = assign_roles(found.images)
    roots = find_roots(parts)
    if len(roots) > 1:
        shown = join_first([_show(root) for root in roots], 8, ", ")
        raise DataError(
            f"There are {len(roots)} folders of pairs in {found.folder}: {shown}. Name one of them "
            f"(data.source={found.folder.join(*roots[0])}), or list the pairs in a CSV file."
        )
    inside = [part for part in parts if not roots or (part.role.names and part.role.root == roots[0])]
    train: Split = "train" if any(part.role.split == "train" for part in inside) else ""
    naming = None
    if not any(part.role.side for part in inside):
        naming = find_words([part for part in inside if part.role.split == train])
        inside = inside if naming is None else naming.name_sides(inside)
    held_out = _choose_held_out(inside, train, found.folder)
    used = [part for part in inside if part.role.split in (train, held_out)]
    _refuse_two_layouts([part for part in inside if part.role.split in (train, held_out, "")], train, found.folder)
    doubtful = naming is not None or any(uses_letter(name) for part in used for name in part.role.names)
    naming = naming or find_naming(used)
    joined = list(naming.join(used))
    names = {(part.role.split, part.role.side): part.role.names for part in used}
    candidates = [_candidate(pair, names, split=bool(held_out)) for pair in joined]
    taken = {image for pair in joined for images in pair.sides for image in images}
    unused = _count_unused([part for part in parts if part.image not in taken], used, held_out)
    return Layout(
        sorted(candidates, key=lambda candidate: candidate.name),
        _describe(used, held_out, naming),
        [*unused, *_count_others(found)],
        doubtful=doubtful,
    )


def find_folders(folder: Location) -> list[tuple[str, ...]]:
    """Return the folders below one that have a layout of their own, or the folder itself if it only has images."""
    parts = assign_roles(scan(folder, follow_links=False).images)
    found = find_roots(parts, whole=True)
    return found or ([()] if parts and not any(part.role.names for part in parts) else [])


def assign_roles(images: Iterable[ImageFile]) -> list[Part]:
    """Return the images with the roles of their folders.

    A folder such as `images` is one of photos only if there is one of maps for the same split; otherwise its name
    means nothing. The letters A and B, and words as short, are names of their own below folders of photos and maps
    (`sat/a`, `map/a`), but not in `maps/trainA`.
    """
    images = list(images)
    parts = [Part(image, find_role(image.folders, short=False)) for image in images]
    roots = _whole_roots(parts)
    if not roots:
        parts = [Part(image, find_role(image.folders)) for image in images]
        roots = _whole_roots(parts)
    return [
        part
        if not part.role.side or part.role.root in roots or any(names_letter(name) for name in part.role.names)
        else Part(part.image, find_role(part.image.folders, sided=False))
        for part in parts
    ]


def _whole_roots(parts: Iterable[Part]) -> set[tuple[str, ...]]:
    """Return the folders that have one of photos and one of maps for the same split."""
    sides: dict[tuple[tuple[str, ...], Split], set[str]] = {}
    for _, role in parts:
        sides.setdefault((role.root, role.split), set()).add(role.side)
    return {root for (root, _), found in sides.items() if {"photo", "map"} <= found}


def find_roots(parts: Sequence[Part], *, whole: bool = False) -> list[tuple[str, ...]]:
    """Return the folders that have a layout with pairs to train on; if there are none, one with a part of a layout.

    Args:
        parts: The images in all folders.
        whole: Return no folder that has only a part of a layout.
    """
    sides: dict[tuple[str, ...], set[str]] = {}
    for _, role in parts:
        if role.names:
            sides.setdefault(role.root, set()).update({role.side} if role.split in ("train", "") else ())
    found = [root for root, kinds in sides.items() if "" in kinds or kinds >= set(SIDES)]
    return found or ([] if whole else sorted(sides)[:1])


def _choose_held_out(parts: Sequence[Part], train: Split, folder: Location) -> Split | None:
    """Return the split to hold out; None if the folders have none with whole pairs."""
    sides: dict[Split, set[str]] = {}
    for _, role in parts:
        sides.setdefault(role.split, set()).add(role.side)
    if parts and train not in sides:
        names = " and ".join(sorted({_show(part.role.names) for part in parts}))
        raise DataError(f"{folder} has {names} but no train/ with images. {LAYOUTS}")
    whole = {""} if sides.get(train) == {""} else set(SIDES)
    return next((split for split in _HELD_OUT if sides.get(split, set()) >= whole), None)


def _refuse_two_layouts(parts: Sequence[Part], train: Split, folder: Location) -> None:
    """Raise a DataError if folders of the same split and side, or of a split with and without sides, have two names.

    Folders without a split are as good as those to train on.
    """
    for split in sorted({part.role.split or train for part in parts}):
        roles = [part.role for part in parts if (part.role.split or train) == split]
        names: dict[Side, set[tuple[str, ...]]] = {}
        for role in roles:
            names.setdefault(role.side, set()).add(role.names)
        several = any(len(found) > 1 for found in names.values())
        if several or ("" in names and len(names) > 1):
            kinds = {"photo": "photos in", "map": "maps in", "": "side-by-side images in"}
            found = [
                f"{kind} {' and '.join(map(_show, sorted(names[side])))}"
                for side, kind in kinds.items()
                if side in names
            ]
            raise DataError(
                f"{folder} has {', '.join(found)}; keep one layout and move the other images elsewhere, or list the "
                "pairs in a CSV file."
            )


def _candidate(pair: Joined, names: Mapping[tuple[Split, Side], tuple[str, ...]], *, split: bool) -> Candidate:
    """Return a candidate with the problem of its file names, if any: a missing half, or several files of one name.

    Args:
        pair: The images of the candidate.
        names: The names of the folders of photos and of maps in each split.
        split: Whether its name begins with the split, because the folders name a held-out part.
    """
    images = [image for side in pair.sides for image in side]
    name = "/".join((*((pair.role.split,) if split else ()), *pair.role.rest, images[0].stem))
    problem = ""
    for side, found in zip(SIDES, pair.sides, strict=False):
        if not found:
            other = names.get((pair.role.split, side)) or _opposite(pair.role.names)
            problem = f"its {side} is missing" + (f" in {_show(other)}" if other and other != pair.role.names else "")
        elif len(found) > 1:
            files = ", ".join(_printable(short_name(image.location.name_path)) for image in found)
            problem = f"several files have this name: {files}"
    if name != _printable(name):
        problem = "its file name is not UTF-8"
    locations = tuple(image.location for image in images)
    return Candidate(pair.role.split if split else "", _printable(name), locations, problem)


def _opposite(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the folder with the other letter, or nothing if they contain no letter."""
    other = opposite(names[-1]) if names else ""
    return (*names[:-1], other) if other else ()


def _count_unused(parts: Sequence[Part], used: Sequence[Part], held_out: Split | None) -> list[Unused]:
    """Count the images that are in no pair, by folder."""
    folders = {part.role.names for part in used}
    inside = " and ".join(sorted({_show((*part.role.root, *part.role.names)) for part in used}))
    counts: Counter[tuple[str, str]] = Counter()
    for image, role in parts:
        if role.names in folders:
            reason = "neither photos nor maps by their names"
        elif role.split in _HELD_OUT and role.split != held_out:
            reason = f"{held_out}/ is held out" if held_out else "no pairs of a photo and a map"
        else:
            reason = f"outside {inside}"
        counts[_show(image.folders), reason] += 1
    return [
        Unused(name, f"{number} image{'s' * (number > 1)}: {reason}")
        for (name, reason), number in sorted(counts.items())
    ]


def _count_others(found: Scan) -> list[Unused]:
    """Count the files that are no images where there are many, and list the folders that were not searched."""
    images = Counter(image.folders for image in found.images)
    many = {key: number for key, number in found.others.items() if number >= max(images[key[0]], MANY_FILES)}
    return [
        *(
            Unused(_show(folders), f"{number} files: no images ({suffix or 'without a suffix'})")
            for (folders, suffix), number in sorted(many.items())
        ),
        *(Unused(_show(folders), f"not searched: deeper than {DEPTH} levels") for folders in found.too_deep),
    ]


def _no_images(found: Scan) -> DataError:
    content = join_first([_printable(name) for name in found.content], 8, ", ") or "nothing"
    lists = [name for name in found.content if name.lower().endswith(LISTS)]
    if lists:
        advice = f"If {_printable(lists[0])} is a list of pairs, name it: data.source={found.folder.join(lists[0])}."
    else:
        advice = LAYOUTS
    notes = "".join(f" {item.name}: {item.reason}." for item in _count_others(found))
    return DataError(f"There are no pairs in {found.folder} (found: {content}).{notes} {advice}")


def _describe(parts: Sequence[Part], held_out: Split | None, naming: Naming) -> str:
    """Describe a layout: `photos in trainA/, maps in trainB/; held out: valA/, valB/`, or `photos *_sat in ./, ...`."""
    train, held = [], []
    for side, title in _TITLES.items():
        same = [part for part in parts if part.role.side == side]
        if same:
            pattern = naming.pattern(same)
            name = title if pattern == "*" else f"{title} {pattern}"
            train.append(f"{name} in {_list_folders(part for part in same if part.role.split != held_out)}")
            held.append(_list_folders(part for part in same if part.role.split == held_out))
    return ", ".join(train) + (f"; held out: {', '.join(dict.fromkeys(held))}" if held_out else "")


def _list_folders(parts: Iterable[Part]) -> str:
    return ", ".join(sorted({_show((*part.role.root, *part.role.names)) for part in parts}))


def _show(folders: Sequence[str]) -> str:
    """Return a folder's name with a slash at the end; that of the source is `./`."""
    return "/".join(map(_printable, folders)) + "/" if folders else "./"


def _printable(name: str) -> str:
    """Return a file name as text that can be written as UTF-8."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def join_first(items: list[str], count: int, separator: str) -> str:
    """Join the first items, followed by the number of the others."""
    shown = separator.join(items[:count])
    return shown if len(items) <= count else f"{shown}{separator}and {len(items) - count} more"
