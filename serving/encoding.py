"""Maps as image files: PNG, JPEG, WebP, TIFF."""

import io
from typing import Literal

import numpy as np
from PIL import Image

from model.errors import DataError
from model.pixels import Pixels

Format = Literal["png", "jpeg", "webp", "tiff"]
SUFFIXES: dict[str, Format] = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".webp": "webp",
    ".tif": "tiff",
    ".tiff": "tiff",
}
"""Formats by file suffix; maps get the first suffix of their format."""
OTHER_SUFFIXES = frozenset(
    """
    .ai .apng .arw .avif .avifs .bmp .cr2 .cr3 .cur .dcx .dds .dib .djvu .dng .emf .eps .exr .gif .hdr .heic .heif .hif
    .icns .ico .j2c .j2k .jfif .jif .jp2 .jpc .jpe .jpf .jpm .jpx .jxl .jxr .kra .mpo .nef .orf .pam .pbm .pcx .pdf .pfm
    .pgm .pnm .ppm .ps .psb .psd .qoi .raf .ras .raw .rgb .rgba .rw2 .sgi .svg .svgz .tga .wbmp .wmf .xbm .xcf .xpm
    .asc .bil .bip .bsq .cdf .dem .dt0 .dt1 .dt2 .ecw .ers .fit .fits .geotiff .grb .grb2 .grd .grib .grib2 .gtif .gtiff
    .h4 .h5 .hdf .hdf4 .hdf5 .he5 .hgt .img .mbtiles .mrf .nc .nc4 .nitf .ntf .pix .pmtiles .rst .sid .tf8 .vrt .xyz
    .zarr .csv .dwg .dxf .fgb .geojson .gml .gpkg .html .json .kml .kmz .parquet .shp .txt .xml
    .avi .mov .mp4 .mpeg .mpg .webm .7z .gz .tar .tgz .zip
    """.split()
)
"""Suffixes of images, rasters, drawings and other files that are not written as maps."""
QUALITY = 90
"""Quality of JPEG and WebP, which are lossy; PNG and TIFF keep every pixel."""
_MAX_SIDE = {"jpeg": 65_500, "webp": 16_383}
_TIFF_PREDICTOR = 317


def suffix(format: Format) -> str:
    """Return the suffix of maps in a format."""
    return next(ending for ending, known in SUFFIXES.items() if known == format)


def encode(pixels: Pixels, format: Format) -> bytes:
    """Encode pixels, uint8 (H, W, 3), or (H, W, 4) with alpha, as an image file; the same pixels give the same bytes.

    JPEG has no alpha: its pixels are blended with white.

    Raises:
        DataError: The format doesn't support images of this size.
    """
    side, limit = max(pixels.shape[:2]), _MAX_SIDE.get(format)
    if limit and side > limit:
        raise DataError(
            f"A map of {side} pixels a side can't be a {format} file, which has at most {limit}; use png or tiff."
        )
    if format == "png":
        return _png(pixels)
    target = io.BytesIO()
    image = Image.fromarray(pixels)
    if format == "jpeg":
        if image.mode == "RGBA":
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
        image.save(target, "JPEG", quality=QUALITY)
    elif format == "webp":
        image.save(target, "WEBP", quality=QUALITY, method=0)
    else:
        image.save(target, "TIFF", compression="tiff_lzw", tiffinfo={_TIFF_PREDICTOR: 2})
    return target.getvalue()


def _png(pixels: Pixels) -> bytes:
    """Encode a PNG quickly: rows as differences from the row above, in runs; maps get no larger than usual."""
    from imagecodecs import PNG, png_encode

    rows = np.ascontiguousarray(pixels)
    return bytes(png_encode(rows, level=1, strategy=PNG.STRATEGY.RLE, filter=PNG.FILTER.UP))
