"""Scenes: GeoTIFFs read window by window as RGB photos, at the ground resolution of the model."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.errors import ConfigError, DataError
from model.io.images import short_name
from model.pixels import Pixels
from serving.geo.bands import INKS, Colours, choose_bands, choose_colours, described_bands, names_no_colours
from serving.geo.footprint import PixelSize, has_degrees, measure_pixel
from serving.geo.gdal import gdal_errors, metadata_errors, reason
from serving.geo.grid import Grid, find_gap
from serving.geo.headers import EXTRA_SAMPLES, ORIENTATION
from serving.geo.opacity import Opacity
from serving.geo.orientation import ORIENTATIONS, UPRIGHT, Orientation
from serving.geo.raster import (
    MAX_PIXELS,
    MAX_SIDE,
    check_first_page,
    count_pages,
    open_raster,
    read_header,
)
from serving.geo.reflection import reflect
from serving.geo.sidecars import Held, find_sidecars

WARN_SCALE = 2
"""Factor between the ground resolutions of scene and model above which a warning is given."""
MAX_SCALE = 16
"""Factor above which a scene is refused."""
NOTHING_VALID = "holds no valid pixel, so its map is empty; check its nodata value, mask or alpha."
"""The end of a warning."""


class Imagery:
    """A scene as a photo of `height` x `width` pixels, at the model's ground resolution.

    Attributes:
        height: Height of the map in pixels.
        width: Width of the map in pixels.
        grid: The grid of the map, which has the extent and the coordinate system of the scene.
        pixel: Size on the ground of the scene's own pixels; None if unknown.
        map_pixel: Size on the ground of the map's pixels; None if unknown.
        colours: The conversion of values to colours.
        taken: The TIFF tag with the time the photo was taken, if there is one.
        masked: Whether the scene may have invalid pixels: it has alpha, a mask, nodata or floating-point values.
        warnings: Sentences for the user.
        ground_warnings: Number of the first of them that concern the location and the ground resolution.
    """

    def __init__(
        self,
        dataset: Any,  # noqa: ANN401 - a rasterio dataset
        name: str,
        *,
        resolution: float | None,
        colours: Colours,
        opacity: Opacity,
        orientation: Orientation = UPRIGHT,
    ) -> None:
        """Fit the grid of the map to an opened scene; `name` is used in messages.

        Scenes with an `orientation` have no georeference.
        """
        from rasterio.enums import Resampling

        self._dataset, self._name, self._lock = dataset, name, Lock()
        self._opacity, self._orientation = opacity, orientation
        self.colours = colours
        # Not by reading all tags, which may hold texts that are not UTF-8.
        taken = dataset.get_tag_item("TIFFTAG_DATETIME")
        self.taken = {} if taken is None else {"TIFFTAG_DATETIME": taken}
        self.warnings: list[str] = []
        self.pixel = self._measure_pixel()
        down, across = self._steps(resolution)
        self.ground_warnings = len(self.warnings)
        height, width = orientation.shape(dataset.height, dataset.width)
        self.height, self.width = max(1, round(height / down)), max(1, round(width / across))
        if max(self.height, self.width) > MAX_SIDE or self.height * self.width > MAX_PIXELS:
            raise DataError(
                f"{name} at {resolution} m a pixel would be {self.width}x{self.height} pixels; at most {MAX_PIXELS} "
                f"are allowed, and {MAX_SIDE} a side: choose a coarser resolution."
            )
        # Sides of a pixel of the map, in pixels of the scene.
        self._down, self._across = height / self.height, width / self.width
        self.map_pixel = self.pixel.scaled(self._across, self._down) if self.pixel else None
        self.grid = Grid.read(dataset).resized(self.width, self.height)
        floats = any(np.dtype(dataset.dtypes[band - 1]).kind == "f" for band in colours.bands)
        self._values_decide = floats or colours.palette_alpha is not None
        self.masked = opacity.exists or self._values_decide
        self._resampling = Resampling.nearest if colours.palette is not None else Resampling.bilinear

    def read(self, top: int, left: int, height: int, width: int) -> Pixels | None:
        """Return a window of the photo, uint8 (height, width, 3), or None if it has no valid pixel.

        Invalid pixels are filled by reflecting the valid ones.

        Raises:
            DataError: The file is broken in these rows.
        """
        window = top, left, height, width
        valid = self._select(self._opacity.read, window) > 0 if self._opacity.exists else np.ones((height, width), bool)
        if not valid.any():
            return None
        values = self._values(window)
        if self._values_decide:
            valid &= self.colours.alpha(values) > 0
            if not valid.any():
                return None
        photo = self.colours(values)
        return photo if valid.all() else reflect(photo, valid)

    def alpha(self, top: int, left: int, height: int, width: int) -> NDArray[np.uint8]:
        """Return the alpha of a window of the map, uint8 (height, width): 0 where the scene has no valid pixel.

        Raises:
            DataError: The file is broken in these rows.
        """
        window = top, left, height, width
        alpha: NDArray[np.uint8] = self._select(self._opacity.read, window)
        return np.minimum(alpha, self.colours.alpha(self._values(window))) if self._values_decide else alpha

    def _values(self, window: tuple[int, int, int, int]) -> NDArray[Any]:
        return self._select(self._opacity.read_values, window, resampling=self._resampling)

    def _select(
        self,
        read: Callable[..., NDArray[Any]],
        window: tuple[int, int, int, int],
        **options: Any,  # noqa: ANN401 - arguments of rasterio's read
    ) -> NDArray[Any]:
        """Return the upright result of a reading function for a window of the map."""
        from rasterio.windows import Window

        top, left, height, width = self._orientation.stored_window(window, (self.height, self.width))
        across, down = self._across, self._down
        part = Window(left * across, top * down, width * across, height * down)
        try:
            # One thread reads ahead while another reads alpha, and a GDAL dataset serves only one at a time.
            with self._lock:
                return self._orientation.turn(read(window=part, out_shape=(height, width), **options))
        except gdal_errors() as error:
            first, last = int(top * down), math.ceil((top + height) * down)
            raise DataError(
                f"{self._name} is broken or truncated in rows {first} to {last} ({reason(error)}); copy it again."
            ) from error

    def _measure_pixel(self) -> PixelSize | None:
        gap = find_gap(self._dataset, self._name)
        if gap and gap.kept:
            self.warnings.append(f"{gap.found}; its map keeps them. To georeference it, {gap.advice}.")
        elif gap:
            self.warnings.append(f"{gap.found}, and its map has none either.")
        pixel = measure_pixel(self._dataset)
        if pixel is None and not gap:
            found = "can't be converted to degrees"
            if has_degrees(self._dataset.crs):
                found = "lie outside the valid area of its coordinate system"
            self.warnings.append(f"The ground resolution of {self._name} is unknown: its coordinates {found}.")
        return pixel

    def _steps(self, resolution: float | None) -> tuple[float, float]:
        """Return the height and width of a pixel of the map, in pixels of the scene."""
        if resolution is None:
            return 1, 1
        if not 0 < resolution < math.inf:
            raise ConfigError(
                f"A resolution of {resolution:g} m can't be used; give the metres on the ground, more than 0, of a "
                "pixel in the model's photos."
            )
        if self.pixel is None:
            self.warnings.append(f"{self._name} is drawn at its own resolution, which may not be {resolution:g} m.")
            return 1, 1
        across, down = self.pixel.across, self.pixel.down
        factor = max(resolution / min(across, down), max(across, down) / resolution)
        found = f"{self._name} has pixels of {self.pixel.mean:.3g} m and"
        if factor > MAX_SCALE:
            raise DataError(
                f"{found} can't be drawn at {resolution:.3g} m, more than {MAX_SCALE} times off: choose a scene of a "
                "closer resolution."
            )
        if factor > WARN_SCALE:
            self.warnings.append(f"{found} is drawn at {resolution:.3g} m, {factor:.1f} times off: expect a poor map.")
        return resolution / down, resolution / across


@contextmanager
def open_imagery(
    path: PurePath,
    *,
    content: bytes | None = None,
    resolution: float | None = None,
    bands: tuple[int, ...] | None = None,
    stretch: tuple[float, float] | None = None,
    located: bool = True,
) -> Iterator[Imagery]:
    """Open a GeoTIFF as a photo, inside `gdal()`.

    Args:
        path: The file. Sidecar files are not read, but those next to a `Path` that matter are in the warnings.
        content: The content of the file, if it is not to be read from a disk.
        resolution: Metres on the ground of a pixel of the photo; None for the file's own pixels.
        bands: One or three band numbers, from 1; None for the rule of `serving.geo.bands`.
        stretch: Two percentiles that become black and white; None for the same rule.
        located: Whether the map could have a location, so that sidecar files with one are named too.

    Raises:
        ConfigError: A setting is out of range.
        DataError: The file is not a TIFF, broken, truncated or too large.
    """
    name = short_name(path)
    with open_raster(path, content=content) as dataset:
        check_first_page(path, content)
        with metadata_errors(path):
            pages = count_pages(dataset)
            chosen = choose_bands(dataset, name, bands)
            header = read_header(path, content)
            number = (header.get(ORIENTATION) or (1,))[0]
            opacity = Opacity(dataset, chosen, extra_samples=header.get(EXTRA_SAMPLES, ()))
            imagery = Imagery(
                dataset,
                name,
                resolution=resolution,
                colours=choose_colours(dataset, opacity, bands=chosen, stretch=stretch),
                opacity=opacity,
                orientation=UPRIGHT if _is_located(dataset) else ORIENTATIONS.get(number, UPRIGHT),
            )
            if number not in (1, *ORIENTATIONS) and not _is_located(dataset):
                imagery.warnings.append(f"{name} has Orientation {number}, which means nothing; it is drawn as stored.")
            if pages:
                imagery.warnings.append(f"{name} has {pages} pages; the first is drawn.")
            if isinstance(path, Path):
                imagery.warnings += find_sidecars(path, Held.read(dataset), located=located)
            imagery.warnings += _find_warnings(dataset, name, imagery.colours, opacity, bands=bands, stretch=stretch)
        yield imagery


def _is_located(dataset: Any) -> bool:  # noqa: ANN401
    """Return whether pixels have a location, by whatever means; then they are not turned."""
    return not dataset.transform.is_identity or bool(dataset.gcps[0]) or dataset.rpcs is not None


def _find_warnings(
    dataset: Any,  # noqa: ANN401
    name: str,
    colours: Colours,
    opacity: Opacity,
    *,
    bands: tuple[int, ...] | None,
    stretch: tuple[float, float] | None,
) -> Iterator[str]:
    """Yield what a user may not expect of how a scene is read."""
    if opacity.range.is_faint:
        full, largest = opacity.range
        yield (
            f"The alpha band of {name} reaches {largest:g} where {full:g} is opaque, so its map is almost transparent; "
            f"if {largest:g} is meant to be opaque, scale the band (gdal_translate -scale_{opacity.band} 0 {largest:g} "
            f"0 {full:g})."
        )
    if bands is None and names_no_colours(dataset):
        drawn, names = ",".join(map(str, colours.bands)), ", ".join(dataset.descriptions[:4])
        yield f"The bands of {name} ({names}) are not named red, green and blue; {drawn} are drawn: see --bands."
    if stretch and colours.palette is not None:
        yield f"--stretch has no effect on {name}: its colours are those of its palette."
    if bands is None and dataset.colorinterp[colours.bands[0] - 1].name in INKS:
        yield f"{name} has inks for bands; it is drawn from cyan, magenta and yellow, without black: convert it to RGB."
    described = described_bands(dataset.descriptions)
    if bands is None and described and described != colours.bands:
        numbers = ",".join(map(str, described))
        yield (
            f"The bands of {name} are marked as red, green and blue, but described otherwise; they are drawn as "
            f"marked. Give --bands {numbers} to draw them as described."
        )
