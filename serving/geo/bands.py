"""The bands of a GeoTIFF that become red, green and blue, and the values that become black and white.

Bands: the requested ones; or those that the file marks as red, green and blue; or the first three; or, of fewer than
three, the first for all colours. Alpha is never chosen. Palettes are looked up, and GDAL decodes CMYK to RGB.

Values: 8 bits are kept. Others are stretched, each band between two percentiles of its valid values, by default 2
and 98, as GIS viewers usually show 16-bit scenes.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.errors import ConfigError, DataError
from model.pixels import Pixels

STRETCH = (2.0, 98.0)
SAMPLE_SIDE = 2048
"""Maximum height and width of the decimated reading that percentiles are taken from."""


@dataclass(frozen=True)
class Colours:
    """The conversion of values to colours.

    Attributes:
        bands: One or three band numbers, from 1.
        levels: The values that become 0 and 255, float64 (bands, 2); None to keep values of 8 bits.
        palette: The colours numbered by the values of a single band, uint8 (K, 3); None without a palette.
        inverted: Whether 0 is white.
    """

    bands: tuple[int, ...]
    levels: NDArray[np.float64] | None = None
    palette: Pixels | None = None
    inverted: bool = False

    def __call__(self, values: NDArray[Any]) -> Pixels:
        """Convert values (bands, h, w) to uint8 (h, w, 3); NaN becomes 0."""
        if self.palette is not None:
            looked_up: Pixels = self.palette[np.minimum(values[0], len(self.palette) - 1)]
            return looked_up
        if self.levels is not None:
            low, high = self.levels[:, :1, None], self.levels[:, 1:, None]
            scaled = (values - low) * (255 / np.maximum(high - low, np.finfo(np.float32).tiny))
            values = np.rint(np.nan_to_num(scaled, nan=0).clip(0, 255)).astype(np.uint8)
        if self.inverted:
            values = 255 - values
        return np.moveaxis(np.broadcast_to(values, (3, *values.shape[1:])), 0, -1).copy()


def choose_colours(
    dataset: Any,  # noqa: ANN401 - a rasterio dataset, and rasterio is imported where it is needed
    name: str,
    *,
    bands: tuple[int, ...] | None,
    stretch: tuple[float, float] | None,
) -> Colours:
    """Apply this module's rules to an opened file, called `name` in messages; with `stretch`, 8 bits are stretched too.

    Raises:
        ConfigError: The file lacks one of `bands`, or `stretch` is not a pair of rising percentiles.
        DataError: The values are complex, or none is valid.
    """
    if stretch is not None and not 0 <= stretch[0] < stretch[1] <= 100:
        raise ConfigError(
            f"A stretch from {stretch[0]:g} to {stretch[1]:g} % can't be used; give two rising percentages of 0 to 100."
        )
    kinds = [kind.name for kind in dataset.colorinterp]
    if kinds[0] == "palette" and bands in (None, (1,)):
        entries = dataset.colormap(1)
        palette = np.array([entries.get(number, (0, 0, 0))[:3] for number in range(max(entries) + 1)], np.uint8)
        return Colours((1,), palette=palette)
    chosen = _default_bands(kinds) if bands is None else _check_bands(bands, dataset.count)
    types = {np.dtype(dataset.dtypes[band - 1]) for band in chosen}
    if any(type.kind == "c" for type in types):
        raise DataError(f"{name}: bands {chosen} hold complex numbers; choose bands of real numbers.")
    inverted = dataset.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") == "YES"
    bits = int(dataset.tags(chosen[0], ns="IMAGE_STRUCTURE").get("NBITS", 8))
    if stretch is None and types == {np.dtype(np.uint8)}:
        levels = None if bits == 8 else np.array([[0.0, 2**bits - 1]] * len(chosen))
    else:
        levels = _percentiles(dataset, name, chosen, stretch or STRETCH)
    return Colours(chosen, levels, inverted=inverted)


def _default_bands(kinds: list[str]) -> tuple[int, ...]:
    named = [kinds.index(kind) + 1 for kind in ("red", "green", "blue") if kind in kinds]
    others = [number for number, kind in enumerate(kinds, 1) if kind != "alpha"]
    if len(named) == 3:
        return tuple(named)
    return tuple(others[:3] if len(others) >= 3 else others[:1] or [1])


def _check_bands(bands: tuple[int, ...], count: int) -> tuple[int, ...]:
    if len(bands) not in (1, 3) or not all(1 <= band <= count for band in bands):
        raise ConfigError(f"Bands {bands} can't be drawn; name one or three of 1 to {count}.")
    return bands


def _percentiles(
    dataset: Any,  # noqa: ANN401
    name: str,
    bands: tuple[int, ...],
    stretch: tuple[float, float],
) -> NDArray[np.float64]:
    """Return the values at two percentiles for each band, (bands, 2), from a decimated reading."""
    from rasterio.enums import Resampling

    step = max(1.0, max(dataset.height, dataset.width) / SAMPLE_SIDE)
    shape = max(1, round(dataset.height / step)), max(1, round(dataset.width / step))
    # GDAL reads averages much faster than single pixels.
    values = dataset.read(list(bands), out_shape=(len(bands), *shape), resampling=Resampling.average)
    valid = np.isfinite(values).all(axis=0)
    valid &= dataset.dataset_mask(out_shape=shape, resampling=Resampling.average) > 0
    if not valid.any():
        raise DataError(f"{name} has no valid pixel to take levels from; check its nodata value.")
    return np.asarray(np.percentile(values[:, valid], stretch, axis=1).T, np.float64)
