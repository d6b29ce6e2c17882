"""Scenes: GeoTIFFs read window by window as RGB photos, at the ground resolution of the model."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.errors import ConfigError, DataError
from model.io.images import short_name
from model.pixels import Pixels
from serving.geo.bands import Colours, choose_colours
from serving.geo.footprint import PixelSize, measure_pixel
from serving.geo.gdal import gdal_errors, metadata_errors, reason
from serving.geo.raster import MAX_PIXELS, MAX_SIDE, open_raster
from serving.geo.reflection import reflect

WARN_SCALE = 2
"""Factor between the ground resolutions of scene and model above which a warning is given."""
MAX_SCALE = 16
"""Factor above which a scene is refused."""


class Imagery:
    """A scene as a photo of `height` x `width` pixels, at the model's ground resolution.

    Attributes:
        height: Height of the map in pixels.
        width: Width of the map in pixels.
        crs: The scene's coordinate system, or None.
        transform: Transform from pixels of the map to the coordinate system; it keeps the scene's extent.
        pixel: Size on the ground of the scene's own pixels; None if unknown.
        map_pixel: Size on the ground of the map's pixels; None if unknown.
        colours: The conversion of values to colours.
        taken: The TIFF tag with the time the photo was taken, if there is one.
        masked: Whether the scene may have invalid pixels: it has alpha, a mask, nodata or floating-point values.
        warnings: Sentences for the user.
    """

    def __init__(
        self,
        dataset: Any,  # noqa: ANN401 - a rasterio dataset
        name: str,
        *,
        resolution: float | None,
        colours: Colours,
    ) -> None:
        """Fit the grid of the map to an opened scene; `name` is used in messages."""
        from rasterio.enums import MaskFlags, Resampling

        self._dataset, self._name, self._lock = dataset, name, Lock()
        self.colours = colours
        self.crs = dataset.crs
        self.taken = {tag: value for tag, value in dataset.tags().items() if tag == "TIFFTAG_DATETIME"}
        self.warnings: list[str] = []
        self.pixel = self._measure_pixel()
        down, across = self._steps(resolution)
        self.height = max(1, round(dataset.height / down))
        self.width = max(1, round(dataset.width / across))
        if max(self.height, self.width) > MAX_SIDE or self.height * self.width > MAX_PIXELS:
            raise DataError(
                f"{name} at {resolution} m a pixel would be {self.width}x{self.height} pixels; at most {MAX_PIXELS} "
                f"are allowed, and {MAX_SIDE} a side: choose a coarser resolution."
            )
        # Sides of a pixel of the map, in pixels of the scene.
        self._down, self._across = dataset.height / self.height, dataset.width / self.width
        self.map_pixel = self.pixel.scaled(self._across, self._down) if self.pixel else None
        self.transform = dataset.transform @ dataset.transform.scale(self._across, self._down)
        self._floats = any(np.dtype(dataset.dtypes[band - 1]).kind == "f" for band in colours.bands)
        # GDAL adds an alpha band of its own when it converts CMYK to RGB.
        cmyk = _is_cmyk(dataset)
        self._flagged = not cmyk and any(MaskFlags.all_valid not in flags for flags in dataset.mask_flag_enums)
        kinds = [kind.name for kind in dataset.colorinterp]
        self._opacity = kinds.index("alpha") + 1 if "alpha" in kinds and not cmyk else None
        self.masked = self._flagged or self._floats or self._opacity is not None
        self._resampling = Resampling.nearest if colours.palette is not None else Resampling.bilinear

    def read(self, top: int, left: int, height: int, width: int) -> Pixels | None:
        """Return a window of the photo, uint8 (height, width, 3), or None if it has no valid pixel.

        Invalid pixels are filled by reflecting the valid ones.

        Raises:
            DataError: The file is broken in these rows.
        """
        valid = self.alpha(top, left, height, width) > 0 if self.masked else np.ones((height, width), np.bool_)
        if not valid.any():
            return None
        values = self._values(top, left, height, width)
        if self._floats:
            valid &= np.isfinite(values).all(axis=0)
        photo = self.colours(values)
        if not valid.any():
            return None
        return photo if valid.all() else reflect(photo, valid)

    def alpha(self, top: int, left: int, height: int, width: int) -> NDArray[np.uint8]:
        """Return the alpha of a window of the map, uint8 (height, width): 0 where the scene has no valid pixel.

        Raises:
            DataError: The file is broken in these rows.
        """
        from rasterio.enums import Resampling

        # Averages keep alpha smooth, and GDAL reads them much faster than single pixels.
        selection = {
            "out_shape": (height, width),
            "window": self._window(top, left, height, width),
            "resampling": Resampling.average,
        }
        alpha = np.full((height, width), 255, np.uint8)
        with self._reading(top, height):
            if self._opacity is not None:
                levels = self._dataset.read(self._opacity, **selection)
                # Rounded up, so that no visible pixel becomes transparent.
                alpha = levels if levels.dtype == np.uint8 else np.ceil(levels * (255 / _full_opacity(levels.dtype)))
            elif self._flagged:
                alpha = self._dataset.dataset_mask(**selection)
        if self._floats:
            values = self._values(top, left, height, width)
            alpha = np.where(np.isfinite(values).all(axis=0), alpha, 0)
        return alpha.astype(np.uint8)

    def _values(self, top: int, left: int, height: int, width: int) -> NDArray[Any]:
        bands = list(self.colours.bands)
        with self._reading(top, height):
            values: NDArray[Any] = self._dataset.read(
                bands,
                window=self._window(top, left, height, width),
                out_shape=(len(bands), height, width),
                resampling=self._resampling,
            )
        return values

    def _window(self, top: int, left: int, height: int, width: int) -> Any:  # noqa: ANN401
        from rasterio.windows import Window

        across, down = self._across, self._down
        return Window(left * across, top * down, width * across, height * down)

    @contextmanager
    def _reading(self, top: int, height: int) -> Iterator[None]:
        try:
            # One thread reads ahead while another reads alpha, and a GDAL dataset serves only one at a time.
            with self._lock:
                yield
        except gdal_errors() as error:
            first, last = int(top * self._down), math.ceil((top + height) * self._down)
            raise DataError(
                f"{self._name} is broken or truncated in rows {first} to {last} ({reason(error)}); copy it again."
            ) from error

    def _measure_pixel(self) -> PixelSize | None:
        if self.crs is None or self._dataset.transform.is_identity:
            missing = "transform" if self.crs else "coordinate system"
            self.warnings.append(f"{self._name} has no {missing}, and its map has none either.")
            return None
        pixel = measure_pixel(self._dataset)
        if pixel is None:
            self.warnings.append(
                f"The ground resolution of {self._name} is unknown: its coordinates can't be converted to degrees."
            )
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
        found = f"{self._name} has pixels of {self.pixel.mean:.3g} m; the model was trained on {resolution:.3g} m"
        if factor > MAX_SCALE:
            raise DataError(f"{found}, more than {MAX_SCALE} times off: choose a scene of a closer resolution.")
        if factor > WARN_SCALE:
            self.warnings.append(f"{found}, {factor:.1f} times off: expect a poor map.")
        return resolution / down, resolution / across


@contextmanager
def open_imagery(
    path: PurePath,
    *,
    content: bytes | None = None,
    resolution: float | None = None,
    bands: tuple[int, ...] | None = None,
    stretch: tuple[float, float] | None = None,
) -> Iterator[Imagery]:
    """Open a GeoTIFF as a photo, inside `gdal()`.

    Args:
        path: The file; sidecar files are ignored.
        content: The content of the file, if it is not to be read from a disk.
        resolution: Metres on the ground of a pixel of the photo; None for the file's own pixels.
        bands: One or three band numbers, from 1; None for the rule of `serving.geo.bands`.
        stretch: Two percentiles that become black and white; None for the same rule.

    Raises:
        ConfigError: A setting is out of range.
        DataError: The file is not a TIFF, broken, truncated or too large.
    """
    with open_raster(path, content=content) as dataset:
        with metadata_errors(path):
            colours = choose_colours(dataset, short_name(path), bands=bands, stretch=stretch)
            imagery = Imagery(dataset, short_name(path), resolution=resolution, colours=colours)
            if pages := len(dataset.subdatasets):
                imagery.warnings.append(f"{short_name(path)} has {pages} pages; the first is drawn.")
        yield imagery


def _full_opacity(kind: np.dtype[Any]) -> float:
    """Return the value of full opacity in an alpha band of this type."""
    return float(np.iinfo(kind).max) if kind.kind in "iu" else 1.0


def _is_cmyk(dataset: Any) -> bool:  # noqa: ANN401
    return bool(dataset.tags(ns="IMAGE_STRUCTURE").get("SOURCE_COLOR_SPACE") == "CMYK")
