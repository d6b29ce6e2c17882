"""Palettes found in the colours of training maps."""

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
"""Classes with a name of their own, in the order of a palette."""
SAME = 11.0
"""Distance in RGB levels below which two colours are the same, apart from the noise of JPEG."""
SHADE = 15.0
"""Distance in RGB levels below which colours are shades of one class; buildings and ground of Google's maps are 19
apart."""
TINGE = 20
"""Ratio of pixels from which the rarer of two shades is only noise or a mixture."""
FLAT = 10
"""Levels by which each channel of a flat area may vary; JPEG adds a few."""
LEAST_SHARE = 0.0003
"""Share of the flat pixels that a colour needs; main roads have about 0.0005 in maps of a residential town."""
LEAST_FLAT = 0.1
"""Share of all pixels that must be in flat areas, or the maps are not drawn in flat colours."""
MAX_COLOURS = 32
"""Colours of a palette at most. Maps of one style had 5 to 13; photos with enough flat areas had more than 40."""

GREY, BEIGE = 32, 56
"""Least difference in levels between the largest and the smallest channel of greens and blues, and of warm hues."""
GREENS, BLUES = (65, 165), (165, 265)
"""Ranges of hues in degrees: yellow is 60, cyan 180, violet 270."""
WHITE, PALE = 245, 160
"""Least level of every channel of white, and of a colour that may be ground."""
NEAR_GROUND = 60.0
"""Distance in RGB levels from the ground within which a grey is ground or building."""
THIN = 0.7
"""Share of a colour's flat pixels in wide areas, relative to that of all colours, below which it is thin."""

Colours = NDArray[np.float64]
"""RGB in [0, 255]; the last axis has 3 channels."""


class NoPaletteError(DataError):
    """The maps are not drawn in flat colours of several classes."""


def find_palette(maps: Iterable[Pixels]) -> Palette:
    """Find the flat colours that maps are drawn in, and name them.

    A colour counts where 3x3 pixels agree (within 10 levels of noise), which excludes smoothed edges and the halos of
    JPEG. Colours closer than 11 levels are merged. Colours of less than 0.03 % of the flat pixels are dropped, and so
    are shades (closer than 15 levels) of a colour that is twenty times as common. Colours are named by hue, lightness,
    share, and thinness: a thin colour fills 9x9 pixels more rarely than colours do on average.

    - `road`: thin white, and thin warm hues (yellow, orange, red).
    - `water`: hues from cyan to blue (165 to 265 degrees).
    - `park`: greens (65 to 165 degrees).
    - `building`: the most common grey near the ground, lighter or darker, and its shades. Other greys near the ground
      are often mixtures and are dropped: their pixels get the nearest colour.
    - `ground`: the most common pale grey, including beige, that is not a road, and its shades.
    - `other`, `other_2`, ...: each remaining colour, the most common first.

    Maps that break these conventions, with grey roads or green buildings, get other names. Classes that are not found
    are left out, and so are the rarest beyond twenty. Rare colours, and colours close to a limit, may depend on the
    choice of maps; common ones do not.

    Args:
        maps: Maps of any sizes from 9x9 pixels, uint8 (H, W, 3); read one at a time.

    Raises:
        NoPaletteError: There are no maps, or they are not drawn in flat colours.
        DataError: A map has another type or shape.
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
        raise NoPaletteError(f"The maps have only one class of colour, {', '.join(classes)}; use maps of more places.")
    # Sorted by lightness: which of two colours of a class is more common depends on the choice of maps.
    kept = list(classes.items())[:MAX_CLASSES]
    return Palette(classes={name: tuple(sorted(members, key=_lightness, reverse=True)) for name, members in kept})


@dataclass
class _Survey:
    """Counts and sums of the maps' pixels for each cell of the RGB cube."""

    pixels: int = 0
    flat: NDArray[np.int64] = field(default_factory=lambda: np.zeros(1 << 3 * BITS, np.int64))
    wide: NDArray[np.int64] = field(default_factory=lambda: np.zeros(1 << 3 * BITS, np.int64))
    sums: Colours = field(default_factory=lambda: np.zeros((1 << 3 * BITS, 3)))

    def add(self, street_map: Pixels) -> None:
        """Count the pixels of flat areas, 3x3, and of wide ones, 9x9, without a margin of 4 pixels."""
        check_images(street_map[None], "Maps")
        if min(street_map.shape[:2]) < 9:
            height, width = street_map.shape[:2]
            raise DataError(f"A map of {width}x{height} pixels is too small; use maps of 9x9 or more.")
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
        """Return the flat colours (n, 3), the most common first, and the share of each in wide areas, (n,).

        The shares are relative to that of all flat pixels.
        """
        total = int(self.flat.sum())
        if total < max(LEAST_FLAT * self.pixels, 1):
            raise NoPaletteError(
                f"{total} of {self.pixels} pixels of the maps lie in areas of one colour; a palette needs at least "
                f"{LEAST_FLAT:.0%}. Use maps drawn in flat colours, not photos."
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
        # Not even the most common colour of a gradient has the least share.
        if not 0 < len(found) <= MAX_COLOURS:
            raise NoPaletteError(
                f"The flat areas of the maps have more than {MAX_COLOURS} colours, too many for a palette; use maps "
                "drawn in flat colours, not photos."
            )
        found.sort(key=lambda colour: -colour[0])
        counts, colours, widths = (np.array(column) for column in zip(*found, strict=True))
        kept = [
            index
            for index, colour in enumerate(colours)
            if not ((_distance(colours, colour) < SHADE) & (counts > TINGE * counts[index])).any()
        ]
        # If no area is wide, all colours are thin.
        return colours[kept], widths[kept] / (max(int(wide.sum()), 1) / total)


def _extremes(low: Pixels, high: Pixels, *, by: int) -> tuple[Pixels, Pixels]:
    """Return the minimum of `low` and the maximum of `high` over 3x3 pixels that are `by` apart.

    The results lose 2 * by rows and columns of (H, W, 3).
    """
    for _ in range(2):
        # Rows first, then columns, as the axes are swapped.
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

    A colour that is dropped has the name "".
    """
    names = np.array([_name_hue(colour) for colour in colours], dtype=object)
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


def _name_hue(colour: Colours) -> str:
    """Return white, grey, or the name of the hue: water, park, or warm for all others."""
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
