"""The classes that a map's colours stand for: found in the training maps, then read off any map."""

import colorsys
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from model.errors import DataError
from model.palette import BITS, cells
from model.pixels import Pixels, check_images
from model.spec import MAX_CLASSES, Palette
from pipelines.metrics.intervals import Values

NAMES = ("road", "water", "park", "building", "ground")
SAME = 11.0
"""Levels of RGB below which two colours are one, with the noise of JPEG."""
SHADE = 15.0
"""Levels of RGB below which two colours are shades of one class; in Google's maps 19 part buildings from ground."""
TINGE = 20
"""How much more common a colour is than a shade of it that is but noise, or a mixture."""
FLAT = 10
"""Levels by which the channels of an area may vary and still be of one colour; JPEG costs a few."""
LEAST_SHARE = 0.0003
"""Of the flat pixels that a colour must hold. Main roads hold about 0.0005 in maps of a residential town."""
LEAST_FLAT = 0.1
"""Of all pixels that must lie in flat areas, or the maps are not drawn in flat colours."""
MAX_COLOURS = 32
"""Maps of one style were seen to hold 5 to 13; photos that are flat enough to be surveyed hold more than 40."""

GREY, BEIGE = 32, 56
"""Levels between the largest and the smallest channel, from which on a colour is green or blue, and is a warm hue."""
GREENS, BLUES = (65, 165), (165, 265)
"""Hues in degrees: yellow is 60, cyan 180, violet 270."""
WHITE, PALE = 245, 160
"""Least channels of a white and of what can be ground."""
NEAR_GROUND = 60.0
"""Levels of RGB within which a grey belongs to the ground or to what stands on it."""
THIN = 0.7
"""Share of its flat pixels that a colour has in wide areas, as a multiple of the share of all colours."""

Colours = NDArray[np.float64]
"""RGB in [0, 255], the last axis is 3."""


class NoPaletteError(DataError):
    """Maps are not drawn in flat colours of several classes."""


def find_palette(maps: Iterable[Pixels]) -> Palette:
    """Find the flat colours that maps are drawn in, and name them.

    A colour is what 3x3 pixels agree in (within 10 levels of noise), so that smoothed edges and the halos of JPEG are
    none. Colours nearer than 11 levels are one. Left out are colours of fewer than 0.03 % of the flat pixels, and
    shades (nearer than 15 levels) of a colour that is twenty times as common. The names come from hue, lightness,
    share, and how seldom a colour fills 9x9 pixels (thin, next to all colours):

    - `road`: white where thin, and warm hues where thin: yellow, orange, red.
    - `water`: hues from cyan to blue (165 to 265 degrees).
    - `park`: greens (65 to 165 degrees).
    - `building`: the most common grey near the ground, lighter or darker, and its shades. Further greys near the
      ground, often mixtures, are left out: their pixels go to the nearest colour.
    - `ground`: the most common pale grey that is no road (a grey has no hue: beige counts), and its shades.
    - `other`, `other_2`, ...: each colour that is left, the most common first.

    So what a map draws against this custom, grey roads or green buildings, goes by another name; a class that is
    not found is left out, and so are the rarest beyond twenty. A colour of few pixels, or close to a limit, may come
    and go with the choice of maps; common ones do not.

    Args:
        maps: uint8 (H, W, 3) of 9x9 pixels or more each, of any sizes; read one at a time.

    Raises:
        NoPaletteError: There are none, or they are not drawn in flat colours.
        DataError: A map is of another type or shape.
    """
    survey = _Survey()
    for street_map in maps:
        survey.add(street_map)
    colours, width = survey.colours()
    names = _name(colours, width)
    classes: dict[str, list[str]] = {name: [] for name in (*NAMES, *names) if name and name in names}
    for name, colour in zip(names, colours, strict=True):
        if name:
            classes[name].append("#" + bytes(np.rint(colour).astype(np.uint8)).hex())
    if len(classes) < 2:
        raise NoPaletteError(
            f"The maps hold one class of colour alone, {', '.join(classes)}; give maps of more places."
        )
    # Sorted, because how common two colours of a class are changes from one set of maps to the next.
    kept = list(classes.items())[:MAX_CLASSES]
    return Palette(classes={name: tuple(sorted(members, key=_lightness, reverse=True)) for name, members in kept})


@dataclass
class _Survey:
    """What has been seen of the maps: counts and sums a cell of the RGB cube."""

    pixels: int = 0
    flat: NDArray[np.int64] = field(default_factory=lambda: np.zeros(1 << 3 * BITS, np.int64))
    wide: NDArray[np.int64] = field(default_factory=lambda: np.zeros(1 << 3 * BITS, np.int64))
    sums: Colours = field(default_factory=lambda: np.zeros((1 << 3 * BITS, 3)))

    def add(self, street_map: Pixels) -> None:
        """Count the pixels of flat areas, 3x3, and of wide ones, 9x9; a margin of 4 pixels is left out."""
        check_images(street_map[None], "Maps")
        if min(street_map.shape[:2]) < 9:
            height, width = street_map.shape[:2]
            raise DataError(f"A map of {width}x{height} pixels is too small to hold areas; give 9x9 or more.")
        low, high = _extremes(street_map, street_map, by=1)
        flat = _even(low, high)[3:-3, 3:-3]
        low, high = _extremes(low, high, by=3)
        wide = _even(low, high)
        inside = street_map[4:-4, 4:-4]
        self.pixels += flat.size
        colours = inside[flat]
        found = cells(colours)
        self.flat += np.bincount(found, minlength=len(self.flat))
        self.wide += np.bincount(cells(inside[wide]), minlength=len(self.wide))
        for channel in range(3):
            self.sums[:, channel] += np.bincount(found, colours[:, channel], minlength=len(self.flat))

    def colours(self) -> tuple[Colours, Values]:
        """Return the flat colours (n, 3), the most common first, and how much of each is in wide areas, (n,).

        The second is relative: 1 is the share of all flat pixels that lie in wide areas.
        """
        total = int(self.flat.sum())
        if total < max(LEAST_FLAT * self.pixels, 1):
            raise NoPaletteError(
                f"{total} of {self.pixels} pixels of the maps lie in areas of one colour; a palette takes "
                f"{LEAST_FLAT:.0%} or more: give maps drawn in flat colours, not photos."
            )
        cells = np.flatnonzero(self.flat)
        flat, wide = self.flat[cells], self.wide[cells]
        means = self.sums[cells] / flat[:, None]
        left = flat.copy()
        found: list[tuple[int, Colours, float]] = []
        while left.any() and len(found) <= MAX_COLOURS:
            near = (_distance(means, means[left.argmax()]) < SAME) & (left > 0)
            pixels = int(left[near].sum())
            if pixels < LEAST_SHARE * total:
                break
            found.append((pixels, self.sums[cells[near]].sum(axis=0) / pixels, wide[near].sum() / pixels))
            left[near] = 0
        # Of a gradient not even the most common colour holds its least share.
        if not 0 < len(found) <= MAX_COLOURS:
            raise NoPaletteError(
                f"The maps' flat areas are of more than {MAX_COLOURS} colours, too many for a palette; give maps drawn "
                "in flat colours, not photos."
            )
        found.sort(key=lambda colour: -colour[0])
        counts, colours, widths = (np.array(column) for column in zip(*found, strict=True))
        kept = [
            index
            for index, colour in enumerate(colours)
            if not ((_distance(colours, colour) < SHADE) & (counts > TINGE * counts[index])).any()
        ]
        # Where nothing is wide all is thin, by the same rule.
        return colours[kept], widths[kept] / (max(int(wide.sum()), 1) / total)


def _extremes(low: Pixels, high: Pixels, *, by: int) -> tuple[Pixels, Pixels]:
    """Return the least `low` and the largest `high` of 3x3 pixels that lie `by` apart; (H, W, 3) loses 2 x by rows."""
    for _ in range(2):
        # Rows first; the swapped axes are the columns' turn.
        parts = slice(None, -2 * by), slice(by, -by), slice(2 * by, None)
        low = reduce(np.minimum, [low[part] for part in parts]).swapaxes(0, 1)
        high = reduce(np.maximum, [high[part] for part in parts]).swapaxes(0, 1)
    return low, high


def _even(low: Pixels, high: Pixels) -> NDArray[np.bool_]:
    """Mark where no channel varies by more than FLAT."""
    even: NDArray[np.bool_] = reduce(np.logical_and, np.moveaxis(high - low <= FLAT, -1, 0))
    return even


def _name(colours: Colours, width: Values) -> list[str]:
    """Name colours (n, 3), the most common first, by the rules of `find_palette`; `width` (n,) is 1 on average.

    A colour that is left out has no name, "".
    """
    names = np.array([_tell_hue(colour) for colour in colours], dtype=object)
    names[(width < THIN) & ((names == "white") | (names == "warm"))] = "road"
    names[names == "warm"] = "other"
    greys = np.flatnonzero((names == "white") | (names == "grey"))
    names[greys] = _name_greys(colours[greys])
    others = np.flatnonzero(names == "other")
    names[others[1:]] = [f"other_{number}" for number in range(2, len(others) + 1)]
    return [str(name) for name in names]


def _name_greys(greys: Colours) -> NDArray[np.object_]:
    """Name greys (n, 3), the most common first."""
    names = np.full(len(greys), "other", dtype=object)
    pale = np.flatnonzero(greys.min(axis=-1) >= PALE)
    if pale.size:
        away = _distance(greys, greys[pale[0]])
        names[away <= NEAR_GROUND] = ""
        names[away < SHADE] = "ground"
    left = np.flatnonzero(names == "")
    if left.size:
        names[(names == "") & (_distance(greys, greys[left[0]]) < SHADE)] = "building"
    return names


def _tell_hue(colour: Colours) -> str:
    """Tell white, grey, and the hues that matter: water, park, and all that is warm."""
    hue = 360 * colorsys.rgb_to_hsv(*colour / 255)[0]
    kind = "park" if GREENS[0] <= hue < GREENS[1] else "water" if BLUES[0] <= hue < BLUES[1] else "warm"
    if np.ptp(colour) >= (BEIGE if kind == "warm" else GREY):
        return kind
    return "white" if colour.min() >= WHITE else "grey"


def _lightness(colour: str) -> tuple[int, str]:
    return sum(bytes.fromhex(colour[1:])), colour


def _distance(colours: Colours, colour: Colours) -> Values:
    """Return the Euclidean distance of each colour (..., 3) from one, in levels."""
    distance: Values = np.linalg.norm(colours - colour, axis=-1)
    return distance
