"""Roles of folders and files, read from the words in their names: the split, and whether photos or maps are inside.

```
train    train, training                        photo   a; sat, satellite, aerial, image, photo, input, source, ...
val      val, valid, validation, dev            map     b; map, mask, label, target, output, gt, ...
test     test, testing
```
Words may be in any case and in the plural, and are divided by `-`, `_`, `.`, spaces or capitals: `trainA`, `train_a`,
`Satellite Images`, `val-masks`. The letters a and b are a family of their own: `A/` goes with `B/`, not with `maps/`.
"""

import re
from functools import cache
from typing import Literal, NamedTuple

Split = Literal["train", "val", "test", ""]
Side = Literal["photo", "map", ""]

SPLITS: dict[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
LETTERS: dict[str, Side] = {"a": "photo", "b": "map"}
_PHOTO_WORDS = (
    *("aerial", "image", "img", "in", "input", "naip", "ortho", "orthophoto", "photo", "photograph", "pic", "picture"),
    *("rgb", "sat", "satellite", "source", "src", "x"),
)
_MAP_WORDS = (
    *("annotation", "groundtruth", "gt", "label", "lbl", "map", "mask", "osm", "out", "output", "roadmap", "seg"),
    *("segmentation", "streetmap", "target", "tgt", "truth", "y"),
)
WORDS: dict[str, Side] = {
    **{form: "photo" for word in _PHOTO_WORDS for form in (word, f"{word}s")},
    **{form: "map" for word in _MAP_WORDS for form in (word, f"{word}s")},
}
SHORT = {"x", "y", "in", "out"}
"""Words that, as the letters A and B, may also be names of places or batches."""
_FILLERS = {"ground", "street", "road", "tile", "tiles", "patch", "patches", "crop", "crops", "data", "set"}
"""Words that may stand next to the others: `street_maps`, `image_tiles`."""

_SEPARATORS = "-_ ."
_GLUED = re.compile(rf"({'|'.join(sorted(SPLITS, key=len, reverse=True))})([ab])")
"""A split and a letter without anything between them, in a name without capitals: `traina`."""


class Role(NamedTuple):
    """The role of a folder among those of a data set.

    Attributes:
        root: The folders above the first one that has a role.
        split: The split, or "" if no folder names one.
        side: Photos or maps, or "" for side-by-side images.
        names: The folders that have the role, such as `("train", "A")`.
        rest: The other folders below the root.
    """

    root: tuple[str, ...]
    split: Split
    side: Side
    names: tuple[str, ...]
    rest: tuple[str, ...]


@cache
def find_role(folders: tuple[str, ...], *, sided: bool = True, short: bool = True) -> Role:
    """Return the role of a folder from its own name and those above it, of which the last one counts.

    Args:
        folders: Names from below the source down to the folder.
        sided: Whether names of photos and maps count, or only those of splits.
        short: Whether those of SHORT and the letters A and B count even next to longer ones.
    """
    split: Split = ""
    side: Side = ""
    found: dict[int, str] = {}
    has_long = any(_read_name(name)[1] and not _is_short(name) for name in folders)
    for number in reversed(range(len(folders))):
        named_split, named_side = _read_name(folders[number])
        if not sided or (has_long and not short and _is_short(folders[number])):
            named_side = ""
        if (named_split and not split) or (named_side and not side):
            found[number] = folders[number]
            split, side = split or named_split, side or named_side
    first = min(found, default=0)
    rest = tuple(name for number, name in enumerate(folders) if number >= first and number not in found)
    return Role(tuple(folders[:first]), split, side, tuple(found[number] for number in sorted(found)), rest)


def names_letter(folder: str) -> bool:
    """Return whether a name consists of a split and one of the letters A and B, as `trainA`."""
    split, side = _read_name(folder)
    return bool(split and side) and _words(folder)[-1] in LETTERS


def uses_letter(folder: str) -> bool:
    """Return whether one of the letters A and B makes a folder one of photos or of maps."""
    return bool(_read_name(folder)[1]) and any(word in LETTERS for word in _words(folder))


def _is_short(folder: str) -> bool:
    return any(word in LETTERS or word in SHORT for word in _words(folder))


def opposite(folder: str) -> str:
    """Return the name of the folder that belongs to one with the letter A or B, or "" for other names."""
    letter = folder[-1:]
    return folder[:-1] + letter.translate(str.maketrans("AaBb", "BbAa")) if letter in set("AaBb") else ""


def find_side(name: str) -> Side:
    """Return the side that any word of a column's name stands for: `mask_path` is one of maps."""
    sides = {WORDS[word] for word in _words(name) if word in WORDS}
    return "map" if "map" in sides else next(iter(sides), "")


def _read_name(name: str) -> tuple[Split, Side]:
    """Return the split and the side that a folder's name consists of; any other word makes it a name of its own."""
    words = _words(name)
    splits = {SPLITS[word] for word in words if word in SPLITS}
    letters = {LETTERS[word] for word in words if word in LETTERS}
    sides = {WORDS[word] for word in words if word in WORDS}
    known = all(word in SPLITS or word in LETTERS or word in WORDS or word in _FILLERS for word in words)
    if not known or len(splits) > 1 or len(letters) > 1 or (letters and sides):
        return "", ""
    # `label_images` holds labels.
    side: Side = next(iter(letters), "") or ("map" if "map" in sides else next(iter(sides), ""))
    return next(iter(splits), ""), side


def _words(name: str) -> list[str]:
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    words = [word.lower() for word in re.split(rf"[{re.escape(_SEPARATORS)}]+", spaced) if word]
    glued = [_GLUED.fullmatch(word) for word in words]
    return [part for word, match in zip(words, glued, strict=True) for part in (match.groups() if match else (word,))]


class Stem(NamedTuple):
    """A file's name without suffix, divided into the part that pairs it and those that distinguish photo and map.

    Attributes:
        key: The part that photo and map have in common.
        side: The side that the other parts name, or "".
        affixes: The parts that were removed: `_sat` at the end, `sat_` at the beginning.
    """

    key: str
    side: Side
    affixes: tuple[str, ...]


class Family(NamedTuple):
    """Words that tell photos from maps in the names of files, and the pattern that finds one at an end of a name."""

    sides: dict[str, Side]
    pattern: re.Pattern[str]

    @classmethod
    def of(cls, sides: dict[str, Side]) -> "Family":
        """Return the family of these words: each is divided from the rest by a separator, or next to a digit."""
        known, separator = "|".join(sorted(sides, key=len, reverse=True)), rf"[{re.escape(_SEPARATORS)}]+"
        first = rf"(?P<first>(?:{known})(?:{separator}|(?=\d)))(?P<tail>.+)"
        last = rf"(?P<head>.+?)(?P<last>(?:{separator}|(?<=\d))(?:{known}))"
        return cls(sides, re.compile(f"{last}|{first}", re.IGNORECASE | re.DOTALL))


FAMILIES = (Family.of(WORDS), Family.of(LETTERS))


def read_stem(stem: str, family: Family) -> Stem:
    """Remove the words of a family from both ends of a file's name."""
    key, affixes, sides = stem, [], set()
    while match := family.pattern.fullmatch(key):
        affixes.append(match["first"] or match["last"])
        sides.add(family.sides[affixes[-1].strip(_SEPARATORS).lower()])
        key = match["tail"] or match["head"]
    # `image_1_mask` is a mask.
    return Stem(key, "map" if "map" in sides else next(iter(sides), ""), tuple(affixes))
