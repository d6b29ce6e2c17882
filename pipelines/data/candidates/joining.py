"""Photos and maps in files of their own, joined by the parts of their names that they have in common."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from pipelines.data.candidates.folder_scan import ImageFile
from pipelines.data.candidates.roles import FAMILIES, Family, Role, Side, Split, Stem, read_stem

NAMED = 0.8
"""Share of the images in one folder that must be photos or maps by their names."""
MATCHED = 0.5
"""Share of the images in one folder that must be in pairs, so that their names count."""
SIDES: tuple[Side, Side] = ("photo", "map")


class Part(NamedTuple):
    """An image and the role of its folder."""

    image: ImageFile
    role: Role


class Joined(NamedTuple):
    """The images of a possible pair.

    Attributes:
        role: The role of the first one's folder.
        sides: All images with the pair's name: of side-by-side pairs, or of photos and of maps; one each, if all is
            well.
    """

    role: Role
    sides: tuple[tuple[ImageFile, ...], ...]


class Naming(NamedTuple):
    """A way to read names: the stem of an image and the side of its folder give the pair's key and the image's side."""

    read: Callable[[str, Side], Stem]

    def groups(self, parts: Iterable[Part]) -> Iterable[dict[Side, list[Part]]]:
        """Return the images that have the split, the folders below and the key in common, by side."""
        found: dict[tuple[Split, tuple[str, ...], str], dict[Side, list[Part]]] = {}
        for part in parts:
            stem = self.read(part.image.stem, part.role.side)
            found.setdefault((part.role.split, part.role.rest, stem.key), {}).setdefault(stem.side, []).append(part)
        return found.values()

    def matched(self, parts: Iterable[Part]) -> int:
        """Return the number of images that are in pairs of one photo and one map."""
        return sum(2 for sides in self.groups(parts) if all(len(sides.get(side, ())) == 1 for side in SIDES))

    def join(self, parts: Iterable[Part]) -> Iterator[Joined]:
        """Yield the images of each key: those without a side, or the photos and the maps."""
        for sides in self.groups(parts):
            found = [sides[""]] if "" in sides else [sides.get(side, []) for side in SIDES]
            first = next(part for same in found for part in same)
            yield Joined(first.role, tuple(tuple(part.image for part in same) for same in found))

    def name_sides(self, parts: Iterable[Part]) -> list[Part]:
        """Return the images that are photos or maps by their names, with that side."""
        read = [(image, role._replace(side=self.read(image.stem, "").side)) for image, role in parts]
        return [Part(image, role) for image, role in read if role.side]

    def pattern(self, parts: Iterable[Part]) -> str:
        """Return the most common form of the names of photos, or of maps, such as `*_sat`; `*` for any name."""
        names = [(image.stem, self.read(image.stem, role.side).key) for image, role in parts]
        starts = [(name, name.lower().find(key.lower()), len(key)) for name, key in names]
        patterns = Counter(f"{name[:start]}*{name[start + length :]}" for name, start, length in starts)
        return patterns.most_common(1)[0][0]


def find_naming(parts: Sequence[Part]) -> Naming:
    """Return how to join the images: by equal names unless another way makes more pairs of photos and maps.

    Capitals are ignored; or the words of `roles` are removed from the ends of the names; or what all
    names of photos, or of maps, begin and end with. Side-by-side images are joined to nothing.
    """
    if not any(part.role.side for part in parts):
        return _EQUAL
    return max([_EQUAL, _WITHOUT_CAPITALS, *_BY_WORDS, _common_ends(parts)], key=lambda naming: naming.matched(parts))


def find_words(parts: Sequence[Part]) -> Naming | None:
    """Return how to join photos and maps in the same folders by words in their names.

    Returns:
        None if the names make hardly any pairs, or if most images are neither photos nor maps by their names.
    """
    naming = max(_BY_WORDS, key=lambda candidate: candidate.matched(parts))
    named = len(naming.name_sides(parts))
    return naming if named >= NAMED * len(parts) > 0 and naming.matched(parts) >= MATCHED * len(parts) else None


def _read_all(stem: str, side: Side) -> Stem:
    return Stem(stem, side, ())


def _read_words(stem: str, side: Side, *, family: Family) -> Stem:
    found = read_stem(stem, family)
    return found._replace(side=side) if side else found


def _read_lower(stem: str, side: Side) -> Stem:
    return Stem(stem.lower(), side, ())


_EQUAL = Naming(_read_all)
_WITHOUT_CAPITALS = Naming(_read_lower)
_BY_WORDS = [Naming(partial(_read_words, family=family)) for family in FAMILIES]


def _common_ends(parts: Iterable[Part]) -> Naming:
    """Remove what all names of photos, or of maps, begin and end with, apart from digits."""
    stems: dict[Side, list[str]] = {}
    for image, role in parts:
        stems.setdefault(role.side, []).append(image.stem)
    ends: dict[Side, tuple[str, str]] = {}
    for side, names in stems.items():
        first = re.sub(r"\d+$", "", _common_start(names))
        last = re.sub(r"\d+$", "", _common_start([name[len(first) :][::-1] for name in names]))[::-1]
        ends[side] = (first, last) if len(set(names)) > 1 else ("", "")

    def read(stem: str, side: Side) -> Stem:
        first, last = ends[side]
        return Stem(stem.removeprefix(first).removesuffix(last), side, (first, last))

    return Naming(read)


def _common_start(names: Sequence[str]) -> str:
    first, last = min(names), max(names)
    differing = (number for number, (one, other) in enumerate(zip(first, last, strict=False)) if one != other)
    return first[: next(differing, min(len(first), len(last)))]
