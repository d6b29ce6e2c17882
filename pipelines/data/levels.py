"""Warnings about photos and maps that use hardly any of the 256 levels, and about pairs that are not square."""

from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image

from pipelines.data.candidates.layouts import join_first

LEAST_LEVEL = 32
"""Level below which an image is suspiciously dark: 12 bits in 16, of which the upper 8 are read, end at level 15."""
LEAST_RANGE = 24
"""Least difference of an image's lowest and highest levels; photos of open water have more."""
MOST = 0.5
"""Share of images of a small range from which they are reported; a few of them are normal."""


class Extremes(NamedTuple):
    """Lowest and highest level of an image over its three channels."""

    low: int
    high: int

    @classmethod
    def of(cls, image: Image.Image) -> "Extremes":
        """Measure an RGB image."""
        lows, highs = zip(*image.getextrema(), strict=True)
        return cls(min(lows), max(highs))


class Measured(NamedTuple):
    """The levels of a pair, and its width and height."""

    name: str
    photo: Extremes
    street_map: Extremes
    size: tuple[int, int]


def find_warnings(pairs: Sequence[Measured]) -> list[str]:
    """Return a sentence for each kind of pairs that can hardly be learned from, with their number and the way out."""
    photos = [(pair.name, pair.photo) for pair in pairs]
    maps = [(pair.name, pair.street_map) for pair in pairs]
    oblong = [pair.name for pair in pairs if pair.size[0] != pair.size[1]]
    return [
        *_warn("photos", photos, "Scale their values to the full range first (12 bits in 16 end at 4095 of 65535)."),
        *_warn("maps", maps, "Give each class a colour of its own, if they hold numbers of classes."),
        *_count(
            oblong, f"of {len(pairs)} pairs", "not square, and squeezed to a square", "Cut them into squares first."
        ),
    ]


def _warn(title: str, images: Sequence[tuple[str, Extremes]], advice: str) -> list[str]:
    total = f"of {len(images)} {title}"
    black = [name for name, levels in images if levels.high == 0]
    dark = {name: levels for name, levels in images if 0 < levels.high < LEAST_LEVEL}
    flat = {
        name: levels for name, levels in images if levels.high >= LEAST_LEVEL and levels.high - levels.low < LEAST_RANGE
    }
    warnings = _count(black, total, "entirely black", advice)
    for found in (dark, flat if len(flat) > MOST * len(images) else {}):
        if found:
            low, high = min(levels.low for levels in found.values()), max(levels.high for levels in found.values())
            warnings += _count(list(found), total, f"limited to the levels {low} to {high} of 255", advice)
    return warnings


def _count(names: list[str], total: str, problem: str, advice: str) -> list[str]:
    """Return a sentence about some images, or none if there are no such images."""
    verb = "is" if len(names) == 1 else "are"
    return [f"{len(names)} {total} {verb} {problem} ({join_first(names, 3, ', ')}). {advice}"] if names else []
