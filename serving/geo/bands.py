"""The bands of a scene that become red, green and blue, and the values that become black and white.

Bands: the requested ones; or those that the file marks as red, green and blue; or those that it describes so ("Red",
"green band", "B", Sentinel-2's "B04", "B03" and "B02", or wavelengths such as "665 nm"); or the first three; or, of
fewer than three, the first for all colours. Alpha is never chosen. Palettes are looked up, and GDAL decodes CMYK.

Values: 8 bits are kept. Others are stretched, each band between two percentiles of its valid values, by default 2
and 98, as GIS viewers usually show 16-bit scenes.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.errors import ConfigError, DataError
from model.pixels import Pixels
from serving.geo.opacity import MIN_ROWS, Opacity

STRETCH = (2.0, 98.0)
SAMPLE_SIDE = 2048
"""Maximum height and width of the decimated reading that percentiles are taken from."""
INKS = ("cyan", "magenta", "yellow")
"""Bands of a printed image, 0 where there is no ink; of 8 bits, GDAL converts them to red, green and blue."""
_NAMES = {"red": {"red", "r", "b04"}, "green": {"green", "g", "b03"}, "blue": {"blue", "b", "b02"}}
_SENTINEL_2 = {"b02", "b03", "b04"}
_WAVELENGTHS = {"red": (620, 690), "green": (520, 600), "blue": (450, 515)}
"""Ranges of the wavelengths of the colours, in nanometres."""
_WAVELENGTH = re.compile(r"(?<![\d.])(?:(?P<nm>\d{3}(?:\.\d+)?)\s*nm|(?P<um>0?\.\d{2,4})\s*[uµμ]m)\b", re.IGNORECASE)
_FILLERS = {"band", "channel", "colour", "color", "reflectance", "surface", "toa", "sr", "nm", "um"}


@dataclass(frozen=True)
class Colours:
    """The conversion of values to colours.

    Attributes:
        bands: One or three band numbers, from 1.
        levels: The values that become 0 and 255, float64 (bands, 2); None to keep values of 8 bits.
        palette: The colours numbered by the values of a single band, uint8 (K, 3), and black for all values from K - 1;
            None without a palette.
        palette_alpha: The alpha of these colours, uint8 (K,); None if all are opaque.
        inverted: Whether 0 is white.
    """

    bands: tuple[int, ...]
    levels: NDArray[np.float64] | None = None
    palette: Pixels | None = None
    palette_alpha: NDArray[np.uint8] | None = None
    inverted: bool = False

    def __call__(self, values: NDArray[Any]) -> Pixels:
        """Convert values (bands, h, w) to uint8 (h, w, 3); NaN becomes 0."""
        if self.palette is not None:
            return _look_up(self.palette, values[0])
        if self.levels is not None:
            low, high = self.levels[:, :1, None], self.levels[:, 1:, None]
            # Nodata may be the lowest number that the type holds.
            with np.errstate(over="ignore", invalid="ignore"):
                scaled = (values - low) * (255 / np.maximum(high - low, np.finfo(np.float32).tiny))
            values = np.rint(np.nan_to_num(scaled, nan=0).clip(0, 255)).astype(np.uint8)
        if self.inverted:
            values = 255 - values
        return np.moveaxis(np.broadcast_to(values, (3, *values.shape[1:])), 0, -1).copy()

    def alpha(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Return the alpha of values (bands, h, w), uint8 (h, w): that of the palette, and 0 where one isn't finite."""
        if self.palette_alpha is not None:
            return _look_up(self.palette_alpha, values[0])
        return np.where(np.isfinite(values).all(axis=0), 255, 0).astype(np.uint8)


def _look_up(table: NDArray[np.uint8], numbers: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the entries of a table; numbers beyond it, which 8 bits may not hold, stand for the last entry."""
    return np.asarray(table[np.minimum(numbers, np.uint32(len(table) - 1))])


def choose_bands(
    dataset: Any,  # noqa: ANN401 - a rasterio dataset, and rasterio is imported where it is needed
    name: str,
    bands: tuple[int, ...] | None,
) -> tuple[int, ...]:
    """Return the numbers of the bands to draw, the requested `bands` if there are any.

    Raises:
        ConfigError: The file, called `name`, lacks one of `bands`.
        DataError: The values are complex.
    """
    if bands is not None and (len(bands) not in (1, 3) or not all(1 <= band <= dataset.count for band in bands)):
        numbers = ",".join(map(str, bands))
        raise ConfigError(f"{name} can't be drawn with bands {numbers}; name one or three of 1 to {dataset.count}.")
    chosen = bands or _find_bands(dataset)
    kind = next((kind for kind in dataset.dtypes if kind.startswith("complex")), None)
    if kind:
        raise DataError(
            f"{name} holds complex numbers ({kind}), which have no colours; draw their amplitudes instead "
            "(gdal_translate DERIVED_SUBDATASET:LOGAMPLITUDE:IN.tif OUT.tif)."
        )
    return chosen


def _find_bands(dataset: Any) -> tuple[int, ...]:  # noqa: ANN401
    kinds = [kind.name for kind in dataset.colorinterp]
    for colours in (tuple(_NAMES), INKS):
        if set(colours) <= set(kinds):
            return tuple(kinds.index(colour) + 1 for colour in colours)
    if described := described_bands(dataset.descriptions):
        return described
    others = [number for number, kind in enumerate(kinds, 1) if kind != "alpha"]
    return tuple(others[:3] if len(others) >= 3 else others[:1] or [1])


def described_bands(descriptions: Iterable[str | None]) -> tuple[int, ...] | None:
    """Return the numbers of the bands that are described as red, green and blue, if all three are."""
    texts = [_shorten(text or "") for text in descriptions]
    found = [[number for number, text in enumerate(texts, 1) if text in names] for names in _NAMES.values()]
    return tuple(numbers[0] for numbers in found) if all(found) else None


def names_no_colours(dataset: Any) -> bool:  # noqa: ANN401
    """Return whether a file of three or more bands names them all, but not as colours, and marks no three so."""
    kinds = {kind.name for kind in dataset.colorinterp}
    marked = {*_NAMES} <= kinds or kinds & {*INKS, "palette"}
    names = [_shorten(text or "") for text in dataset.descriptions]
    # "Band 1" is no name.
    own = [name for name in names if any(word not in _FILLERS and not word.isdigit() for word in name.split())]
    return len(names) >= 3 and len(own) == len(names) and not marked and described_bands(dataset.descriptions) is None


def _shorten(description: str) -> str:
    """Return the colour of a description's wavelength, or its words in lower case without those like "band"."""
    if wavelength := _WAVELENGTH.search(description):
        length = float(wavelength["nm"] or 1000 * float(wavelength["um"]))
        found = (colour for colour, (low, high) in _WAVELENGTHS.items() if low <= length <= high)
        return next(found, "another wavelength")
    words = re.findall(r"[^\W_]+", description.casefold())
    if sentinel := _SENTINEL_2.intersection(words):
        return min(sentinel)
    kept = [word for word in words if word not in _FILLERS and not re.search(r"\d", word)]
    # A number counts only if there is nothing else.
    return " ".join(kept or words)


def choose_colours(
    dataset: Any,  # noqa: ANN401
    opacity: Opacity,
    *,
    bands: tuple[int, ...],
    stretch: tuple[float, float] | None,
) -> Colours:
    """Return the conversion of values to colours by this module's rules; with `stretch`, 8 bits are stretched too.

    Raises:
        ConfigError: `stretch` is not a pair of rising percentiles.
    """
    if stretch is not None and not 0 <= stretch[0] < stretch[1] <= 100:
        raise ConfigError(
            f"A stretch from {stretch[0]:g} to {stretch[1]:g} % can't be used; give two rising percentages of 0 to 100."
        )
    if len(set(bands)) == 1 and (table := _read_table(dataset, bands[0])) is not None:
        alpha = table[:, 3]
        return Colours(bands[:1], palette=table[:, :3], palette_alpha=None if (alpha == 255).all() else alpha)
    inked = any(dataset.colorinterp[band - 1].name in INKS for band in bands)
    inverted = inked or dataset.get_tag_item("MINISWHITE", "IMAGE_STRUCTURE") == "YES"
    bits = int(dataset.tags(bands[0], ns="IMAGE_STRUCTURE").get("NBITS", 8))
    if stretch is None and {dataset.dtypes[band - 1] for band in bands} == {"uint8"}:
        levels = None if bits == 8 else np.array([[0.0, 2**bits - 1]] * len(bands))
    else:
        levels = _percentiles(dataset, opacity, len(bands), stretch or STRETCH)
    return Colours(bands, levels, inverted=inverted)


def _read_table(dataset: Any, band: int) -> NDArray[np.uint8] | None:  # noqa: ANN401
    """Return the colours and alpha of a palette, (K, 4), or None if the band has no table; the last entry is black."""
    if dataset.colorinterp[band - 1].name != "palette":
        return None
    try:
        entries = dataset.colormap(band)
    except ValueError:  # A palette without a table is shown in grey.
        return None
    black = (0, 0, 0, 255)
    return np.array([entries.get(number, black) for number in range(max(entries) + 2)], np.uint8)


def _percentiles(
    dataset: Any,  # noqa: ANN401
    opacity: Opacity,
    count: int,
    stretch: tuple[float, float],
) -> NDArray[np.float64]:
    """Return the values at two percentiles for each of `count` bands, (count, 2), from a decimated reading.

    If that has no valid pixel, the scene is searched for rows that have one; if there is none, the levels are 0 and 1.
    """
    for values, valid in _samples(dataset, opacity):
        if valid.any():
            return np.asarray(np.percentile(values[:, valid], stretch, axis=1).T, np.float64)
    return np.array([[0.0, 1.0]] * count)


def _samples(dataset: Any, opacity: Opacity) -> Iterator[tuple[NDArray[Any], NDArray[np.bool_]]]:  # noqa: ANN401
    """Yield values (bands, h, w) and whether they are valid (h, w): of the decimated scene, then of its rows."""
    from rasterio.enums import Resampling
    from rasterio.windows import Window

    step = max(1.0, max(dataset.height, dataset.width) / SAMPLE_SIDE)
    shape = max(1, round(dataset.height / step)), max(1, round(dataset.width / step))
    selections: list[dict[str, Any]] = [{"out_shape": shape}]
    if step > 1:
        for top in range(0, dataset.height, MIN_ROWS):
            rows = min(MIN_ROWS, dataset.height - top)
            selections.append({"window": Window(0, top, dataset.width, rows), "out_shape": (rows, dataset.width)})
    for selection in selections:
        # GDAL reads averages much faster than single pixels.
        values = opacity.read_values(**selection, resampling=Resampling.average)
        yield values, np.isfinite(values).all(axis=0) & (opacity.read(**selection) > 0)
