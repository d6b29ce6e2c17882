"""Opacity of a scene's pixels: its alpha band, its mask, and the nodata values of the bands that are drawn.

A pixel is empty where alpha or the mask is 0, and where all drawn bands are nodata, whatever other bands hold there.
In a file with a mask, GDAL ignores nodata; here they are combined, and then values are not interpolated, because GDAL
would mix nodata with others.

The value of an alpha band that means opaque does not follow from its type: 12 bits are stored as 16, and 8 bits as
floats. It is found once for the whole scene, from the largest value of the band: 1 or 255 if no value is larger (of
floats, 1 if none is larger than 1.5, as resampling may overshoot); else the range of the bits that the file states
(NBITS); else the largest value itself if it has only ones in binary, such as 4095; else the type's largest value, and
for floats 65535 or 4294967295. A mask of 8 bits may be one of zeros and ones too.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

ASSOCIATED = 1
"""The kind of alpha that colours are multiplied by, among TIFF's extra samples."""
OVERSHOOT = 1.5
"""Largest value of an alpha band of floats whose range is 0 to 1."""
FAINT = 0.5
"""Share of full opacity below which the largest value of an alpha band makes a map that is hardly visible."""
MIN_ROWS = 512
"""Minimum number of rows read at once while the largest value is sought."""


class Range(NamedTuple):
    """The value of an alpha band that means opaque, and the largest value that was found."""

    full: float
    largest: float

    @property
    def is_faint(self) -> bool:
        """Whether all visible pixels are almost transparent."""
        return 0 < self.largest < FAINT * self.full


class Opacity:
    """The opacity of an opened scene.

    Attributes:
        band: The number of the alpha band; None without one.
        exists: Whether the scene may have transparent pixels.
        range: The range of the alpha band; 0 to 255 without one.
    """

    def __init__(
        self,
        dataset: Any,  # noqa: ANN401 - a rasterio dataset
        bands: tuple[int, ...],
        *,
        extra_samples: tuple[int, ...] = (),
    ) -> None:
        """Find the sources of opacity of a scene of which `bands` are drawn; the alpha band may be read completely.

        Args:
            dataset: The scene.
            bands: Numbers of the drawn bands.
            extra_samples: TIFF's tag for the last bands (TIFF 6.0, section 18): with 1, colours are multiplied by it.
        """
        from rasterio.enums import MaskFlags

        self._dataset, self._bands = dataset, bands
        kinds = [kind.name for kind in dataset.colorinterp]
        # GDAL adds an alpha band of its own when it converts CMYK to RGB.
        cmyk = dataset.get_tag_item("SOURCE_COLOR_SPACE", "IMAGE_STRUCTURE") == "CMYK"
        self.band = kinds.index("alpha") + 1 if "alpha" in kinds and not cmyk else None
        flags = [dataset.mask_flag_enums[band - 1] for band in bands]
        self._masked = MaskFlags.per_dataset in flags[0] and MaskFlags.alpha not in flags[0]
        self._nodata = not self._masked and all(MaskFlags.nodata in found for found in flags)
        # GDAL makes 255 of a mask of one bit, but not of ones in a mask of 8 bits.
        self._binary = self._masked and _find_largest(dataset, bands[0], enough=2, read=dataset.read_masks) <= 1
        self._hidden_nodata = dataset.nodata if self._masked else None
        self.exists = self.band is not None or self._masked or self._nodata
        self.range = Range(255.0, 255.0) if self.band is None else _find_range(dataset, self.band)
        self._full = self.range.full
        first = dataset.count - len(extra_samples) + 1
        multiplying = [band for band, kind in enumerate(extra_samples, first) if kind == ASSOCIATED]
        self._premultiplied = self.band in multiplying and self.band not in bands and kinds[bands[0] - 1] != "palette"

    def read(self, **selection: Any) -> NDArray[np.uint8]:  # noqa: ANN401 - arguments of rasterio's read
        """Return the opacity of the pixels of a selection with an `out_shape`, uint8 (h, w)."""
        from rasterio.enums import Resampling

        # Averages keep alpha smooth, and GDAL reads them much faster than single pixels.
        selection = {**selection, "resampling": Resampling.average}
        alpha = np.full(selection["out_shape"], 255, np.uint8)
        if self.band is not None:
            alpha = self._scale(self._dataset.read(self.band, **selection))
        if self._masked:
            mask = self._dataset.read_masks(self._bands[0], **selection)
            alpha = np.minimum(alpha, np.where(mask > 0, 255, 0).astype(np.uint8) if self._binary else mask)
        if self._nodata:
            shape = (len(self._bands), *selection["out_shape"])
            masks = self._dataset.read_masks(list(self._bands), **selection | {"out_shape": shape})
            alpha[~masks.any(axis=0)] = 0
        if self._hidden_nodata is not None:
            values = self._read_drawn(selection)
            alpha[(values == np.array(self._hidden_nodata).astype(values.dtype)).all(axis=0)] = 0
        return alpha

    def read_values(self, **selection: Any) -> NDArray[Any]:  # noqa: ANN401
        """Return the values of the drawn bands (bands, h, w) in a selection, not multiplied by alpha."""
        values = self._read_drawn(selection)
        if not self._premultiplied:
            return values
        alpha = self._dataset.read(self.band, **selection).astype(np.float64).clip(0, self._full)
        divided = values * np.divide(self._full, alpha, out=np.zeros_like(alpha), where=alpha > 0)
        return np.asarray(np.rint(divided.clip(0, 255)).astype(np.uint8) if values.dtype == np.uint8 else divided)

    def _read_drawn(self, selection: dict[str, Any]) -> NDArray[Any]:
        bands, shape = list(self._bands), selection["out_shape"]
        if self._hidden_nodata is not None and "window" in selection:
            return self._read_nearest(selection["window"], shape)
        values: NDArray[Any] = self._dataset.read(bands, **selection | {"out_shape": (len(bands), *shape)})
        return values

    def _read_nearest(self, window: Any, shape: tuple[int, int]) -> NDArray[Any]:  # noqa: ANN401 - rasterio's
        """Return the nearest values of the drawn bands, and not those of overviews, in which nodata is mixed too."""
        from rasterio.windows import Window

        begins = (window.row_off, window.col_off), (window.height, window.width), shape, self._dataset.shape
        rows, columns = (
            (begin + (np.arange(count) + 0.5) * length / count).astype(int).clip(0, limit - 1)
            for begin, length, count, limit in zip(*begins, strict=True)
        )
        part = Window.from_slices((rows[0], rows[-1] + 1), (columns[0], columns[-1] + 1))
        values: NDArray[Any] = self._dataset.read(list(self._bands), window=part)
        return values[:, rows - rows[0]][:, :, columns - columns[0]]

    def _scale(self, levels: NDArray[Any]) -> NDArray[np.uint8]:
        """Convert alpha to 8 bits; NaN and negative values become 0."""
        if levels.dtype == np.uint8 and self._full == 255:
            return levels
        known = np.nan_to_num(levels.astype(np.float64), nan=0, posinf=self._full).clip(0, self._full)
        # Rounded up, so that no visible pixel becomes transparent.
        return np.ceil(known * 255 / self._full).astype(np.uint8)


def _find_range(dataset: Any, band: int) -> Range:  # noqa: ANN401
    """Return the range of an alpha band. Of 8 bits or fewer, it is read up to a value that is not faint."""
    kind = np.dtype(dataset.dtypes[band - 1])
    bits = int(dataset.tags(band, ns="IMAGE_STRUCTURE").get("NBITS", 0)) if kind.kind in "iu" else 0
    limit = float(2**bits - 1 if bits else np.iinfo(kind).max if kind.kind in "iu" else np.inf)
    if limit <= 255:
        largest = _find_largest(dataset, band, enough=max(2, FAINT * limit))
        return Range(1 if largest <= 1 else limit, largest)
    largest = _find_largest(dataset, band, enough=limit)
    return Range(_choose_full(largest, limit, stated=bits > 0), largest)


def _choose_full(largest: float, limit: float, *, stated: bool) -> float:
    """Return the value of full opacity, by the rule of this module.

    Args:
        largest: The largest value of the band.
        limit: The largest value that it can hold; infinite for floats.
        stated: Whether the file states the number of bits.
    """
    floats = limit == np.inf
    if largest <= (OVERSHOOT if floats else 1):
        return 1
    if largest <= 255:
        return 255
    if not stated and (largest + 1).is_integer() and np.log2(largest + 1).is_integer():
        return largest
    if not floats:
        return limit
    return next((full for full in (2.0**16 - 1, 2.0**32 - 1) if largest <= full), largest)


def _find_largest(
    dataset: Any,  # noqa: ANN401
    band: int,
    *,
    enough: float,
    read: Callable[..., NDArray[Any]] | None = None,
) -> float:
    """Return the largest finite value of a band, or one that is `enough`; 0 if no value is finite."""
    from rasterio.windows import Window

    block = dataset.block_shapes[band - 1][0]
    rows = block * max(1, MIN_ROWS // block)
    largest = 0.0
    for top in range(0, dataset.height, rows):
        window = Window(0, top, dataset.width, min(rows, dataset.height - top))
        values = (read or dataset.read)(band, window=window)
        largest = max(largest, float(values[np.isfinite(values)].max(initial=0)))
        if largest >= enough:
            break
    return largest
